"""The hash-grid model as a whole: lengths, what it renders, and what processes share."""

import math
from dataclasses import replace

import pytest
import torch
from tiny import CPU, config, make, with_model

from nerf_pl import ops
from nerf_pl.errors import UserError
from nerf_pl.methods import METHODS
from nerf_pl.methods.ngp.model import NGP
from nerf_pl.ops import Backend
from nerf_pl.randomness import Stream, uniform
from nerf_pl.rendering import over
from nerf_pl.types import Batch, Pixels, Rays

WHITE = (1.0, 1.0, 1.0)


def rays(n: int = 32) -> Rays:
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(n, 3), dim=-1)
    return Rays(-4 * directions, directions, directions, torch.full((n,), 2.0), torch.full((n,), 6.0))


def ngp(seed: int = 0, rank: int = 0, low: float = -1.0, high: float = 1.5) -> NGP:
    """In a box of which two sides are longer, with entries large enough to show."""
    ours = make(config("ngp", seed=seed), rank=rank)
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
    ours, theirs = small.render(here, WHITE), large.render(there, WHITE)
    assert 0.1 < ours.opacity.max() < 0.99
    assert torch.allclose(ours.opacity, theirs.opacity, atol=1e-4)
    assert torch.allclose(2 * ours.depth, theirs.depth, atol=1e-3)


def test_opacity_is_that_of_the_density():
    """Through a field of one density light fades by the exponential of the way inside the box."""
    ours = ngp()
    ours.field.params.data.zero_()  # exp(0) = 1 for each side of the cube
    assert torch.allclose(ours.density(torch.zeros(1, 3)), torch.tensor(1 / 2.5))
    straight = replace(rays(1), origins=torch.tensor([[0.1, 0.2, -4.0]]), directions=torch.tensor([[0.0, 0, 1]]))
    opacity = ours.render(straight, None).opacity
    assert opacity.item() == pytest.approx(1 - math.exp(-1.5 / 2.5), abs=ours.stride.step)


def all_at_once(ours: NGP, given: Rays) -> tuple[Pixels, int]:
    """What `render` shows of a model whose cells are all occupied and lit, from all samples; and how many those are."""
    grid = ours.occupancy
    bits, half = torch.full_like(grid.bits, -1), torch.full_like(given.near, 0.5)
    samples, unit, *_ = ops.march(given, bits, grid.aabb, half, ours.stride, backend=ours.backend)
    assert ours.mirror is not None
    seen = given.viewdirs, samples.ray_ids, ours.mirror.normals
    view = ops.mirrored_harmonics(unit, *seen, backend=ours.backend)
    sigma, rgb = ops.hash_field(unit, view, None, ours.field.weights, backend=ours.backend)
    return ops.composite(sigma, rgb, samples, backend=ours.backend), len(samples)


@pytest.mark.parametrize("background", [None, WHITE, (0.2, 0.5, 0.9)])
def test_passes_add_up_to_all_samples(background):
    ours = ngp()
    pixels, whole = ours.render(rays(), background), over(all_at_once(ours, rays())[0], background)
    for name in ("rgb", "depth", "opacity"):
        assert torch.allclose(getattr(pixels, name), getattr(whole, name), atol=1e-5)
    assert 0.1 < pixels.opacity.max() < 0.99


def test_processes_share_their_grid_and_draw_other_samples():
    first, second, other = ngp(), ngp(rank=1), ngp(seed=1)
    for model in (first, second, other):
        model.field.load_state_dict(first.field.state_dict())
        model.before_step(0)
    assert torch.equal(first.occupancy.density, second.occupancy.density)
    assert not torch.equal(first.occupancy.density, other.occupancy.density)
    batch = Batch(rays(), torch.rand(32, 3), torch.zeros(32, 3))
    losses = [model.train().loss(batch)[0] for model in (first, second)]
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
    unit = (place + uniform(0, torch.tensor([16]), Stream.CELLS, (n, 3), backend=ours.backend)) / 32
    low, high = ours.occupancy.aabb
    found = ours.occupancy.density.clone()
    ours.occupancy.bits.fill_(-1)  # so that the density shows everywhere
    ours.occupancy.forget_shown()
    assert torch.allclose(found, ours.density(low + unit * (high - low)))


