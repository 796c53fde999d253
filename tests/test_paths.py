"""Camera paths: where the cameras stand and what they look at."""

import math

import pytest
import torch

from nerf_pl.cameras import Cameras, image_rays, project, up_direction
from nerf_pl.export import files
from nerf_pl.films.paths import (
    fit_turn,
    framed,
    look_at,
    look_inward,
    mean_pose,
    spiral,
    turn_along,
    turntable,
    widest_gap,
)
from nerf_pl.scenes import Scene
from nerf_pl.viewer import stage


def some_cameras(dtype: torch.dtype = torch.float32) -> Cameras:
    K = torch.tensor([[90.0, 0, 40], [0, 90, 30], [0, 0, 1]], dtype=dtype).expand(3, 3, 3)
    return Cameras(torch.zeros(3, 3, 4, dtype=dtype), K, width=80, height=60, pixel_offset=0.0)


def test_turntable_looks_at_the_target_from_its_circle():
    target = (0.1, -0.2, 0.3)
    path = turntable(8, some_cameras(torch.float64), radius=3.0, elevation_deg=20.0, target=target)
    assert len(path) == 8
    assert (path.width, path.height, path.pixel_offset) == (80, 60, 0.0)
    away = path.c2w[:, :, 3] - torch.tensor(target, dtype=torch.float64)
    torch.testing.assert_close(away.norm(dim=-1), torch.full((8,), 3.0, dtype=torch.float64))
    torch.testing.assert_close(away[:, 2], torch.full((8,), 3 * math.sin(math.radians(20)), dtype=torch.float64))
    for i in range(8):
        xy, depth = project(path, i, torch.tensor([target], dtype=torch.float64))
        torch.testing.assert_close(xy, torch.tensor([[40.5, 30.5]], dtype=torch.float64))  # pixel_offset is 0
        torch.testing.assert_close(depth, torch.tensor([3.0], dtype=torch.float64))


def test_turntable_is_a_loop_of_even_steps():
    path = turntable(6, some_cameras())
    azimuth = torch.atan2(path.c2w[:, 1, 3], path.c2w[:, 0, 3])
    steps = torch.remainder(torch.diff(azimuth, append=azimuth[:1]), 2 * math.pi)
    torch.testing.assert_close(steps, torch.full((6,), math.pi / 3), atol=1e-5, rtol=0)


def test_look_at_gives_upright_rotations():
    positions = torch.randn(50, 3, dtype=torch.float64)
    c2w = look_at(positions, target=(0.3, 0.2, -0.1))
    rotations = c2w[:, :, :3]
    identity = torch.eye(3, dtype=torch.float64).expand(50, 3, 3)
    torch.testing.assert_close(rotations @ rotations.transpose(1, 2), identity)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(50, dtype=torch.float64))
    assert (rotations[:, 2, 0].abs() < 1e-12).all()  # the horizon is level
    assert (rotations[:, 2, 1] > 0).all()  # up is up


def test_turntable_keeps_precision_and_stays_apart_from_its_model():
    like = some_cameras(torch.float64)
    path = turntable(2, like)
    assert path.c2w.dtype == torch.float64
    path.K[:, 0, 0] = 1
    assert like.K[0, 0, 0] == 90


@pytest.mark.parametrize("elevation", [90.0, -90.0])
def test_there_is_no_upright_view_from_a_pole(elevation):
    with pytest.raises(ValueError, match="upright"):
        turntable(4, some_cameras(), elevation_deg=elevation)


def test_a_path_needs_a_camera():
    with pytest.raises(ValueError, match="n=0"):
        turntable(0, some_cameras())


def middle(path: Cameras) -> torch.Tensor:
    return torch.tensor([path.width / 2, path.height / 2], dtype=path.K.dtype) + 0.5 - path.pixel_offset


def on_the_dome(n: int, lowest: float = 10, highest: float = 60, arc: float = 360) -> Cameras:
    """Views of (1, 2, 3) from all around, or from an arc, at different heights and distances."""
    generator = torch.Generator().manual_seed(0)
    azimuth = torch.arange(n, dtype=torch.float64) / n * math.radians(arc)
    elevation = torch.deg2rad(lowest + (highest - lowest) * torch.rand(n, dtype=torch.float64, generator=generator))
    radius = 2 + torch.rand(n, dtype=torch.float64, generator=generator)
    flat = radius * elevation.cos()
    positions = torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), radius * elevation.sin()], -1)
    c2w = look_at(positions + torch.tensor([1.0, 2, 3], dtype=torch.float64), (1.0, 2, 3))
    like = some_cameras(torch.float64)
    return Cameras(c2w, like.K[:1].expand(n, 3, 3).clone(), 80, 60)


