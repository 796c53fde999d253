"""Meshes of fields whose surface is known: where it lies, what colour it has, in which frame, and in every format."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ball_world import CENTRE, RADIUS, Ball, whole
from tiny import nerf, refused

from nerf_pl.cameras import ndc_points, ndc_to_world
from nerf_pl.export import mesh as mesh_module
from nerf_pl.export import surface
from nerf_pl.export.exact import agreement
from nerf_pl.export.files import Geometry, in_file, up_axis, upright, write_geometry
from nerf_pl.export.mesh import mesh_of
from nerf_pl.extras import EXTRAS
from nerf_pl.scenes import load_scene
from nerf_pl.scenes.demo.look import SOLIDS
from nerf_pl.scenes.demo.shapes import Ball as TrueBall

for needed in (package for package, of in EXTRAS.items() if of == "mesh" and package != "xatlas"):
    pytest.importorskip(needed, reason='needs the extra mesh: pip install "nerf_pl[mesh]"')
trimesh = pytest.importorskip("trimesh")


@pytest.fixture
def scene(scene_dir):
    scene = load_scene(scene_dir)
    return replace(scene, cameras=scene.cameras.resized(64, 64))


def test_vertices_lie_on_the_sphere_and_have_its_colour(scene, monkeypatch):
    monkeypatch.setattr(surface, "SLAB", 2000)  # three layers at a time
    found = mesh_of(Ball(), scene, whole(), 1024)
    mesh = found.geometry
    away = mesh.vertices - CENTRE.numpy()
    assert np.abs(np.linalg.norm(away, axis=1) - RADIUS).max() < found.cell / 32
    assert (mesh.normals * away / RADIUS).sum(1).min() > 0.9
    assert np.abs(mesh.colours / 255 - (mesh.vertices / 4 + 0.5)).max() < 0.05
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert solid.is_watertight
    assert solid.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.03)


def test_slabs_make_no_difference(scene, monkeypatch):
    one = mesh_of(Ball(), scene, whole(), 1024).geometry
    monkeypatch.setattr(surface, "SLAB", 1)
    many = mesh_of(Ball(), scene, whole(), 1024).geometry
    assert len(one.vertices) == len(many.vertices)
    assert len(one.faces) == len(many.faces)
    np.testing.assert_allclose(one.vertices, many.vertices, atol=1e-6)


def test_what_no_camera_sees_goes(scene):
    kept, seen = (mesh_of(Ball(0.4), scene, whole(keep_unseen=keep), 1024) for keep in (True, False))
    inner = [np.linalg.norm(found.geometry.vertices - CENTRE.numpy(), axis=1) < 0.5 for found in (kept, seen)]
    assert inner[0].sum() > 50
    assert inner[1].sum() == 0
    assert seen.unseen > 0.1


def test_fewer_faces_and_a_crop(scene):
    small = mesh_of(Ball(), scene, whole(faces=200), 1024).geometry
    assert 100 < len(small.faces) <= 220
    box = (0.0, -1.0, -1.0, 1.0, 1.0, 1.0)
    half = mesh_of(Ball(), scene, whole(crop=box), 1024).geometry
    assert half.vertices[:, 0].min() > -1e-5
    assert half.vertices[:, 0].max() > 0.7


def test_small_parts_go():
    ball = trimesh.creation.icosphere(2, 1.0)
    dust = trimesh.creation.icosphere(1, 0.05)
    vertices = np.concatenate([ball.vertices, dust.vertices + 3])
    faces = np.concatenate([ball.faces, dust.faces + len(ball.vertices)]).astype(np.int64)
    assert surface.without_small_parts(vertices, faces, 0.01)[1] == 1
    assert len(surface.without_small_parts(vertices, faces, 0.0)[0]) == len(faces)


def frame() -> torch.Tensor:
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0]
    turn = turn * torch.linalg.det(turn)
    found = torch.eye(4, dtype=torch.float64)
    found[:3, :3], found[:3, 3] = 0.3 * turn, torch.tensor([1.0, 2.0, 3.0])
    return found


@pytest.mark.parametrize("shift", [0.0, 4e6])
@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb"])
def test_every_format_in_the_coordinates_of_the_file(scene, tmp_path, suffix, shift):
    """Also where these are those of a map, metres from far away, which single precision does not tell apart."""
    to_world = frame()
    to_world[:3, 3] -= to_world[:3, :3] @ torch.tensor([shift, shift, 0.0]).double()
    moved = replace(scene, frame=to_world)
    mesh = in_file(mesh_of(Ball(), moved, whole(resolution=12), 1024).geometry, moved)
    centre = (torch.linalg.inv(to_world) @ torch.cat([CENTRE.double(), torch.ones(1)]))[:3].numpy()
    out = tmp_path / f"ball{suffix}"
    write_geometry(out, mesh, up_axis(moved))
    read = trimesh.load(out, process=False)
    turn = np.eye(4)
    if suffix == ".glb":
        ((node, _),) = [read.graph[name] for name in read.graph.nodes_geometry]
        turn, read = upright(up_axis(moved)), next(iter(read.geometry.values()))
        assert np.allclose(node[:3, :3], turn[:3, :3])
        assert shift or np.allclose(node, turn)
        read.vertices = np.asarray(read.vertices) + turn[:3, :3].T @ node[:3, 3]
    assert np.isclose(np.linalg.det(turn), 1)
    assert len(read.faces) == len(mesh.faces)
    away = np.linalg.norm(read.vertices - centre, axis=1)
    np.testing.assert_allclose(away, RADIUS / 0.3, rtol=0.02)
    colours = read.visual.vertex_colors[:, :3].astype(int)
    nearest = [np.abs(mesh.vertices - vertex).sum(1).argmin() for vertex in read.vertices[::50]]
    assert np.abs(colours[::50] - mesh.colours[nearest].astype(int)).max() <= 1
    assert read.volume > 0
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("axis", ["+x", "+y", "+z", "-x", "-y", "-z"])
def test_up_becomes_y(axis):
    up = np.zeros(3)
    up["xyz".index(axis[1])] = 1 if axis[0] == "+" else -1
    assert np.allclose(upright(axis)[:3, :3] @ up, [0, 1, 0])
    assert np.isclose(np.linalg.det(upright(axis)), 1)


def test_points_come_back_from_normalised_device_coordinates():
    xyz = torch.tensor([[0.3, -0.2, -1.5], [2, 1, -8], [0, 0, -40]])
    torch.testing.assert_close(ndc_to_world(ndc_points(xyz, (2.0, 1.5)), (2.0, 1.5)), xyz, rtol=1e-4, atol=1e-4)


def test_points_on_the_demo_agree_with_it():
    """A ball in the place of one of the demo's."""
    solid = next(solid for solid in SOLIDS if isinstance(solid, TrueBall))
    ball = trimesh.creation.icosphere(4, solid.radius)
    normals = np.asarray(ball.vertex_normals)
    vertices = ball.vertices + solid.center
    found = agreement(Geometry(vertices, normals, np.zeros((len(vertices), 3), np.uint8), ball.faces))
    assert found.accuracy < 1e-6
    assert found.completeness > 0.01  # the rest is missing


