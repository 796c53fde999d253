"""The frame that loaders put free poses into."""

import math

import pytest
import torch

from nerf_pl.films.paths import look_at
from nerf_pl.scenes.normalize import AHEAD, LEAST_NEAR, NEAR, ahead_of, camera_focus, near_of, normalize_poses


def turn(seed: int) -> torch.Tensor:
    """A random rotation."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    return q * torch.linalg.det(q)


def moved(c2w: torch.Tensor, scale: float, rotation: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    return torch.cat([rotation @ c2w[:, :, :3], (scale * c2w[:, :, 3] @ rotation.T + shift)[:, :, None]], -1)


def ring(n: int = 12, height: float = 1.0) -> torch.Tensor:
    """Cameras on a circle of radius 3 that look at the origin; z is up."""
    angle = torch.arange(n, dtype=torch.float64) * 2 * math.pi / n
    return look_at(torch.stack([3 * angle.cos(), 3 * angle.sin(), torch.full_like(angle, height)], -1))


@pytest.mark.parametrize("seed", range(3))
def test_inward_facing_cameras_whatever_their_frame(seed):
    distance = math.hypot(3, 1)
    expected = ring()
    given = moved(expected, 7.0, turn(seed), torch.tensor([5.0, -40.0, 11.0], dtype=torch.float64))
    c2w, transform = normalize_poses(given)
    torch.testing.assert_close(c2w[:, :, 3].norm(dim=-1), torch.ones(12, dtype=torch.float64), atol=2e-6, rtol=0)
    torch.testing.assert_close(c2w[:, 2, 3], torch.full((12,), 1 / distance, dtype=torch.float64), atol=2e-6, rtol=0)
    torch.testing.assert_close(-c2w[:, :, 2], -c2w[:, :, 3], atol=1e-5, rtol=0)  # they look at the origin
    torch.testing.assert_close(c2w[:, 2, 0], torch.zeros(12, dtype=torch.float64), atol=1e-6, rtol=0)  # no roll
    for old, new in zip(given, c2w, strict=True):
        ahead = torch.tensor([0.3, -0.2, -1.5, 1.0], dtype=torch.float64)  # a point in the camera's frame
        point = torch.cat([old, torch.tensor([[0.0, 0, 0, 1]])]) @ ahead
        local = ahead * torch.tensor([1, 1, 1, 0]) / (7 * distance)  # rotation kept, lengths scaled
        torch.testing.assert_close((transform @ point)[:3], new[:, :3] @ local[:3] + new[:, 3])
        torch.testing.assert_close(new[:, :3] @ new[:, :3].T, torch.eye(3, dtype=torch.float64))
        assert torch.linalg.det(new[:, :3]) > 0.99


def test_a_stray_camera_does_not_set_the_scale():
    c2w = ring(20)
    c2w[3, :, 3] *= 50  # on its axis, so that all still look at the origin
    distances = normalize_poses(c2w)[0][:, :, 3].norm(dim=-1)
    assert distances[3] == pytest.approx(50, rel=1e-4)
    assert distances[[0, 1, 2, 4]].sub(1).abs().max() < 1e-4


@pytest.mark.parametrize("kind", ["parallel", "parallel and close", "outward", "walk"])
def test_cameras_without_a_common_point_are_centred(kind):
    c2w = ring()
    if kind == "outward":  # half a turn about up
        c2w[:, :, :3] = c2w[:, :, :3] * torch.tensor([-1.0, 1, -1], dtype=torch.float64)
    else:
        c2w[:, :, :3] = c2w[:1, :, :3]
    if kind == "parallel and close":
        c2w[:, :, 3] *= 0.1
    if kind == "walk":
        c2w[:, :, 3] = c2w[0, :, 2] * torch.arange(12)[:, None]
    c2w, _ = normalize_poses(c2w)
    torch.testing.assert_close(c2w[:, :, 3].mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert c2w[:, :, 3].norm(dim=-1).quantile(0.9) == pytest.approx(1, abs=1e-6)


def test_upside_down_and_straight_down():
    flipped = moved(ring(), 1.0, torch.diag(torch.tensor([1.0, -1, -1], dtype=torch.float64)), torch.zeros(3))
    assert normalize_poses(flipped)[0][:, 2, 1].mean() > 0.9
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    c, s, o = angle.cos(), angle.sin(), torch.zeros(8, dtype=torch.float64)
    # a drone that turns: right and up turn about z, back is z
    rows = [torch.stack([c, -s, o, 5 * c], -1), torch.stack([s, c, o, 5 * s], -1), torch.stack([o, o, o + 1, o], -1)]
    drone, _ = normalize_poses(torch.stack(rows, 1))
    torch.testing.assert_close(drone[:, 2, 2], torch.ones(8, dtype=torch.float64))


@pytest.mark.parametrize("away", [100.0, 1000.0])
def test_a_few_stray_cameras_change_nothing_of_what_the_others_look_at(away):
    """Least squares alone would have them move it, and all rays begin as if the cameras looked at nothing."""
    poses = ring(40)
    strayed = poses.clone()
    strayed[:3, 0, 3] += away
    found, frame = normalize_poses(strayed)
    torch.testing.assert_close(camera_focus(strayed), camera_focus(poses), atol=0.02, rtol=0)
    torch.testing.assert_close(frame, normalize_poses(poses)[1], atol=0.02, rtol=0.02)
    assert near_of(found) == pytest.approx(1 / 3, abs=0.01)
    assert ahead_of(found) == AHEAD
    outward = poses.clone()
    outward[:, :, [0, 2]] *= -1
    assert ahead_of(outward) == 0


@pytest.mark.parametrize("outward", [False, True])
def test_a_sixth_of_stray_cameras_changes_nothing_of_the_scale(outward):
    """More of them than the quantile leaves out: the scene would lie within a small part of a huge world."""
    poses = ring(36)
    poses[:, :, [0, 2]] *= -1 if outward else 1
    strayed = poses.clone()
    strayed[::6, 0, 3] += 1000
    expected = normalize_poses(poses)[1]
    torch.testing.assert_close(normalize_poses(strayed)[1], expected, atol=0.05, rtol=0.02)


@pytest.mark.parametrize("n", [1, 3])
def test_cameras_in_one_place_keep_the_scale(n):
    c2w = ring()[:n].float()
    c2w[:, :, 3] = torch.tensor([4.0, 5.0, 6.0])
    placed, transform = normalize_poses(c2w)
    assert placed.dtype == torch.float32
    assert torch.isfinite(placed).all()
    assert placed[:, :, 3].abs().max() < 1e-5
    assert torch.linalg.det(transform[:3, :3]) == pytest.approx(1, abs=1e-5)


def test_rays_begin_on_the_way_to_what_cameras_look_at():
    """At a third of it, as the nearest camera has it; a stray camera does not decide. Cameras that look elsewhere tell
    nothing."""
    poses = normalize_poses(ring(40))[0]
    assert near_of(poses) == pytest.approx(1 / 3, abs=1e-3)
    poses[0, :, 3] *= 0.1
    assert near_of(poses) == pytest.approx(1 / 3, abs=0.03)
    outward = ring(40)
    outward[:, :, [0, 2]] *= -1
    assert near_of(normalize_poses(outward)[0]) == NEAR
    assert near_of(poses[:1]) == NEAR


@pytest.mark.parametrize(("steps", "near"), [(10, NEAR), (100, None), (1000, LEAST_NEAR)])
def test_rays_of_a_walk_begin_no_farther_off_than_its_steps(steps, near):
    """However long it is. Where the walker stood, and photos that were cut into views, do not count."""
    along = torch.arange(steps, dtype=torch.float64)
    ahead = torch.stack([torch.zeros(steps), -torch.ones(steps), torch.zeros(steps)], -1).double()
    up = torch.tensor([0.0, 0.0, 1.0]).double().expand(steps, 3)
    centres = torch.stack([torch.zeros(steps), along, torch.zeros(steps)], -1)
    walk = torch.stack([torch.linalg.cross(up, ahead), up, ahead, centres], -1)
    poses, frame = normalize_poses(torch.cat([walk, walk[:4].repeat(3, 1, 1)]))
    expected = near or 1.5 * float(frame[0, :3].norm())
    assert near_of(poses) == pytest.approx(expected, rel=1e-6)
    assert near_of(poses[:1].repeat(8, 1, 1)) == NEAR