def test_a_turn_about_any_axis():
    axis = torch.nn.functional.normalize(torch.tensor([1.0, -2, 0.5], dtype=torch.float64), dim=0)
    target = (0.1, -0.2, 0.3)
    path = turntable(7, some_cameras(torch.float64), 2.0, 25.0, target, tuple(axis.tolist()))
    away = path.c2w[:, :, 3] - torch.tensor(target, dtype=torch.float64)
    torch.testing.assert_close(away @ axis, torch.full((7,), 2 * math.sin(math.radians(25)), dtype=torch.float64))
    torch.testing.assert_close(away.norm(dim=-1), torch.full((7,), 2.0, dtype=torch.float64))
    assert (path.c2w[:, :, 0] @ axis).abs().max() < 1e-12  # the horizon is level
    assert (path.c2w[:, :, 1] @ axis).min() > 0
    steps = (away - away.roll(1, 0)).norm(dim=-1)
    torch.testing.assert_close(steps, steps[:1].expand(7))


def test_a_turn_is_found_again_from_its_cameras():
    axis = torch.nn.functional.normalize(torch.tensor([0.2, 0.1, 1], dtype=torch.float64), dim=0)
    path = turntable(12, some_cameras(torch.float64), 1.7, 35.0, (1.0, 2, 3), tuple(axis.tolist()))
    radius, elevation, up = fit_turn(path.c2w, (1.0, 2, 3))
    assert (radius, elevation) == (pytest.approx(1.7), pytest.approx(35))
    assert up == pytest.approx(axis.tolist())


def test_the_turn_is_in_the_middle_of_the_views():
    views = on_the_dome(200)
    radius, elevation, up = fit_turn(views.c2w, (1.0, 2, 3))
    assert 2 < radius < 3
    assert 25 < elevation < 45
    assert up[2] > 0.99


def level(azimuths: torch.Tensor, roll_deg: float = 3.0) -> torch.Tensor:
    """Poses of cameras that look down at a thing by 45 degrees, held level but for a random roll."""
    places = torch.stack([azimuths.cos(), azimuths.sin(), torch.ones_like(azimuths)], 1)
    c2w = look_at(places, (0.0, 0.0, 0.0))
    roll = torch.deg2rad(roll_deg * torch.randn(len(azimuths), generator=torch.Generator().manual_seed(0)).double())
    right, up = c2w[:, :, 0].clone(), c2w[:, :, 1].clone()
    c2w[:, :, 0] = roll.cos()[:, None] * right + roll.sin()[:, None] * up
    c2w[:, :, 1] = roll.cos()[:, None] * up - roll.sin()[:, None] * right
    return c2w


def from_z(direction: torch.Tensor) -> float:
    """Degrees between a unit vector and z."""
    return math.degrees(math.acos(min(float(direction[2]), 1.0)))


def test_up_is_across_what_points_to_the_right():
    """From one side all cameras look down the same way, so the mean of their up directions leans."""
    c2w = level(torch.linspace(-1.0, 1.0, 50, dtype=torch.float64))
    mean = torch.nn.functional.normalize(c2w[:, :, 1].mean(0), dim=0)
    assert from_z(mean) > 30
    assert from_z(up_direction(c2w)) < 2
    around = level(torch.linspace(0, 6, 50, dtype=torch.float64))
    assert from_z(up_direction(around)) < 2


def test_web_pages_meshes_and_the_viewer_take_the_same_for_up():
    n, like = 50, some_cameras()
    c2w = level(torch.linspace(-1.0, 1.0, n, dtype=torch.float64)).float()
    cameras = Cameras(c2w, like.K[:1].expand(n, 3, 3).clone(), 8, 6)
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    scene = Scene(cameras, torch.zeros(n, 6, 8, 3, dtype=torch.uint8), 0.1, 9.0, box, unbounded=True)
    for up in (files.up_of(scene), stage.up_of(scene)):
        assert from_z(torch.as_tensor(up)) < 2


