"""The COLMAP loader: models written by pycolmap, binary and text, with every lens, and all that may be wrong."""

import math
import struct
import sys
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from colmap_files import (
    FOCAL,
    PINHOLE,
    SIZE,
    N,
    picture,
    points,
    poses,
    write_blender,
    write_model,
    write_pictures,
    write_scene,
)
from PIL import Image

from nerf_pl.cameras import image_rays
from nerf_pl.errors import UserError
from nerf_pl.scenes import Request, available_splits, detect, load_scene, pictures
from nerf_pl.scenes.blender import load_blender
from nerf_pl.scenes.colmap import load_colmap
from nerf_pl.scenes.normalize import near_of


def load(root: Path, split: str = "train", **options):
    return load_colmap(root, Request(split, **{"test_every": 0, **options}))


def complaint(root: Path, *parts: str, **options) -> None:
    """Loading ends with one line that holds each of `parts`."""
    with pytest.raises(UserError) as caught:
        load(root, **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("place", ["sparse/0", "sparse", "colmap/sparse/0"])
def test_the_rays_are_those_of_the_same_scene_in_the_blender_layout(tmp_path, place, text):
    images = write_scene(tmp_path / "colmap", place, text=text)
    write_blender(tmp_path / "blender")
    ours = load(tmp_path / "colmap")
    other = load_blender(tmp_path / "blender", Request(scale=1.0))
    assert (ours.images.numpy() == np.stack(images)).all()
    assert ours.names == tuple(f"view_{i:02d}" for i in range(N))
    cameras = other.cameras  # one similarity takes its world to ours
    rotation = ours.cameras.c2w[0, :, :3] @ cameras.c2w[0, :, :3].T
    span = [c2w[5, :, 3] - c2w[0, :, 3] for c2w in (ours.cameras.c2w, cameras.c2w)]
    scale = span[0].norm() / span[1].norm()
    shift = ours.cameras.c2w[0, :, 3] - scale * rotation @ cameras.c2w[0, :, 3]
    assert torch.linalg.det(rotation) > 0
    for i in range(N):
        mine, theirs = image_rays(ours.cameras, i, 0.0, 1.0), image_rays(cameras, i, 0.0, 1.0)
        torch.testing.assert_close(mine.directions, theirs.directions @ rotation.T, atol=1e-5, rtol=0)
        torch.testing.assert_close(mine.origins, scale * theirs.origins @ rotation.T + shift, atol=1e-5, rtol=0)
    assert (ours.far, ours.background, ours.unbounded, ours.ndc) == (100.0, None, True, None)
    assert ours.aabb.tolist() == [[-1.0] * 3, [1.0] * 3]
    assert ours.cameras.sizes is None
    # half the depth of what stands closest to a camera, the nearest hundredth of its points left out
    axes, centres = -poses()[:, :, 2], poses()[:, :, 3]
    depths = [np.quantile((points() - centre) @ axis, 0.01) for centre, axis in zip(centres, axes, strict=True)]
    assert ours.near == pytest.approx(0.5 * min(depths) * scale.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("place", "photos"), [("distorted/sparse/0", "input"), ("colmap_sparse/0", "images"), ("colmap_text", "images")]
)
def test_models_where_scripts_of_other_programs_leave_them(tmp_path, place, photos):
    write_scene(tmp_path, place, folder=photos, text=place == "colmap_text")
    assert detect(tmp_path) == "colmap"
    assert len(load(tmp_path)) == N


def test_a_model_without_points_has_a_near_bound_too(tmp_path):
    write_scene(tmp_path, xyz=np.zeros((0, 3)))
    assert load(tmp_path).near == pytest.approx(near_of(load(tmp_path).cameras.c2w), rel=0.02)


def test_points_that_views_name_may_be_gone(tmp_path):
    write_scene(tmp_path, text=True)
    (tmp_path / "sparse" / "0" / "points3D.txt").write_text("# none\n")
    assert load(tmp_path).near == pytest.approx(near_of(load(tmp_path).cameras.c2w), rel=0.02)


def test_splits(tmp_path):
    write_scene(tmp_path)
    assert detect(tmp_path) == "colmap"
    assert available_splits(tmp_path) == ("train", "val", "test")
    assert load_scene(tmp_path, Request("test", test_every=4)).names == ("view_00", "view_04", "view_08")
    train = load_scene(tmp_path, Request("train", test_every=4), "colmap")
    assert len(train) == 7
    # all splits live in one world
    torch.testing.assert_close(train.cameras.c2w[0], load(tmp_path).cameras.c2w[1])
    complaint(tmp_path, "10 photos, none of them for test", split="test")


def test_the_model_with_most_photos_is_taken(tmp_path, capsys):
    write_scene(tmp_path, "sparse/1")
    write_model(tmp_path / "sparse" / "0", poses()[:4])
    write_model(tmp_path / "sparse" / "2", poses()[:6])
    assert len(load(tmp_path)) == N
    load(tmp_path)
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1  # not once for each split
    assert "3 models" in told[0]
    assert f"{tmp_path / 'sparse' / '1'} is taken, with 10 photos (0: 4, 2: 6)" in told[0]


def test_a_model_in_both_formats_is_said(tmp_path, capsys):
    write_scene(tmp_path)
    load(tmp_path)
    assert capsys.readouterr().err == ""
    write_model(tmp_path / "other", poses()[:5], text=True)
    for file in (tmp_path / "other").iterdir():
        file.rename(tmp_path / "sparse" / "0" / file.name)
    assert len(load(tmp_path)) == N
    assert f"{tmp_path / 'sparse' / '0'} has the model twice, as .bin and as .txt" in capsys.readouterr().err


LENSES = {
    "SIMPLE_RADIAL": [60.0, 40.0, 30.0, -0.15],
    "RADIAL": [60.0, 40.0, 30.0, 0.1, 0.05],
    "OPENCV": [60.0, 58.0, 39.0, 31.0, -0.1, 0.05, 0.005, -0.004],
    "FULL_OPENCV": [60.0, 58.0, 39.0, 31.0, -0.1, 0.05, 0.005, -0.004, 0.01, 0.02, 0.01, 0.0],
    "OPENCV_FISHEYE": [60.0, 58.0, 39.0, 31.0, 0.02, -0.01, 0.0, 0.0],
    "SIMPLE_FISHEYE": [60.0, 40.0, 30.0],
    "FOV": [60.0, 58.0, 39.0, 31.0, 0.6],
    "THIN_PRISM_FISHEYE": [60.0, 58.0, 39.0, 31.0, 0.02, -0.01, 0.001, 0.001, 0.0, 0.0, 0.002, 0.001],
}


def wallpaper(xy: np.ndarray) -> np.ndarray:
    """A smooth pattern of the direction (x / z, y / z) that a pixel sees, 0 to 255."""
    x, y = xy[..., 0], xy[..., 1]
    waves = [np.sin(5 * x + 1), np.cos(4 * y), np.sin(3 * (x + y))]
    return 127.5 + 110 * np.stack(waves, -1)


def centres(width: int, height: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1)


@pytest.mark.parametrize("downscale", [1, 2])
@pytest.mark.parametrize("kind", LENSES)
def test_every_lens_is_undone(tmp_path, kind, downscale):
    size = (80, 60)
    camera = pycolmap.Camera(model=kind, width=size[0], height=size[1], params=LENSES[kind])
    seen = camera.cam_from_img(centres(*size).reshape(-1, 2)).reshape(size[1], size[0], 2)
    photo = np.round(wallpaper(seen)).astype(np.uint8)
    write_model(tmp_path / "sparse" / "0", poses(4), [(kind, LENSES[kind], size)])
    write_pictures(tmp_path / "images", [photo] * 4)
    scene = load(tmp_path, downscale=downscale)
    assert scene.images.shape[1:3] == (size[1] // downscale, size[0] // downscale)
    K = scene.cameras.K[1].double().numpy()
    xy = (centres(size[0] // downscale, size[1] // downscale) - K[:2, 2]) / K[[0, 1], [0, 1]]
    wrong = np.abs(scene.images[1].numpy() - wallpaper(xy))
    assert wrong.mean() < 1
    assert wrong[2:-2, 2:-2].max() < 4  # at the border there is nothing beyond to weigh with
    straight = np.abs(wallpaper(xy) - photo[::downscale, ::downscale])
    assert straight.max() > 10  # the lens makes a difference


def test_a_camera_that_sees_all_around_is_named(tmp_path):
    write_scene(tmp_path, cameras=[("EQUIRECTANGULAR", [24.0, 16.0], SIZE)])
    complaint(tmp_path, "camera 1", "EQUIRECTANGULAR", "perspective")


def test_a_lens_that_leaves_nothing_is_named(tmp_path):
    write_scene(tmp_path, cameras=[("SIMPLE_RADIAL", [20.0, 12.0, 8.0, 200.0], SIZE)])
    complaint(tmp_path, "camera 1", "SIMPLE_RADIAL", "distortion")


def test_cameras_of_several_sizes(tmp_path):
    portrait = ("SIMPLE_PINHOLE", [18.0, 8.0, 12.0], (16, 24))
    images = write_scene(tmp_path, cameras=[(*PINHOLE, SIZE), portrait])
    scene = load(tmp_path)
    assert (scene.cameras.width, scene.cameras.height) == (24, 24)
    assert [scene.cameras.size(i) for i in range(3)] == [(24, 16), (16, 24), (24, 16)]
    assert scene.cameras.K[:2, 0].tolist() == [[FOCAL, 0, 12], [18, 0, 8]]
    for i in (0, 1):
        assert torch.equal((scene.image(i) * 255).round().byte(), torch.from_numpy(images[i]))
    half = load(tmp_path, downscale=2)
    assert [half.cameras.size(i) for i in (0, 1)] == [(12, 8), (8, 12)]
    torch.testing.assert_close(half.cameras.K[:, :2], scene.cameras.K[:, :2] / 2)
    complaint(tmp_path, "several sizes", "--downscale", img_wh=(12, 8))
    complaint(tmp_path, "--downscale 3 leaves 8x5 pixels of the 24x16 pictures", "give 2 or less", downscale=3)
    assert load(tmp_path, "test", test_every=2).cameras.sizes is None  # these are of one


def test_reduced_photos_are_used_if_they_have_the_right_size(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "SMALLEST", 4)
    write_scene(tmp_path)
    small = [picture(50 + i, (12, 8)) for i in range(N)]
    write_pictures(tmp_path / "images_2", small)
    write_pictures(tmp_path / "images_4", small)
    scene = load(tmp_path, downscale=2)
    assert (scene.images.numpy() == np.stack(small)).all()
    torch.testing.assert_close(scene.cameras.K[0], torch.tensor([[FOCAL / 2, 0, 6], [0, FOCAL / 2, 4], [0, 0, 1]]))
    whole = load(tmp_path)
    quarter = load(tmp_path, downscale=4)  # its folder has pictures of another size
    expected = Image.fromarray(whole.images[3].numpy()).resize((6, 4), Image.Resampling.LANCZOS)
    assert (quarter.images[3].numpy() == np.asarray(expected)).all()
    assert torch.equal(load(tmp_path, img_wh=(6, 4)).images, quarter.images)
    (tmp_path / "images_2" / "view_00.png").unlink()
    assert not torch.equal(load(tmp_path, downscale=2).images[1], scene.images[1])  # from the whole set, then
    for file in (tmp_path / "images").iterdir():
        file.unlink()
    assert len(load(tmp_path, downscale=2)) == N - 1  # better than nothing


def test_photos_smaller_than_the_model_has_them(tmp_path):
    write_scene(tmp_path)
    small = [picture(50 + i, (12, 8)) for i in range(N)]
    write_pictures(tmp_path / "images", small)
    scene = load(tmp_path)
    assert (scene.images.numpy() == np.stack(small)).all()
    assert scene.cameras.K[0, 0].tolist() == [FOCAL / 2, 0, 6]
    Image.fromarray(picture(0, (12, 12))).save(tmp_path / "images" / "view_07.png")
    complaint(tmp_path, "view_07.png has 12x12 pixels", "24x16")


@pytest.mark.parametrize("turned", [False, True])
def test_photos_are_taken_as_stored_unless_only_the_turned_ones_fit(tmp_path, turned):
    size = (16, 24) if turned else SIZE
    write_model(tmp_path / "sparse" / "0", poses(), [("SIMPLE_PINHOLE", [20.0, size[0] / 2, size[1] / 2], size)])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    images = [picture(i) for i in range(N)]
    write_pictures(tmp_path / "images", images, exif=exif)
    expected = np.stack([np.rot90(image, -1) if turned else image for image in images])
    assert (load(tmp_path).images.numpy() == expected).all()


def test_transparent_photos(tmp_path):
    write_model(tmp_path / "sparse", poses())
    write_pictures(tmp_path / "images", [picture(i, channels=4) for i in range(N)])
    scene = load(tmp_path)
    assert (scene.images.shape[-1], scene.background) == (4, (1.0, 1.0, 1.0))


def test_missing_photos_are_left_out_with_one_line(tmp_path, capsys):
    images = write_scene(tmp_path)
    for i in (2, 3, 5, 7):
        (tmp_path / "images" / f"view_{i:02d}.png").unlink()
    scene = load(tmp_path)
    assert scene.names == tuple(f"view_{i:02d}" for i in (0, 1, 4, 6, 8, 9))
    assert (scene.images[2].numpy() == images[4]).all()
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "4 of 10 photos" in told[0]
    assert "view_02.png, view_03.png, view_05.png, ..." in told[0]
    for file in (tmp_path / "images").iterdir():
        file.unlink()
    complaint(tmp_path, "none of the 10 photos", str(tmp_path / "images"), "view_00.png")
    write_pictures(tmp_path / "images_4", [picture(i) for i in range(N - 1)])
    (tmp_path / "images_252x189").mkdir()
    with pytest.raises(UserError, match=r"copy them there$"):  # one is missing
        load(tmp_path)
    write_pictures(tmp_path / "images_4", [picture(i) for i in range(N)])
    complaint(tmp_path, f"or give --downscale 4 for those in {tmp_path / 'images_4'}")


def test_photos_in_folders_keep_distinct_names(tmp_path):
    write_model(tmp_path / "sparse" / "0", poses(2), name=lambda i: f"cam{i}/0001.png")
    for i in range(2):
        write_pictures(tmp_path / "images" / f"cam{i}", [])
        Image.fromarray(picture(i)).save(tmp_path / "images" / f"cam{i}" / "0001.png")
    assert load(tmp_path).names == ("cam0_0001", "cam1_0001")


def test_pycolmap_is_named_where_it_is_missing(tmp_path, monkeypatch):
    write_scene(tmp_path)
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    complaint(tmp_path, str(tmp_path), 'pip install "nerf_pl[colmap]"')


def test_folders_without_a_model(tmp_path):
    complaint(tmp_path, "has no COLMAP model", "sparse/0")
    write_model(tmp_path / "sparse" / "0", poses()[:0])
    complaint(tmp_path, "without a single placed photo")


@pytest.mark.parametrize("keep", [0.1, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("file", ["points3D.bin", "images.bin", "frames.bin", "rigs.bin", "cameras.bin"])
def test_models_that_are_cut_short(tmp_path, file, keep):
    """COLMAP reads garbage from some of them, and others for ever."""
    write_scene(tmp_path)
    path = tmp_path / "sparse" / "0" / file
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    complaint(tmp_path, str(path), "cut short")


def test_damaged_models(tmp_path):
    write_scene(tmp_path)
    folder = tmp_path / "sparse" / "0"
    (folder / "images.bin").write_bytes(b"\xff" * 200)
    complaint(tmp_path, f"{folder / 'images.bin'} is damaged")
    (folder / "points3D.bin").unlink()
    complaint(tmp_path, f"{folder} has no points3D.bin")


def test_a_damaged_photo_is_named(tmp_path):
    write_scene(tmp_path)
    (tmp_path / "images" / "view_03.png").write_bytes(b"")
    complaint(tmp_path, "view_03.png is not a readable picture")


@pytest.mark.parametrize(("place", "value"), [(12, math.nan), (44, math.nan), (52, math.inf), (52, 1e300)])
def test_poses_that_are_not_finite(tmp_path, place, value):
    """The first photo's rotation and position, in the binary file of the photos."""
    write_scene(tmp_path, "sparse/0")
    for name in ("frames", "rigs"):  # of newer versions, which have the poses once more
        (tmp_path / "sparse" / "0" / f"{name}.bin").unlink(missing_ok=True)
    file = tmp_path / "sparse" / "0" / "images.bin"
    content = bytearray(file.read_bytes())
    struct.pack_into("<d", content, place, value)
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"the pose of view_00\.png in the model is no rotation, it is not finite"):
        load(tmp_path)


def test_a_focal_length_that_cannot_be(tmp_path):
    write_scene(tmp_path, "sparse/0", cameras=(("PINHOLE", [-20.0, 20.0, 12.0, 8.0], SIZE),))
    with pytest.raises(UserError, match=r"camera 1 of the model .* has the focal length -20"):
        load(tmp_path)
