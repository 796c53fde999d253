"""Paths through keyframes: exactly through them, smoothly between them, and files that are read or refused."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from nerf_pl.cameras import Cameras
from nerf_pl.errors import UserError
from nerf_pl.films.files import read_keyframes
from nerf_pl.films.keyframes import Keyframes, quaternions, rotation_matrices, spline, through_views
from nerf_pl.films.paths import look_at

LIKE = Cameras(torch.eye(3, 4)[None], torch.tensor([[[50.0, 0, 40], [0, 50, 30], [0, 0, 1]]]), 80, 60)


def rotations(n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return rotation_matrices(torch.randn(n, 4, dtype=torch.float64, generator=generator))


def some_keyframes(n: int = 5, period: float | None = None) -> Keyframes:
    generator = torch.Generator().manual_seed(1)
    positions = torch.randn(n, 3, dtype=torch.float64, generator=generator)
    K = LIKE.K.double().expand(n, 3, 3) * (1 + torch.arange(n)[:, None, None] / 10)
    c2w = torch.cat([rotations(n), positions[:, :, None]], -1)
    times = torch.tensor([0.0, 0.7, 1.0, 2.5, 3.0, 4.0], dtype=torch.float64)[:n]
    return Keyframes(Cameras(c2w, K, 80, 60), times, period)


def test_quaternions_are_those_of_their_axis_and_angle():
    for axis, angle in (([1.0, 0, 0], 0.3), ([0, 1.0, 0], math.pi), ([0.6, 0, -0.8], 2.9), ([0, 0, 1.0], 0.0)):
        q = torch.tensor([[math.cos(angle / 2), *(math.sin(angle / 2) * a for a in axis)]], dtype=torch.float64)
        cross = torch.tensor([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]]).double()
        torch.testing.assert_close(rotation_matrices(q)[0], torch.linalg.matrix_exp(angle * cross))
        found = quaternions(rotation_matrices(q))
        torch.testing.assert_close(found * (found @ q[0]).sign()[:, None], q)


def test_quaternions_there_and_back():
    R = rotations(200)
    torch.testing.assert_close(R @ R.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand_as(R))
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(200, dtype=torch.float64))
    torch.testing.assert_close(rotation_matrices(quaternions(R)), R)


def test_the_spline_follows_a_parabola_exactly():
    knots = torch.tensor([0.0, 0.5, 2.0, 2.2, 4.0], dtype=torch.float64)
    at = torch.linspace(0, 4, 41, dtype=torch.float64)
    found = spline((3 * knots**2 - knots + 2)[:, None], knots, at)
    torch.testing.assert_close(found[:, 0], 3 * at**2 - at + 2)


def test_the_spline_of_two_is_straight_and_of_one_stays():
    at = torch.linspace(-1, 2, 7, dtype=torch.float64)
    knots = torch.tensor([0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(spline(knots[:, None] * 3, knots, at)[:, 0], 3 * at.clamp(0, 1))
    assert (spline(torch.ones(1, 2).double(), knots[:1], at) == 1).all()


@pytest.mark.parametrize("period", [None, 4.5])
def test_a_path_passes_its_keyframes_at_their_times(period):
    keyframes = some_keyframes(period=period)
    path = keyframes.at(keyframes.times)
    torch.testing.assert_close(path.c2w, keyframes.cameras.c2w)
    torch.testing.assert_close(path.K, keyframes.cameras.K)


@pytest.mark.parametrize("period", [None, 4.5])
def test_a_path_has_no_jumps_in_speed(period):
    keyframes = some_keyframes(period=period)
    end = period or 3.0
    t = torch.linspace(0, end, 30_001, dtype=torch.float64)
    path = keyframes.at(t)
    R = path.c2w[:, :, :3]
    torch.testing.assert_close(R @ R.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand_as(R))
    speed = torch.diff(torch.cat([path.c2w.flatten(1), path.K.flatten(1)], 1), dim=0) / t[1]
    jumps = torch.diff(speed, dim=0).abs().amax(-1)
    assert jumps.max() < 0.02 * speed.abs().max()  # a kink would be a jump of about the speed itself
    if period:
        first, last = keyframes.at(t[:1]), keyframes.at(t[-1:])
        torch.testing.assert_close(first.c2w, last.c2w)
        torch.testing.assert_close(speed[0], speed[-1], atol=0.02 * speed.abs().max().item(), rtol=0)


def test_a_film_has_even_steps_and_a_loop_does_not_show_a_frame_twice():
    c2w = look_at(torch.tensor([[4.0, 0, 1], [0, 4, 1], [-4, 0, 1], [0, -4, 1]], dtype=torch.float64))
    K = LIKE.K.double().expand(4, 3, 3)
    keyframes = Keyframes(Cameras(c2w, K, 80, 60), torch.arange(4.0).double(), 4.0)
    assert keyframes.frames(30) == 120
    film = keyframes.film(8)
    torch.testing.assert_close(film.c2w[::2], c2w)
    assert (film.c2w[1, :, 3] - film.c2w[7, :, 3]).norm() > 1
    straight = Keyframes(keyframes.cameras, keyframes.times)
    assert straight.frames(10) == 31
    film = straight.film(7)
    torch.testing.assert_close(film.c2w[::2], c2w)


def circle(n: int) -> Cameras:
    a = torch.arange(n) * (2 * math.pi / n)
    c2w = look_at(torch.stack([4 * a.cos(), 4 * a.sin(), torch.ones(n)], -1))
    return Cameras(c2w, LIKE.K.expand(n, 3, 3), 80, 60)


def test_views_are_passed_in_their_order():
    views = circle(20)
    keyframes = through_views(views, 20)
    torch.testing.assert_close(keyframes.cameras.c2w, views.c2w)
    assert keyframes.period is None
    assert (torch.diff(keyframes.times) > 0).all()
    torch.testing.assert_close(through_views(views, 4, every=5).cameras.c2w, views.c2w[::5])
    assert len(through_views(views, 3).cameras) == 3
    loop = through_views(views, 20, loop=True)
    steps = torch.diff(loop.times)
    assert loop.period == pytest.approx(20 * steps.mean().item())
    with pytest.raises(ValueError, match="every 21 of 20"):
        through_views(views, 4, every=21)


def test_views_in_no_order_are_passed_by_the_nearest():
    views = circle(20)
    shuffled = views[torch.randperm(20, generator=torch.Generator().manual_seed(3))]
    found = through_views(shuffled, 20).cameras.c2w[:, :, 3]
    steps = torch.diff(found, dim=0).norm(dim=-1)
    single = (views.c2w[1, :, 3] - views.c2w[0, :, 3]).norm()
    torch.testing.assert_close(steps, single.expand(19))


def test_one_view_and_equal_views_are_films_that_stand_still():
    views = circle(1)
    torch.testing.assert_close(through_views(views, 5, loop=True).film(3).c2w, views.c2w.expand(3, 3, 4))
    same = views[torch.tensor([0, 0, 0])]
    torch.testing.assert_close(through_views(same, 5).film(4).c2w, views.c2w.expand(4, 3, 4))


def test_views_of_several_sizes_become_those_of_the_first():
    views = circle(2)
    views = Cameras(views.c2w, views.K, 80, 80, sizes=torch.tensor([[80, 60], [60, 80]]))
    cameras = through_views(views, 2).cameras
    assert (cameras.width, cameras.height, cameras.sizes) == (80, 60, None)
    assert cameras.K[:, 0, 0].tolist() == [50, 37.5]


def written(tmp_path, content: object):
    path = tmp_path / "path.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_file_of_keyframes(tmp_path):
    pose = [[0, 0, 1, 2], [1, 0, 0, 3], [0, 1, 0, 4], [0, 0, 0, 1]]
    content = {
        "fps": 24, "width": 40, "height": 60,
        "keyframes": [{"position": [3, 0, 1], "look_at": [0, 0, 1], "fov": 90}, {"time": 2.5, "c2w": pose}],
    }  # fmt: skip
    keyframes = read_keyframes(written(tmp_path, content), LIKE)
    assert (keyframes.fps, keyframes.period, keyframes.times.tolist()) == (24, None, [0, 2.5])
    cameras = keyframes.cameras
    assert (cameras.width, cameras.height) == (40, 60)
    assert cameras.c2w[0].tolist() == [[0, 0, 1, 3], [1, 0, 0, 0], [0, 1, 0, 1]]
    assert cameras.c2w[1].tolist() == pose[:3]
    np.testing.assert_allclose(cameras.K[0], [[30, 0, 20], [0, 30, 30], [0, 0, 1]], rtol=1e-6)
    np.testing.assert_allclose(cameras.K[1], [[50, 0, 20], [0, 50, 30], [0, 0, 1]], rtol=1e-6)
    looped = read_keyframes(written(tmp_path, {**content, "loop": True}), LIKE)
    assert looped.period == 5


def test_the_file_in_the_docs(tmp_path):
    readme = (Path(__file__).resolve().parent.parent / "docs" / "films.md").read_text(encoding="utf-8")
    (block,) = [text for text in re.findall(r"```json\n(.*?)```", readme, re.DOTALL) if "keyframes" in text]
    keyframes = read_keyframes(written(tmp_path, block), LIKE)
    assert keyframes.frames(30) == 120
    assert (keyframes.cameras.width, len(keyframes.cameras)) == (800, 2)


def test_a_camera_path_of_nerfstudio(tmp_path):
    c2w = circle(6).c2w
    matrices = [[*pose.flatten().tolist(), 0, 0, 0, 1] for pose in c2w]
    path = [{"camera_to_world": m, "fov": 60 + i, "aspect": 1.5} for i, m in enumerate(matrices)]
    content = {"camera_type": "perspective", "render_width": 90, "render_height": 60, "fps": 12, "seconds": 0.5}
    keyframes = read_keyframes(written(tmp_path, {**content, "camera_path": path}), LIKE)
    assert keyframes.frames(keyframes.fps) == 6  # each camera is a frame
    film = keyframes.film(6)
    assert (film.width, film.height) == (90, 60)
    torch.testing.assert_close(film.c2w, c2w)
    focal = [30 / math.tan(math.radians(60 + i) / 2) for i in range(6)]
    assert film.K[:, 1, 1].tolist() == pytest.approx(focal)


def test_poses_are_read_as_scenes_read_theirs(tmp_path):
    """Rows alone, numbers in a row, and axes that a writer has scaled."""
    pose = np.array([[0.0, 0, 1, 2], [1, 0, 0, 3], [0, 1, 0, 4], [0, 0, 0, 1]])
    scaled = pose * [[2, 2, 2, 1]]
    entries = [{"c2w": p.tolist()} for p in (pose, pose[:3], pose.flatten(), pose[:3].flatten(), scaled)]
    found = read_keyframes(written(tmp_path, {"keyframes": entries}), LIKE).cameras.c2w
    assert found.tolist() == [pose[:3].tolist()] * 5


GOOD = {"position": [3, 0, 1], "look_at": [0, 0, 0]}
EYE = np.eye(4).tolist()


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (3, "no pose"),
        ({}, "no pose"),
        ({"c2w": "here"}, "no 4x4 c2w"),
        ({"c2w": [[1, 2], [3]]}, "no 4x4 c2w"),
        ({"c2w": [[10**400] * 4] * 4}, "no 4x4 c2w"),
        ({"c2w": [[1, 0], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0]]}, "no 4x4 c2w"),
        ({"c2w": [[math.nan] * 4] * 4}, "not finite"),
        ({"c2w": [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}, "rotation"),
        ({"c2w": np.diag([1.0, 1, -1, 1]).tolist()}, "rotation"),
        ({"position": [3, 0, 1]}, "look_at is None"),
        ({"position": [3, 0], "look_at": [0, 0, 0]}, r"position is \[3, 0\]"),
        ({"position": [3, 0, "x"], "look_at": [0, 0, 0]}, "position is 'x'"),
        ({"position": [0, 0, 3], "look_at": [0, 0, 0]}, "upright"),
        ({**GOOD, "fov": 180}, "fov is 180"),
        ({**GOOD, "fov": "wide"}, "fov is 'wide'"),
        ({**GOOD, "time": 0}, "times must rise"),
        ({**GOOD, "time": 1e-300}, "times must rise, by 1e-06 s or more"),
        ({**GOOD, "time": 1e300}, r"time 1e\+300: give seconds, up to 1e\+09"),
        ({**GOOD, "time": 10**400}, "time is 1000"),
        ({**GOOD, "time": True}, "time is True"),
        ({"c2w": EYE, "camera_type": "fisheye"}, "fisheye"),
    ],
)
def test_a_bad_keyframe_is_named(tmp_path, entry, told):
    path = written(tmp_path, {"keyframes": [GOOD, entry]})
    with pytest.raises(UserError, match=told) as caught:
        read_keyframes(path, LIKE)
    message = str(caught.value)
    assert message.startswith(f"{path}: keyframes 1 ") or message.startswith(f"{path}: keyframes 1:")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "not valid JSON"),
        ([], "no cameras"),
        ({"keyframes": []}, "no cameras"),
        ({"camera_path": {}}, "no cameras"),
        ({"keyframes": [GOOD], "fps": 0}, "fps is 0"),
        ({"keyframes": [GOOD], "width": "x"}, "width is 'x'"),
        ({"keyframes": [GOOD], "height": 10.5}, "10.5 must be whole"),
        ({"camera_path": [{"camera_to_world": [1, 2]}]}, "camera_path 0 has no 4x4 camera_to_world"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, told):
    path = written(tmp_path, content)
    with pytest.raises(UserError, match=told) as caught:
        read_keyframes(path, LIKE)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*gone\.json"):
        read_keyframes(tmp_path / "gone.json", LIKE)


def test_a_file_that_is_not_text_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "path.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"path\.json is not a text file: .*another camera path"):
        read_keyframes(path, LIKE)
