"""transforms.json: an analytic world, photographed in every way that the format knows, comes back ray by ray."""

import json
import math

import numpy as np
import pytest
import torch
from photo_world import LENS, K, check_world, edit, poses, read, write
from PIL import Image

from nerf_pl.errors import UserError
from nerf_pl.scenes import Request, Scene, available_splits, detect, load_scene
from nerf_pl.scenes.normalize import near_of, normalize_poses
from nerf_pl.scenes.transforms import load_transforms

WAYS: dict[str, tuple[dict, list[dict], dict]] = {
    "pinhole": (K, [{}] * 5, {}),
    "lens": ({**K, **LENS}, [{}] * 5, {}),
    "tangential": ({**K, "p1": 0.02, "p2": -0.03}, [{}] * 3, {}),
    "high order": ({**K, "k3": 4.0, "k4": 3.0}, [{}] * 3, {}),
    "fisheye": ({**K, "k1": 0.1, "k2": -0.02, "is_fisheye": True}, [{}] * 3, {}),
    "fisheye by name": ({**K, "k1": 0.3, "k3": 0.05, "camera_model": "OPENCV_FISHEYE"}, [{}] * 3, {}),
    "per frame": ({}, [{**K, "fl_x": 55.0 + 5 * i, "cx": 22.0 + i, "k1": 0.1 * i} for i in range(3)], {}),
    "frame over shared": ({**K, **LENS}, [{}, {"fl_x": 90.0}, {"k1": -0.2, "p1": 0.0}], {}),
    "mixed sizes": ({**K, **LENS}, [{}, {"w": 36, "h": 48, "cx": 17.0, "cy": 25.0}, {"w": 40, "h": 30, "cy": 15}], {}),
    "another resolution": (
        {**K, **LENS},
        [{}] * 3,
        {"w": 480, "h": 360, "fl_x": 600.0, "fl_y": 620.0, "cx": 253.0, "cy": 171.0},
    ),
    "angles": (
        {**K, "cx": 24.0, "cy": 18.0},
        [{}] * 3,
        {
            **dict.fromkeys(["fl_x", "fl_y", "cx", "cy", "w", "h"]),
            "camera_angle_x": 2 * math.atan(24 / 60),
            "camera_angle_y": 2 * math.atan(18 / 62),
        },
    ),
    "one angle": (
        {**K, "fl_y": 60.0},
        [{}] * 3,
        {"fl_x": None, "fl_y": None, "camera_angle_x": 2 * math.atan(24 / 60)},
    ),
    "focal length over angles": (K, [{}] * 3, {"camera_angle_x": 0.1, "camera_angle_y": 3.0}),
}


@pytest.mark.parametrize("way", WAYS)
def test_views_agree_with_the_world(tmp_path, way):
    shared, frames, told = WAYS[way]
    c2w = write(tmp_path, shared, frames, told)
    scene = load_transforms(tmp_path, Request("train", test_every=0))
    assert len(scene) == len(frames)
    assert scene.cameras.pixel_offset == 0.5
    for index, frame in enumerate(frames):
        size = {**shared, **frame}
        assert scene.cameras.size(index) == (size["w"], size["h"])
    check_world(scene, c2w)


@pytest.mark.parametrize("way", ["lens", "mixed sizes"])
def test_smaller_views_agree_with_the_world(tmp_path, way):
    shared, frames, told = WAYS[way]
    c2w = write(tmp_path, shared, frames, told)
    scene = load_transforms(tmp_path, Request("train", downscale=2, test_every=0))
    assert scene.cameras.size(0) == (24, 18)
    check_world(scene, c2w, 6.0)  # a pixel now is the mean of four


def test_one_size_may_be_asked_for(tmp_path):
    c2w = write(tmp_path, {**K, **LENS}, [{}] * 2)
    scene = load_transforms(tmp_path, Request("train", img_wh=(32, 24), test_every=0))
    assert scene.images.shape == (2, 24, 32, 3)
    check_world(scene, c2w, 6.0)