@pytest.mark.parametrize(
    ("family", "told"),
    [("triton", "Triton kernels, fp16"), ("reference", "plain PyTorch, fp32"), ("numba", "compiled by Numba, fp32")],
)
def test_what_the_kernels_of_its_field_bring(family, told):
    """A copy of the table in half precision, and steps that a graph can record."""
    ours = NGP(config("ngp").model, Backend("triton", "triton", family, family, "triton", "triton"))
    assert (ours.field.values is not None) == ours.can_be_captured == (family == "triton")
    assert (ours.batch_limit() is None) == ours.can_be_captured
    assert ours.describe() == told
    if ours.field.values is not None:
        other = NGP(config("ngp").model, Backend())
        ours.load_state_dict(other.state_dict())
        assert torch.equal(ours.field.values, other.field.table.half())


def test_networks_that_the_kernels_cannot_hold(monkeypatch):
    monkeypatch.setenv("NERF_PL_OPS", "kernel")
    for name, width in (("hidden", 128), ("colour_hidden", 256)):
        wide = with_model(config("ngp", precision="bf16"), **{name: width})
        with pytest.raises(UserError, match=f"--{name} {width} is too wide for the GPU kernels: give {width // 2} or"):
            METHODS["ngp"].make(wide, CPU)
        assert make(with_model(config("ngp", precision="fp32"), **{name: width})).field.values is None


@pytest.mark.parametrize("is_training", [True, False])
def test_in_fp32_nothing_depends_on_kernels(is_training):
    """As with --precision fp32 where there is Triton: the ops that hand over to each other are all the twins."""
    pytest.importorskip("triton")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results = []
    for backend in (Backend(), Backend("triton", "reference", "reference", "reference", "triton", "triton")):
        own = ngp()
        ours = NGP(own.options, backend).to(device)
        ours.load_state_dict(own.state_dict())
        given = rays().to(device)
        if is_training:
            behind = torch.zeros(32, 3, device=device)
            loss, _ = ours.loss(Batch(given, behind + 0.5, behind))
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
    ours, field, asked = ngp(), ops.hash_field, []

    def dense(unit, *given, **how):
        asked.append(len(unit))
        sigma, rgb = field(unit, *given, **how)
        return sigma * 200, rgb

    monkeypatch.setattr(ops, "hash_field", dense)
    background = (0.2, 0.5, 0.9)
    whole, total = all_at_once(ours, rays(200))
    whole = over(whole, background)
    asked.clear()
    pixels = ours.render(rays(200), background)
    assert sum(asked) < total / 2
    assert whole.opacity.max() > 0.999
    assert torch.allclose(pixels.rgb, whole.rgb, atol=2e-3)
    assert torch.allclose(pixels.opacity, whole.opacity, atol=2e-3)
    assert torch.allclose(pixels.depth, whole.depth, atol=2e-2)


def test_samples_at_a_time_are_no_more_than_kernels_can_count(monkeypatch):
    """Views that are rendered together fill any --chunk. Rays for whose samples there is no room wait."""
    rooms, advance = [], ops.advance

    def noted(given, bits, aabb, stride, room, *more, **how):
        rooms.append(room)
        return advance(given, bits, aabb, stride, room, *more, **how)

    monkeypatch.setattr(ops, "advance", noted)
    given, ours = rays(2**15), ngp()
    ours.render(given, None)
    monkeypatch.setattr("nerf_pl.methods.ngp.model.MOST_NUMBERS", 2**20)
    ours.render(given, None)
    assert rooms == [4 * 2**15, 2**20 // 32]
