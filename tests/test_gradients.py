"""One batch and its gradients, as the training loop asks for them."""

import pytest
import torch
from tiny import CPU, batches, config, make, with_model
from torch.utils._python_dispatch import TorchDispatchMode

from nerf_pl.methods.nerf.model import NeRF
from nerf_pl.methods.nerf.options import NeRFOptions
from nerf_pl.methods.ngp.model import NGP
from nerf_pl.ops import Backend, choose
from nerf_pl.options import OptimOptions
from nerf_pl.scenes import load_scene
from nerf_pl.training.gradients import Gradients, take_steps, untouched

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def small(scene_dir) -> Gradients:
    options = NeRFOptions(4, 4, noise_std=0.0, net_depth=2, net_width=32, net_skip=1)
    model = NeRF(options, choose(DEVICE)).to(DEVICE).train()
    return Gradients(model, batches(model, load_scene(scene_dir), 64).to(DEVICE))


def test_a_call_counts_the_step_and_sums_the_error(scene_dir):
    gradients = small(scene_dir)
    gradients()
    first = gradients.error.item()
    gradients()
    assert gradients.model.step.item() == 2
    assert 0 < first < gradients.error.item()


def test_capture_leaves_no_trace(scene_dir):
    gradients = small(scene_dir)
    before = [p.detach().clone() for p in gradients.model.parameters()]
    gradients.model.step.fill_(7)
    assert gradients.capture() > 0
    assert gradients.model.step.item() == 7
    assert gradients.error.item() == 0
    assert all(torch.equal(p, b) for p, b in zip(gradients.model.parameters(), before, strict=True))


@pytest.mark.parametrize("is_captured", [False, pytest.param(True, marks=pytest.mark.skipif(
    DEVICE.type == "cpu", reason="a graph needs a GPU"))])  # fmt: skip
