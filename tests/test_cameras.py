"""Pixels to rays and back."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nerf_pl.cameras import Cameras, image_rays, ndc_points, ndc_rays, ndc_scale, pixel_rays, project
from nerf_pl.films.paths import look_at
from nerf_pl.scenes import Scene
from nerf_pl.types import Rays


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


def forward_rays(n: int = 200) -> Rays:
    """Rays of cameras near the origin that look roughly along -z, some of them from beyond the plane z = -1."""
    torch.manual_seed(1)
    origins = torch.randn(n, 3, dtype=torch.float64) * torch.tensor([1.0, 1.0, 0.7])
    directions = torch.randn(n, 3, dtype=torch.float64) * torch.tensor([0.6, 0.6, 0.1]) - torch.tensor([0.0, 0, 1])
    directions = torch.nn.functional.normalize(directions, dim=-1)
    return Rays(origins, directions, directions, torch.ones(n).double(), torch.full((n,), 5.0).double())


NDC = (1.7, 2.3)


def to_ndc(points: Tensor) -> Tensor:
    """The projection of a frustum with the near plane z = -1 and the far one at infinity, NeRF 2020, eq. 13 and on."""
    x, y, z = points.unbind(-1)
    return torch.stack([-NDC[0] * x / z, -NDC[1] * y / z, 1 + 2 / z], -1)


def test_points_of_a_world_ray_lie_on_its_ndc_ray():
    rays = forward_rays()
    bent = ndc_rays(rays, NDC)
    assert torch.allclose(bent.directions.norm(dim=-1), torch.ones(200).double(), atol=1e-12)
    assert torch.equal(bent.viewdirs, rays.viewdirs)
    assert (bent.near == 0).all()
    before = torch.zeros(200).double()
    for depth in (1.0, 1.001, 1.5, 4.0, 70.0, 1e4):  # along -z, from the origin
        t = (depth + rays.origins[:, 2]) / -rays.directions[:, 2]
        points = to_ndc(rays.origins + t[:, None] * rays.directions)
        along = ((points - bent.origins) * bent.directions).sum(-1)
        assert torch.allclose(points, bent.origins + along[:, None] * bent.directions, atol=1e-10)
        assert (along > before - 1e-10).all()  # in the same order, from the near plane to infinity
        assert (along < bent.far).all()
        before = along
    assert torch.allclose(bent.origins[:, 2], -torch.ones(200).double())
    infinity = to_ndc(rays.origins + 1e9 * rays.directions)
    assert torch.allclose(infinity, bent.origins + bent.far[:, None] * bent.directions, atol=1e-7)


def test_the_frustum_becomes_a_cube():
    """The borders of the picture of a camera at the origin that looks along -z are the sides of the cube."""
    K = torch.tensor([[[10.0, 0, 4], [0, 12.0, 3], [0, 0, 1]]])
    views = Cameras(torch.eye(4)[None, :3], K, 9, 7, 0.0)  # 8 x 6 pixels and the borders beyond them
    rays = ndc_rays(image_rays(views, 0, 0.0, 1.0), (2 * 10 / 8, 2 * 12 / 6))
    for points in (rays.origins, rays.origins + rays.far[:, None] * rays.directions):
        x, y = points.view(7, 9, 3)[..., 0], points.view(7, 9, 3)[..., 1]
        assert torch.allclose(x, torch.linspace(-1, 1, 9).expand(7, 9), atol=1e-6)
        assert torch.allclose(y, torch.linspace(1, -1, 7)[:, None].expand(7, 9), atol=1e-6)
    assert torch.allclose(rays.far, torch.full_like(rays.far, 2.0))  # from z = -1 to 1, all parallel


def test_rays_that_do_not_look_forward_are_bent_to():
    directions = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0.6, 0, 0.8]])
    rays = ndc_rays(Rays(torch.zeros(3, 3), directions, directions, torch.ones(3), torch.ones(3)), NDC)
    for values in (rays.origins, rays.directions, rays.far):
        assert values.isfinite().all()
    assert (rays.directions[:, 2] > 0).all()


def test_points_go_where_their_rays_go():
    rays = forward_rays()
    bent = ndc_rays(rays, NDC)
    depth = 1 + 10 * torch.rand(200).double()
    t = (depth + rays.origins[:, 2]) / -rays.directions[:, 2]
    world = rays.origins + t[:, None] * rays.directions
    points = ndc_points(world, NDC)
    assert torch.allclose(points, to_ndc(world), atol=1e-12)
    along = ((points - bent.origins) * bent.directions).sum(-1)
    assert torch.allclose(points, bent.origins + along[:, None] * bent.directions, atol=1e-10)
    # a small way on the one is as long on the other as `ndc_scale` says
    small = 1e-6
    further = ((to_ndc(world + small * rays.directions) - bent.origins) * bent.directions).sum(-1)
    assert torch.allclose((further - along) / small, ndc_scale(world, rays.directions, NDC), rtol=1e-4)


@pytest.mark.parametrize("length", [1.0, 3.0])
def test_lengths_in_ndc(length):
    """Along any direction, by finite differences; and as long as the direction is."""
    torch.manual_seed(2)
    world = torch.randn(100, 3).double() * 2 - torch.tensor([0.0, 0, 8])
    world[:, 2].clamp_(max=-1)
    dirs, small = length * torch.nn.functional.normalize(torch.randn(100, 3).double(), dim=-1), 1e-6
    way = (to_ndc(world + small * dirs) - to_ndc(world - small * dirs)).norm(dim=-1) / (2 * small)
    assert torch.allclose(ndc_scale(world, dirs, NDC), way, rtol=1e-6)


def test_points_without_a_place_in_ndc():
    """Those beside and behind the cameras lie outside the cube."""
    points = torch.tensor([[0.0, 0, 0], [1, 2, 0], [1, 2, 3]])
    for values in (ndc_points(points, NDC), ndc_scale(points, torch.eye(3), NDC)):
        assert values.isfinite().all()
    assert (ndc_points(points, NDC).abs().amax(1) > 1).all()


@pytest.mark.parametrize("ndc", [None, NDC])
@pytest.mark.parametrize("index", [0, 1, -1])
def test_a_view_has_the_rays_of_its_camera(index, ndc):
    """Of all its pixels or some of them, wherever in a pixel they pass; of a picture's own size."""
    sizes = torch.tensor([[8, 6], [5, 4], [8, 3]])
    pictures = torch.zeros(3, 6, 8, 3, dtype=torch.uint8)
    own = replace(cameras(0.0), sizes=sizes)
    scene = Scene(own, pictures, 0.5, 7.0, torch.zeros(2, 3), (0.1, 0.2, 0.3), ndc=ndc)
    view = scene.view(index)
    assert view.size == tuple(sizes[index].tolist())
    assert (view.near, view.far, view.ndc, view.background) == (0.5, 7.0, ndc, (0.1, 0.2, 0.3))
    some = torch.tensor([0, 3, 7])
    for within, pixels in (((0.0, 0.0), None), ((0.25, -0.5), None), ((torch.rand(3), torch.rand(3)), some)):
        rays = image_rays(own, index % 3, 0.5, 7.0, within, pixels)
        rays = rays if ndc is None else ndc_rays(rays, ndc)
        for name, value in vars(rays).items():
            assert torch.equal(getattr(view.rays(within, pixels), name), value), name
    with pytest.raises(IndexError):
        scene.view(3)