@pytest.mark.parametrize("method", ["nerf", "ngp"])
def test_the_command(request, tmp_path, capsys, method):
    """On a field that is fog still, without its scene's folder."""
    run, out = tmp_path / "run", tmp_path / "a.ply"
    shutil.copytree(request.getfixturevalue("trained" if method == "nerf" else "trained_ngp"), run)
    words = ["mesh", run, "--resolution", 8, "--num_gpus", 0, "--keep_unseen", "--out", out]
    try:
        nerf(*words, "--threshold", 1e-3)
    except SystemExit:
        said = capsys.readouterr().err
        assert "train longer" in said or "give --threshold" in said
        assert not out.exists()
    else:
        assert "is up" in capsys.readouterr().out
        assert len(trimesh.load(out).faces) > 0
    assert not list(tmp_path.glob(".*"))


def no_memory(*_, **__):
    raise MemoryError


@pytest.mark.parametrize("name", ["a.ply", "a.glb"])
def test_ctrl_c_and_a_full_disk_leave_no_file(trained_ngp, scene, tmp_path, capsys, monkeypatch, name):
    found, out = mesh_of(Ball(), scene, whole(resolution=8), 1024), tmp_path / name

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    words = ["mesh", trained_ngp, "--num_gpus", 0, "--out", out]
    with monkeypatch.context() as patch:
        patch.setattr(mesh_module, "look", interrupt)
        assert "interrupted" in refused(capsys, *words, code=130)
    monkeypatch.setattr(mesh_module, "mesh_of", lambda *_, **__: found)
    monkeypatch.setattr(Path, "write_bytes", full)
    assert f"cannot write {out}: No space left on device; free some space" in refused(capsys, *words)
    assert not list(tmp_path.iterdir())


def full(path: Path, content: bytes) -> None:
    path.write_text("half of it")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_can_go_wrong_is_said(trained_ngp, scene, capsys, monkeypatch):
    words = ["mesh", trained_ngp, "--num_gpus", 0]
    assert "--resolution 2000 cannot work: give 8 to 1024" in refused(capsys, *words, "--resolution", 2000)
    assert "name a .ply, .obj or .glb" in refused(capsys, *words, "--out", "a.stl")
    with pytest.raises(Exception, match=r"nothing is denser than --threshold 100; .* give --threshold 30"):
        mesh_of(Ball(), scene, whole(threshold=100.0), 1024)
    with pytest.raises(Exception, match="--crop 5 5 5 6 6 6: the training views show nothing in this box"):
        mesh_of(Ball(), scene, whole(crop=(5.0, 5.0, 5.0, 6.0, 6.0, 6.0)), 1024)
    with pytest.raises(Exception, match="nothing solid"):
        mesh_of(Ball(9.0), scene, whole(), 1024)
    monkeypatch.setattr(mesh_module, "look", no_memory)
    assert "memory ran out: give a lower --resolution" in refused(capsys, *words)
    monkeypatch.setitem(EXTRAS, "no_such_package", "mesh")
    assert 'needs no_such_package: pip install "nerf_pl[mesh]"' in refused(capsys, *words)
