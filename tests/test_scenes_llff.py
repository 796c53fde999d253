"""The LLFF loader: poses, bounds and sizes of pictures, forward-facing and all around, on tiny scenes and on fern."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from llff_files import FOCAL, SIZE, around, facing, moved, picture, similarity, write_scene
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nerf_pl.errors import UserError
from nerf_pl.scenes import Request, Scene, available_splits, detect, load_scene, pictures
from nerf_pl.scenes.llff import load_llff
from nerf_pl.scenes.normalize import camera_focus, near_of


def splits(root: Path, **options) -> list[Scene]:
    return [load_llff(root, Request(split, **options)) for split in ("train", "test")]


def test_forward_facing_poses_are_recentred_and_scaled(tmp_path):
    c2w = facing()
    write_scene(tmp_path, c2w)
    assert detect(tmp_path) == "llff"
    scenes = splits(tmp_path, test_every=4)
    assert [len(scene) for scene in scenes] == [7, 3]
    order = [i for i in range(10) if i % 4] + [0, 4, 8]
    ours = torch.cat([scene.cameras.c2w for scene in scenes]).double()[torch.tensor(order).argsort()]
    assert ours.dtype == torch.float64
    assert scenes[0].cameras.c2w.dtype == torch.float32
    # one similarity takes the poses of the file to ours, and its scale takes the nearest bound, 20, to 4/3
    rotation = ours[0, :, :3] @ c2w[0, :, :3].T
    scale = 4 / 3 / 20
    shift = ours[0, :, 3] - scale * rotation @ c2w[0, :, 3]
    torch.testing.assert_close(ours, moved(c2w, scale, rotation, shift), atol=1e-6, rtol=0)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert torch.linalg.det(rotation) > 0
    # the middle of the cameras is the origin; they look along -z and are upright, on average
    torch.testing.assert_close(ours[:, :, 3].mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0)
    mean = torch.nn.functional.normalize(ours[:, :, 2].mean(0), dim=0)
    torch.testing.assert_close(mean, torch.tensor([0.0, 0, 1]).double(), atol=1e-6, rtol=0)
    assert abs(ours[:, 0, 1].mean()) < 1e-6
    assert ours[:, 1, 1].min() > 0.9
    for scene in scenes:
        assert (scene.near, scene.far, scene.background, scene.unbounded) == (0.0, 1.0, None, False)
        assert scene.ndc == pytest.approx((2 * FOCAL / 24, 2 * FOCAL / 16))
        assert scene.cameras.pixel_offset == 0.5
        torch.testing.assert_close(scene.cameras.K[1], torch.tensor([[FOCAL, 0, 12], [0, FOCAL, 8], [0, 0, 1]]))
        assert scene.target[:2] == (0, 0)
        assert -90 / 20 * 4 / 3 < scene.target[2] < -4 / 3  # between the bounds
    assert torch.equal(scenes[0].aabb, scenes[1].aabb)


def test_the_box_is_tight_around_all_rays(tmp_path):
    write_scene(tmp_path, facing())
    scenes = splits(tmp_path)
    low, high = scenes[0].aabb
    assert (low[2], high[2]) == (-1, 1)
    largest = torch.full((2, 2), -math.inf)
    for scene in scenes:
        for i in range(len(scene)):
            rays = scene.view(i).rays()
            for ends in (rays.origins, rays.origins + rays.far[:, None] * rays.directions):
                largest = torch.maximum(largest, torch.stack([-ends[:, :2].amin(0), ends[:, :2].amax(0)]))
    # a pixel short of it at most: rays pass a corner of their pixel, and none the picture's right and lower border
    short = torch.stack([-low[:2], high[:2]]) - largest
    assert short.min() > -1e-5
    assert (short < 2.5 * torch.tensor([2 / 24, 2 / 16])).all()


@pytest.mark.parametrize(
    ("options", "folder", "size"),
    [
        ({}, 1, (24, 16)),
        ({"downscale": 2}, 2, (12, 8)),
        ({"downscale": 4}, 4, (6, 4)),
        ({"downscale": 8}, 4, (3, 2)),  # the next larger ones are resized
        ({"downscale": 3}, 2, (8, 5)),
        ({"img_wh": (12, 8)}, 2, (12, 8)),
        ({"img_wh": (15, 10)}, 1, (15, 10)),
        ({"img_wh": (48, 32)}, 1, (48, 32)),
    ],
)
def test_pictures_come_from_the_fitting_folder(tmp_path, monkeypatch, options, folder, size):
    monkeypatch.setattr(pictures, "SMALLEST", 2)
    write_scene(tmp_path, facing(3), folders=(1, 2, 4))
    scene = load_llff(tmp_path, Request("train", test_every=2, **options))
    stored = Image.fromarray(picture(1 + 100 * folder, 24 // folder, 16 // folder))
    expected = stored if stored.size == size else stored.resize(size, Image.Resampling.LANCZOS)
    assert (scene.images[0].numpy() == np.asarray(expected)).all()
    assert scene.names == (("IMG_41.JPG",) if folder == 1 else ("image001",))
    assert (scene.cameras.width, scene.cameras.height) == size
    K = scene.cameras.K[0]
    focal = torch.tensor([FOCAL * size[0] / 24, FOCAL * size[1] / 16])
    torch.testing.assert_close(K[[0, 1], [0, 1]], focal)
    torch.testing.assert_close(K[:2, 2], torch.tensor([size[0] / 2, size[1] / 2]))
    assert scene.ndc == pytest.approx((2 * FOCAL / 24, 2 * FOCAL / 16))  # a field of view has no pixels


def test_resized_pictures_are_kept(tmp_path):
    """As long as their files stay the same, and whatever becomes of them."""
    write_scene(tmp_path, facing(4))
    folder, options = tmp_path / "images_15x10", {"test_every": 2, "img_wh": (15, 10)}
    load_llff(tmp_path, Request("train", test_every=2))
    assert not folder.exists()  # nothing was resized
    first = load_llff(tmp_path, Request("train", **options)).images
    kept = sorted(folder.iterdir())
    assert [file.name for file in kept] == ["IMG_41.JPG.png", "IMG_43.JPG.png"]

    def put(file: Path, value: int, source: str) -> None:
        note = PngInfo()
        note.add_text("nerf_pl source", source)
        Image.new("RGB", (15, 10), (value,) * 3).save(file, pnginfo=note)

    with Image.open(kept[0]) as stored:
        source = stored.info["nerf_pl source"]
    put(kept[0], 7, source)  # so that it can be told from its file
    again = load_llff(tmp_path, Request("train", **options)).images
    assert (again[0] == 7).all()
    assert torch.equal(again[1], first[1])
    for spoil in (
        lambda: put(kept[0], 7, "another picture"),
        lambda: kept[0].write_bytes(kept[0].read_bytes()[:60]),
        lambda: Image.new("RGB", (15, 10)).save(kept[0]),
        kept[0].unlink,
    ):
        spoil()
        assert torch.equal(load_llff(tmp_path, Request("train", **options)).images, first)
    other = Image.fromarray(picture(999))
    other.save(tmp_path / "images" / kept[0].name)
    changed = load_llff(tmp_path, Request("train", **options)).images
    assert (changed[0].numpy() == np.asarray(other.resize((15, 10), Image.Resampling.LANCZOS))).all()
    shutil.rmtree(folder)
    folder.write_text("in the way")
    assert torch.equal(load_llff(tmp_path, Request("train", **options)).images, changed)


def test_small_pictures_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "SMALLEST", 2)
    write_scene(tmp_path, facing(3), folders=(4,))
    for options in ({}, {"downscale": 4}, {"img_wh": (6, 4)}):
        scene = load_llff(tmp_path, Request("test", **options))
        assert (scene.images[0].numpy() == picture(400, 6, 4)).all()
        assert scene.cameras.K[0, 0, 0] == FOCAL / 4
    assert load_llff(tmp_path, Request("test", downscale=8)).images.shape == (1, 2, 3, 3)


def test_the_most_central_view_validates_in_the_classic_way(tmp_path):
    c2w = facing()
    write_scene(tmp_path, c2w)
    central = int((c2w[:, :, 3] - c2w[:, :, 3].mean(0)).norm(dim=-1).argmin())
    assert available_splits(tmp_path, test_every=0) == ("train", "val")
    assert load_scene(tmp_path, Request("val", test_every=0)).names == (f"IMG_{40 + central}.JPG",)
    others = tuple(f"IMG_{40 + i}.JPG" for i in range(10) if i != central)
    train = load_scene(tmp_path, Request("train", test_every=0))
    assert train.names == others
    assert torch.equal(train.aabb, load_scene(tmp_path).aabb)


def test_pictures_that_exif_turns(tmp_path):
    """Poses are of the pictures as stored, whatever EXIF says, unless only the turned ones have their shape."""
    for name, stored in (("as stored", SIZE), ("turned", SIZE[::-1])):
        root = tmp_path / name
        write_scene(root, facing(2))
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees clockwise
        pixels = picture(7, *stored)
        for path in (root / "images").iterdir():
            Image.fromarray(pixels).save(path, exif=exif)
        scene = load_llff(root, Request("test"))
        expected = pixels if stored == SIZE else np.rot90(pixels, -1)
        assert (scene.images[0].numpy() == expected).all()


def test_spheric_gives_the_rays_of_the_blender_layout(tmp_path):
    """The same views in both layouts: one similarity takes the rays of the one to those of the other."""
    c2w = around()
    write_scene(tmp_path / "llff", moved(c2w, *similarity(3)), bounds=(15.0, 400.0))
    frames = []
    for i, pose in enumerate(c2w.tolist()):
        (tmp_path / "blender").mkdir(exist_ok=True)
        Image.fromarray(picture(100 + i)).save(tmp_path / "blender" / f"{i}.png")
        frames.append({"file_path": f"{i}", "transform_matrix": [*pose, [0, 0, 0, 1]]})
    angle = 2 * math.atan(SIZE[0] / 2 / FOCAL)
    text = json.dumps({"camera_angle_x": angle, "frames": frames})
    (tmp_path / "blender" / "transforms_train.json").write_text(text)
    theirs = load_scene(tmp_path / "blender", Request(endless=False))
    ours = load_scene(tmp_path / "llff", Request("train", test_every=0, spheric=True))
    held = load_scene(tmp_path / "llff", Request("val", test_every=0, spheric=True))
    pairs = [(scene, k, int(name[4:6]) - 40) for scene in (ours, held) for k, name in enumerate(scene.names)]
    assert sorted(i for *_, i in pairs) == list(range(10))
    scale = float(1 / c2w[:, :, 3].norm(dim=1).quantile(0.9))  # the frame of all scenes without end
    rotation = ours.cameras.c2w[0, :, :3] @ theirs.cameras.c2w[pairs[0][2], :, :3].T
    shift = ours.cameras.c2w[0, :, 3] - scale * rotation @ theirs.cameras.c2w[pairs[0][2], :, 3]
    for scene, k, i in pairs:
        a, b = scene.view(k).rays(), theirs.view(i).rays()
        torch.testing.assert_close(a.directions, b.directions @ rotation.T, atol=1e-5, rtol=0)
        torch.testing.assert_close(a.origins, scale * b.origins @ rotation.T + shift, atol=1e-5, rtol=0)
        assert torch.equal(scene.images[k], theirs.images[i])
    # z is up as it was, and what the cameras look at is the origin
    torch.testing.assert_close(rotation[2], torch.tensor([0.0, 0, 1]), atol=0.1, rtol=0)
    assert camera_focus(torch.cat([s.cameras.c2w for s in (ours, held)])).norm() < 1e-3
    assert ours.target == (0, 0, 0)
    assert ours.ndc is None
    assert ours.unbounded
    assert ours.near == pytest.approx(near_of(torch.cat([ours.cameras.c2w, held.cameras.c2w])), rel=0.02)
    assert ours.far == 100
    assert ours.aabb.tolist() == held.aabb.tolist() == [[-1] * 3, [1] * 3]


@pytest.mark.parametrize("bounds", [(3.0, 6.0), (1e-3, 1e-2), (0.1, 500.0), (70.0, 1e6)])
def test_bounds_cut_nothing_of_photos_all_around(tmp_path, bounds):
    """Sane, tiny and huge ones: near is before all that a camera can show, and far behind it."""
    write_scene(tmp_path, around(), bounds=bounds)
    scene = load_llff(tmp_path, Request("train"))
    assert 0.1 <= scene.near <= 1 / 3 + 0.01  # of the cameras' distance from what they surround
    assert scene.far == 100


def test_photos_all_around_have_one_frame_in_every_layout(tmp_path):
    """So that training on them depends neither on the layout nor on the file's unit of length."""
    c2w = around()
    for name, unit in (("small", 0.01), ("large", 300.0)):
        write_scene(tmp_path / name, torch.cat([c2w[:, :, :3], c2w[:, :, 3:] * unit], -1), bounds=(1e-4, 1e5))
    (tmp_path / "json").mkdir()
    frames = []
    for i, pose in enumerate(c2w.tolist()):
        Image.fromarray(picture(i)).save(tmp_path / "json" / f"{i}.png")
        frames.append({"file_path": f"{i}.png", "transform_matrix": [*pose, [0, 0, 0, 1]]})
    facts = {"fl_x": FOCAL, "w": SIZE[0], "h": SIZE[1], "aabb_scale": 16, "frames": frames}
    (tmp_path / "json" / "transforms.json").write_text(json.dumps(facts))
    first, *others = (load_scene(tmp_path / name, Request("train")) for name in ("json", "small", "large"))
    for other in others:
        torch.testing.assert_close(other.cameras.c2w, first.cameras.c2w, atol=1e-5, rtol=0)
        torch.testing.assert_close(other.cameras.K, first.cameras.K)
        assert (other.far, other.unbounded) == (first.far, True)
        assert other.near <= first.near
        assert torch.equal(other.aabb, first.aabb)


