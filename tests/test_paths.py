"""Camera paths: where the cameras stand and what they look at."""

import math

import pytest
import torch

from nerf_pl.cameras import Cameras, project
from nerf_pl.paths import look_at, turntable


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