def test_up_is_the_mean_where_nothing_tells_what_is_level():
    """Of cameras side by side, that look the same way; and of such as were held in all ways."""
    for c2w in (
        level(torch.linspace(-0.1, 0.1, 50, dtype=torch.float64)),
        level(torch.linspace(-1.0, 1.0, 50, dtype=torch.float64), roll_deg=40.0),
    ):
        assert torch.allclose(up_direction(c2w), torch.nn.functional.normalize(c2w[:, :, 1].mean(0), dim=0))
    straight = look_at(torch.tensor([[1.0, 0, 0], [-1, 0, 0]], dtype=torch.float64), (0.0, 0, 0))
    straight[1, :, :2] *= -1  # one stands on its head
    assert up_direction(straight).tolist() == [0, 0, 1]


def hilly(arc: float, n: int = 60) -> Cameras:
    """Cameras around (1, 2, 3), at 15 to 55 degrees and 2 to 3 away: both change with the azimuth."""
    azimuth = torch.arange(n, dtype=torch.float64) / n * math.radians(arc)
    elevation, radius = torch.deg2rad(35 + 20 * azimuth.sin()), 2.5 + 0.5 * azimuth.cos()
    flat = radius * elevation.cos()
    positions = torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), radius * elevation.sin()], -1)
    c2w = look_at(positions + torch.tensor([1.0, 2, 3], dtype=torch.float64), (1.0, 2, 3))
    like = some_cameras(torch.float64)
    return Cameras(c2w, like.K[:1].expand(n, 3, 3).clone(), 80, 60)


@pytest.mark.parametrize("arc", [360, 300, 200, 100])
def test_a_turn_stays_where_cameras_were(arc):
    views = hilly(arc)
    path = turn_along(48, views, (1.0, 2, 3))
    nearest = torch.cdist(path.c2w[:, :, 3], views.c2w[:, :, 3]).amin(1)
    assert nearest.max() < (0.35 if arc != 300 else 1.5)  # a gap of 60 degrees is crossed
    steps = (path.c2w[:, :, 3] - path.c2w[:, :, 3].roll(1, 0)).norm(dim=1)
    assert steps.max() < 0.6  # it loops, without a leap
    back = path.c2w[:, :, 3] - torch.tensor([1.0, 2, 3], dtype=torch.float64)
    torch.testing.assert_close(torch.nn.functional.normalize(back, dim=1), path.c2w[:, :, 2])  # all look at the target
    swings = 1 if arc >= 300 else 2  # over the same places
    travelled = steps.sum() / (path.c2w[:, :2, 3] - torch.tensor([1.0, 2])).norm(dim=1).mean()
    assert travelled == pytest.approx(math.radians(360 if swings == 1 else 2 * 0.9 * arc), rel=0.15)


def test_a_turn_has_a_camera():
    with pytest.raises(ValueError, match="at least one camera"):
        turn_along(0, hilly(360), (1.0, 2, 3))
    assert len(turn_along(1, hilly(360), (1.0, 2, 3))) == 1
    assert turn_along(5, hilly(360, 1), (1.0, 2, 3)).c2w.isfinite().all()


def test_the_widest_gap():
    azimuth = torch.deg2rad(torch.arange(0, 271, 10).double())
    level = torch.stack([azimuth.cos(), azimuth.sin(), torch.zeros_like(azimuth)], 1)
    assert widest_gap(look_at(level), (0.0, 0, 0)) == pytest.approx(90)


def test_cameras_that_surround_a_thing():
    for arc, most, least in ((360, 60, 0), (270, 120, 60), (180, 220, 120)):
        views = on_the_dome(30, arc=arc).c2w
        assert look_inward(views, (1.0, 2, 3))
        assert least < widest_gap(views, (1.0, 2, 3)) < most
    outward = on_the_dome(30).c2w
    outward[:, :, [0, 2]] *= -1
    assert not look_inward(outward, (1.0, 2, 3))


