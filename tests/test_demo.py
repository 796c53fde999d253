"""The built-in scene: exact geometry, consistent views, and a folder that is complete or not there."""

import json
import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from nerf_pl.cameras import image_rays, pixel_rays, project
from nerf_pl.errors import UserError
from nerf_pl.media import read_pfm
from nerf_pl.scenes import Request, available_splits, demo, load_scene
from nerf_pl.scenes.demo import shapes
from nerf_pl.scenes.demo.look import BOARD, GOLD_BALL, LACQUER_BALL, SOLIDS, STRIPED_BALL
from nerf_pl.scenes.demo.render import bake_floor, exact_depth, key_directions, pixel_directions, render_view
from nerf_pl.writing import replacing

SIZE = 64


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return demo.make_demo(tmp_path_factory.mktemp("data") / "demo", size=SIZE, n_train=4, n_val=1, n_test=3)


def depths(root, split, n):
    return [torch.from_numpy(read_pfm(root / split / f"r_{i}_depth.pfm")) for i in range(n)]


def test_the_loader_reads_it(root):
    assert available_splits(root) == ("train", "val", "test")
    for split, n in (("train", 4), ("val", 1), ("test", 3)):
        scene = load_scene(root, Request(split))
        assert scene.images.shape == (n, SIZE, SIZE, 4)
        torch.testing.assert_close(scene.cameras.c2w[:, :, 3].norm(dim=-1), torch.full((n,), 4.0))
        assert (scene.cameras.c2w[:, 2, 3] > 0).all()
        coverage = (scene.images[..., 3] > 0).float().mean((1, 2))
        assert ((coverage > 0.1) & (coverage < 0.6)).all()


def test_it_lies_inside_its_bounds(root):
    for split, n in (("train", 4), ("test", 3)):
        scene = load_scene(root, Request(split))
        for i, depth in enumerate(depths(root, split, n)):
            rays = image_rays(scene.cameras, i, scene.near, scene.far)
            hit = depth.flatten() > 0
            t = depth.flatten()[hit]
            assert ((t > scene.near) & (t < scene.far)).all()
            points = rays.origins[hit] + t[:, None] * rays.directions[hit]
            assert (points.abs() < 1.2).all()


def test_opaque_is_where_rays_hit(root):
    """Rays of the loader meet the solids exactly where pixels are opaque; only pixels at an outline are between."""
    scene = load_scene(root, Request())
    for image, depth in zip(scene.images, depths(root, "train", 4), strict=True):
        alpha = image[..., 3]
        assert (depth[alpha == 255] > 0).float().mean() > 0.999  # a pixel's corners may hit while its middle misses
        assert (depth[alpha == 0] == 0).float().mean() > 0.999
        assert ((alpha > 0) & (alpha < 255)).float().mean() < 0.1


@pytest.mark.parametrize("ball", [LACQUER_BALL, STRIPED_BALL, GOLD_BALL])
def test_depth_of_a_ball_has_a_closed_form(root, ball):
    scene = load_scene(root, Request())
    center = torch.tensor(ball.center)
    compared = 0
    for i, depth in enumerate(depths(root, "train", 4)):
        rays = image_rays(scene.cameras, i, scene.near, scene.far)
        along = ((center - rays.origins) * rays.directions).sum(-1)
        across = (rays.origins + along[:, None] * rays.directions - center).norm(dim=-1)
        t = along - (ball.radius**2 - across**2).clamp(min=0).sqrt()
        points = rays.origins + depth.flatten()[:, None] * rays.directions
        # the ball is in front where the exact point lies on it; the floor is never that close to a ball
        on_ball = (depth.flatten() > 0) & (((points - center).norm(dim=-1) - ball.radius).abs() < 1e-3)
        inside = on_ball & (across < 0.95 * ball.radius)
        torch.testing.assert_close(depth.flatten()[inside], t[inside], atol=2e-5, rtol=0)
        compared += int(inside.sum())
    assert compared > 40


