"""Opaque pictures with a plain background behind the object: recognised, said, and trained in front of that colour."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from llff_files import around, facing, write_scene
from PIL import Image, ImageDraw

from nerf_pl.checkpoints import load_training
from nerf_pl.errors import UserError
from nerf_pl.methods import from_dict
from nerf_pl.options import to_dict
from nerf_pl.scenes import LOADERS, Request, Scene, load_scene

SIZE = (48, 32)
COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 130, 126)}


def thing(seed: int, background: tuple[int, ...], size: tuple[int, int] = SIZE) -> Image.Image:
    """A noisy object of several shapes, in the middle."""
    rng = np.random.default_rng(seed)
    width, height = size
    noise = Image.fromarray(rng.integers(20, 230, (height, width, 3), np.uint8)).convert("RGBA")
    shape = Image.new("L", size)
    x, y = rng.uniform(0.2, 0.35, 2) * size
    ImageDraw.Draw(shape).ellipse((x, y, x + 0.4 * width, y + 0.4 * height), fill=255)
    picture = Image.new("RGBA", size, background if len(background) == 4 else (*background, 255))
    picture.paste(noise, (0, 0), shape)
    return picture if len(background) == 4 else picture.convert("RGB")


def write_json(root: Path, pictures: list[Image.Image], **values: object) -> None:
    write_frames(root, pictures, "transforms.json", {"fl_x": 60.0, **values})


def write_blender(root: Path, pictures: list[Image.Image]) -> None:
    for split in ("train", "test"):
        write_frames(root, pictures, f"transforms_{split}.json", {"camera_angle_x": 0.7})


def write_frames(root: Path, pictures: list[Image.Image], name: str, values: dict[str, object]) -> None:
    root.mkdir(exist_ok=True)
    frames = []
    for i, (picture, pose) in enumerate(zip(pictures, around(len(pictures)).tolist(), strict=True)):
        picture.save(root / f"{i:02d}.png")
        frames.append({"file_path": f"{i:02d}.png", "transform_matrix": [*pose, [0, 0, 0, 1]]})
    (root / name).write_text(json.dumps({**values, "frames": frames}))


def write_llff(root: Path, pictures: list[Image.Image]) -> None:
    write_scene(root, around(len(pictures)))
    overwrite(root / "images", pictures)


def write_colmap(root: Path, pictures: list[Image.Image]) -> None:
    pytest.importorskip("pycolmap")
    import colmap_files

    colmap_files.write_scene(root, n=len(pictures))
    overwrite(root / "images", pictures)


def overwrite(folder: Path, pictures: list[Image.Image]) -> None:
    for file, picture in zip(sorted(folder.iterdir()), pictures, strict=True):
        with Image.open(file) as stored:
            size = stored.size
        picture.resize(size, Image.Resampling.NEAREST).save(file)


LAYOUTS = {
    "blender": write_blender, "transforms": write_json, "llff": write_llff, "colmap": write_colmap,
    "unit cube": lambda root, pictures: write_json(root, pictures, aabb_scale=1),
}  # fmt: skip


def things(background: tuple[int, ...], n: int = 10) -> list[Image.Image]:
    return [thing(i, background) for i in range(n)]


def as_jpeg(picture: Image.Image, quality: int = 70) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=quality)
    return Image.open(file)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("colour", COLOURS)
def test_it_is_recognised_and_said(tmp_path, capsys, layout, colour):
    """The scene has the bounds that it has with transparent pictures."""
    LAYOUTS[layout](tmp_path / "plain", things(COLOURS[colour]))
    LAYOUTS[layout](tmp_path / "clear", things((0, 0, 0, 0)))
    plain, clear = (load_scene(tmp_path / name, Request()) for name in ("plain", "clear"))
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith(str(tmp_path / "plain"))]
    told = [line for line in told if "plain background" in line]
    assert len(told) == 1
    assert (colour if colour != "grey" else "0.502 0.5098 0.4941") in told[0]
    assert plain.plain
    assert not clear.plain
    assert plain.background == pytest.approx(np.divide(COLOURS[colour], 255), abs=1e-3)
    assert clear.background == (1, 1, 1)
    assert not plain.unbounded
    assert not clear.unbounded
    assert (plain.near, plain.far) == (clear.near, clear.far)
    assert torch.equal(plain.aabb, clear.aabb)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_photos_of_one_colour_alone_are_said(tmp_path, capsys, layout):
    """As black frames of a film. What is in front of a plain background, or wholly behind it, is another thing."""
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(10)]
    photos[3], photos[4] = Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64), (200, 90, 30))
    LAYOUTS[layout](tmp_path / "photos", photos)
    LAYOUTS[layout](tmp_path / "things", things(COLOURS["grey"]))
    for name in ("photos", "things"):
        load_scene(tmp_path / name, Request())
    told = capsys.readouterr().err
    assert told.count("pictures have one colour alone") == 1
    assert re.search(r"photos: 2 of \d+ pictures have one colour alone \(", told)


@pytest.mark.parametrize("colour", COLOURS.values())
def test_noise_of_jpeg_does_not_hide_it(tmp_path, colour):
    write_json(tmp_path / "scene", [as_jpeg(picture) for picture in things(colour)])
    scene = load_scene(tmp_path / "scene", Request())
    assert scene.plain
    assert scene.background == pytest.approx(np.divide(colour, 255), abs=0.01)


def test_alpha_that_nothing_uses_does_not_hide_it(tmp_path):
    write_json(tmp_path / "scene", [picture.convert("RGBA") for picture in things((255, 255, 255))])
    scene = load_scene(tmp_path / "scene", Request())
    assert scene.plain
    assert scene.images.shape[-1] == 3


def sky(i: int) -> Image.Image:
    """White above the ground, as an overexposed sky is."""
    picture = np.random.default_rng(i).integers(0, 200, (32, 48, 3), np.uint8)
    picture[:20] = 255
    return Image.fromarray(picture)


def bars(i: int) -> Image.Image:
    """A film held upright, with black to the left and right."""
    picture = np.random.default_rng(i).integers(40, 256, (32, 48, 3), np.uint8)
    picture[:, :19] = picture[:, 29:] = 0
    return Image.fromarray(picture)


def shaded(i: int) -> Image.Image:
    """Paper that is darker at the bottom."""
    picture = np.array(thing(i, (0, 0, 0)))
    rows = np.linspace(255, 150, 32).astype(np.uint8)[:, None, None]
    return Image.fromarray(np.where(picture == 0, rows, picture))


def one_without(i: int) -> Image.Image:
    return thing(i, (255, 255, 255)) if i != 4 else Image.fromarray(np.full((32, 48, 3), 90, np.uint8))


def touching(i: int, colour: tuple[int, ...], rows: slice, columns: slice) -> Image.Image:
    """An object that goes on beyond the border."""
    picture = np.array(thing(i, colour))
    noise = np.random.default_rng(i).integers(20, 230, picture.shape, np.uint8)
    picture[rows, columns] = noise[rows, columns]
    return Image.fromarray(picture)


TOUCHING = {
    "on the bottom": lambda i: (slice(14, 32), slice(6, 42)),
    "across": lambda i: (slice(3 + 2 * (i % 4), 26), slice(0, 48)),
    "left or right": lambda i: (slice(6, 32), slice(0, 30) if i % 2 else slice(18, 48)),
    "upright": lambda i: (slice(0, 32), slice(14, 40)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", TOUCHING)
def test_objects_that_touch_the_border(tmp_path, capsys, layout, where):
    colour = COLOURS["white" if where in ("across", "on the bottom") else "grey"]
    LAYOUTS[layout](tmp_path / "scene", [touching(i, colour, *TOUCHING[where](i)) for i in range(10)])
    scene = load_scene(tmp_path / "scene", Request())
    assert scene.plain
    assert scene.background == pytest.approx(np.divide(colour, 255), abs=1e-3)
    assert "plain background" in capsys.readouterr().err


@pytest.mark.parametrize("photo", [sky, lambda i: touching(i, (0, 0, 0), slice(16, 32), slice(0, 48))])
def test_a_colour_that_one_side_never_has_is_said(tmp_path, capsys, photo):
    """It may be a sky."""
    write_json(tmp_path / "scene", [photo(i) for i in range(10)])
    assert not load_scene(tmp_path / "scene", Request()).plain
    assert "if that is a plain background, and no sky or the like, give --background" in capsys.readouterr().err
    assert not load_scene(tmp_path / "scene", Request(background="none")).plain
    assert "if that is" not in capsys.readouterr().err


LAYOUTS_OF_MIXTURES = {name: LAYOUTS[name] for name in ("blender", "transforms", "llff", "colmap")}


@pytest.mark.parametrize("layout", LAYOUTS_OF_MIXTURES)
@pytest.mark.parametrize(("colour", "mode"), [("white", "RGB"), ("black", "RGBA"), ("grey", "RGB")])
def test_opaque_pictures_among_transparent_ones(tmp_path, capsys, layout, colour, mode):
    """All of them are shown on the plain background of the opaque ones."""
    known = COLOURS[colour]
    pictures = [thing(i, (0, 0, 0, 0)) if i % 4 != 1 else thing(i, known).convert(mode) for i in range(10)]
    LAYOUTS[layout](tmp_path / "mixed", pictures)
    LAYOUTS[layout](tmp_path / "plain", [thing(i, known) for i in range(10)])
    mixed, plain = (load_scene(tmp_path / name, Request(test_every=10)) for name in ("mixed", "plain"))
    assert f"3 of {len(mixed)} pictures have no transparency but a plain background" in capsys.readouterr().err
    assert mixed.plain
    assert torch.equal(mixed.images, plain.images)
    assert mixed.background == plain.background
    assert mixed.unbounded == plain.unbounded


@pytest.mark.parametrize("layout", LAYOUTS_OF_MIXTURES)
def test_photos_among_cut_outs_are_said(tmp_path, capsys, layout):
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    pictures = [thing(i, (0, 0, 0, 0)) if i != 3 else Image.fromarray(noise) for i in range(10)]
    LAYOUTS[layout](tmp_path / "scene", pictures)
    scene = load_scene(tmp_path / "scene", Request(test_every=10))
    assert scene.images.shape[-1] == 4
    assert f"1 of {len(scene)} pictures have no transparency, though others have" in capsys.readouterr().err


@pytest.mark.parametrize("photo", [sky, bars, shaded, one_without])
def test_photos_of_a_place_have_none(tmp_path, photo):
    write_json(tmp_path / "scene", [photo(i) for i in range(10)])
    scene = load_scene(tmp_path / "scene", Request())
    assert (scene.plain, scene.background, scene.unbounded) == (False, None, True)


def test_photos_from_one_side_keep_their_space(tmp_path):
    write_scene(tmp_path / "scene", facing())
    overwrite(tmp_path / "scene" / "images", things((255, 255, 255)))
    found = [load_scene(tmp_path / "scene", Request(background=asked)) for asked in ("auto", "white")]
    assert [(scene.plain, scene.background) for scene in found] == [(False, None), (True, (1, 1, 1))]
    assert found[1].ndc is not None


@pytest.mark.parametrize("layout", ["blender", "transforms"])
def test_the_option_decides(tmp_path, capsys, layout):
    LAYOUTS[layout](tmp_path / "scene", things((255, 255, 255)))
    none = load_scene(tmp_path / "scene", Request(background="none"))
    assert not none.plain
    assert none.unbounded == (layout != "blender")
    assert capsys.readouterr().err == ""
    asked = load_scene(tmp_path / "scene", Request(background=(0.2, 0.4, 0.6)))
    assert asked.plain
    assert asked.background == (0.2, 0.4, 0.6)
    assert not asked.unbounded
    told = capsys.readouterr().err
    assert f"--background 0.2 0.4 0.6, but {len(asked)} of {len(asked)} pictures have other colours" in told
    cameras = load_scene(tmp_path / "scene", Request(background="white", pictures=False))
    whole = load_scene(tmp_path / "scene", Request())
    assert (cameras.near, cameras.far, cameras.background) == (whole.near, whole.far, whole.background)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_transparent_pictures_are_on_the_colour_that_is_asked_for(tmp_path, layout):
    LAYOUTS[layout](tmp_path / "scene", things((9, 9, 9, 0)))
    for asked, colour in {"auto": (1, 1, 1), "none": (1, 1, 1), "black": (0, 0, 0), (0.25, 0.5, 0.75): None}.items():
        scene = load_scene(tmp_path / "scene", Request(background=asked))
        assert not scene.plain
        assert not scene.unbounded
        assert scene.background == (colour or asked) == scene.view(0).background
        assert scene.image(0)[0, 0].tolist() == pytest.approx(colour or asked)


def trained_on(root: Path, method: str, background: object = "auto") -> tuple[Scene, torch.Tensor]:
    options = tiny.config(method)
    options, scene = load_training(replace(options, data=replace(options.data, background=background)), root)
    batches = tiny.batches(tiny.make(options), scene, 64)
    return scene, batches(torch.zeros(1, dtype=torch.int64)).background


@pytest.mark.parametrize("method", ["nerf", "ngp"])
@pytest.mark.parametrize("colour", COLOURS.values())
def test_trainings_have_the_plain_background_behind_the_object(tmp_path, method, colour):
    write_blender(tmp_path / "plain", things(colour))
    background = trained_on(tmp_path / "plain", method)[1]
    assert torch.allclose(background, (torch.tensor(colour) / 255).expand_as(background), atol=1e-3)


def test_transparent_pictures_and_photos_still_train_on_random_colours(tmp_path):
    write_blender(tmp_path / "clear", things((0, 0, 0, 0)))
    write_json(tmp_path / "photos", [sky(i) for i in range(10)])
    for name in ("clear", "photos"):
        assert len(trained_on(tmp_path / name, "ngp")[1].unique()) > 64
    assert trained_on(tmp_path / "clear", "nerf", "black")[1].eq(0).all()


@pytest.mark.parametrize("method", ["nerf", "ngp"])
def test_a_run_keeps_it(tmp_path, monkeypatch, capsys, method):
    """Evaluation, films and resuming have the background that was found in training, whatever other pictures show."""
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "scene", things((0, 0, 0)))
    words = tiny.FLAGS if method == "nerf" else tiny.NGP_FLAGS
    words = ["train", "scene", *words, "--exp_name", "run", "--num_gpus", 0, "--batch_size", 64]
    tiny.nerf(*words, "--max_steps", 2)
    stored = json.loads((tmp_path / "runs" / "run" / "settings.json").read_text())
    assert stored["data"]["background"] == "black"
    for file in (tmp_path / "scene").glob("0[08].png"):  # held out
        Image.fromarray(np.full((32, 48, 3), 77, np.uint8)).save(file)
    tiny.nerf("eval", "runs/run", "--num_gpus", 0)
    tiny.nerf("render", "runs/run", "--frames", 1, "--img_wh", 8, 8, "--num_gpus", 0)
    tiny.nerf(*words, "--max_steps", 4, "--resume")
    with pytest.raises(SystemExit):
        tiny.nerf(*words, "--max_steps", 6, "--resume", "--background", "white")
    message = capsys.readouterr().err.splitlines()[-1]
    assert "--background white" in message
    assert "was trained with black" in message


def test_runs_from_before_look_for_none():
    stored = to_dict(tiny.config())
    assert from_dict(stored).data.background == "auto"
    del stored["data"]["background"]
    assert from_dict(stored).data.background == "none"
    stored["data"]["background"] = [0.1, 0.2, 1]
    assert from_dict(stored).data.background == (0.1, 0.2, 1)


@pytest.mark.parametrize("words", [("255", "255", "255"), ("purple",), ("0.5", "0.5"), ("-1", "0", "0")])
def test_other_values_are_refused_in_one_line(tmp_path, capsys, words):
    write_json(tmp_path / "scene", things((0, 0, 0)))
    assert "background" in tiny.refused(capsys, "train", tmp_path / "scene", "--background", *words)


def test_every_layout_is_tried():
    assert set(LOADERS) <= set(LAYOUTS)


LAYOUTS_OF_OBJECTS = [write_json, write_blender, write_llff, write_colmap]


@pytest.mark.parametrize("write", LAYOUTS_OF_OBJECTS)
@pytest.mark.parametrize(("empty", "told"), [((9, 9, 9, 0), "transparent everywhere"), ((255,) * 3, "white alone")])
def test_pictures_that_show_nothing(tmp_path, capsys, write, empty, told):
    """Said of some, and refused if none is left to learn from."""
    nothing = Image.new("RGBA" if len(empty) == 4 else "RGB", SIZE, empty)
    pictures = [thing(i, empty) for i in range(4)]
    write(tmp_path / "some", [*pictures[:3], nothing])
    load_scene(tmp_path / "some", Request(test_every=0))
    assert told in capsys.readouterr().err
    write(tmp_path / "all", [nothing] * 4)
    with pytest.raises(UserError, match=f"pictures .*{told}, so there is nothing to learn"):
        load_scene(tmp_path / "all", Request(test_every=0))


@pytest.mark.parametrize("ending", ["gif", "tga", "jp2"])
def test_formats_that_are_not_read_are_named(tmp_path, ending):
    write_json(tmp_path, [thing(i, (255,) * 3) for i in range(2)])
    file = (tmp_path / "00.png").rename(tmp_path / f"00.{ending}")
    path = tmp_path / "transforms.json"
    path.write_text(path.read_text().replace("00.png", file.name))
    Image.new("RGB", SIZE).save(file, format={"gif": "GIF", "tga": "TGA", "jp2": "PPM"}[ending])
    if ending == "jp2":  # read by what it is, whatever its name
        load_scene(tmp_path, Request(test_every=0))
        return
    with pytest.raises(UserError, match=f"00.{ending} is of no format that can be read: convert"):
        load_scene(tmp_path, Request(test_every=0))


def test_of_two_json_files_it_is_said_which_counts(tmp_path, capsys):
    pictures = [thing(i, (255,) * 3) for i in range(4)]
    write_blender(tmp_path, pictures)
    load_scene(tmp_path)
    assert "--dataset_name" not in capsys.readouterr().err
    write_json(tmp_path, pictures)
    load_scene(tmp_path)
    assert "it is read as blender (--dataset_name takes transforms or blender)" in capsys.readouterr().err
    load_scene(tmp_path, dataset_name="transforms")
    assert "it is read as" not in capsys.readouterr().err
    (tmp_path / "transforms_train.json").unlink()
    load_scene(tmp_path)
    assert "it is read as transforms" in capsys.readouterr().err
