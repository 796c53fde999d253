"""Rendering in passes, in which rays end early, against all samples at once."""

import pytest
import torch

from nerf_pl.ops import Stride, Way, advance, composite, grid_span, march, moved
from nerf_pl.types import Rays

pytest.importorskip("triton")

from inputs import BOTH, BOX, DEVICE, TWINS, occupied, through_the_box

CUBE = torch.tensor([[-1.0] * 3, [1.0] * 3], device=DEVICE)
SIDE, SIZE, RAYS = 2.0, 32, 12
SPACES = {"box": (BOX, Stride(0.03, SIZE, SIDE)), "open": (CUBE, Stride(0.06, SIZE, SIDE, linear=2.0))}


def field(unit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Density per side of the cube, and colour."""
    xyz = unit * SIDE + BOX[0]
    return SIDE * (xyz.sin() * 9).sum(1).exp().clamp(max=20.0), torch.sigmoid(xyz * 3)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("share", "room", "stop"),
    [(0.0, 10_000, 0.0), (0.5, 10_000, 0.0), (0.5, 10_000, 1e-2), (0.5, 64, 0.0)],
)  # in the last, most rays wait for the next pass
@pytest.mark.parametrize("space", SPACES)
def test_passes_add_up(space, share, room, stop, kind):
    rays, bits, (box, stride) = through_the_box(RAYS), occupied(SIZE, share), SPACES[space]
    way = advance(rays, bits, box, stride, room, backend=BOTH[kind])
    assert isinstance(way, Way)
    passes = 0
    for k in way.passes + way.passes[-1:] * 60:
        unit, ray_ids, count = way.fill(k)
        if count is not None:
            assert int(count) <= room
        assert (ray_ids[: None if count is None else int(count)] < RAYS).all()
        way.blend(*field(unit), k, stop)
        passes += 1
        if not way.left():
            break
    assert way.left() == 0
    if kind == "kernel":
        assert (passes > len(way.passes)) == (room < 1000)
    samples, unit, *_ = march(rays, bits, box, torch.full_like(rays.near, 0.5), stride, backend=TWINS)
    pixels = composite(*field(unit), samples, backend=TWINS)
    close = stop * 1.01 + 1e-5
    assert (way.rgb - pixels.rgb).abs().max() <= close
    assert (1 - way.passed - pixels.opacity).abs().max() <= close
    assert (way.depth - pixels.depth).abs().max() <= 6 * close
    if stop:  # and some rays did end early
        assert (way.rgb - pixels.rgb).abs().max() > 1e-5


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("space", SPACES)
def test_the_field_is_asked_in_other_cells(space, kind):
    """Where and with how much light samples are counted is as before."""
    rays, bits, (box, stride) = through_the_box(RAYS), occupied(SIZE, 0.5), SPACES[space]
    source = torch.randperm(SIZE**3, generator=torch.Generator().manual_seed(4)).to(DEVICE)
    way = advance(rays, bits, box, stride, 10_000, source, backend=BOTH[kind])
    for k in way.passes + way.passes[-1:] * 20:
        unit, _, _ = way.fill(k)
        way.blend(*field(unit), k, 0.0)
    assert way.left() == 0
    samples, unit, *_ = march(rays, bits, box, torch.full_like(rays.near, 0.5), stride, backend=TWINS)
    there = moved(unit, source, SIZE, grid_span(box, stride.linear is not None))
    assert (there - unit).abs().mean() > 0.1
    pixels = composite(*field(there), samples, backend=TWINS)
    assert (way.rgb - pixels.rgb).abs().max() <= 1e-4
    assert (way.depth - pixels.depth).abs().max() <= 1e-4


@pytest.mark.parametrize("kind", BOTH)
def test_nothing_to_render(kind):
    empty = torch.zeros(0, device=DEVICE)
    rays = Rays(*(empty.view(0, 3),) * 3, empty, empty)
    way = advance(rays, occupied(SIZE, 1.0), *SPACES["box"], 64, backend=BOTH[kind])
    assert way.left() == 0
    assert way.rgb.shape == (0, 3)
