"""Files of camera paths: what changes the picture is honoured, or refused by name; poses of a scene are a film."""

import json
import math
from pathlib import Path

import llff_files
import photo_world
import pytest
import torch
from llff_files import around, moved, similarity
from PIL import Image
from tiny import nerf, refused

from nerf_pl.cameras import Cameras
from nerf_pl.errors import UserError
from nerf_pl.films.files import read_keyframes
from nerf_pl.films.film import film_cameras
from nerf_pl.films.options import FilmOptions
from nerf_pl.films.paths import look_at
from nerf_pl.scenes import Request, frame_of, load_scene
from nerf_pl.scenes.demo import make_demo

LIKE = Cameras(torch.eye(3, 4)[None], torch.tensor([[[50.0, 0, 40], [0, 50, 30], [0, 0, 1]]]), 80, 60)
MATRIX = [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 0, 0, 0, 1]
PATH = {
    "camera_path": [{"camera_to_world": MATRIX, "fov": 60, "aspect": 1.5}] * 6, "render_width": 90,
    "render_height": 60, "fps": 12, "seconds": 0.5, "is_cycle": False, "smoothness_value": 0.5, "keyframes": [],
    "camera_type": "perspective", "default_fov": 75, "crop": None,
}  # fmt: skip
KEYS = {"keyframes": [{"position": [3, 0, 1], "look_at": [0, 0, 0]}]}


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "path.json"
    path.write_text(json.dumps(content))
    return path


def changed(content: dict, where: str, **values: object) -> dict:
    """The content with other values: of the file, or of its first camera."""
    if where == "file":
        return {**content, **values}
    name = "camera_path" if "camera_path" in content else "keyframes"
    first, *rest = content[name]
    return {**content, name: [{**first, **values}, *rest]}


@pytest.mark.parametrize("content", [PATH, KEYS], ids=["nerfstudio", "ours"])
@pytest.mark.parametrize("where", ["file", "camera"])
@pytest.mark.parametrize("kind", ["cylindrical", "fisheye", "orthographic", "omnidirectional", "vr180", 3])
def test_other_cameras_are_refused_by_name(tmp_path, content, where, kind):
    path = written(tmp_path, changed(content, where, camera_type=kind))
    with pytest.raises(UserError, match="only perspective and equirectangular can be filmed") as caught:
        read_keyframes(path, LIKE)
    assert f"camera_type {kind!r}" in str(caught.value)
    read_keyframes(written(tmp_path, changed(content, where, camera_type="PERSPECTIVE")), LIKE)


