"""What a command says to do next can be done as it stands there."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from llff_files import facing, write_scene
from tiny import FLAGS, MODEL, NGP_FLAGS, flags, nerf, refused

from nerf_pl.films import film as films

CLASSIC = [*flags(MODEL), "--batch_size", 64, "--num_gpus", 0, "--num_epochs", 0.1]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def scene(scene_dir: Path, layout: str, splits: tuple[str, ...] = ("train", "val", "test")) -> Path:
    """A scene in this layout and with these splits, in a folder whose name needs quotes."""
    root = Path("my scene").absolute()
    if layout == "llff":
        write_scene(root, facing(6))
        return root
    shutil.copytree(scene_dir, root)
    values = json.loads((root / "transforms_train.json").read_text())
    for split in ("train", "val", "test"):
        if layout != "blender" or split not in splits:
            (root / f"transforms_{split}.json").unlink()
    if layout == "transforms":
        for frame in values["frames"]:
            frame["file_path"] += ".png"
        (root / "transforms.json").write_text(json.dumps(values))
    return root


def follow(capsys: pytest.CaptureFixture) -> list[str]:
    """Run all commands that the last line of output advises. Returns them."""
    line = capsys.readouterr().out.splitlines()[-1]
    commands = line.partition("; next: ")[2].split(", ")
    for command in commands:
        program, *words = shlex.split(command.removeprefix("python "))
        nerf(*words, program=program)
    return commands


@pytest.mark.parametrize(
    ("splits", "options", "more", "scored"),
    [
        (
            ("train", "val", "test"),
            ["--N_samples", "5", "--use_disp", "--chunk", "100", "--exp_name", "my exp"],
            "--N_samples 5 --N_importance 8 --use_disp --img_wh 16 16 --chunk 100",
            2,
        ),
        (("train", "val"), ["--N_importance", "0"], "--split val --N_samples 8 --N_importance 0 --img_wh 16 16", 1),
        (("train",), ["--dataset_name", "auto"], "--split train --N_samples 8 --N_importance 8 --img_wh 16 16", 4),
    ],
)
def test_after_a_classic_training(scene_dir, capsys, splits, options, more, scored):
    root = scene(scene_dir, "blender", splits)
    nerf("--root_dir", root, "--img_wh", 16, 16, *CLASSIC, *options, program="train.py")
    (command,) = follow(capsys)
    last = "'ckpts/my exp/last.ckpt'" if "my exp" in options else "ckpts/exp/last.ckpt"
    assert command == f"python eval.py --root_dir '{root}' --ckpt_path {last} --scene_name 'my scene' {more}"
    results = json.loads(Path("results/blender/my scene/metrics.json").read_text())
    assert len(results["views"]) == scored


def test_after_a_classic_training_on_photos(scene_dir, capsys, monkeypatch):
    monkeypatch.setattr(films, "FRAMES", 2)
    words = ["--dataset_name", "llff", "--root_dir", scene(scene_dir, "llff"), "--img_wh", 24, 16, *CLASSIC]
    nerf(*words, program="train.py")
    assert "--dataset_name llff" in follow(capsys)[0]
    assert Path("results/llff/my scene/my scene.mp4").is_file()


def test_after_a_classic_training_on_a_layout_that_the_classic_evaluation_does_not_know(scene_dir, capsys):
    words = ["--dataset_name", "transforms", "--root_dir", scene(scene_dir, "transforms"), "--img_wh", 16, 16, *CLASSIC]
    nerf(*words, program="train.py")
    assert follow(capsys) == ["nerf eval ckpts/exp/last.ckpt --split train"]
    assert Path("ckpts/exp/metrics_train.json").is_file()


@pytest.mark.parametrize(("splits", "more"), [(("train", "val", "test"), ""), (("train", "val"), " --split val")])
def test_after_a_training(scene_dir, capsys, monkeypatch, splits, more):
    monkeypatch.setattr(films, "FRAMES", 2)
    nerf("train", scene(scene_dir, "blender", splits), *FLAGS, "--max_steps", 1, "--batch_size", 64, "--num_gpus", 0)
    assert follow(capsys) == [f"nerf eval 'runs/my scene-nerf'{more}", "nerf render 'runs/my scene-nerf'"]


def test_after_a_training_without_the_pictures_of_the_tests(scene_dir, capsys, monkeypatch):
    monkeypatch.setattr(films, "FRAMES", 2)
    root = scene(scene_dir, "blender", ("train", "test"))
    shutil.rmtree(root / "test")
    nerf("train", root, *FLAGS, "--max_steps", 1, "--batch_size", 64, "--num_gpus", 0)
    assert follow(capsys)[0] == "nerf eval 'runs/my scene-nerf' --split train"


def test_after_an_import(scene_dir, trained, capsys):
    stored = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save(stored, "my old.ckpt")
    nerf("import", "my old.ckpt", "--scene", scene(scene_dir, "blender", ("train",)))
    assert follow(capsys) == ["nerf eval 'runs/my old' --split train"]


@pytest.mark.parametrize("layout", ["blender", "transforms", "llff"])
def test_a_run_without_test_views_names_options_that_the_command_has(scene_dir, capsys, layout):
    root = scene(scene_dir, layout, ("train",))
    words = [*NGP_FLAGS, "--max_steps", 1, "--num_gpus", 0, "--exp_name", "run", "--test_every", 0]
    nerf("train", root, *words)
    told = refused(capsys, "eval", "runs/run", "--num_gpus", 0)
    splits = told.rpartition("give --split ")[2].split(" or ")
    assert splits == (["train", "val"] if layout == "llff" else ["train"])
    nerf("eval", "runs/run", "--num_gpus", 0, "--split", splits[-1])
    told = refused(capsys, "render", "runs/run", "--num_gpus", 0, "--path", "test")
    assert told.endswith("give --path interpolate, 360 or spiral")
