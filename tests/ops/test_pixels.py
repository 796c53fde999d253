"""Drawing pixels: the kernel against its twin, the twin against the cameras' rays, to the last bit."""

from dataclasses import replace

import pytest
import torch

from nerf_pl.cameras import Cameras, pixel_rays
from nerf_pl.ops import Draw, Pictures, draw_pixels

pytest.importorskip("triton")

from inputs import DEVICE, KERNELS, TWINS, uniform

WIDTH, HEIGHT, OFFSET = 14, 10, 0.5


def pictures(kind: str) -> Pictures:
    images = (uniform(3, HEIGHT, WIDTH, 4 if kind == "alpha" else 3) * 256).to(torch.uint8)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(1)))
    c2w = torch.cat([turn, torch.tensor([[1.0], [-2.0], [3.0]]).expand(3, 3, 1)], 2)
    K = torch.tensor([[20.0, 0, 7.5], [0, 21.0, 4.5], [0, 0, 1]]) * torch.tensor([1, 2, 3.0])[:, None, None]
    plain = Pictures(images, c2w.contiguous().to(DEVICE), K.to(DEVICE), None, None, OFFSET)
    if kind == "sizes":
        return replace(plain, sizes=torch.tensor([[14, 10], [7, 10], [14, 5]], device=DEVICE))
    if kind == "masks":
        return replace(plain, allowed=(uniform(3, HEIGHT, WIDTH) < 0.3).flatten().nonzero()[:, 0])
    return plain


def draw(step: int) -> Draw:
    return Draw(seed=7, step=torch.tensor([step], device=DEVICE), stream=0, precrop=10)


@pytest.mark.parametrize("kind", ["plain", "alpha", "sizes", "masks"])
@pytest.mark.parametrize("step", [0, 30])
@pytest.mark.parametrize(("per_pixel", "n"), [(0, 200), (1, 200), (3, 198), (6, 192)])  # 192: see docs/log.md
def test_draw_pixels(kind, step, per_pixel, n):
    pixels = n // max(per_pixel, 1)
    behind, within = uniform(pixels, 3), uniform(n, 2, seed=1) - 0.5 if per_pixel else None
    given = pictures(kind), behind, draw(step), within
    drawn, truth = draw_pixels(*given, backend=KERNELS), draw_pixels(*given, backend=TWINS)
    assert [len(part) for part in drawn] == [n, n, pixels, pixels]
    for own, other in zip(drawn, truth, strict=True):
        assert torch.allclose(own, other, atol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "sizes"])
def test_rays_are_those_of_the_cameras(kind):
    """The images say in their colours which pixel was drawn."""
    given = pictures(kind)
    image, row, column = torch.meshgrid(*(torch.arange(n) for n in (3, HEIGHT, WIDTH)), indexing="ij")
    images = torch.stack([image, row, column], -1).to(torch.uint8).to(DEVICE)
    given = replace(given, images=images)
    within = uniform(300, 2, seed=1) - 0.5
    behind = torch.zeros(100, 3, device=DEVICE)
    for step in (0, 30):
        origins, directions, rgb, numbers = draw_pixels(given, behind, draw(step), within, backend=TWINS)
        image, row, column = (rgb * 255).round().long().unbind(1)
        assert torch.equal(numbers, (image * HEIGHT + row) * WIDTH + column)
        wide, high = torch.full_like(row, WIDTH), torch.full_like(row, HEIGHT)
        if given.sizes is not None:
            wide, high = given.sizes[image].unbind(1)
        assert (row < high).all()
        assert (column < wide).all()
        central = (row >= high // 4) & (row < high // 4 + -(-high // 2))
        central &= (column >= wide // 4) & (column < wide // 4 + -(-wide // 2))
        assert bool(central.all()) == (step == 0)
        cameras = Cameras(given.c2w, given.K, WIDTH, HEIGHT, pixel_offset=OFFSET)
        ids = (image.repeat_interleave(3), (row * WIDTH + column).repeat_interleave(3))
        rays = pixel_rays(cameras, *ids, 2.0, 6.0, within)
        assert torch.equal(origins, rays.origins)
        assert torch.equal(directions, rays.directions)


def test_colours_and_masks():
    given, behind = pictures("alpha"), uniform(500, 3)
    allowed = torch.tensor([5, 200, 419], device=DEVICE)
    *_, rgb, _ = draw_pixels(replace(given, allowed=allowed), behind, replace(draw(0), precrop=0), None, backend=TWINS)
    values = given.images.view(-1, 4)[allowed].float() / 255  # (3, 4)
    expected = values[:, None, :3] * values[:, None, 3:] + (1 - values[:, None, 3:]) * behind
    own = (rgb - expected).abs().amax(2) < 1e-6  # which of the three each one is
    assert (own.sum(0) == 1).all()
    assert own.any(1).all()
