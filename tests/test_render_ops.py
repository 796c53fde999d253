"""Rendering in passes, in which rays end early, against all samples at once."""

import pytest
import torch

from nerf_pl.ops import Stride, pack_bits
from nerf_pl.ops import march_reference as marching
from nerf_pl.ops.reference import composite
from nerf_pl.types import Samples

pytest.importorskip("triton")

from nerf_pl.ops.render_kernels import Advance

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CUBE = torch.tensor([[-1.0] * 3, [1.0] * 3], device=DEVICE)
BOX = torch.tensor([[-1.0, -0.5, -0.5], [1.0, 0.5, 0.6]], device=DEVICE)
SIDE, SIZE, RAYS = 2.0, 32, 50
STRIDES = {"box": Stride(0.02, SIZE, SIDE), "open": Stride(0.04, SIZE, SIDE, linear=2.0)}


def rays() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(RAYS, 3, generator=generator), dim=1)
    origins = (torch.rand(RAYS, 3, generator=generator) - 0.5) * 1.5 - 3 * directions
    given = origins, directions, torch.full((RAYS,), 0.3), torch.full((RAYS,), 6.0)
    return tuple(value.to(DEVICE) for value in given)


def field(unit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Density per side of the cube, and colour."""
    xyz = unit * SIDE + BOX[0]
    return SIDE * (xyz.sin() * 9).sum(1).exp().clamp(max=20.0), torch.sigmoid(xyz * 3)


def truth(bits: torch.Tensor, box: torch.Tensor, stride: Stride) -> tuple[torch.Tensor, ...]:
    half = torch.full((RAYS,), 0.5, device=DEVICE)
    t, dt, ray_ids, offsets, unit, _ = marching.march(*rays(), bits, box, half, stride)
    sigma, rgb = field(unit)
    pixels = composite(sigma, rgb, Samples(t, dt, ray_ids, offsets))
    return pixels.rgb, pixels.depth, pixels.opacity


@pytest.mark.parametrize("room", [10_000, 200])  # in the second, most rays wait for the next pass
@pytest.mark.parametrize("stop", [0.0, 1e-2])
@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("kind", STRIDES)
def test_passes_add_up(kind, room, stop, share):
    box = CUBE if kind == "open" else BOX
    bits = pack_bits((torch.rand(SIZE**3, generator=torch.Generator().manual_seed(1)) < share).to(DEVICE))
    way = Advance(*rays(), bits, box, STRIDES[kind], room)
    passes = 0
    for k in [4, 4, 8, 16, 32] + [64] * 60:
        unit, ray_ids, count = way.fill(k)
        assert int(count) <= room
        assert (ray_ids[: int(count)] < RAYS).all()
        way.blend(*field(unit), k, stop)
        passes += 1
        if not way.left():
            break
    assert way.left() == 0
    assert (passes > 5) == (room < 1000 and share > 0)
    rgb, depth, opacity = truth(bits, box, STRIDES[kind])
    close = stop * 1.01 + 1e-5
    assert (way.rgb - rgb).abs().max() <= close
    assert (1 - way.passed - opacity).abs().max() <= close
    assert (way.depth - depth).abs().max() <= 6 * close
    if stop and share:  # and some rays did end early
        assert (way.rgb - rgb).abs().max() > 1e-5


def test_nothing_to_render():
    empty = torch.zeros(0, device=DEVICE)
    bits = pack_bits(torch.ones(SIZE**3, dtype=torch.bool, device=DEVICE))
    way = Advance(empty.view(0, 3), empty.view(0, 3), empty, empty, bits, BOX, STRIDES["box"], 64)
    assert way.left() == 0
    assert way.rgb.shape == (0, 3)
