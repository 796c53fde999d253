"""The model as a whole: what training and evaluation do differently, and what the options change."""

import math
from dataclasses import replace

import pytest
import torch
from tiny import MODEL, config
from torch import nn

from nerf_pl import ops
from nerf_pl.models import CELLS, NeRF, make_model, precision_of
from nerf_pl.sampling import uniform
from nerf_pl.types import Rays

WHITE = (1.0, 1.0, 1.0)


def rays(n: int = 32) -> Rays:
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(n, 3), dim=-1)
    return Rays(-4 * directions, directions, directions, torch.full((n,), 2.0), torch.full((n,), 6.0))


def model(**options) -> NeRF:
    torch.manual_seed(1)
    return NeRF(**{"N_samples": 8, "N_importance": 8, "net_depth": 2, "net_width": 32, "net_skip": 1, **options})


class Ball(nn.Module):
    """A solid ball of radius 1, red."""

    def density(self, xyz):
        return torch.where(xyz.norm(dim=-1) < 1, 1e4, -1.0)

    def forward(self, xyz, dirs):
        return self.density(xyz), torch.tensor([1.0, 0, 0]).expand(len(xyz), 3)


def test_a_ball_is_seen_where_it_is():
    """Rays through the centre meet it 3 away from the camera; rays that pass it see the background."""
    ours = model(N_samples=64, N_importance=64).eval()
    ours.coarse, ours.fine = Ball(), Ball()
    hits = ours(rays(), WHITE)
    passing = replace(rays(), origins=rays().origins + 3 * torch.linalg.cross(rays().directions, torch.randn(32, 3)))
    away = torch.linalg.cross(passing.origins, passing.directions).norm(dim=-1) > 1
    errors = []
    for level, missed in zip(hits, ours(passing, WHITE), strict=True):
        assert torch.allclose(level.rgb, torch.tensor([1.0, 0, 0]), atol=1e-5)
        assert torch.allclose(level.opacity, torch.ones(32))
        errors.append((level.depth - 3).abs().max())
        assert torch.allclose(missed.rgb[away], torch.ones(int(away.sum()), 3))
        assert not missed.opacity[away].any()
    assert errors[0] < 4 / 63 + 1e-4  # as fine as the coarse samples are
    assert errors[1] < 4 / 63 / 8  # the fine ones gather at the surface
    assert away.sum() > 10


def test_evaluation_is_deterministic_and_takes_no_noise():
    ours = model(noise_std=10.0).eval()
    first = ours(rays(), WHITE)[-1]
    ours.step += 5
    assert torch.equal(first.rgb, ours(rays(), WHITE)[-1].rgb)


def test_training_draws_anew_each_step_and_repeats_by_seed():
    ours = model(noise_std=0.0).train()
    first = ours(rays(), WHITE)[-1].rgb
    assert torch.equal(first, ours(rays(), WHITE)[-1].rgb)
    ours.step += 1
    assert not torch.equal(first, ours(rays(), WHITE)[-1].rgb)
    other = model(noise_std=0.0, seed=7).train()
    assert not torch.equal(first, other(rays(), WHITE)[-1].rgb)


def test_noise_and_jitter_can_be_turned_off():
    still = model(noise_std=0.0, perturb=0.0)
    assert torch.equal(still.train()(rays(), WHITE)[0].rgb, still.eval()(rays(), WHITE)[0].rgb)
    noisy = model(noise_std=1.0, perturb=0.0)
    assert not torch.equal(noisy.train()(rays(), WHITE)[0].rgb, still(rays(), WHITE)[0].rgb)


def test_noise_has_the_asked_for_spread():
    ours = model(noise_std=3.0).train()
    noise = ours._noise(0, 50_000)
    assert noise.std() == pytest.approx(3.0, rel=5 / math.sqrt(2 * 50_000))
    assert abs(torch.corrcoef(torch.stack([noise, ours._noise(1, 50_000)]))[0, 1]) < 5 / math.sqrt(50_000)


def test_coarse_alone():
    ours = model(N_importance=0)
    assert ours.fine is None
    assert len(ours.eval()(rays(), WHITE, coarse_colour=False)) == 1
    assert ours(rays(), WHITE, coarse_colour=False)[0].rgb.any()
    xyz = torch.randn(9, 3)
    assert torch.equal(ours.density(xyz), ours.coarse.density(xyz).relu())


