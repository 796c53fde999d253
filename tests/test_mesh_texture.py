"""Meshes with a texture, and how much a picture of a mesh is like that of its field."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ball_world import CENTRE, RADIUS, Ball, whole
from mesh_pictures import nearest_triangles, picture, sampled
from tiny import refused

from nerf_pl.export import raster
from nerf_pl.export.files import Geometry, write_geometry
from nerf_pl.export.mesh import mesh_of
from nerf_pl.extras import EXTRAS
from nerf_pl.metrics import psnr
from nerf_pl.rendering import render_view
from nerf_pl.scenes import load_scene

for needed in (package for package, of in EXTRAS.items() if of == "mesh"):
    pytest.importorskip(needed, reason='needs the extra mesh: pip install "nerf_pl[mesh]"')
trimesh = pytest.importorskip("trimesh")
SIZE = 128  # of a texture


@pytest.fixture(scope="module")
def scene(scene_dir):
    scene = load_scene(scene_dir)
    return replace(scene, cameras=scene.cameras.resized(64, 64))


@pytest.fixture(scope="module")
def meshes(scene) -> dict[str, Geometry]:
    """The ball with colours at its vertices, and with a texture and few triangles."""
    fine, few = whole(resolution=48), whole(resolution=48, texture=SIZE, faces=1000)
    return {name: mesh_of(Ball(), scene, options, 1024).geometry for name, options in {"ply": fine, "glb": few}.items()}


def middles(mesh: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """The middle of each triangle, in space and in the texture."""
    return mesh.vertices[mesh.faces].mean(1), mesh.uv[mesh.faces].mean(1)


def test_the_texture_has_the_colours_of_the_field(meshes):
    mesh = meshes["glb"]
    assert mesh.texture.shape == (SIZE, SIZE, 3)
    assert mesh.uv.min() >= 0
    assert mesh.uv.max() <= 1
    assert 800 < len(mesh.faces) <= 1100
    points, uv = middles(mesh)
    assert np.abs(sampled(mesh.texture, uv) - (points / 4 + 0.5)).max() < 0.06
    assert (mesh.texture.max(2) > 0).all()  # also between charts


def test_seams_show_no_other_colour(meshes):
    """Where viewers mix texels at the edge of a chart, these have the chart's colour."""
    mesh = meshes["glb"]
    assert np.abs(sampled(mesh.texture, mesh.uv) - (mesh.vertices / 4 + 0.5)).max() < 0.08


@pytest.mark.parametrize("name", ["a ball.obj", "ball.glb"])
def test_files_with_a_texture(meshes, tmp_path, name):
    mesh, out = meshes["glb"], tmp_path / name
    write_geometry(out, mesh, "+y")
    files = {"a ball.obj", "a_ball.mtl", "a_ball.png"} if name.endswith(".obj") else {"ball.glb"}
    assert {path.name for path in tmp_path.iterdir()} == files
    read = trimesh.load(out, process=False, force="mesh")
    material = read.visual.material
    image = np.asarray(material.image if name.endswith(".obj") else material.baseColorTexture)[..., :3]
    assert np.array_equal(image, mesh.texture)
    points = np.asarray(read.vertices)[np.asarray(read.faces)].mean(1)
    uv = np.asarray(read.visual.uv)[np.asarray(read.faces)].mean(1)
    assert np.abs(sampled(image, uv) - (points / 4 + 0.5)).max() < 0.06
    away = np.linalg.norm(read.vertices - CENTRE.numpy(), axis=1)
    np.testing.assert_allclose(away, RADIUS, rtol=0.03)
    assert read.volume > 0


def halved(rgb: torch.Tensor) -> torch.Tensor:
    return rgb.view(64, 2, 64, 2, 3).mean((1, 3))


@pytest.mark.parametrize("kind", ["ply", "glb"])
def test_pictures_of_the_mesh_are_those_of_the_field(scene, meshes, kind):
    """Against the exact picture of the ball the mesh is at most 6 dB worse than the field, or than one of 45 dB: this
    field is nearly exact."""
    for i in range(2):
        view = scene.view(i)
        fine = replace(view, camera=view.camera.resized(128, 128))
        rays = fine.rays()
        towards = ((CENTRE - rays.origins) * rays.directions).sum(1)
        away = (rays.origins + towards[:, None] * rays.directions - CENTRE).norm(dim=1)
        t = towards - (RADIUS**2 - away**2).clamp(min=0).sqrt()
        colour = (rays.origins + t[:, None] * rays.directions) / 4 + 0.5
        exact = halved(torch.where(away[:, None] < RADIUS, colour, 1.0))
        field = psnr(halved(render_view(Ball(), fine).rgb), exact)
        assert field > 20
        assert psnr(picture(meshes[kind], view), exact) > min(float(field), 45) - 6


def test_each_pixel_shows_the_nearest_triangle():
    """A slanted triangle runs through an upright one that is half a picture wide."""
    corners = np.array([[[0, 0], [32, 0], [0, 32]], [[0, 0], [32, 0], [0, 32]]], float)
    depths = np.array([[2, 2, 2], [1, 4, 1]], float)
    number, shares = nearest_triangles(corners, depths, 16, 16)
    assert (number >= 0).all()
    inverse = 1 - 0.75 * (np.arange(16) + 0.5) / 32  # one over the depth of the second
    assert np.array_equal(number[0], np.where(1 / inverse < 2, 1, 0))
    np.testing.assert_allclose((shares[3] * depths[number[3]]).sum(1), np.minimum(1 / inverse, 2))
    np.testing.assert_allclose(shares.sum(2), 1)


def test_parts_make_no_difference(monkeypatch):
    corners = np.random.default_rng(0).uniform(-4, 20, (50, 3, 2))
    corners[7, 1:] = corners[7, 0]  # without an area, as after a reduction
    corners[8, 2] = corners[8, 1]
    found = []
    for at_once in (2**20, 1):
        monkeypatch.setattr(raster, "AT_ONCE", at_once)
        parts = list(raster.covered(corners, 16, 12))
        found.append([np.concatenate(part) for part in zip(*parts, strict=True)])
    for one, many in zip(*found, strict=True):
        assert np.array_equal(one, many)
    assert len(found[0][0]) > 500


def test_a_ply_takes_no_texture(trained_ngp, capsys):
    words = ["mesh", trained_ngp, "--num_gpus", 0, "--texture", 64, "--out", "a.ply"]
    assert "a .ply has colours of vertices alone, name a .obj or .glb" in refused(capsys, *words)
