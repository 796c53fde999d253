"""A run keeps the cameras of its scene: films need nothing else, and the run notices when it is given another scene."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import colmap_files
import llff_files
import photo_world
import pytest
import torch
from llff_files import around, facing, moved, similarity
from PIL import Image
from tiny import CPU, NGP_FLAGS, config, content, make, nerf, refused

from nerf_pl.checkpoints import load_cameras, open_run, require_same_views, save_model
from nerf_pl.films.film import film_cameras, film_scene
from nerf_pl.films.options import FilmOptions
from nerf_pl.options import DataOptions
from nerf_pl.scenes import Scene, frame_of, load_scene
from nerf_pl.scenes.demo import make_demo

PATHS = ("auto", "360", "spiral", "interpolate", "test")
GO_ON = ("--exp_name", "run", "--resume", "--max_steps", 22, "--num_gpus", 0)
TRAIN = (*NGP_FLAGS, "--max_steps", 2, "--num_gpus", 0, "--exp_name", "run")


def write_photos(root: Path) -> None:
    """Of two sizes, with a lens each."""
    halved = {"w": 24, "h": 18, "fl_x": 30.0, "fl_y": 31.0, "cx": 12.0, "cy": 9.0}
    photo_world.write(root, photo_world.K | photo_world.LENS, [halved if i % 4 == 1 else {} for i in range(10)])


LAYOUTS: dict[str, Callable[[Path], object]] = {
    "blender": lambda root: make_demo(root, size=16, n_train=4, n_val=1, n_test=2),
    "llff": lambda root: llff_files.write_scene(root, facing()),
    "reduced": lambda root: llff_files.write_scene(root, facing(), folders=(1, 2)),
    "around": lambda root: llff_files.write_scene(root, moved(around(), *similarity(3))),
    "transforms": write_photos,
    "colmap": colmap_files.write_scene,
}


def kept_run(root: Path, layout: str, downscale: int = 1) -> Path:
    """A run that was not trained, but keeps what a training keeps."""
    if layout == "colmap":
        pytest.importorskip("pycolmap")
    LAYOUTS[layout](root)
    options = replace(config("ngp"), data=DataOptions(downscale=downscale))
    views = load_cameras(options, root, "train", "test")
    save_model(Path("run/checkpoints/last.ckpt"), make(options), options, str(root), views)
    return Path("run")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def finished(trained_ngp) -> Path:
    return Path(shutil.copytree(trained_ngp, "runs/run"))


def all_equal(a: Scene, b: Scene) -> None:
    for name in ("c2w", "K", "sizes"):
        pair = getattr(a.cameras, name), getattr(b.cameras, name)
        assert pair == (None, None) or torch.equal(*pair)
    for name in ("near", "far", "background", "ndc", "unbounded", "target", "names", "orbit", "surrounded"):
        assert getattr(a, name) == getattr(b, name), name
    assert (a.cameras.width, a.cameras.height, a.cameras.pixel_offset) == (
        b.cameras.width, b.cameras.height, b.cameras.pixel_offset,
    )  # fmt: skip
    assert torch.equal(a.aabb, b.aabb)
    assert torch.equal(frame_of(a), frame_of(b))
    assert a.images.shape == b.images.shape


@pytest.mark.parametrize("layout", LAYOUTS)
def test_films_need_no_scene(tmp_path, layout):
    run = kept_run(tmp_path / "scene", layout)
    split_of = {path: "test" if path == "test" else "train" for path in PATHS}
    there = {split: open_run(run, CPU).scene(split, tmp_path / "scene") for split in ("train", "test")}
    shutil.rmtree(tmp_path / "scene")
    run = shutil.move(run, "elsewhere")
    gone = {split: open_run(Path(run), CPU).scene(split, pictures=False) for split in ("train", "test")}
    for split, scene in there.items():
        all_equal(scene, gone[split])
    for path, split in split_of.items():
        options = FilmOptions(path, crop=(-9.0, -9.0, -9.0, 9.0, 9.0, 9.0))
        name, cameras, fps = film_cameras(options, there[split])
        again = film_cameras(options, gone[split])
        assert (name, fps) == (again[0], again[2])
        assert torch.equal(cameras.c2w, again[1].c2w)
        a, b = (film_scene(options, scenes[split], "")[1] for scenes in (there, gone))
        assert a.keyframes == b.keyframes


def test_every_film_of_a_run_alone(finished, capsys):
    path = finished / "checkpoints" / "last.ckpt"
    torch.save(content(finished) | {"scene": "gone"}, path)
    keyframes = {"keyframes": [{"position": [4, 0, 1], "look_at": [0, 0, 0]}]}
    Path("keys.json").write_text(json.dumps(keyframes))
    for path in (*PATHS, "keys.json"):
        many = ("--frames", 1) if path != "test" else ()
        nerf("render", "runs/run", "--path", path, *many, "--depth", "none", "--num_gpus", 0)
    assert Path("runs/run/renders/test.mp4").is_file()
    told = refused(capsys, "eval", "runs/run", "--num_gpus", 0)
    assert "which is gone: add --scene FOLDER" in told
    told = refused(capsys, "render", "runs/run", "--scene", "nowhere", "--num_gpus", 0)
    assert "nowhere is not a folder" in told


def test_a_scene_without_its_test_pictures_trains(scene_dir, capsys):
    shutil.copytree(scene_dir, "scene")
    shutil.rmtree("scene/test")
    nerf("train", "scene", *TRAIN)
    assert "the run keeps no test views: 2 of 2 pictures" in capsys.readouterr().err
    nerf("render", "runs/run", "--frames", 1, "--depth", "none", "--num_gpus", 0)
    assert "transforms_test.json, which are missing" in refused(capsys, "render", "runs/run", "--path", "test")


def test_a_missing_picture_makes_no_training_view_a_test_view(tmp_path, capsys):
    """Every 8th is held out: without the third, all later ones move up."""
    lens = photo_world.K | {"aabb_scale": 1}
    photo_world.write(tmp_path / "scene", lens, [{} for _ in range(10)])
    nerf("train", "scene", *TRAIN)
    Path("scene/images/002.png").unlink()
    told = refused_last(capsys, "eval", "runs/run", "--num_gpus", 0)
    assert "the run was trained on 009, which are test views now" in told


def refused_last(capsys: pytest.CaptureFixture, *words: object) -> str:
    """The last line, after warnings."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        nerf(*words)
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "values",
    [
        3, {"train": 3}, {"train": {}}, {"train": {"cameras": {}}}, "near", "K", "c2w", "unknown",
    ],
)  # fmt: skip
def test_damaged_views(scene_dir, capsys, values):
    run, options = Path("run"), config("ngp")
    views = load_cameras(options, scene_dir, "train", "test")
    save_model(run / "checkpoints" / "last.ckpt", make(options), options, str(scene_dir), views)
    damaged = content(run)
    train = damaged["views"]["train"]
    if isinstance(values, str):
        part = train["cameras"] if values in ("K", "c2w") else train
        part[values] = float("nan") if values == "near" else torch.zeros(2)
    else:
        damaged["views"] = values
    torch.save(damaged, run / "checkpoints" / "last.ckpt")
    assert "is damaged" in refused(capsys, "render", run, "--num_gpus", 0)