def test_two_views_agree_on_every_point(root):
    """A point that one view sees is seen by another view too, or lies behind what is seen there: never before it."""
    scene = load_scene(root, Request("test"))
    maps = depths(root, "test", 3)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        rays = image_rays(scene.cameras, a, scene.near, scene.far)
        hit = maps[a].flatten() > 0
        points = rays.origins[hit] + maps[a].flatten()[hit, None] * rays.directions[hit]
        # ask the solids themselves along the very ray from the second camera through each point
        origin = scene.cameras.c2w[b, :, 3]
        towards = (points - origin).double()
        distance = towards.norm(dim=-1)
        o, d = origin.double().numpy()[:, None], (towards / distance[:, None]).numpy().T
        seen, _ = shapes.trace(SOLIDS, o, d)
        before = distance.numpy() - seen < -1e-4
        assert before.mean() < 0.003  # at an outline of the second view, rounding lets its ray pass by the point
        assert (np.abs(distance.numpy() - seen) < 1e-4).mean() > 0.2
        # and the stored map of the second view, interpolated between pixels of one smooth surface, says the same
        visible = torch.from_numpy(np.abs(distance.numpy() - seen) < 1e-4)
        xy, _ = project(scene.cameras, b, points[visible])
        xy = xy - 0.5  # `project` gives j + 0.5 for what pixel j sees
        (column, row), (u, v) = xy.floor().long().unbind(-1), (xy - xy.floor()).unbind(-1)
        corners = torch.stack([maps[b][row + i, column + j] for i in (0, 1) for j in (0, 1)])
        smooth = corners.amax(0) - corners.amin(0) < 0.15
        weights = torch.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v])
        error = ((corners * weights).sum(0) - distance[visible].float())[smooth].abs()
        assert smooth.float().mean() > 0.5
        assert error.median() < 1e-3
        assert error.quantile(0.9) < 0.01


def test_rays_follow_the_conventions_of_the_loader(root):
    cameras = load_scene(root, Request("val")).cameras
    rays = pixel_rays(cameras, torch.zeros(SIZE**2, dtype=torch.long), torch.arange(SIZE**2), 2.0, 6.0)
    ticks = np.arange(float(SIZE)) + 0.5
    d = pixel_directions(cameras.c2w[0].double().numpy(), SIZE, demo.CAMERA_ANGLE_X, x=ticks, y=ticks)
    torch.testing.assert_close(rays.directions, torch.from_numpy(d.T).float(), atol=1e-6, rtol=0)


def test_pixels_are_centred_on_their_rays():
    """Coverage has its centre of mass where fine rays have it: pixel j spans j to j + 1."""
    pose = demo.table_poses(1)[0]
    floor = bake_floor(8, samples=2)
    alpha = render_view(pose, 48, demo.CAMERA_ANGLE_X, floor, supersampling=4)[..., 3] / 255
    fine = np.arange(48 * 8) / 8 + 1 / 16
    d = pixel_directions(pose, 48, demo.CAMERA_ANGLE_X, x=fine, y=fine)
    hit = np.isfinite(shapes.trace(SOLIDS, pose[:, 3:], d)[0]).reshape(fine.size, fine.size)
    for axis in (0, 1):
        coarse_mean = (alpha.sum(1 - axis) * (np.arange(48) + 0.5)).sum() / alpha.sum()
        assert coarse_mean == pytest.approx((hit.sum(1 - axis) * fine).sum() / hit.sum(), abs=0.02)


def test_floor_light_is_dark_under_the_toys_and_bright_at_the_lit_rim():
    floor = bake_floor(64, samples=16)
    assert ((floor.key >= 0) & (floor.key <= 1) & (floor.sky >= 0) & (floor.sky <= 1)).all()
    x, y, _ = LACQUER_BALL.center
    key, sky = floor.at(np.array([x, 0.75], np.float32), np.array([y, -0.75], np.float32))
    assert key[0] < 0.1
    assert sky[0] < 0.3
    assert key[1] > 0.95
    assert sky[1] > 0.8
    directions = key_directions(16)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1, atol=1e-6)