@pytest.mark.parametrize(("told", "turned"), [({}, True), ({"w": 36, "h": 48}, True), ({"w": 48, "h": 36}, False)])
def test_exif_turns(tmp_path, told, turned):
    """Photos stored on their side: upright, unless w and h say that the poses belong to them as they are stored."""
    seen = {**K, "w": 36, "h": 48, "cx": 17.0, "cy": 25.0} if turned else K
    c2w = write(tmp_path, seen, [{}] * 2)
    for file in (tmp_path / "images").iterdir():
        exif = Image.Exif()
        exif[0x0112] = 6  # to be shown turned clockwise by a quarter
        with Image.open(file) as picture:
            stored = picture.rotate(90, expand=True) if turned else picture.copy()
        assert stored.size == (48, 36)
        stored.save(file, exif=exif)
    edit(tmp_path, {**read(tmp_path), "w": None, "h": None, **told})
    scene = load_transforms(tmp_path, Request("train", test_every=0))
    assert scene.cameras.size(0) == ((36, 48) if turned else (48, 36))
    check_world(scene, c2w)


def test_masks_follow_their_pictures(tmp_path):
    """Pictures of two colours and masks of the same shapes, larger, go through the lens together."""
    frames = [{}, {}, {"w": 36, "h": 48, "cx": 17.0, "cy": 25.0}]
    write(tmp_path, {**K, **LENS, "k1": 0.5}, frames)
    values = read(tmp_path)
    (tmp_path / "masks").mkdir()
    for i in (0, 2):
        with Image.open(tmp_path / "images" / f"{i:03}.png") as picture:
            green = np.asarray(picture)[..., 1] > 120
        Image.fromarray(green.astype(np.uint8) * 255).convert("RGB").save(tmp_path / "images" / f"{i:03}.png")
        mask = np.kron(green, np.ones((2, 2))).astype(np.uint8) * (255 if i else 1)  # any value but 0 counts
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
        values["frames"][i]["mask_path"] = f"masks/{i}.png"
    edit(tmp_path, values)
    scene = load_transforms(tmp_path, Request("train", test_every=0))
    assert scene.masks is not None
    assert (scene.masks.dtype, scene.masks.shape) == (torch.bool, scene.images.shape[:3])
    for i in (0, 2):
        mask, white = scene.mask(i), scene.image(i)[..., 0]
        assert mask is not None
        clear = (white - 0.5).abs() > 0.35
        assert clear.float().mean() > 0.8
        assert 0.1 < mask.float().mean() < 0.9
        assert (mask == (white > 0.5))[clear].all()
    assert scene.masks[1, :36].all()
    assert not scene.masks[1, 36:].any()  # beyond the picture
    assert load_transforms(tmp_path, Request("test", test_every=2)).masks is not None


def test_what_moves_does_not_count(tmp_path):
    """Instant-NGP's dynamic masks, which are not black where they hide, beside those that are where they hide."""
    write(tmp_path, K, [{}] * 3)
    values = read(tmp_path)
    hides, shows = np.zeros((36, 48), np.uint8), np.zeros((36, 48), np.uint8)
    hides[:, :20], shows[:30] = 1, 255
    Image.fromarray(hides).save(tmp_path / "images" / "dynamic_mask_000.png")
    Image.fromarray(hides).save(tmp_path / "images" / "dynamic_mask_001.png")
    Image.fromarray(shows).save(tmp_path / "shows.png")
    values["frames"][1]["mask_path"] = "shows.png"
    edit(tmp_path, values)
    scene = load_transforms(tmp_path, Request("train", test_every=0))
    assert len(scene) == 3
    assert scene.masks is not None
    assert (scene.masks[0].numpy() == (hides == 0)).all()
    assert (scene.masks[1].numpy() == ((hides == 0) & (shows > 0))).all()
    assert scene.masks[2].all()


def test_the_same_scene_in_blender_layout(tmp_path):
    shared = {**K, "fl_y": 60.0, "cx": 24.0, "cy": 18.0}
    c2w = write(tmp_path / "a", shared, [{}] * 4)
    values = {**read(tmp_path / "a"), "camera_angle_x": 2 * math.atan(24 / 60)}
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "images").symlink_to(tmp_path / "a" / "images")
    (tmp_path / "b" / "transforms_train.json").write_text(json.dumps(values))
    ours, other = load_scene(tmp_path / "a", Request(test_every=0)), load_scene(tmp_path / "b", Request(scale=1.0))
    transform = normalize_poses(c2w)[1].float()
    scale = torch.linalg.det(transform[:3, :3]) ** (1 / 3)
    assert torch.equal(ours.images, other.images)
    for i in range(4):
        new, old = ours.view(i).rays(), other.view(i).rays()
        torch.testing.assert_close(new.origins, old.origins @ transform[:3, :3].T + transform[:3, 3])
        torch.testing.assert_close(new.directions, old.directions @ transform[:3, :3].T / scale)
    # in the unit cube the world stays as it is
    edit(tmp_path / "a", {**read(tmp_path / "a"), "aabb_scale": 1})
    new, old = load_scene(tmp_path / "a", Request(test_every=0)).view(1).rays(), other.view(1).rays()
    torch.testing.assert_close(new.origins, old.origins)
    torch.testing.assert_close(new.directions, old.directions)