def test_fine_colours_do_not_need_coarse_ones():
    ours = model().eval()
    whole, spared = (ours(rays(), WHITE, coarse_colour=colour)[-1] for colour in (True, False))
    assert torch.equal(whole.rgb, spared.rgb)
    assert len(whole.weights) == 32 * 16


@pytest.mark.parametrize("background", [None, WHITE, (0.5, 0.0, 1.0)])
def test_background_fills_what_is_open(background):
    ours = model().eval()
    bare, filled = ours(rays(), None)[-1], ours(rays(), background)[-1]
    colour = torch.tensor(background or (0.0, 0, 0))
    assert torch.allclose(filled.rgb, bare.rgb + (1 - bare.opacity)[:, None] * colour, atol=1e-6)


def test_disparity_samples():
    assert not torch.equal(model(use_disp=True).eval()(rays(), WHITE)[0].depth, model().eval()(rays(), WHITE)[0].depth)


def test_every_parameter_learns():
    ours = model().train()
    sum(level.rgb.sum() for level in ours(rays(), WHITE)).backward()
    assert all(p.grad is not None and p.grad.any() for p in ours.parameters())


def test_make_model_depends_on_the_seed_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    ours = make_model(config(seed=3), torch.device("cpu"))
    assert torch.equal(before, torch.random.get_rng_state())
    again = make_model(config(seed=3), torch.device("cpu"), rank=1)
    assert all(map(torch.equal, ours.parameters(), again.parameters()))
    assert ours.seed != again.seed  # processes start equal and draw different pixels
    other = make_model(config(seed=4), torch.device("cpu"))
    assert not torch.equal(next(ours.parameters()), next(other.parameters()))
    assert (ours.N_samples, ours.N_importance) == (MODEL.N_samples, MODEL.N_importance)