def test_the_mean_pose_stands_among_its_cameras():
    views = on_the_dome(40, arc=120)
    pose = mean_pose(views.c2w)
    torch.testing.assert_close(pose[:, 3], views.c2w[:, :, 3].mean(0))
    torch.testing.assert_close(pose[:, :3] @ pose[:, :3].T, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(pose[:, :3]) > 0
    assert (views.c2w[:, :, 2].mean(0) @ pose[:, 2]) == pytest.approx(views.c2w[:, :, 2].mean(0).norm().item())
    torch.testing.assert_close(mean_pose(views.c2w[:1]), views.c2w[0])
    with pytest.raises(ValueError, match="all directions"):
        mean_pose(on_the_dome(36, lowest=0, highest=1).c2w)


def test_the_spiral_looks_at_one_point_and_closes():
    views = on_the_dome(60, arc=60)
    pose = mean_pose(views.c2w)
    path = spiral(120, views, pose, focus=2.0)
    target = pose[:, 3] - 2 * pose[:, 2]
    for i in (0, 31, 119):
        xy, _ = project(path, i, target[None])
        torch.testing.assert_close(xy[0], middle(path))
    local = (path.c2w[:, :, 3] - pose[:, 3]) @ pose[:, :3]
    extent = ((views.c2w[:, :, 3] - pose[:, 3]) @ pose[:, :3]).abs().quantile(0.9, dim=0)
    torch.testing.assert_close(local.abs().amax(0), extent)
    steps = (path.c2w[:, :, 3] - path.c2w[:, :, 3].roll(1, 0)).norm(dim=-1)
    assert steps[0] < 1.2 * steps[1:].max()  # from the last to the first, too
    torch.testing.assert_close(local[60, :2], local[0, :2])  # two turns, of which one comes near and one goes away
    torch.testing.assert_close(local[15:60, 2], -local[75:, 2])


def test_the_spiral_of_forward_facing_scenes():
    """Against the formula, frame by frame."""
    like = some_cameras(torch.float64)
    like.c2w[:, :, 3] = torch.tensor([[0.5, -0.2, 0.1], [-0.5, 0.2, -0.1], [0.5, 0.2, 0.1]], dtype=torch.float64)
    path = spiral(8, like)
    for i in range(8):
        a = 4 * math.pi * i / 8
        expected = [0.5 * math.cos(a), -0.2 * math.sin(a), -0.1 * math.sin(a / 2)]
        assert path.c2w[i, :, 3].tolist() == pytest.approx(expected, abs=1e-12)
        back = path.c2w[i, :, 3] + torch.tensor([0, 0, 3.5], dtype=torch.float64)
        torch.testing.assert_close(path.c2w[i, :, 2], back / back.norm())
    with pytest.raises(ValueError, match="focus=-1"):
        spiral(8, like, focus=-1)


@pytest.mark.parametrize("size", [(160, 120), (60, 60), (30, 90)])
def test_frames_of_any_size_show_the_same_height(size):
    views = on_the_dome(3)
    path = framed(views, *size)
    assert (path.width, path.height, path.sizes) == (*size, None)
    for i in range(3):
        lower = -views.c2w[i, :, 1] * (30 / 90) - views.c2w[i, :, 2] + views.c2w[i, :, 3]
        centre = views.c2w[i, :, 3] - views.c2w[i, :, 2]
        xy, _ = project(path, i, torch.stack([centre, lower]))
        assert xy[0].tolist() == pytest.approx([size[0] / 2, size[1] / 2])
        assert xy[1, 1].item() == pytest.approx(size[1])
    rays = image_rays(path, 0, 0.0, 1.0)
    assert len(rays.origins) == size[0] * size[1]
    assert views.width == 80


def test_frames_of_views_of_several_sizes():
    views = on_the_dome(2)
    sizes = torch.tensor([[80, 60], [60, 40]])
    path = framed(Cameras(views.c2w, views.K, 80, 60, sizes=sizes), 80, 60)
    assert path.K[:, 0, 0].tolist() == [90, 135]
    assert path.K[:, 1, 1].tolist() == [90, 135]
    assert path.K[:, :2, 2].tolist() == [[40, 30]] * 2


def test_frames_of_the_same_aspect_keep_the_principal_point():
    views = on_the_dome(1)
    views.K[0, 0, 2] = 37
    assert framed(views, 160, 120).K[0, 0, 2] == 74
    assert framed(views, 80, 60).K[0, 0, 2] == 37
    assert framed(views, 120, 120).K[0, 0, 2] == 60
