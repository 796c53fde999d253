"""One batch and its gradients, as the training loop asks for them."""

from dataclasses import replace

import torch
from nerf_pl.models import NeRF, make_model
from tiny import config

from nerf_pl.scenes import load_scene
from nerf_pl.scenes.demo import make_demo
from nerf_pl.training.batches import PixelBatches
from nerf_pl.training.gradients import Gradients, fit, is_plain, make_optimizer, untouched


def small(tmp_path) -> Gradients:
    scene = load_scene(make_demo(tmp_path / "scene", size=16, n_train=3, n_val=1, n_test=1))
    model = NeRF(4, 4, noise_std=0.0, net_depth=2, net_width=32, net_skip=1).train()
    if torch.cuda.is_available():
        model = model.cuda()
    return Gradients(model, PixelBatches(scene, 64, seed=0).to(model.step.device))


def test_a_call_counts_the_step_and_sums_the_error(tmp_path):
    gradients = small(tmp_path)
    gradients()
    first = gradients.error.item()
    gradients()
    assert gradients.model.step.item() == 2
    assert 0 < first < gradients.error.item()


def test_capture_leaves_no_trace(tmp_path):
    gradients = small(tmp_path)
    before = [p.detach().clone() for p in gradients.model.parameters()]
    gradients.model.step.fill_(7)
    assert gradients.capture() > 0
    assert gradients.model.step.item() == 7
    assert gradients.error.item() == 0
    assert all(torch.equal(p, b) for p, b in zip(gradients.model.parameters(), before, strict=True))


def test_gradients_come_back_after_somebody_took_them_off(tmp_path):
    """Lightning zeroes gradients before the first step and around validations, by taking them off the parameters; a
    CUDA graph, which writes to fixed places, does not put them on again."""
    gradients = small(tmp_path)
    gradients()
    truth = [p.grad.clone() for p in gradients.model.parameters()]
    places = [torch.zeros_like(g) for g in truth]

    class Graph:
        def replay(self):
            for place, value in zip(places, truth, strict=True):
                place.copy_(value)

    if gradients.error.is_cuda:
        gradients.model.step.zero_()
        gradients.capture()
    else:
        gradients._graphs[1] = Graph(), places
    for _ in range(2):
        gradients.model.zero_grad(set_to_none=True)
        gradients.model.step.zero_()
        gradients()
        for p, g in zip(gradients.model.parameters(), truth, strict=True):
            assert torch.allclose(p.grad, g, rtol=1e-4, atol=1e-7)


def ngp(scene_dir) -> Gradients:
    scene, device = load_scene(scene_dir), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = make_model(config("ngp"), device).to(device).train()
    fit(model, scene, device)
    return Gradients(model, PixelBatches(scene, 256, seed=0, random_background=True).to(device))


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


def test_what_is_untouched_comes_back(scene_dir):
    model = ngp(scene_dir).model
    with untouched(model):
        model.before_step(0)
        assert model.occupancy.density.any()
    assert not model.occupancy.density.any()


def test_a_graph_records_kernels_alone(scene_dir, monkeypatch):
    """In plain PyTorch the sizes in a step of ngp follow from values, which a graph cannot."""
    gradients, recorded = ngp(scene_dir), []
    monkeypatch.setattr(Gradients, "_record", lambda self, _: recorded.append(self.model))
    monkeypatch.setattr(Gradients, "__call__", lambda self, _: None)
    monkeypatch.setattr(Gradients, "_compute", lambda self, _: None)

    class OnGPU(torch.Tensor):
        is_cuda = True

    gradients.error = gradients.error.as_subclass(OnGPU)
    for plain in (True, False):
        gradients.model.is_plain = plain
        gradients.capture()
        assert is_plain(gradients.model) == plain
        assert len(recorded) == (not plain)


def test_ngp_learns(scene_dir):
    gradients = ngp(scene_dir)
    options = config("ngp")
    optimizer = make_optimizer(gradients.model, replace(options, optim=replace(options.optim, lr=0.04)))
    errors = []
    for step in range(64):
        gradients.model.before_step(step)
        gradients()
        optimizer.step()
        errors.append(gradients.error.item())
        gradients.error.zero_()
    assert sum(errors[-16:]) < 0.6 * sum(errors[:16])
    assert float(optimizer.skipped) == 0


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