@pytest.mark.parametrize("aabb_scale", [None, 2, 16.0])
def test_unbounded_scenes(tmp_path, aabb_scale):
    write(tmp_path, K, [{}] * 9, {"aabb_scale": aabb_scale})
    scenes = [load_transforms(tmp_path, Request(split)) for split in ("train", "test", "val")]
    for scene in scenes:
        assert scene.unbounded
        assert (scene.far, scene.background, scene.target) == (100.0, None, (0.0, 0.0, 0.0))
        assert scene.aabb.tolist() == [[-1.0] * 3, [1.0] * 3]
    poses = torch.cat([scene.cameras.c2w for scene in scenes[:2]])
    centres = poses[:, :, 3]
    assert scenes[0].near == pytest.approx(near_of(poses), rel=1e-3)
    assert centres.norm(dim=-1).quantile(0.9) == pytest.approx(1, abs=1e-4)


def test_a_distance_that_is_clear(tmp_path):
    """In the file's unit of length, which the cameras' normalisation changes."""
    write(tmp_path, K, [{}] * 9, {"clear_distance": 0.5})
    scene = load_transforms(tmp_path, Request("train"))
    unit = float(scene.frame[0, :3].norm())
    assert scene.near == pytest.approx(0.5 * unit)
    edit(tmp_path, {**read(tmp_path), "clear_distance": 1e-9})
    assert load_transforms(tmp_path, Request("train")).near == 0.02
    edit(tmp_path, {**read(tmp_path), "clear_distance": 100})
    with pytest.raises(UserError, match=r"clear_distance is 100, but what the cameras look at is 4.* away"):
        load_scene(tmp_path)
    edit(tmp_path, {**read(tmp_path), "clear_distance": -1})
    with pytest.raises(UserError, match="clear_distance is -1"):
        load_transforms(tmp_path, Request("train"))


def test_bounded_scenes(tmp_path):
    write(tmp_path, K, [{}] * 9, {"aabb_scale": 1, "scale": 0.1, "offset": [0.3, 0.4, 0.8]})
    scene = load_transforms(tmp_path, Request("train", test_every=0))
    assert not scene.unbounded
    torch.testing.assert_close(scene.aabb, torch.tensor([[-3.0, -4, -8], [7.0, 6, 2]]))
    assert scene.target == pytest.approx((2, 1, -3))
    check_box(scene)
    edit(tmp_path, {**read(tmp_path), "scale": None, "offset": None})
    scene = load_transforms(tmp_path, Request("train", test_every=0))
    torch.testing.assert_close(scene.aabb, torch.tensor([[-0.5] * 3, [0.5] * 3]) / 0.33)
    check_box(scene)


def check_box(scene: Scene) -> None:
    """What is in the box lies between near and far, and there is little to spare."""
    share = torch.cartesian_prod(*[torch.linspace(0, 1, 21)] * 3)
    points = scene.aabb[0] + share * (scene.aabb[1] - scene.aabb[0])
    distances = torch.cdist(scene.cameras.c2w[:, :, 3], points)
    assert scene.near == pytest.approx(max(distances.min().item(), 0.1), abs=0.05)
    assert scene.far == pytest.approx(distances.max().item(), abs=1e-4)


def test_splits_go_by_file_name(tmp_path):
    write(tmp_path, K, [{}] * 9)
    values = read(tmp_path)
    values["frames"].reverse()
    edit(tmp_path, values)
    assert load_transforms(tmp_path, Request("test")).names == ("000", "008")
    assert load_transforms(tmp_path, Request("val")).names == ("000", "008")
    assert load_transforms(tmp_path, Request()).names == tuple(f"{i:03}" for i in range(1, 8))
    assert load_transforms(tmp_path, Request("test", test_every=4)).names == ("000", "004", "008")
    assert len(load_transforms(tmp_path, Request("train", test_every=0))) == 9
    assert available_splits(tmp_path) == ("train", "val", "test")
    assert available_splits(tmp_path, test_every=0) == ("train",)


