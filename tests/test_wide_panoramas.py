"""Panoramas, cut into the faces of a cube that see the world ray by ray."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import photo_world
import pytest
import torch
from photo_world import edit, panorama_directions, poses, read, worst, write
from PIL import Image
from test_import_metashape import camera, sensor
from test_import_metashape import write as write_metashape
from tiny import CPU, NGP_FLAGS, nerf
from tool_world import run_import

from nerf_pl.cameras import View
from nerf_pl.checkpoints import open_run
from nerf_pl.errors import UserError
from nerf_pl.films.film import film_cameras
from nerf_pl.films.options import FilmOptions
from nerf_pl.scenes import Request, Scene, frame_of, load_scene, one_per_photo
from nerf_pl.scenes.cuts import FACES, cut_cameras
from nerf_pl.scenes.wide import is_whole_panorama, panorama

PANORAMA = {"camera_model": "EQUIRECTANGULAR", "w": 256, "h": 128}
LIMIT = 3.0  # 8-bit steps


def load(root: Path, **asked: object) -> Scene:
    return load_scene(root, Request(**{"test_every": 0, "background": "none", **asked}))


@pytest.mark.parametrize("downscale", [1, 2])
def test_panoramas_are_what_their_faces_see(tmp_path, capsys, downscale):
    write(tmp_path, PANORAMA, [{}] * 3)
    scene = load(tmp_path, downscale=downscale)
    assert len(scene) == 18
    assert scene.images.shape[1:3] == (64 // downscale, 64 // downscale)
    assert scene.names[5:8] == ("000/down", "001/front", "001/right")
    assert scene.photos == (0,) * 6 + (1,) * 6 + (2,) * 6
    assert scene.masks is None
    assert scene.unbounded
    assert max(worst(scene, frame_of(scene), i) for i in range(len(scene))) < LIMIT * downscale**2
    assert capsys.readouterr().err.count("3 panoramas are cut into 18 views") == 1


def test_a_panorama_and_a_pinhole_photo_see_the_same(tmp_path):
    """In the same direction the same colour: a face against a photo that a pinhole camera took there."""
    c2w = write(tmp_path / "around", PANORAMA | {"w": 512, "h": 256}, [{}] * 3)
    scene = load(tmp_path / "around")
    at_left = FACES["left"]
    assert at_left == (-90, 0)
    turned = torch.stack([-c2w[:, :, 2], c2w[:, :, 1], c2w[:, :, 0], c2w[:, :, 3]], -1)  # right, up, back of that face
    lens = {"w": 128, "h": 128, "fl_x": 64.0, "fl_y": 64.0, "cx": 64.0, "cy": 64.0}
    names = list(scene.names)
    for i in range(3):
        view = names.index(f"{i:03}/left")
        shot = torch.from_numpy(photo_world.photo(turned[i], lens)).int()
        assert (scene.images[view].int() - shot).abs().max() < LIMIT
        moved = torch.linalg.inv(frame_of(scene))[:3, :3] @ scene.cameras.c2w[view, :, :3].double()
        torch.testing.assert_close(moved / moved.norm(dim=0), turned[i, :, :3], atol=1e-5, rtol=0)


def test_faces_meet_where_they_should(tmp_path):
    """Every direction is in one face, at the pixel where it is projected to."""
    cut = panorama((64, 32))
    cameras = cut_cameras([cut], [(64, 32)], torch.eye(3, 4)[None])
    rays = [View(cameras[i : i + 1], 0, 1).rays().directions for i in range(6)]
    every = torch.cat(rays)
    assert (every.mean(0).abs() < 1e-6).all()
    nearest = torch.from_numpy(panorama_directions({"w": 64, "h": 32})).float() @ every.T
    assert nearest.amax(1).min() > math.cos(math.radians(5))


def test_the_left_border_goes_on_at_the_right_one(tmp_path):
    """No seam behind the camera, and none at the poles."""
    cut = panorama((64, 32))
    ramp = np.round(127 + 120 * panorama_directions({"w": 64, "h": 32})[:, 0]).astype(np.uint8).reshape(32, 64, 1)
    back = dict(zip((piece.name for piece in cut.pieces), cut.pictures(ramp), strict=True))
    assert np.abs(np.diff(back["back"][:, :, 0].astype(int), axis=1)).max() < 20
    for pole in ("up", "down"):
        assert np.abs(np.diff(back[pole][:, :, 0].astype(int), axis=1)).max() < 20


@pytest.mark.parametrize(
    "told",
    [
        {"camera_model": "equirectangular"},
        {"camera_type": "EQUIRECTANGULAR"},
        {"latlong": True},
        {"lens_model": "spherical"},
    ],
)
@pytest.mark.parametrize("place", ["file", "frame"])
def test_how_files_say_it(tmp_path, told, place):
    write(tmp_path, PANORAMA, [{}] * 2, {"camera_model": None, "fl_x": 128.0, "fl_y": 128.0, "cx": 128, "cy": 64})
    values = read(tmp_path)
    for entry in [values] if place == "file" else values["frames"]:
        entry.update(told)
    edit(tmp_path, values)
    assert len(load(tmp_path)) == 12


def test_the_blender_layout_has_them_too(tmp_path):
    c2w = write(tmp_path, PANORAMA, [{}] * 3)
    (tmp_path / "transforms.json").rename(tmp_path / "transforms_train.json")
    scene = load(tmp_path)
    assert len(scene) == 18
    assert scene.unbounded
    assert max(worst(scene, frame_of(scene), i) for i in range(18)) < LIMIT
    assert (scene.cameras.c2w[:, :, 3].norm(dim=1) < 2).all()
    assert len(c2w) == 3


def test_colmap_models_have_them_too(tmp_path):
    pytest.importorskip("pycolmap")
    from colmap_files import write_model, write_pictures

    c2w = poses(3)
    shots = [photo_world.photo(pose, PANORAMA) for pose in c2w]
    write_model(tmp_path / "sparse" / "0", c2w.numpy(), [("EQUIRECTANGULAR", [256.0, 128.0], (256, 128))])
    write_pictures(tmp_path / "images", shots)
    scene = load(tmp_path)
    assert scene.names[:2] == ("view_00/front", "view_00/right")
    assert max(worst(scene, frame_of(scene), i) for i in range(18)) < LIMIT


def test_black_poles_do_not_count(tmp_path, capsys):
    write(tmp_path, PANORAMA, [{}] * 2)
    for file in sorted((tmp_path / "images").iterdir()):
        pixels = np.array(Image.open(file))
        pixels[110:] = 0  # 25 degrees around the nadir, as a tripod
        pixels[:60] = 3
        Image.fromarray(pixels).save(file)
    scene = load(tmp_path)
    assert [name.split("/")[1] for name in scene.names[:5]] == ["front", "right", "back", "left", "down"]
    assert scene.masks is not None
    assert max(worst(scene, frame_of(scene), i) for i in range(10)) < LIMIT
    latitude = 90 - 180 * 110 / 128
    seen = scene.masks[4].float().mean()  # of the face below: all but a disc of 90 - 64.7 degrees
    assert abs(float(seen) - (1 - math.pi * math.tan(math.radians(90 + latitude)) ** 2 / 4)) < 0.03
    told = capsys.readouterr().err
    assert "their top 47% are black and do not count; their lowest 14% are black" in told


def test_masks_are_cut_like_their_panoramas(tmp_path):
    write(tmp_path, PANORAMA, [{"mask_path": f"masks/{i}.png"} for i in range(2)])
    (tmp_path / "masks").mkdir()
    for i in range(2):
        mask = np.full((128, 256), 255, np.uint8)
        mask[:, 128:] = 0  # what is to the right
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    scene = load(tmp_path)
    assert scene.masks is not None
    shares = scene.masks[:6].float().mean((1, 2)).tolist()
    assert shares == pytest.approx([0.5, 0, 0.5, 1, 0.5, 0.5], abs=0.01)
    assert scene.masks[0, :, :32].all()
    assert scene.masks[2, :, 32:].all()
    Image.new("L", (128, 128), 255).save(tmp_path / "masks" / "1.png")
    with pytest.raises(UserError, match=r"1\.png is 128x128 but its picture 256x128"):
        load(tmp_path)


def test_transparent_panoramas(tmp_path):
    write(tmp_path, PANORAMA, [{}] * 2)
    for file in (tmp_path / "images").iterdir():
        pixels = np.array(Image.open(file).convert("RGBA"))
        pixels[:, :128, 3] = 0
        Image.fromarray(pixels).save(file)
    scene = load_scene(tmp_path, Request(test_every=0))
    assert scene.images.shape == (12, 64, 64, 4)
    assert (scene.images[1, :, :, 3] == 255).all()
    assert (scene.images[3, :, :, 3] == 0).all()
    assert scene.background == (1.0, 1.0, 1.0)


def test_panoramas_beside_photos(tmp_path, capsys):
    c2w = write(tmp_path, {}, [PANORAMA, photo_world.K, PANORAMA, photo_world.K])
    scene = load(tmp_path)
    assert (scene.cameras.width, scene.cameras.height) == (64, 64)
    assert [scene.cameras.size(i) for i in (0, 6, 7)] == [(64, 64), (48, 36), (64, 64)]
    assert scene.photos == (0,) * 6 + (1,) + (2,) * 6 + (3,)
    assert scene.names[6] == "001"
    assert max(worst(scene, frame_of(scene), i) for i in range(14)) < LIMIT
    assert "2 panoramas are cut into 12 views" in capsys.readouterr().err
    assert len(c2w) == 4


def test_no_photo_is_on_both_sides_of_a_split(tmp_path):
    write(tmp_path, PANORAMA | {"w": 64, "h": 32}, [{}] * 9)
    sides = [
        {name.split("/")[0] for name in load(tmp_path, split=split, test_every=4).names} for split in ("train", "test")
    ]
    assert sides[1] == {"000", "004", "008"}
    assert not sides[0] & sides[1]
    assert len(sides[0]) == 6


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"h": 120}, "EQUIRECTANGULAR'): has 256x120 pixels, but an equirectangular picture is twice as wide as high"),
        ({"cx": 100}, "cx is 100, beside the middle of an equirectangular picture of 256x128"),
        ({"k1": 0.1}, "k1 is 0.1, but equirectangular pictures have no lens; remove it"),
        ({"is_fisheye": True}, "is_fisheye true contradicts the model"),
        ({"latlong": False}, "latlong false contradicts the model"),
        ({"latlong": 7}, "latlong is 7; give true or false"),
        ({"equirectangular": True}, "equirectangular is True, which would change the rays"),
        (
            {"camera_model": "OPENCV_FISHEYE", "fl_x": 60, "fisheye_crop_radius": 0},
            "fisheye_crop_radius is 0; give a number above",
        ),
        ({"camera_model": "OPENCV_FISHEYE", "fl_x": 60, "fisheye_crop_radius": "x"}, "fisheye_crop_radius is 'x'"),
        (
            {"camera_model": "OPENCV_FISHEYE", "fl_x": 60, "fisheye_crop_radius": 0.1},
            "fisheye_crop_radius is 0.1, next to nothing of a",
        ),
    ],
)
def test_what_cannot_be_is_named(tmp_path, change, told):
    values = PANORAMA | change if "h" in change else PANORAMA
    write(tmp_path, values, [{}] * 2, change)
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    assert told in str(caught.value)
    assert "000.png" in str(caught.value)


def test_a_missing_panorama_is_said(tmp_path, capsys):
    write(tmp_path, PANORAMA | {"w": 64, "h": 32}, [{}] * 3)
    (tmp_path / "images" / "001.png").unlink()
    assert len(load(tmp_path)) == 12
    assert "left out 1 of 3 pictures" in capsys.readouterr().err


def test_sizes_of_panoramas():
    assert all(map(is_whole_panorama, [(2, 1 + 1), (64, 32), (5760, 2880), (4095, 2048), (601, 300)]))
    assert not any(map(is_whole_panorama, [(4000, 3000), (3000, 3000), (7000, 3000), (32, 64), (2, 1)]))


def test_spherical_cameras_of_metashape(tmp_path, capsys):
    c2w = poses(3).numpy()
    (tmp_path / "images").mkdir()
    for i, pose in enumerate(c2w):
        Image.fromarray(photo_world.photo(torch.from_numpy(pose), PANORAMA)).save(
            tmp_path / "images" / f"photo {i}.png"
        )
    inside = "".join(camera(i, pose[:, :3], pose[:, 3]) for i, pose in enumerate(c2w))
    write_metashape(tmp_path, sensor("", 0, "spherical").replace('"48"', '"256"').replace('"36"', '"128"'), inside)
    lines = run_import(capsys, tmp_path)
    assert "cameras: EQUIRECTANGULAR, 256x128" in lines
    values = read(tmp_path)
    assert (values["camera_model"], values["fl_x"], values["fl_y"]) == ("EQUIRECTANGULAR", 128, 128)
    scene = load(tmp_path)
    assert len(scene) == 18
    assert max(worst(scene, frame_of(scene), i) for i in range(18)) < LIMIT


def test_spherical_cameras_of_openmvg(tmp_path, capsys):
    c2w = poses(3).numpy()
    (tmp_path / "images").mkdir()
    views, extrinsics = [], []
    for i, pose in enumerate(c2w):
        Image.fromarray(photo_world.photo(torch.from_numpy(pose), PANORAMA)).save(tmp_path / "images" / f"{i}.png")
        views.append(
            {"key": i, "value": {"ptr_wrapper": {"data": {"filename": f"{i}.png", "id_intrinsic": 0, "id_pose": i}}}}
        )
        w2c = np.stack([pose[:, 0], -pose[:, 1], -pose[:, 2]])
        extrinsics.append({"key": i, "value": {"rotation": w2c.tolist(), "center": pose[:, 3].tolist()}})
    data = {"ptr_wrapper": {"data": {"width": 256, "height": 128}}}
    intrinsics = [{"key": 0, "value": {"polymorphic_id": 2147483649, "polymorphic_name": "spherical", **data}}]
    values = {"views": views, "intrinsics": intrinsics, "extrinsics": extrinsics, "structure": []}
    (tmp_path / "sfm_data.json").write_text(json.dumps({"sfm_data_version": "0.3", **values}))
    assert "cameras: EQUIRECTANGULAR, 256x128" in run_import(capsys, tmp_path)
    scene = load(tmp_path)
    assert max(worst(scene, frame_of(scene), i) for i in range(18)) < LIMIT


def test_a_run_on_panoramas_goes_all_the_way(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(Path("scene"), PANORAMA | {"w": 64, "h": 32}, [{}] * 4)
    nerf("train", "scene", *NGP_FLAGS, "--max_steps", 3, "--num_gpus", 0, "--exp_name", "run", "--test_every", 4)
    assert "scene: 18 views of 16 x 16 to train on, 6 for validation" in capsys.readouterr().out
    nerf("eval", "runs/run", "--num_gpus", 0)
    scores = json.loads(Path("runs/run/metrics.json").read_text())
    assert [view["name"] for view in scores["views"]][:2] == ["000/front", "000/right"]
    assert len(scores["views"]) == 6
    shutil.rmtree("scene")
    run = open_run(Path("runs/run"), CPU)
    kept = run.scene("train", pictures=False)
    assert kept.photos == tuple(i // 6 for i in range(18))
    assert len(one_per_photo(kept)) == 3
    # a film passes each photo once, looking ahead
    cameras = film_cameras(FilmOptions("interpolate", every=1, frames=3), kept)[1]
    torch.testing.assert_close(cameras.c2w, kept.cameras.c2w[::6], atol=0.01, rtol=0)
    nerf("render", "runs/run", "--path", "interpolate", "--frames", 2, "--img_wh", 16, 16, "--num_gpus", 0)
    assert Path("runs/run/renders/interpolate.mp4").is_file()
