"""Pixels to rays and back."""

import math

import pytest
import torch

from nerf_pl.cameras import Cameras, image_rays, pixel_rays, project
from nerf_pl.paths import look_at


def cameras(pixel_offset: float = 0.5, n: int = 3) -> Cameras:
    torch.manual_seed(0)
    K = torch.tensor([[10.0, 0, 4.5], [0, 12.0, 2.5], [0, 0, 1]]).expand(n, 3, 3)
    return Cameras(look_at(torch.randn(n, 3) * 4, (0.1, 0.2, 0.3)), K, 8, 6, pixel_offset)


def test_rays_by_hand():
    """A camera at (1, 2, 3) that looks along -z with a focal length of 2 pixels, 4 x 2 pixels large."""
    c2w = torch.eye(4)[None, :3].clone()
    c2w[0, :, 3] = torch.tensor([1.0, 2, 3])
    K = torch.tensor([[[2.0, 0, 2], [0, 2, 1], [0, 0, 1]]])
    for offset, expected in ((0.5, (-0.75, 0.25)), (0.0, (-1.0, 0.5))):  # of the first pixel: left and up
        rays = image_rays(Cameras(c2w, K, 4, 2, offset), 0, 2.0, 6.0)
        assert torch.equal(rays.origins, torch.tensor([1.0, 2, 3]).expand(8, 3))
        first = torch.tensor([*expected, -1.0])
        assert torch.allclose(rays.directions[0], first / first.norm())
        right, down = rays.directions / -rays.directions[:, 2:], rays.directions / -rays.directions[:, 2:]
        assert torch.allclose(right[1] - right[0], torch.tensor([0.5, 0, 0]), atol=1e-6)
        assert torch.allclose(down[4] - down[0], torch.tensor([0.0, -0.5, 0]), atol=1e-6)
        assert (rays.near == 2).all()
        assert (rays.far == 6).all()


def test_the_middle_ray_looks_along_the_axis():
    views = cameras()
    K = views.K.clone()
    K[:, 0, 2], K[:, 1, 2] = 3.5, 2.5
    views = Cameras(views.c2w, K, 8, 6)
    ids = torch.arange(3)
    rays = pixel_rays(views, ids, torch.full((3,), 2 * 8 + 3), 0.0, 1.0)
    assert torch.allclose(rays.directions, -views.c2w[:, :, 2], atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_projecting_a_ray_gives_its_pixel(offset):
    views = cameras(offset)
    for i in range(len(views)):
        rays = image_rays(views, i, 0.0, 1.0)
        assert torch.allclose(rays.directions.norm(dim=-1), torch.ones(48))
        distance = 1 + torch.rand(48)
        xy, depth = project(views, i, rays.origins + distance[:, None] * rays.directions)
        ids = torch.arange(48)
        centre = torch.stack([ids % 8, ids // 8], -1) + 0.5
        assert torch.allclose(xy, centre, atol=1e-3)
        along = -(rays.directions * views.c2w[i, :, 2]).sum(-1)
        assert torch.allclose(depth, distance * along, atol=1e-4)


def test_resized_cameras_see_the_same():
    views = cameras(pixel_offset=0.0)
    large = views.resized(24, 18)
    assert (large.width, large.height) == (24, 18)
    ours, theirs = image_rays(views, 1, 0.0, 1.0), image_rays(large, 1, 0.0, 1.0)
    assert torch.allclose(theirs.directions.view(18, 24, 3)[::3, ::3].reshape(-1, 3), ours.directions, atol=1e-6)
    field_of_view = [2 * math.atan(c.width / 2 / float(c.K[0, 0, 0])) for c in (views, large)]
    assert field_of_view[0] == pytest.approx(field_of_view[1])
    assert float(views.K[0, 0, 0]) == 10  # the original is left alone


def test_a_part_of_the_cameras():
    views = cameras()
    part = views[torch.tensor([2, 0])]
    assert len(part) == 2
    assert torch.equal(part.c2w, views.c2w[[2, 0]])