@pytest.mark.parametrize(("capability", "auto"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_precision(capability, auto, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [precision_of(config(), device) for device in (cpu, gpu)] == ["fp32", auto]
    assert precision_of(config(precision="tf32"), cpu) == "tf32"
    assert make_model(config(precision="bf16"), cpu).coarse.dtype == torch.bfloat16


# ---- ngp -------------------------------------------------------------------------------------------------------------


def ngp(seed: int = 0, rank: int = 0, low: float = -1.0, high: float = 1.5):
    """In a box of which two sides are longer, with entries large enough to show."""
    ours = make_model(config("ngp", seed=seed), torch.device("cpu"), rank)
    ours.occupancy.aabb.copy_(torch.tensor([[low] * 3, [high, high, 0.5]]))
    ours.load_state_dict(ours.state_dict())  # which takes its lengths from the box
    with torch.no_grad():
        ours.field.table.mul_(1e4)
    return ours


def test_lengths_follow_from_the_box():
    ours = ngp()
    assert ours.stride.side == 2.5
    assert ours.stride.step == pytest.approx(math.sqrt(2.5**2 * 2 + 1.5**2) / 64)
    corners = torch.tensor([[-1.0, -1, -1], [1.5, 1.5, 0.5]])
    assert torch.allclose(ours.occupancy.unit(corners)[0], torch.tensor([[0, 0, 0], [1, 1, 0.6]]))


def test_density_is_per_world_length():
    """The same field in a box of twice the size is half as dense, and as opaque."""
    small, large = ngp(), ngp(low=-2.0, high=3.0)
    large.occupancy.aabb.copy_(2 * small.occupancy.aabb)
    large.load_state_dict(large.state_dict())
    xyz = torch.rand(50, 3) - 0.5
    assert torch.allclose(small.density(xyz), 2 * large.density(2 * xyz), rtol=1e-4)
    here = rays()
    there = replace(here, origins=2 * here.origins, near=2 * here.near, far=2 * here.far)
    ours, theirs = small.eval()(here, WHITE)[0], large.eval()(there, WHITE)[0]
    assert 0.1 < ours.opacity.max() < 0.99
    assert torch.allclose(ours.opacity, theirs.opacity, atol=1e-4)
    assert torch.allclose(2 * ours.depth, theirs.depth, atol=1e-3)


def test_opacity_is_that_of_the_density():
    """Through a field of one density light fades by the exponential of the way inside the box."""
    ours = ngp().eval()
    ours.field.params.data.zero_()  # exp(0) = 1 for each side of the cube
    assert torch.allclose(ours.density(torch.zeros(1, 3)), torch.tensor(1 / 2.5))
    straight = replace(rays(1), origins=torch.tensor([[0.1, 0.2, -4.0]]), directions=torch.tensor([[0.0, 0, 1]]))
    opacity = ours(straight, None)[0].opacity
    assert opacity.item() == pytest.approx(1 - math.exp(-1.5 / 2.5), abs=ours.stride.step)


@pytest.mark.parametrize("background", [None, WHITE])
def test_ngp_renders_on_a_cpu_what_it_computes(background):
    ours = ngp().eval()
    pixels, whole = ours.render(rays(), background), ours(rays(), background)
    assert len(whole) == 1
    for name in ("rgb", "depth", "opacity"):
        assert torch.allclose(getattr(pixels, name), getattr(whole[0], name), atol=1e-5)
    assert pixels.opacity.max() > 0.1


def test_processes_share_their_grid_and_draw_other_samples():
    first, second, other = ngp(), ngp(rank=1), ngp(seed=1)
    for model in (first, second, other):
        model.field.load_state_dict(first.field.state_dict())
        model.before_step(0)
    assert torch.equal(first.occupancy.density, second.occupancy.density)
    assert not torch.equal(first.occupancy.density, other.occupancy.density)
    target = torch.zeros(32, 3), torch.rand(32, 3)
    losses = [model.train().loss(rays(), *target)[0] for model in (first, second)]
    assert losses[0] != losses[1]


def test_the_grid_is_refreshed_every_16_steps():
    ours = ngp()
    for step in range(1, 16):
        ours.before_step(step)
    assert not ours.occupancy.density.any()
    ours.before_step(16)
    n = len(ours.occupancy.density)
    place = torch.arange(n)
    place = torch.stack([place % 32, place // 32 % 32, place // 1024], 1)
    unit = (place + uniform(0, torch.tensor([16]), CELLS, (n, 3))) / 32
    low, high = ours.occupancy.aabb
    assert torch.allclose(ours.occupancy.density, ours.density(low + unit * (high - low)))


@pytest.mark.parametrize(("precision", "half"), [("auto", True), ("bf16", True), ("fp32", False), ("tf32", False)])
def test_precision_of_ngp(precision, half, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    gpu = torch.device("cuda")
    monkeypatch.setattr(ops, "_has_triton", lambda: True)
    ours = make_model(config("ngp", precision=precision), gpu)
    assert ours.field.dtype == (torch.float16 if half else torch.float32)
    assert ours.is_plain == (not half)
    monkeypatch.setattr(ops, "_has_triton", lambda: False)
    assert "pip install triton" in ops.path(gpu)
    assert make_model(config("ngp", precision=precision), gpu).is_plain


@pytest.mark.parametrize("is_training", [True, False])
def test_in_fp32_nothing_depends_on_kernels(is_training, monkeypatch):
    """As with --precision fp32 where there is Triton: the ops that hand over to each other are all the twins."""
    pytest.importorskip("triton")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results = []
    for path in ("reference", "kernel"):
        monkeypatch.setenv("NERF_PL_OPS", path)
        ours, given = ngp().train(is_training).to(device), rays().to(device)
        if is_training:
            loss, _ = ours.loss(given, torch.zeros(32, 3, device=device), torch.full((32, 3), 0.5, device=device))
            loss.backward()
            results.append([loss, ours.field.params.grad, ours.field.table.grad])
        else:
            pixels = ours.render(given, WHITE)
            results.append([pixels.rgb, pixels.depth, pixels.opacity])
    for own, truth in zip(*results, strict=True):
        assert own.isfinite().all()
        assert torch.allclose(own, truth, atol=1e-5)


def test_rays_end_where_no_light_is_left(monkeypatch):
    """Of a dense field only the front is asked, and that makes no difference that shows."""
    ours = ngp().eval()
    density, asked = ours.field.at, []

    def dense(unit, view, ids):
        asked.append(len(unit))
        sigma, rgb = density(unit, view, ids)
        return sigma * 200, rgb

    monkeypatch.setattr(ours.field, "at", dense)
    background = (0.2, 0.5, 0.9)
    whole = ours(rays(200), background)[0]
    total = asked.pop()
    pixels = ours.render(rays(200), background)
    assert sum(asked) < total / 2
    assert whole.opacity.max() > 0.999
    assert torch.allclose(pixels.rgb, whole.rgb, atol=2e-3)
    assert torch.allclose(pixels.opacity, whole.opacity, atol=2e-3)
    assert torch.allclose(pixels.depth, whole.depth, atol=2e-2)