def edit_poses(root: Path) -> None:
    path = root / "transforms_train.json"
    values = json.loads(path.read_text())
    values["frames"].reverse()
    path.write_text(json.dumps(values))


def edit_lens(root: Path) -> None:
    path = root / "transforms_train.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"camera_angle_x": 0.5}))


def leave_one_out(root: Path) -> None:
    path = root / "transforms_train.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"frames": values["frames"][:-1]}))


def mirror_pictures(root: Path) -> None:
    for file in root.glob("train/*.png"):
        Image.open(file).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(file)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (edit_poses, "its cameras are not those that"),
        (edit_lens, "its cameras are not those that"),
        (leave_one_out, "it has 3 views to train on"),
        (mirror_pictures, "its pictures are not those that"),
    ],
)
def test_a_run_does_not_go_on_with_another_scene(finished, scene_dir, capsys, edit, told):
    shutil.copytree(scene_dir, "other")
    edit(Path("other"))
    assert told in refused(capsys, "train", "other", *GO_ON)
    old = content(finished)
    del old["views"], old["frame"]
    torch.save(old, finished / "checkpoints" / "last.ckpt")
    require_same_views(old, load_scene("other"), finished)  # earlier versions kept none


def test_slightly_other_pictures_are_the_same(finished, scene_dir):
    """As another version of a decoder gives them."""
    shutil.copytree(scene_dir, "other")
    for file in Path("other").glob("train/*.png"):
        picture = Image.open(file)
        picture.point([min(value + 2, 255) for value in range(256)] * len(picture.getbands())).save(file)
    nerf("train", "other", *GO_ON)


def test_an_imported_run_keeps_the_views(trained, scene_dir):
    nerf("import", trained / "checkpoints" / "last.ckpt", "--scene", scene_dir, "--out", "run")
    assert set(open_run(Path("run"), CPU).kept) == {"train", "test"}