@pytest.mark.parametrize(
    ("content", "where", "values", "told"),
    [
        (PATH, "file", {"crop": {"crop_center": [0, 0, 0]}}, "has a crop, which is not read"),
        (PATH, "camera", {"aspect": 2.0}, "aspect is 2, but the film has 90x60 pixels"),
        (PATH, "file", {"seconds": 0}, "seconds is 0"),
        (PATH, "file", {"seconds": 1e-9}, "6e+09 frames a second"),
        (PATH, "file", {"render_width": 10**6}, "must be 1 to 16384 pixels"),
        (KEYS, "file", {"fps": 1e-9}, "1e-09 frames a second"),
        (KEYS, "file", {"loop": "yes"}, "loop is 'yes'"),
        (KEYS, "camera", {"fov": 1e-300}, "fov is 1e-300"),
        (KEYS, "camera", {"position": [1e300, 0, 0]}, "beyond 1e+15"),
        (KEYS, "camera", {"K": [[50, 9, 40], [0, 50, 30], [0, 0, 1]]}, "with a skew"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path, content, where, values, told):
    with pytest.raises(UserError) as caught:
        read_keyframes(written(tmp_path, changed(content, where, **values)), LIKE)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_understood_is_said(tmp_path, capsys):
    path = written(tmp_path, {**changed(KEYS, "camera", roll=3), "easing": "linear"})
    read_keyframes(path, LIKE)
    assert f"{path}: not understood, and left out: easing, roll\n" in capsys.readouterr().err
    read_keyframes(written(tmp_path, PATH), LIKE)
    assert capsys.readouterr().err == ""


def test_coordinates_of_one_keyframe_are_told_to_be_those_of_all(tmp_path):
    path = written(tmp_path, {"keyframes": [{**KEYS["keyframes"][0], "coordinates": "file"}]})
    with pytest.raises(UserError, match="keyframes 0 has coordinates, which hold for all cameras: write it beside"):
        read_keyframes(path, LIKE)


def test_keys_of_nerfstudio_that_count(tmp_path):
    slow = read_keyframes(written(tmp_path, {**PATH, "seconds": 3}), LIKE)
    assert (slow.fps, slow.frames(2)) == (2, 6)
    path = written(tmp_path, changed(PATH, "camera", fov=None))
    K = read_keyframes(path, LIKE).cameras.K[:2, 1, 1].tolist()
    assert pytest.approx([30 / math.tan(math.radians(fov) / 2) for fov in (75, 60)]) == K
    narrow = {key: value for key, value in PATH.items() if key != "render_width"}
    cameras = read_keyframes(written(tmp_path, {**narrow, "render_height": 40}), LIKE).cameras
    assert (cameras.width, cameras.height) == (60, 40)  # by its aspect
    cameras = read_keyframes(written(tmp_path, {**KEYS, "height": 30}), LIKE).cameras
    assert (cameras.width, cameras.height) == (40, 30)


def test_poses_of_a_world_of_another_program_and_angles_in_radians_are_said(tmp_path, capsys):
    path = written(tmp_path, {"camera_path": [{"camera_to_world": torch.eye(4).ravel().tolist(), "fov": 0.9}]})
    read_keyframes(path, LIKE, torch.eye(4).double())
    told = capsys.readouterr().err
    assert "taken to be in the world of this run, which is not nerfstudio's" in told
    assert "fov is 0.9 degrees, which is next to nothing; is it in radians?" in told


def test_a_film_that_would_never_end(tmp_path):
    second = {"position": [3, 1, 1], "look_at": [0, 0, 0], "time": 1e9}
    path = written(tmp_path, {"keyframes": [{**KEYS["keyframes"][0], "time": 0}, second]})
    scene = load_scene(make_demo(tmp_path / "scene", size=16, n_train=2, n_val=1, n_test=1))
    with pytest.raises(UserError, match="give --frames, up to 1000000"):
        film_cameras(FilmOptions(str(path)), scene)


def test_the_test_views_of_a_blender_scene_as_a_film(tmp_path):
    root = make_demo(tmp_path / "scene", size=16, n_train=2, n_val=1, n_test=3)
    there = load_scene(root, Request("test")).cameras
    for file in root.glob("test/*.png"):
        file.unlink()  # a film needs no pictures
    name, cameras, fps = film_cameras(FilmOptions(str(root / "transforms_test.json")), load_scene(root))
    assert (name, len(cameras), fps) == ("transforms_test", 3, 30)
    inside = film_cameras(FilmOptions("transforms_test.json"), load_scene(root))[1]  # that of the scene's folder
    assert (inside.c2w == cameras.c2w).all()
    torch.testing.assert_close(cameras.c2w, there.c2w)
    torch.testing.assert_close(cameras.K, there.K)
    assert (cameras.width, cameras.height, cameras.sizes) == (16, 16, None)


@pytest.mark.parametrize("lens", [{}, photo_world.LENS, {"is_fisheye": True}])
def test_a_scene_of_photos_as_a_film_is_what_its_views_are(tmp_path, lens):
    """In the file's own frame, each with its intrinsics, and straight."""
    root = tmp_path / "scene"
    other = {"fl_x": 80.0, "fl_y": 81.0}
    photo_world.write(root, photo_world.K | lens, [other if i == 2 else {} for i in range(5)])
    scene = load_scene(root, Request(test_every=0))
    cameras = film_cameras(FilmOptions(str(root / "transforms.json")), scene)[1]
    torch.testing.assert_close(cameras.c2w, scene.cameras.c2w, atol=1e-5, rtol=0)
    torch.testing.assert_close(cameras.K, scene.cameras.K)
    assert (cameras.width, cameras.height) == (48, 36)


def test_frames_of_several_sizes_become_those_of_the_first(tmp_path):
    halved = {"w": 24, "h": 18, "fl_x": 30.0, "fl_y": 31.0, "cx": 12.0, "cy": 9.0}
    photo_world.write(tmp_path / "scene", photo_world.K, [halved if i == 1 else {} for i in range(3)])
    cameras = read_keyframes(tmp_path / "scene" / "transforms.json", LIKE).cameras
    assert (cameras.width, cameras.height, cameras.sizes) == (48, 36, None)
    assert cameras.K[:, 1, 1].tolist() == [62, 62, 62]


def test_frames_in_the_frame_of_another_layout(tmp_path):
    """poses_bounds.npy and a JSON file in its coordinates."""
    c2w = moved(around(), *similarity(3))
    llff_files.write_scene(tmp_path / "scene", c2w)
    frames = [{"transform_matrix": [*pose, [0, 0, 0, 1]]} for pose in c2w.tolist()]
    path = written(tmp_path, {"camera_angle_x": 0.8, "w": 24, "h": 16, "frames": frames})
    scene = load_scene(tmp_path / "scene", Request(test_every=0, spheric=True))
    found = film_cameras(FilmOptions(str(path)), scene)[1].c2w
    assert torch.cdist(scene.cameras.c2w.flatten(1), found.flatten(1)).amin(1).max() < 1e-4
    world = written(tmp_path, {**json.loads(path.read_text()), "coordinates": "world"})
    torch.testing.assert_close(
        read_keyframes(world, LIKE, frame_of(scene)).cameras.c2w.double(), c2w, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"frames": []}, "has no cameras"),
        ({"frames": [3]}, "frames 0 has no 4x4 transform_matrix"),
        ({"camera_angle_x": None}, "no focal length"),
        ({"camera_model": "ORTHO"}, "camera_model 'ORTHO': only perspective and equirectangular can be filmed"),
        ({"camera_angle_x": 4}, "camera_angle_x is 4"),
        ({"w": 10**7, "h": 10**7}, "must be 1 to 16384 pixels"),
        ({"fps": 0}, "fps is 0"),
    ],
)
def test_a_bad_file_of_a_scene_is_named(tmp_path, values, told):
    pose = look_at(torch.tensor([[3.0, 0, 1]]))[0].tolist()
    content = {"camera_angle_x": 0.7, "frames": [{"transform_matrix": [*pose, [0, 0, 0, 1]]}]}
    read_keyframes(written(tmp_path, content), LIKE)
    with pytest.raises(UserError) as caught:
        read_keyframes(written(tmp_path, {**content, **values}), LIKE)
    assert told in str(caught.value)


def test_a_film_of_a_scene_file_through_the_command(trained_ngp, scene_dir, tmp_path, capsys):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").symlink_to(trained_ngp / "checkpoints" / "last.ckpt")
    options = ("--depth", "none", "--num_gpus", 0, "--keep_frames")
    nerf("render", run, "--path", "transforms_test.json", *options)  # that of the scene's folder
    assert f"that of the scene is taken, {scene_dir / 'transforms_test.json'}" in capsys.readouterr().err
    nerf("render", run, "--path", "test", *options)
    for i in range(2):
        one, other = (run / f"renders/{name}/frames/{i:05}.png" for name in ("transforms_test", "test"))
        assert Image.open(one).tobytes() == Image.open(other).tobytes()
    path = written(tmp_path, {**PATH, "camera_type": "omnidirectional"})
    assert "camera_type 'omnidirectional'" in refused(capsys, "render", run, "--path", path)
