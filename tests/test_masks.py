"""A folder of masks beside the photos of a COLMAP model or of an LLFF scene; masks in the fit of the hull."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from llff_files import around, facing, write_scene
from PIL import Image
from test_occupancy import BOX, SIZE, at, inside, kept, masks_of_a_ball
from test_occupancy import around as cameras_around

from nerf_pl.errors import UserError
from nerf_pl.methods.ngp.hull import scene_box, seen_cells
from nerf_pl.scenes import Request, Scene, load_scene, some_views


def write_llff(root: Path) -> None:
    write_scene(root, around())


def write_one_side(root: Path) -> None:
    write_scene(root, facing())


def write_colmap(root: Path) -> None:
    pytest.importorskip("pycolmap")
    import colmap_files

    colmap_files.write_scene(root)


def write_json(root: Path) -> None:
    """For comparison: masks by mask_path."""
    write_scene(root, around())
    frames = []
    for name, pose in zip(names_of(root), around().tolist(), strict=True):
        files = {"file_path": f"images/{name}", "mask_path": f"m/{name}.png"}
        frames.append({**files, "transform_matrix": [*pose, [0, 0, 0, 1]]})
    (root / "poses_bounds.npy").unlink()
    (root / "transforms.json").write_text(json.dumps({"fl_x": 30.0, "frames": frames}))


def names_of(root: Path) -> list[str]:
    return sorted(file.name for file in (root / "images").iterdir())


def mask(seed: int, size: tuple[int, int] = (24, 16)) -> np.ndarray:
    return (np.random.default_rng(seed).random((size[1], size[0])) < 0.6).astype(np.uint8) * (255 if seed else 1)


def write_masks(folder: Path, names: list[str], size: tuple[int, int] = (24, 16)) -> None:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask(i, size)).save(folder / name)


LAYOUTS = {"llff": write_llff, "one side": write_one_side, "colmap": write_colmap}
NAMES = {
    "colmap": lambda name: f"{name}.png",
    "stem": lambda name: str(Path(name).with_suffix(".png")),
    "other suffix": lambda name: str(Path(name).with_suffix(".BMP")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("naming", NAMES)
def test_they_are_found(tmp_path, capsys, layout, naming):
    LAYOUTS[layout](tmp_path)
    write_masks(tmp_path / "masks", [NAMES[naming](name) for name in names_of(tmp_path)])
    for split in ("train", "test"):
        scene = load_scene(tmp_path, Request(split))
        chosen = [i for i in range(10) if (i % 8 == 0) == (split == "test")]
        assert torch.equal(scene.masks, torch.stack([torch.from_numpy(mask(i)) > 0 for i in chosen]))
        assert torch.equal(scene.mask(0), scene.masks[0])
    assert "mask" not in capsys.readouterr().err
    assert load_scene(tmp_path, Request(pictures=False)).masks is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_photos_without_one_count_whole(tmp_path, capsys, layout):
    LAYOUTS[layout](tmp_path)
    names = names_of(tmp_path)
    write_masks(tmp_path / "masks", [f"{name}.png" for name in names[:8]])
    scenes = [load_scene(tmp_path, Request(split)) for split in ("train", "test")]
    assert scenes[0].masks[-1].all()
    assert not scenes[0].masks[0].all()
    told = [line for line in capsys.readouterr().err.splitlines() if "mask" in line]
    assert told == [f"{tmp_path / 'masks'}: 2 of 10 photos have no mask ({names[8]}, {names[9]}), and count whole"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_they_are_resized_with_the_photos_and_of_their_shape(tmp_path, layout):
    LAYOUTS[layout](tmp_path)
    write_masks(tmp_path / "masks", names_of(tmp_path), (48, 32))
    assert load_scene(tmp_path, Request(downscale=2)).masks.shape == (8, 8, 12)
    write_masks(tmp_path / "masks", names_of(tmp_path), (16, 16))
    with pytest.raises(UserError, match="is 16x16 but its picture 24x16: the two must have one aspect ratio"):
        load_scene(tmp_path, Request())


def test_smaller_photos_of_other_names_have_those_of_the_large_ones(tmp_path):
    write_scene(tmp_path, around(), folders=(1, 2))
    write_masks(tmp_path / "masks", names_of(tmp_path))
    assert load_scene(tmp_path, Request(downscale=2)).masks.shape == (8, 8, 12)


def test_subfolders_are_those_of_the_photos(tmp_path, capsys):
    colmap_files = pytest.importorskip("colmap_files")
    names = [f"{'ab'[i % 2]}/{i // 2}.png" for i in range(10)]  # a/0 and b/0 are two photos
    colmap_files.write_model(tmp_path / "sparse" / "0", colmap_files.poses(), name=lambda i: names[i])
    for i, name in enumerate(names):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colmap_files.picture(i)).save(tmp_path / "images" / name)
    write_masks(tmp_path / "masks", [f"{name}.png" for name in names])
    scene = load_scene(tmp_path, Request(test_every=0))
    wanted = torch.stack([torch.from_numpy(mask(names.index(name))) > 0 for name in sorted(names)])
    assert torch.equal(scene.masks, wanted)
    assert capsys.readouterr().err == ""


def test_they_go_through_the_lens_with_the_photos(tmp_path):
    colmap_files = pytest.importorskip("colmap_files")
    radial = ("SIMPLE_RADIAL", [10.0, 12.0, 8.0, 0.5], (24, 16))
    colmap_files.write_model(tmp_path / "sparse" / "0", colmap_files.poses(), cameras=[radial])
    left = np.zeros((16, 24), np.uint8)
    left[:, :6] = 255
    colmap_files.write_pictures(tmp_path / "images", [np.repeat(left[:, :, None], 3, 2)] * 10)
    colmap_files.write_pictures(tmp_path / "masks", [left] * 10)
    scene = load_scene(tmp_path, Request(background="none"))
    lit = scene.images[..., 0] > 127
    assert not torch.equal(lit[0], torch.from_numpy(left) > 127)  # the lens does something
    assert (scene.masks == lit).float().mean() > 0.95


def test_the_same_pixels_count_by_folder_and_by_mask_path(tmp_path):
    write_json(tmp_path / "json")
    write_llff(tmp_path / "llff")
    names = [f"{name}.png" for name in names_of(tmp_path / "llff")]
    write_masks(tmp_path / "json" / "m", names)
    write_masks(tmp_path / "llff" / "masks", names)
    scenes = [load_scene(tmp_path / name, Request(spheric=True)) for name in ("json", "llff")]
    assert torch.equal(scenes[0].masks, scenes[1].masks)


# ---- in the fit of the hull ------------------------------------------------------------------------------------------


def test_what_only_left_out_pixels_show_is_no_possible_cell():
    cameras = cameras_around(12, 4.0, 36.0, width=64, height=64)
    counted = masks_of_a_ball(cameras, 0.5)
    cells, points = seen_cells(cameras, None, BOX, SIZE, counted=counted), inside(50_000)
    assert at(cells, points[kept(cameras, counted, points)], BOX).all()
    assert at(cells, points, BOX).float().mean() < seen_cells(cameras, None, BOX, SIZE).float().mean()
    assert not seen_cells(cameras, None, BOX, SIZE, counted=torch.zeros_like(counted)).any()


def scene_of_a_ball(hide: bool) -> Scene:
    """Transparent pictures of a ball. In the half of the views a mask hides its lower half, which is transparent."""
    cameras = cameras_around(12, 4.0, 36.0, width=64, height=64)
    ball = masks_of_a_ball(cameras, 0.5)
    images = torch.zeros(12, 64, 64, 4, dtype=torch.uint8)
    masks = torch.ones(12, 64, 64, dtype=torch.bool)
    images[..., 3] = 255 * ball.byte()
    if hide:
        images[::2, 32:, :, 3] = 0
        masks[::2, 32:] = False
    return Scene(cameras, images, 2.0, 6.0, torch.tensor([[-1.5] * 3, [1.5] * 3]), masks=masks)


def test_hidden_pixels_carve_nothing():
    models = [tiny.make(tiny.config("ngp")) for _ in range(2)]
    for model, hide in zip(models, (False, True), strict=True):
        model.fit(scene_of_a_ball(hide))
    boxes = [model.occupancy.aabb for model in models]
    assert (boxes[1][0] <= boxes[0][0] + 1e-3).all()
    assert (boxes[1][1] >= boxes[0][1] - 1e-3).all()
    assert (boxes[0].abs() < 0.8).all()
    empty = replace(scene_of_a_ball(True), masks=torch.zeros(12, 64, 64, dtype=torch.bool))
    empty.masks[3] = True
    models[0].fit(empty)  # views without a pixel that counts are passed over


@pytest.mark.parametrize("hide", [False, True])
def test_a_picture_that_shows_nothing_carves_nothing(hide):
    """One that is broken would leave nothing of what all others show, and the training would learn nothing."""
    models = [tiny.make(tiny.config("ngp")) for _ in range(2)]
    whole = scene_of_a_ball(hide)
    broken = replace(whole, images=whole.images.clone())
    broken.images[4:6] = 0  # in one of them the mask hides a half
    others = some_views(whole, torch.tensor([i for i in range(12) if i not in (4, 5)]))
    for model, scene in zip(models, (broken, others), strict=True):
        model.fit(scene)
    grids = [model.occupancy for model in models]
    assert torch.equal(grids[0].aabb, grids[1].aabb)
    assert torch.equal(grids[0].possible, grids[1].possible)
    assert (grids[0].aabb.abs() < 0.8).all()


@pytest.mark.parametrize("colour", [255, 0])
def test_the_box_of_an_object_in_front_of_a_plain_colour(colour):
    """It is not as tight as with alpha, but holds a part that has the colour of the background in some views."""
    clear = scene_of_a_ball(False)
    ball = clear.images[..., 3:] > 0
    images = torch.where(ball, torch.tensor(128, dtype=torch.uint8), torch.tensor(colour, dtype=torch.uint8))
    images = images.repeat(1, 1, 1, 3)
    images[:2, 32:] = colour
    scene = replace(clear, images=images, masks=None, plain=True, background=(colour / 255,) * 3)
    model = tiny.make(tiny.config("ngp"))
    model.fit(scene)
    assert (model.occupancy.aabb[0] <= -0.5).all()
    assert (model.occupancy.aabb[1] >= 0.5).all()
    assert (model.occupancy.aabb[1] - model.occupancy.aabb[0]).prod() < 0.4 * 3**3
    blank = replace(scene, images=torch.full_like(images, colour))
    model.fit(blank)
    assert torch.equal(model.occupancy.aabb, scene.aabb)


def test_an_object_that_nothing_tells_from_its_background_keeps_the_box():
    cameras = cameras_around(4, 4.0, 36.0, width=64, height=64)
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    assert torch.equal(scene_box(cameras, torch.zeros(4, 64, 64, dtype=torch.bool), box, SIZE, vague=True), box)


NAMED = ["{}_mask.png", "mask_{}.png", "{}.mask.png", "MASK-{}.PNG", "{}_segmentation.png", "{}_alpha.tif"]


@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize("write", [write_llff, write_colmap])
def test_masks_whose_names_say_that_they_are_masks(tmp_path, capsys, write, named):
    write(tmp_path)
    stems = [Path(name).stem for name in names_of(tmp_path)]
    write_masks(tmp_path / "masks", [f"{stem}.png" for stem in stems])
    usual = load_scene(tmp_path).masks
    for stem in stems:
        file = tmp_path / "masks" / f"{stem}.png"
        Image.open(file).save(tmp_path / "masks" / named.format(stem))
        file.unlink()
    masks = load_scene(tmp_path).masks
    assert masks is not None
    assert usual is not None
    assert (masks == usual).all()
    assert f"such as {named.format(stems[0])}" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["mask", "Masks"])
@pytest.mark.parametrize("write", [write_llff, write_colmap])
def test_the_folder_of_masks_in_other_letters(tmp_path, write, folder):
    write(tmp_path)
    write_masks(tmp_path / folder, names_of(tmp_path))
    assert load_scene(tmp_path).masks is not None


def test_masks_that_a_json_file_does_not_name_are_said(tmp_path, capsys):
    write_json(tmp_path)
    values = json.loads((tmp_path / "transforms.json").read_text())
    for frame in values["frames"]:
        del frame["mask_path"]
    (tmp_path / "transforms.json").write_text(json.dumps(values))
    load_scene(tmp_path)
    assert "mask" not in capsys.readouterr().err
    write_masks(tmp_path / "masks", names_of(tmp_path))
    assert load_scene(tmp_path).masks is None
    assert f"no frame has a mask_path, so the pictures in {tmp_path / 'masks'} are not used" in capsys.readouterr().err


def test_the_noise_of_a_jpeg_and_what_is_transparent_do_not_count(tmp_path):
    write_llff(tmp_path)
    half = np.zeros((16, 24), np.uint8)
    half[:, 13:] = 255
    for name in names_of(tmp_path):
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(half).save(tmp_path / "masks" / f"{Path(name).stem}.jpg", quality=60)
    as_jpeg = load_scene(tmp_path).masks
    for name in names_of(tmp_path):
        file = tmp_path / "masks" / f"{Path(name).stem}.jpg"
        file.unlink()
        Image.merge("LA", [Image.new("L", (24, 16), 255), Image.fromarray(half)]).save(file.with_suffix(".png"))
    as_alpha = load_scene(tmp_path).masks
    assert as_jpeg is not None
    assert as_alpha is not None
    assert (as_jpeg == torch.from_numpy(half > 0)).all()
    assert (as_alpha == as_jpeg).all()