def test_splits_that_the_file_lists(tmp_path):
    write(tmp_path, K, [{}] * 6)
    values = read(tmp_path)
    lists = {
        "train_filenames": ["./images/004.png", "images/001", "images/000.png"],
        "test_filenames": ["images/003.png"],
    }
    edit(tmp_path, {**values, **lists})
    assert load_transforms(tmp_path, Request()).names == ("000", "001", "004")
    for split in ("val", "test"):
        assert load_transforms(tmp_path, Request(split)).names == ("003",)
    edit(tmp_path, {**values, **lists, "val_filenames": ["images/005.png", "images/002.png"]})
    assert load_transforms(tmp_path, Request("val")).names == ("002", "005")
    for wrong, told in (
        ("images/003.png", "list names of pictures"),
        (["images/9.png"], "none of the pictures in test_f"),
    ):
        edit(tmp_path, {**values, **lists, "test_filenames": wrong})
        with pytest.raises(UserError, match=told):
            load_transforms(tmp_path, Request("test"))


def test_pictures_by_stem_absolute_path_and_twin_names(tmp_path):
    write(tmp_path, K, [{}] * 4)
    values = read(tmp_path)
    (tmp_path / "more").mkdir()
    (tmp_path / "images" / "003.png").rename(tmp_path / "more" / "002.PNG")
    names = ["./images/000", str(tmp_path / "images" / "001.png"), ".\\images\\002.png", "more/002"]
    for frame, name in zip(values["frames"], names, strict=True):
        frame["file_path"] = name
    edit(tmp_path, {**values, "applied_transform": [[1, 2]], "ply_file_path": "sparse.ply"})
    scene = load_transforms(tmp_path, Request("train", test_every=0))
    assert scene.names == ("images_000", "images_001", "images_002", "more_002")
    check_world(scene, poses(4))


def test_pictures_with_alpha_keep_it(tmp_path):
    write(tmp_path, {**K, **LENS}, [{}] * 3)
    pixels = np.array(Image.open(tmp_path / "images" / "001.png").convert("RGBA"))
    pixels[:, :24, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "images" / "001.png")
    for split in ("train", "test"):  # the same in all splits, wherever the alpha is
        scene = load_transforms(tmp_path, Request(split, test_every=2))
        assert scene.images.shape[-1] == 4
        assert scene.background == (1.0, 1.0, 1.0)
    scene = load_transforms(tmp_path, Request("train", test_every=2))
    assert (scene.image(0)[:, :20] == 1).all()
    assert (scene.images[0, :, 30:, 3] == 255).all()


def test_layouts_are_told_apart(tmp_path):
    write(tmp_path, K, [{}] * 2)
    assert detect(tmp_path) == "transforms"
    assert len(load_scene(tmp_path, Request("train", test_every=2), "transforms")) == 1
    (tmp_path / "transforms_train.json").write_text("{}")
    assert detect(tmp_path) == "blender"


def test_fox(data_dir):
    root = data_dir / "fox"
    train, test = (load_scene(root, Request(split, downscale=8)) for split in ("train", "test"))
    assert (len(train), len(test)) == (43, 7)
    assert train.images.shape == (43, 240, 135, 3)
    assert test.names[:2] == ("0001", "0012")
    assert set(train.names).isdisjoint(test.names)
    assert (train.unbounded, train.background) == (True, None)
    # the lens asks for a little zoom, the principal point stays
    torch.testing.assert_close(train.cameras.K[0, :2, 2], torch.tensor([554.558, 965.268]) / 8)
    assert 1 < train.cameras.K[0, 0, 0] / (1375.52 / 8) < 1.03
    for scene in (train, test):
        c2w = scene.cameras.c2w
        centres, axes = c2w[:, :, 3], -c2w[:, :, 2]
        along = -(centres * axes).sum(-1)
        assert (along > 0).all()  # the fox is ahead of all cameras
        assert (centres + along[:, None] * axes).norm(dim=-1).max() < 0.25
        assert centres.norm(dim=-1).max() < 1.1
        assert c2w[:, 2, 1].mean() > 0.9  # upright
    # the photo itself, but for the zoom
    stored = Image.open(root / "images" / "0012.jpg").resize((135, 240), Image.Resampling.LANCZOS)
    difference = (test.images[1].float() - torch.from_numpy(np.array(stored)).float()).abs()
    assert 0.1 < difference.mean() < 6