@pytest.mark.parametrize("is_taken_off", [True, False])
def test_gradients_are_those_of_the_last_call(scene_dir, is_taken_off, is_captured):
    """Whether or not somebody took the ones before off the parameters, as Lightning does before the first step and
    around validations. A CUDA graph, which writes to fixed places, does not put them on again by itself."""
    gradients = small(scene_dir)
    gradients()
    truth = [p.grad.clone() for p in gradients.model.parameters()]
    assert all(g.any() for g in truth)
    gradients.model.step.zero_()
    if is_captured:
        gradients.capture()
    for _ in range(2):
        if is_taken_off:
            gradients.model.zero_grad(set_to_none=True)
        gradients.model.step.zero_()
        gradients()
        for p, g in zip(gradients.model.parameters(), truth, strict=True):
            assert torch.allclose(p.grad, g, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("is_captured", [False, pytest.param(True, marks=pytest.mark.skipif(
    DEVICE.type == "cpu", reason="a graph needs a GPU"))])  # fmt: skip
def test_the_background_changes_while_a_graph_is_replayed(scene_dir, is_captured):
    gradients = small(scene_dir)
    gradients.batches.random_until = 0.5
    if is_captured:
        gradients.capture()
    found = []
    for progress in (0.0, 1.0, 0.0):
        gradients.model.step.zero_()
        gradients.batches.advance(progress)
        gradients()
        found.append([p.grad.clone() for p in gradients.model.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(found[0], found[2], strict=True))
    assert not any(torch.allclose(a, b, rtol=1e-2) for a, b in zip(found[0], found[1], strict=True))


def test_a_step_of_training(scene_dir):
    """What is due before it, the gradients, their exchange, and the optimizer; in this order."""
    gradients, done = small(scene_dir), []
    model, optimizer = gradients.model, gradients.model.make_optimizer(OptimOptions(optimizer="sgd", lr=0.1))
    before = [p.detach().clone() for p in model.parameters()]

    def begin(step: int) -> int:
        done.append(step)
        assert model.step == step
        return 2

    def exchange() -> None:
        done.append("exchange")
        for p in model.parameters():
            p.grad.zero_()

    asked, compute = [], gradients.batches.forward
    gradients.batches.forward = lambda step, rays_per_pixel, seed: asked.append(rays_per_pixel) or compute(step)
    take_steps(gradients, optimizer, range(2), begin=begin, exchange=exchange)
    assert done == [0, "exchange", 1, "exchange"]
    assert asked == [2, 2]
    assert all(map(torch.equal, model.parameters(), before))  # it took the gradients after their exchange
    take_steps(gradients, optimizer, range(2, 3))
    assert asked == [2, 2, 1]
    assert not any(map(torch.equal, model.parameters(), before))


def ngp(scene_dir) -> Gradients:
    scene = load_scene(scene_dir)
    model = make(config("ngp"), DEVICE).train()
    model.fit(scene)
    return Gradients(model, batches(model, scene, 256).to(DEVICE))


def test_capture_of_ngp_leaves_no_trace(scene_dir):
    """Also not in what a step adapts, or marks as seen."""
    gradients = ngp(scene_dir)
    gradients.model.step.fill_(7)
    before = {name: value.clone() for name, value in gradients.model.state_dict().items()}
    gradients.capture()
    after = gradients.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    gradients()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed >= {"step", "kept", "active", "occupancy.seen"}


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_untouched_comes_back(scene_dir, fails):
    """After an error, too."""
    model = ngp(scene_dir).model
    before = {name: value.clone() for name, value in model.named_buffers()}
    try:
        with untouched(model):
            model.before_step(0)
            model.step += 5
            assert model.occupancy.density.any()
            if fails:
                raise torch.OutOfMemoryError("in the middle")
    except torch.OutOfMemoryError:
        assert fails
    else:
        assert not fails
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_a_graph_records_kernels_alone(scene_dir):
    """In plain PyTorch the sizes in a step of ngp follow from values, which a graph cannot; it runs all the same."""
    kernels = Backend("triton", "triton", "triton", "triton", "triton", "triton")
    assert NGP(config("ngp").model, kernels).can_be_captured
    assert NeRF(NeRFOptions(net_width=32), Backend()).can_be_captured
    scene, model = load_scene(scene_dir), NGP(config("ngp").model, Backend()).to(DEVICE).train()
    assert not model.can_be_captured
    model.fit(scene)
    gradients = Gradients(model, batches(model, scene, 256).to(DEVICE))
    assert gradients.capture() > 0
    model.before_step(0)
    gradients()
    assert all(p.grad.any() for p in model.parameters())
    assert model.step.item() == 1


def test_ngp_learns(scene_dir):
    gradients, errors = ngp(scene_dir), []
    optimizer = gradients.model.make_optimizer(OptimOptions(lr=0.04))
    for step in range(64):
        take_steps(gradients, optimizer, range(step, step + 1))
        errors.append(gradients.error.item())
        gradients.error.zero_()
    assert sum(errors[-16:]) < 0.6 * sum(errors[:16])
    assert float(optimizer.skipped) == 0


class SumsByChance(TorchDispatchMode):
    """Notes sums whose order, and so whose last bits, several threads of a CPU decide anew each time."""

    found = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        accumulates = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | (kwargs or {})
        self.found |= "index_put" in func.name() and bool(accumulates.get("accumulate"))
        return func(*args, **(kwargs or {}))


def test_sums_by_chance_are_noted():
    values = torch.ones(3, requires_grad=True)
    with SumsByChance() as sums:
        values[torch.tensor([0, 0])].sum().backward()
    assert sums.found


@pytest.mark.parametrize("method", ["nerf", "ngp"])
def test_a_step_repeats_itself(scene_dir, method):
    """On a CPU, with all losses: else neither a run nor its resumption could be had twice."""
    losses = {"distortion": 0.1, "smoothness": 0.1} if method == "ngp" else {}
    scene, model = load_scene(scene_dir), make(with_model(config(method), **losses), CPU).train()
    model.fit(scene)
    gradients = Gradients(model, batches(model, scene, 256))
    model.before_step(0)
    with SumsByChance() as sums:
        gradients()
    assert all(p.grad.any() for p in model.parameters())
    assert not sums.found


def test_a_graph_for_each_number_of_rays(scene_dir):
    """Their gradients are those of steps that are not replayed, whichever ran before."""
    gradients = ngp(scene_dir)

    def at_step_one(rays_per_pixel: int) -> list[torch.Tensor]:
        with untouched(gradients.model):
            gradients.model.step.fill_(1)
            gradients(rays_per_pixel)
        return [p.grad.clone() for p in gradients.model.parameters()]

    truth = {k: at_step_one(k) for k in (1, 4)}
    assert not torch.allclose(truth[1][1], truth[4][1], rtol=1e-2)
    for k in (1, 4):
        gradients.capture(k)
    for k in (4, 1, 4):
        for own, other in zip(at_step_one(k), truth[k], strict=True):
            assert (own - other).norm() <= 1e-2 * other.norm()
