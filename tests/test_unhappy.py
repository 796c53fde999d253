"""What can go wrong, and the one line that says so."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import FLAGS, nerf, refused, start

from nerf_pl.checkpoints import AtomicCheckpointIO

TRAIN = [*FLAGS, "--batch_size", 64, "--max_steps", 12, "--num_gpus", 0]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def scene(scene_dir, tmp_path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(scene_dir, tmp_path / "scene"))


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of a run, at the place where the command line looks for it."""
    return Path(shutil.copytree(trained, tmp_path / "runs" / "tiny"))


def test_missing_folder(capsys):
    assert "nowhere is not a folder" in refused(capsys, "train", "nowhere", *TRAIN)
    assert "nowhere" in refused(capsys, "--root_dir", "nowhere", program="train.py")
    Path("empty").mkdir()
    assert "empty is no scene folder" in refused(capsys, "train", "empty", *TRAIN)
    assert not Path("runs").exists()


def test_missing_and_damaged_pictures(scene, capsys):
    picture = scene / "train" / "r_1.png"
    whole = picture.read_bytes()
    picture.write_bytes(whole[: len(whole) // 2])
    assert str(picture) in refused(capsys, "train", scene, *TRAIN)
    picture.unlink()
    assert f"missing {picture}" in refused(capsys, "train", scene, *TRAIN)


def test_pictures_of_different_sizes(scene, capsys):
    picture = scene / "train" / "r_2.png"
    Image.open(picture).resize((10, 16)).save(picture)
    message = refused(capsys, "train", scene, *TRAIN)
    assert str(picture) in message
    assert "10x16" in message


def test_aspect_ratio(scene, capsys):
    classic = ["--root_dir", scene, "--dataset_name", "blender"]
    for program, words in (("nerf", ["train", scene]), ("train.py", classic)):
        message = refused(capsys, *words, "--img_wh", 16, 8, "--num_gpus", 0, program=program)
        assert "--img_wh 16 8 changes the aspect ratio" in message


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"camera_angle_x": 0.7, "frames": [{}]}', "\udcff"])
def test_damaged_transforms(scene, capsys, text):
    path = scene / "transforms_train.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert str(path) in refused(capsys, "train", scene, *TRAIN)


def test_validation_views_are_checked_before_the_training(scene, capsys):
    (scene / "val" / "r_0.png").unlink()
    assert "r_0.png" in refused(capsys, "train", scene, *TRAIN)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a checkpoint", b"<html>"])
def test_corrupt_checkpoints(scene, capsys, content):
    Path("bad.ckpt").write_bytes(content)
    for words, program in (
        (["train", scene, "--ckpt_path", "bad.ckpt", *TRAIN], "nerf"),
        (["eval", "bad.ckpt"], "nerf"),
        (["render", "bad.ckpt"], "nerf"),
        (["import", "bad.ckpt"], "nerf"),
        (["--root_dir", scene, "--ckpt_path", "bad.ckpt", "--img_wh", 16, 16], "eval.py"),
    ):
        assert "bad.ckpt" in refused(capsys, *words, program=program)
    assert not Path("runs").exists()
    assert "none.ckpt does not exist" in refused(capsys, "import", "none.ckpt")


def test_checkpoints_of_something_else(scene, run, capsys):
    torch.save({"state_dict": {"resnet.weight": torch.ones(3)}}, "other.ckpt")
    for words in (["train", scene, "--ckpt_path", "other.ckpt", *TRAIN], ["import", "other.ckpt"]):
        assert "other.ckpt" in refused(capsys, *words)
    last = run / "checkpoints" / "last.ckpt"
    larger = ["--method", "nerf", "--net_width", 64, "--batch_size", 64, "--max_steps", 1]
    assert "--net_width" in refused(capsys, "train", scene, "--ckpt_path", last, *larger)
    content = AtomicCheckpointIO().load_checkpoint(last)
    del content["state_dict"]["model.fine.params"]
    torch.save(content, last)
    assert "has no fine.params" in refused(capsys, "eval", run)
    content["config"]["model"]["N_samples"] = "many"
    torch.save(content, last)
    assert "N_samples" in refused(capsys, "eval", run)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_more_gpus_than_there_are(scene, capsys):
    assert "--num_gpus 8, but this machine has 0" in refused(capsys, "train", scene, "--num_gpus", 8)
    assert "--accelerator gpu" in refused(capsys, "train", scene, "--accelerator", "gpu")


def test_an_earlier_run_is_not_overwritten_by_accident(scene, run, capsys):
    message = refused(capsys, "train", scene, *TRAIN, "--exp_name", "tiny")
    assert "--resume" in message
    assert "--overwrite" in message
    nerf("train", scene, *TRAIN, "--exp_name", "tiny", "--overwrite", "--max_steps", 2)
    assert AtomicCheckpointIO().load_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == 2
    assert len(list((run / "logs").glob("events.*"))) == 1


def test_resuming_what_cannot_be_resumed(scene, run, capsys):
    def resume(*words: object, name: str = "tiny") -> str:
        return refused(capsys, "train", scene, "--resume", "--exp_name", name, *words)

    assert "there is no runs/other" in resume(name="other")
    assert "is finished, at step 12" in resume()
    assert "--net_width 64" in resume("--max_steps", 20, "--net_width", 64)
    assert "--optimizer sgd" in resume("--max_steps", 20, "--optimizer", "sgd")
    assert "--N_importance 0" in resume("--max_steps", 20, "--N_importance", 0)
    settings = run / "settings.json"
    settings.write_text(settings.read_text()[:100])
    assert "runs/tiny/settings.json" in resume("--max_steps", 20)


@pytest.mark.parametrize(
    ("option", "value"),
    [("batch_size", 0), ("lr", -1), ("N_samples", 0), ("net_width", 33), ("seconds", 0), ("exp_name", "a/b")],
)
def test_numbers_that_cannot_work(scene, capsys, option, value):
    assert f"--{option} {value}" in refused(capsys, "train", scene, f"--{option}", value)


def test_films_that_cannot_be(run, capsys):
    cases = {"frames": 0, "fps": 0, "elevation": 90, "radius": 0, "every": 0, "path": "sprial"}
    for option, value in cases.items():
        assert f"--{option} {value}" in refused(capsys, "render", run, f"--{option}", value)
    assert "--img_wh 16 0" in refused(capsys, "render", run, "--img_wh", 16, 0)


def test_runs_without_a_scene(scene, run, capsys):
    last = run / "checkpoints" / "last.ckpt"
    content = AtomicCheckpointIO().load_checkpoint(last)
    for root in ("", "/gone"):
        torch.save({**content, "scene": root}, last)
        for command in ("eval", "render"):
            assert "add --scene FOLDER" in refused(capsys, command, run)
    nerf("eval", run, "--scene", scene)
    assert (run / "metrics.json").is_file()


def test_no_such_run(capsys):
    assert "run nowhere does not exist" in refused(capsys, "eval", "nowhere")


LIMITED = """
import resource, sys
from nerf_pl.cli import main
import nerf_pl.callbacks as callbacks

def limit(self, trainer, system):
    if system.step >= 6:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))

callbacks.ImageLog.on_validation_start = limit
main()
"""


@pytest.mark.parametrize(("limit", "failing"), [(20_000, "checkpoints/"), (100, "logs")])
def test_a_disk_that_is_full_leaves_the_last_good_checkpoint(scene, tmp_path, limit, failing):
    """A limit on the size of files stands for a full disk; it comes down after some steps."""
    words = ["train", scene, *TRAIN, "--exp_name", "full", "--val_every", 3]
    process = start(tmp_path, *words, code=LIMITED.replace("LIMIT,", f"{limit},"))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert err.count("\n") == 1, err
    assert f"cannot write runs/full/{failing}" in err
    last = tmp_path / "runs" / "full" / "checkpoints" / "last.ckpt"
    assert AtomicCheckpointIO().load_checkpoint(last)["global_step"] == 3
    assert sorted(os.listdir(last.parent)) == ["best.ckpt", "last.ckpt"]


def interrupted(folder: Path, *words: object) -> str:
    """What a long training says to Ctrl-C, once its first checkpoint is there."""
    process = start(folder, "train", *words, "--exp_name", "long", "--val_every", 5)
    last = folder / "runs" / "long" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert err.count("\n") == 1, err
    assert err.startswith("nerf: interrupted; ")
    return err


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_leaves_a_checkpoint_to_resume(scene, tmp_path, capsys, processes):
    words = [scene, *FLAGS, "--batch_size", 64, "--num_gpus", processes, "--accelerator", "cpu"]
    assert "last.ckpt is saved" in interrupted(tmp_path, *words, "--max_steps", 100_000)
    last = tmp_path / "runs" / "long" / "checkpoints" / "last.ckpt"
    step = AtomicCheckpointIO().load_checkpoint(last)["global_step"]
    assert 5 <= step < 100_000
    nerf("train", scene, "--resume", "--exp_name", "long", "--max_steps", step + 2, "--num_gpus", 0)
    assert AtomicCheckpointIO().load_checkpoint(last)["global_step"] == step + 2
    settings = json.loads((tmp_path / "runs" / "long" / "settings.json").read_text())
    assert settings["model"]["net_width"] == 32  # as it was started