def test_tight_bounds_are_those_of_the_file(tmp_path):
    """For a method that samples all of the way between them; far is at most 8 near."""
    for bounds, ratio in (((3.0, 6.0), 2.3), ((3.0, 600.0), 8)):  # the bounds of the last view are 0.9 more
        write_scene(tmp_path / str(ratio), around(), bounds=bounds)
        scene = load_llff(tmp_path / str(ratio), Request("train", tight=True))
        assert scene.far / scene.near == pytest.approx(ratio)
        distance = scene.cameras.c2w[:, :, 3].norm(dim=1).mean() / around()[:, :, 3].norm(dim=1).mean()
        assert scene.near == pytest.approx(3 * float(distance), rel=0.02)


def test_the_views_tell_whether_they_surround_the_scene(tmp_path, capsys):
    """The option still decides where it is given."""
    for name, poses, is_around in (("around", around(), True), ("facing", facing(), False)):
        write_scene(tmp_path / name, poses)
        assert load_llff(tmp_path / name, Request()).unbounded == is_around
        told = capsys.readouterr().err
        assert ("look in several directions, so they are taken to surround the scene" in told) == is_around
    assert load_llff(tmp_path / "facing", Request(spheric=True)).unbounded
    assert not capsys.readouterr().err
    with pytest.raises(UserError, match="leave out --no_spheric"):
        load_llff(tmp_path / "around", Request(spheric=False))


def test_photos_all_around_with_a_model_are_read_from_it(tmp_path):
    """Sets such as those of mip-NeRF 360 come in both layouts, and forward-facing ones with the model beside them."""
    write_scene(tmp_path / "around", around())
    write_scene(tmp_path / "facing", facing())
    for name, found in (("around", "colmap"), ("facing", "llff")):
        assert detect(tmp_path / name) == "llff"
        (tmp_path / name / "sparse" / "0").mkdir(parents=True)
        for part in ("cameras", "images", "points3D"):
            (tmp_path / name / "sparse" / "0" / f"{part}.bin").write_bytes(b"")
        assert detect(tmp_path / name) == found
    assert detect(tmp_path / "around", spheric=True) == "llff"
