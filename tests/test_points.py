"""Clouds of points of fields whose surface is known: where they lie, their normals and colours, and the file."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_kept_views import kept_run
from test_mesh import CENTRE, RADIUS, Ball, frame
from tiny import nerf, refused

from nerf_pl.cameras import View
from nerf_pl.errors import UserError
from nerf_pl.export.exact import accuracy
from nerf_pl.export.files import Geometry, in_file, write_points
from nerf_pl.export.options import PointOptions
from nerf_pl.export.points import agree, points_of, surfaces
from nerf_pl.scenes import load_scene
from nerf_pl.scenes.demo.look import SOLIDS
from nerf_pl.scenes.demo.shapes import Ball as TrueBall
from nerf_pl.scenes.points import read_points
from nerf_pl.sights import Sight


@pytest.fixture
def scene(scene_dir):
    scene = load_scene(scene_dir)
    return replace(scene, cameras=scene.cameras.resized(64, 64))


def test_points_lie_on_the_sphere_with_its_normals_and_colours(scene):
    found = points_of(Ball(), scene, PointOptions(2000), 4096)
    cloud = found.geometry
    assert found.enough
    assert len(cloud.vertices) == 2000
    away = cloud.vertices - CENTRE.numpy()
    assert np.abs(np.linalg.norm(away, axis=1) - RADIUS).max() < 0.05
    assert np.linalg.norm(cloud.normals, axis=1) == pytest.approx(1, abs=1e-4)
    cosine = (cloud.normals * away / RADIUS).sum(1)
    assert cosine.mean() > 0.97
    assert cosine.min() > 0.8
    assert np.abs(cloud.colours / 255 - (cloud.vertices / 4 + 0.5)).mean() < 0.03
    again = points_of(Ball(), scene, PointOptions(2000), 4096).geometry
    assert np.array_equal(cloud.vertices, again.vertices)


def test_a_crop_and_more_points_than_pixels(scene):
    crop = (0.1, -2.0, -2.0, 2.0, 2.0, 2.0)
    moved = replace(scene, frame=frame())
    found = points_of(Ball(), moved, PointOptions(10**6, tuple(box_in_file(crop))), 4096)
    assert not found.enough
    assert 100 < len(found.geometry.vertices) < 4 * 64 * 64
    inside = in_file(found.geometry, moved).vertices
    low, high = np.array(box_in_file(crop)).reshape(2, 3)
    assert ((inside >= low - 1e-4) & (inside <= high + 1e-4)).all()
    with pytest.raises(UserError, match="--crop 50 50 50 60 60 60: the training views show nothing in this box"):
        points_of(Ball(), scene, PointOptions(10, (50.0, 50.0, 50.0, 60.0, 60.0, 60.0)), 4096)
    with pytest.raises(UserError, match="nothing solid"):
        points_of(Ball(9.0), scene, PointOptions(10), 4096)


def box_in_file(box: tuple[float, ...]) -> list[float]:
    """A box about half of the ball, in the coordinates of the file."""
    centre = (torch.linalg.inv(frame()) @ torch.cat([CENTRE.double(), torch.ones(1)]))[:3]
    return [*(centre - torch.tensor([0.0, 9.0, 9.0])).tolist(), *(centre + 9).tolist()]


def sight_of(scene, depth: torch.Tensor) -> Sight:
    """What a camera would see if each of its rays ended at this distance."""
    view: View = scene.view(0)
    rays = view.rays()
    points = rays.origins + depth.flatten()[:, None] * rays.directions
    height, width = depth.shape
    return Sight(view, points.view(height, width, 3), depth, torch.zeros(height, width, 3))


def test_the_normals_of_a_slanted_plane_are_exact(scene):
    rays = scene.view(0).rays()
    middle = rays.origins[0] + 4 * scene.view(0).camera.c2w[0, :, 2] * -1
    right, back = (scene.view(0).camera.c2w[0, :, i] for i in (0, 2))
    normal = torch.nn.functional.normalize(back + 0.7 * right, dim=0)
    depth = ((middle - rays.origins) @ normal) / (rays.directions @ normal)
    normals, is_surface = surfaces(sight_of(scene, depth.view(64, 64)))
    assert bool(is_surface.all())
    torch.testing.assert_close(normals, normal.expand_as(normals), atol=2e-3, rtol=0)


def test_pixels_across_an_edge_hang_in_the_air(scene):
    depth = torch.full((64, 64), 3.0)
    depth[:, 32:], depth[:, 31] = 5.0, 4.0
    depth[:10] = torch.inf
    _, is_surface = surfaces(sight_of(scene, depth))
    assert not bool(is_surface[:, 31].any())
    assert not bool(is_surface[:10].any())
    assert float(is_surface[14:, :28].float().mean()) == 1
    assert float(is_surface[14:, 36:].float().mean()) == 1


def test_what_others_see_through_is_left_out(scene):
    """A wall that only one of three cameras in one place sees."""
    wall, beyond = sight_of(scene, torch.full((64, 64), 2.0)), sight_of(scene, torch.full((64, 64), 5.0))
    near, far = (each.points[20:40, 20:40].reshape(-1, 3) for each in (wall, beyond))
    assert bool(agree([wall], near).all())
    assert bool(agree([wall, wall, beyond], near).all())
    assert not bool(agree([wall, beyond, beyond], near).any())
    assert bool(agree([wall, beyond, beyond], far).all())
    assert bool(agree([wall], far).all())  # hidden from it, but nobody sees through


@pytest.mark.parametrize("shift", [0.0, 4e6])
def test_the_file(tmp_path, shift):
    generator = np.random.default_rng(0)
    places = generator.normal(size=(50, 3)) + shift
    normals = generator.normal(size=(50, 3))
    cloud = Geometry(places, normals, generator.integers(0, 256, (50, 3), np.uint8), np.zeros((0, 3), np.int64))
    write_points(tmp_path / "a.ply", cloud, "-y")
    np.testing.assert_allclose(read_points(tmp_path / "a.ply").numpy(), places, atol=1e-6 if shift == 0 else 0, rtol=0)
    assert b"comment -y is up\n" in (tmp_path / "a.ply").read_bytes()
    trimesh = pytest.importorskip("trimesh")
    found = trimesh.load(tmp_path / "a.ply")
    np.testing.assert_allclose(found.vertices, places, atol=1e-6 if shift == 0 else 1e-9, rtol=0)
    assert np.array_equal(found.colors[:, :3], cloud.colours)
    kept = found.metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_allclose(np.stack([kept[name] for name in ("nx", "ny", "nz")], 1), normals, atol=1e-6)


def test_points_on_the_demo_agree_with_it():
    ball = next(solid for solid in SOLIDS if isinstance(solid, TrueBall))
    ways = np.random.default_rng(0).normal(size=(100, 3))
    assert accuracy(ball.center + ball.radius * ways / np.linalg.norm(ways, axis=1)[:, None]) < 1e-9


@pytest.mark.parametrize("method", ["nerf", "ngp", "portable"])
def test_the_command(request, tmp_path, monkeypatch, capsys, method):
    """On a field that is fog still, where the run and the scene are gone."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(request.getfixturevalue("trained" if method == "nerf" else "trained_ngp"), "run")
    run, out = Path("run"), Path("run/points.ply")
    if method == "portable":
        nerf("export", run, "--scene", "a.nerf", "--num_gpus", 0)
        run, out = Path("a.nerf"), Path("a/points.ply")
    try:
        nerf("points", run, "--count", 50, "--num_gpus", 0)
    except SystemExit:
        assert "train longer" in capsys.readouterr().err
        assert not out.exists()
    else:
        assert f"points {out} (" in capsys.readouterr().out
        assert 0 < len(read_points(out)) <= 50


@pytest.mark.parametrize("layout", ["llff", "around"])
def test_scenes_without_end_say_what_is_taken(tmp_path, monkeypatch, capsys, layout):
    monkeypatch.chdir(tmp_path)
    run = kept_run(tmp_path / "scene", layout)
    with pytest.raises(SystemExit) as stop:  # nothing is trained
        nerf("points", run, "--num_gpus", 0, "--count", 10)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert "the scene goes on to the horizon" in printed.out
    assert "train longer" in printed.err


def test_what_can_go_wrong_is_said(trained_ngp, tmp_path, capsys, monkeypatch):
    words = ["points", trained_ngp, "--num_gpus", 0]
    assert "--count 0 cannot work: give 1 to 20000000" in refused(capsys, *words, "--count", 0)
    assert "name a .ply" in refused(capsys, *words, "--out", "a.obj")
    cloud = Geometry(np.eye(3), np.eye(3), np.zeros((3, 3), np.uint8), np.zeros((0, 3), np.int64))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*a.ply: No space left"):
        write_points(tmp_path / "a.ply", cloud, "+z")
    assert not list(tmp_path.iterdir())
