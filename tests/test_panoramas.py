"""Films all around: equirectangular cameras, and files that ask for a projection."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import CPU, nerf, refused

from nerf_pl.cameras import Cameras, View
from nerf_pl.checkpoints import open_run
from nerf_pl.errors import UserError
from nerf_pl.films.files import read_keyframes
from nerf_pl.films.film import film_scene
from nerf_pl.films.keyframes import keyframes_in_file
from nerf_pl.films.options import FilmOptions
from nerf_pl.films.paths import look_at
from nerf_pl.rendering import render_view

K = torch.tensor([[20.0, 0, 12], [0, 20, 8], [0, 0, 1]])
LIKE = Cameras(torch.eye(3, 4)[None], K[None], 24, 16)
C2W = look_at(torch.tensor([[0.4, -0.3, 0.2]]).double(), (1.0, 2.0, 0.5)).float()
EYE = torch.eye(4).tolist()


def test_where_the_pixels_of_a_panorama_look():
    around = Cameras(C2W, K[None], 16, 8, 0.0, panorama=True)
    directions = View(around, 0.0, 1.0).rays().directions.view(8, 16, 3)
    right, up, back = C2W[0, :, 0], C2W[0, :, 1], C2W[0, :, 2]
    for (row, column), expected in {
        (4, 8): -back, (4, 12): right, (4, 4): -right, (4, 0): back, (0, 3): up, (2, 8): (up - back) / math.sqrt(2),
    }.items():  # fmt: skip
        torch.testing.assert_close(directions[row, column], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(8, 16))


@pytest.mark.parametrize("place", ["file", "camera"])
@pytest.mark.parametrize("foreign", [False, True])
def test_files_that_ask_for_panoramas(tmp_path, place, foreign):
    entry = {"camera_to_world" if foreign else "c2w": EYE}
    told = {"camera_type": "equirectangular"}
    entry, values = (entry, told) if place == "file" else ({**entry, **told}, {})
    path = tmp_path / "path.json"
    path.write_text(json.dumps({**values, ("camera_path" if foreign else "keyframes"): [entry] * 2}))
    cameras = read_keyframes(path, LIKE).cameras
    assert cameras.panorama
    assert (cameras.width, cameras.height) == (32, 16)
    path.write_text(json.dumps(keyframes_in_file(cameras, 24, torch.eye(4).double())))
    again = read_keyframes(path, LIKE).film(2)
    assert again.panorama
    assert (again.width, again.height) == (32, 16)
    torch.testing.assert_close(again.c2w, cameras.c2w)


@pytest.mark.parametrize("kind", ["fisheye", "omnidirectional", "vr180", "orthographic", 3])
@pytest.mark.parametrize("name", ["keyframes", "camera_path"])
def test_other_projections_are_refused(tmp_path, kind, name):
    pose = {"c2w" if name == "keyframes" else "camera_to_world": EYE}
    for values in ({"camera_type": kind, name: [pose]}, {name: [{**pose, "camera_type": kind}]}):
        (tmp_path / "path.json").write_text(json.dumps(values))
        with pytest.raises(UserError, match=f"camera_type {kind!r}: only perspective and equirectangular"):
            read_keyframes(tmp_path / "path.json", LIKE)
    mixed = [pose, {**pose, "camera_type": "equirectangular"}]
    (tmp_path / "path.json").write_text(json.dumps({name: mixed}))
    with pytest.raises(UserError, match=f"{name} 1 is equirectangular, but the first perspective"):
        read_keyframes(tmp_path / "path.json", LIKE)


@pytest.mark.parametrize("told", [{"camera_model": "EQUIRECTANGULAR", "w": 64, "h": 32}, {"latlong": True}])
def test_panoramas_of_a_scene_are_filmed_as_such(tmp_path, told):
    path, frames = tmp_path / "transforms_test.json", [{"transform_matrix": EYE}] * 2
    path.write_text(json.dumps({**told, "frames": frames}))
    cameras = read_keyframes(path, LIKE).film(2)
    assert cameras.panorama
    assert (cameras.width, cameras.height) == (told.get("w", 32), told.get("h", 16))
    frames = [frames[0], {"camera_model": "PINHOLE", "fl_x": 20, "transform_matrix": EYE}]
    path.write_text(json.dumps({**told, "frames": frames}))
    with pytest.raises(UserError, match="frames 1 is perspective, but the first equirectangular: a film has one"):
        read_keyframes(path, LIKE)


def test_any_path_all_around(trained_ngp):
    scene = open_run(trained_ngp, CPU).scene("train", pictures=False)
    plain = film_scene(FilmOptions(frames=2), scene, "")[1].views
    for size, wanted in ((None, (2 * plain[0].size[1], plain[0].size[1])), ((10, 6), (10, 6))):
        name, take = film_scene(FilmOptions(frames=2, panorama=True, img_wh=size), scene, "")
        assert name == "360_panorama"
        assert take.keyframes["camera_type"] == "equirectangular"
        for view, other in zip(take.views, plain, strict=True):
            assert (view.size, view.camera.panorama) == (wanted, True)
            torch.testing.assert_close(view.camera.c2w, other.camera.c2w)


def test_a_film_all_around(trained_ngp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pose = {"position": [3.5, 0, 1], "look_at": [0, 0, 0]}
    values = {"camera_type": "equirectangular", "width": 32, "height": 16, "fps": 5, "keyframes": [pose]}
    Path("around.json").write_text(json.dumps(values))
    folder = Path(shutil.copytree(trained_ngp, "run"))
    nerf("render", folder, "--path", "around.json", "--num_gpus", 0)
    (written,) = folder.rglob("around_cameras.json")
    assert json.loads(written.read_text())["camera_type"] == "equirectangular"
    # what it shows ahead is what a perspective camera sees there
    run = open_run(trained_ngp, CPU)
    scene = run.scene("train", pictures=False)
    take = film_scene(FilmOptions("around.json"), scene, "")[1]
    around = take.views[0]
    narrow = torch.tensor([[1e3, 0, 0.5], [0, 1e3, 0.5], [0, 0, 1]])[None]
    ahead = View(Cameras(around.camera.c2w, narrow, 1, 1), around.near, around.far, background=around.background)
    seen, wide = render_view(run.model, ahead).rgb[0, 0], render_view(run.model, around).rgb
    assert (wide[7:9, 15:17].mean((0, 1)) - seen).abs().max() < 0.1
    assert (wide[:, :4] == 1).all()  # behind there is nothing


def test_photos_from_one_side_are_not_all_around(tmp_path, capsys, trained_ngp):
    path = tmp_path / "around.json"
    path.write_text(json.dumps({"camera_type": "equirectangular", "keyframes": [{"c2w": EYE}]}))
    scene = replace(open_run(trained_ngp, CPU).scene("train", pictures=False), ndc=(1.0, 1.0))
    with pytest.raises(UserError, match="show nothing around them"):
        film_scene(FilmOptions(str(path)), scene, "")
    with pytest.raises(UserError, match="--panorama, and photos from one side"):
        film_scene(FilmOptions("spiral", panorama=True), scene, "")
    path.write_text(json.dumps({"camera_type": "vr180", "keyframes": [{"c2w": EYE}]}))
    told = refused(capsys, "render", trained_ngp, "--path", path, "--num_gpus", 0)
    assert f"{path} has camera_type 'vr180'" in told