def test_depth_of_the_board_from_above():
    pose = np.array([[1.0, 0, 0, 0.9], [0, 1, 0, -0.05], [0, 0, 1, 4]])  # looks straight down at bare wood
    depth = exact_depth(pose, 9, 0.01)
    assert depth[4, 4] > 0
    top = BOARD.center[2] + BOARD.half_height
    x, y = np.meshgrid(np.arange(9) - 4.0, np.arange(9) - 4.0)
    slant = np.sqrt(1 + (x**2 + y**2) * (math.tan(0.005) / 4.5) ** 2)
    np.testing.assert_allclose(depth, (4 - top) * slant, rtol=1e-6)


def test_the_same_call_does_nothing_and_another_seed_is_another_scene(tmp_path):
    root = demo.make_demo(tmp_path / "a", size=8, n_train=1, n_val=1, n_test=1)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert demo.make_demo(tmp_path / "a", size=8, n_train=1, n_val=1, n_test=1) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    twin = demo.make_demo(tmp_path / "b", size=8, n_train=1, n_val=1, n_test=1)
    other = demo.make_demo(tmp_path / "c", size=8, n_train=1, n_val=1, n_test=1, seed=1)
    for path in root.rglob("*.*"):
        assert (twin / path.relative_to(root)).read_bytes() == path.read_bytes()
    assert (other / "train" / "r_0.png").read_bytes() != (root / "train" / "r_0.png").read_bytes()
    assert (other / "test" / "r_0.png").read_bytes() == (root / "test" / "r_0.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_folders_in_use_are_never_touched(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="mine exists and is no demo scene"):
        demo.make_demo(tmp_path / "mine", size=16, n_train=1, n_val=1, n_test=1)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]

    (tmp_path / "empty").mkdir()
    root = demo.make_demo(tmp_path / "empty", size=16, n_train=1, n_val=1, n_test=1)
    assert json.loads((root / demo.STAMP).read_text())["size"] == 16
    with pytest.raises(UserError, match="size 16 instead of 20"):
        demo.make_demo(root, size=20, n_train=1, n_val=1, n_test=1)
    (root / "val" / "r_0.png").unlink()
    with pytest.raises(UserError, match=r"r_0\.png is missing"):
        demo.make_demo(root, size=16, n_train=1, n_val=1, n_test=1)


def test_two_processes_that_make_the_same_scene_do_not_clash(tmp_path, monkeypatch):
    """The second one waits, and finds it made."""
    call = lambda: demo.make_demo(tmp_path / "demo", size=8, n_train=1, n_val=1, n_test=1)  # noqa: E731

    @contextmanager
    def overtaken(*paths):
        with monkeypatch.context() as patch:
            patch.setattr(demo, "replacing", replacing)
            call()
        with monkeypatch.context() as patch:
            patch.setattr(demo, "write_views", None)
            yield

    monkeypatch.setattr(demo, "replacing", overtaken)
    (tmp_path / ".demo-0123abcd" / "train").mkdir(parents=True)  # a third one was killed
    assert len(load_scene(call())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def full_disk(path, depth):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo, "write_pfm", full_disk)
    with pytest.raises(UserError, match=r"cannot write .*No space left") as caught:
        demo.make_demo(tmp_path / "demo", size=8, n_train=2, n_val=1, n_test=1)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["size", "n_train", "n_val", "n_test"])
def test_counts_below_one_are_refused(tmp_path, option):
    with pytest.raises(UserError, match=f"--{option} 0"):
        demo.make_demo(tmp_path / "demo", **{option: 0})


def test_pictures_are_clear_where_empty(root):
    image = np.asarray(Image.open(root / "test" / "r_0.png"))
    assert image[..., 3].max() == 255
    assert (image[image[..., 3] == 0] == 0).all()
    assert len(np.unique(image[image[..., 3] == 255].reshape(-1, 4), axis=0)) > 200  # colours, not a silhouette
