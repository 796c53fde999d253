"""What can go wrong, and the one line that says so."""

import json
import os
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import FLAGS, MODEL, NGP_FLAGS, config, content, nerf, refused, start

from nerf_pl.methods import read_settings
from nerf_pl.methods.nerf.model import NeRF
from nerf_pl.training.callbacks import ImageLog

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
    assert "empty is no scene folder: layouts" in refused(capsys, "train", "empty", *TRAIN)
    (Path("empty") / "photo.jpg").touch()
    assert "for photos alone use `nerf prepare`" in refused(capsys, "train", "empty", *TRAIN)
    assert not Path("runs").exists()


@pytest.mark.parametrize("given", ["runs/tiny", "runs/tiny/checkpoints", "runs/tiny/checkpoints/last.ckpt"])
@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_run_in_place_of_a_scene(run, scene_dir, capsys, given, resume):
    told = refused(capsys, "train", given, "--max_steps", 13, *resume)
    command = f"nerf train {scene_dir} --exp_name tiny --resume"
    assert told.startswith(f"nerf: {given} is ")
    assert told.endswith(f" no scene: {command} goes on with it (add your other options)")
    assert os.listdir("runs") == ["tiny"]
    if given == "runs/tiny" and resume:
        nerf(*command.split()[1:], "--max_steps", 13)
        assert content(run)["global_step"] == 13


def test_a_run_that_lies_elsewhere_or_lost_its_settings_or_scene(run, scene, scene_dir, capsys):
    shutil.copytree("runs", "b/runs")
    words = ["--exp_name", "tiny", "--resume"]
    command = f"nerf train {scene_dir} {' '.join(words)}"
    assert f"no scene: in {Path('b').resolve()} {command} goes on" in refused(capsys, "train", "b/runs/tiny")
    shutil.copytree("runs/tiny", "b/tiny")
    assert f"move it to runs/tiny, and {command} goes on" in refused(capsys, "train", "b/tiny")
    assert f"give the folder of its scene, {scene_dir}" in refused(capsys, "eval", run, "--scene", run)
    (run / "settings.json").write_text('{"scene": "nowhere"}')
    assert "no scene: nerf train SCENE --exp_name tiny --resume goes" in refused(
        capsys, "train", run.relative_to(Path.cwd())
    )
    (run / "settings.json").unlink()
    assert f"it is of the run {run}; give the folder of its scene" in refused(capsys, "train", run)
    shutil.copytree("b/tiny", scene, dirs_exist_ok=True)
    nerf("train", scene, *TRAIN)  # a scene, whatever else is in its folder


def test_missing_and_damaged_pictures(scene, capsys):
    picture = scene / "train" / "r_1.png"
    whole = picture.read_bytes()
    picture.write_bytes(whole[: len(whole) // 2])
    assert str(picture) in refused(capsys, "train", scene, *TRAIN)
    picture.unlink()
    assert "missing: train/r_1.png" in refused(capsys, "train", scene, *TRAIN)


def test_pictures_of_different_sizes(scene, capsys):
    picture = scene / "train" / "r_2.png"
    Image.open(picture).resize((10, 16)).save(picture)
    message = refused(capsys, "train", scene, *TRAIN)
    assert "r_2.png has" in message
    assert "10x16" in message


def test_aspect_ratio(scene_dir, capsys):
    classic = ["--root_dir", scene_dir, "--dataset_name", "blender"]
    for program, words in (("nerf", ["train", scene_dir]), ("train.py", classic)):
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
    stored = content(run)
    del stored["state_dict"]["model.fine.params"]
    torch.save(stored, last)
    assert "has no fine.params" in refused(capsys, "eval", run)
    stored["config"]["model"]["N_samples"] = "many"
    torch.save(stored, last)
    assert "N_samples" in refused(capsys, "eval", run)


def test_weights_that_are_missing_or_left_over_are_named(scene, run, capsys):
    """A training that starts from a part of the weights says so, unless it is asked to."""
    stored, part, more = content(run), Path("part.ckpt"), Path("more.ckpt")
    fine = stored["state_dict"].pop("model.fine.params")
    torch.save(stored, part)
    torch.save({"state_dict": stored["state_dict"]}, bare := Path("bare.ckpt"))
    torch.save({**stored, "state_dict": {**stored["state_dict"], "model.more.a": fine, "model.more.b": fine}}, more)
    remedy = "give another checkpoint, or name these weights in --prefixes_to_ignore"
    for path, told in (
        (part, "has no fine.params"),
        (bare, "has no fine.params"),
        (more, "has no fine.params and has more.a, more.b, which this model lacks"),
    ):
        modern, classic = ["train", scene, *TRAIN], ["--root_dir", scene, "--img_wh", 16, 16, *TRAIN[2:]]
        for words, program in [(modern, "nerf"), *([(classic, "train.py")] if path == more else [])]:
            found = refused(capsys, *words, "--ckpt_path", path, program=program)
            assert found == f"{program}: --ckpt_path {path} {told}: {remedy}"
    assert not Path("ckpts").exists()
    alone = ["train", scene, *TRAIN, "--N_importance", 0, "--ckpt_path"]
    assert "has more.a, more.b, which this model lacks" in refused(capsys, *alone, more)
    nerf(*alone, more, "--prefixes_to_ignore", "more", "--exp_name", "alone")
    nerf("train", scene, *TRAIN, "--ckpt_path", part, "--prefixes_to_ignore", "fine", "--exp_name", "both")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_more_gpus_than_there_are(scene, capsys):
    assert "--num_gpus 8, but this machine has 0" in refused(capsys, "train", scene, "--num_gpus", 8)
    assert "--accelerator gpu" in refused(capsys, "train", scene, "--accelerator", "gpu")


def test_an_earlier_run_is_not_overwritten_by_accident(scene, run, capsys):
    message = refused(capsys, "train", scene, *TRAIN, "--exp_name", "tiny")
    assert "--resume" in message
    assert "--overwrite" in message
    nerf("train", scene, *TRAIN, "--exp_name", "tiny", "--overwrite", "--max_steps", 2)
    assert content(run)["global_step"] == 2
    assert len(list((run / "logs").glob("events.*"))) == 1


def test_resuming_what_cannot_be_resumed(scene, run, capsys):
    def resume(*words: object, name: str = "tiny") -> str:
        return refused(capsys, "train", scene, "--resume", "--exp_name", name, *words)

    assert "there is no runs/other" in resume(name="other")
    assert "is finished, after 12 steps" in resume()
    told = resume("--max_steps", 20, "--net_width", 64)
    assert "--net_width 64: runs/tiny/checkpoints/last.ckpt was trained with other sizes" in told
    assert told.endswith("give --net_width 32")
    told = resume("--max_steps", 20, "--optimizer", "sgd")
    assert told.endswith("--optimizer sgd: runs/tiny/checkpoints/last.ckpt was trained with adam; leave the option out")
    assert "--N_importance 0" in resume("--max_steps", 20, "--N_importance", 0)
    settings = run / "settings.json"
    settings.write_text(settings.read_text()[:100])
    assert "runs/tiny/settings.json" in resume("--max_steps", 20)


@pytest.mark.parametrize(
    ("option", "value"),
    [("batch_size", 0), ("lr", -1), ("N_samples", 0), ("net_width", 33), ("seconds", 0), ("exp_name", "a/b")],
)
def test_numbers_that_cannot_work(scene_dir, capsys, option, value):
    told = refused(capsys, "train", scene_dir, "--method", "nerf", f"--{option}", value)
    assert re.fullmatch(rf"nerf: --{option} {value}(\.0)? cannot work: .+", told)


@pytest.mark.parametrize(
    ("section", "option", "value", "told"),
    [
        ("optim", "lr", -1.0, "--lr -1.0 cannot work: give a positive number, 1e-15 to 1e15"),
        ("model", "N_samples", 2, "--N_samples 2 cannot work: give 3 or more, or --N_importance 0"),
        ("data", "test_every", 1, "--test_every 1 cannot work: give 2 or more, or 0 to hold out none"),
        ("model", "N_smaples", 8, "unknown option 'N_smaples' in the stored settings: made by another version?"),
        ("train", "seconds", "long", "--seconds 'long' in the stored settings is no possible value: correct it there"),
    ],
)
def test_stored_options_that_cannot_work_are_those_of_a_file(scene, run, capsys, section, option, value, told):
    last, settings = Path("runs/tiny/checkpoints/last.ckpt"), Path("runs/tiny/settings.json")
    where = f"nerf: checkpoint {last}: {told}"
    stored = content(run)
    stored["config"][section][option] = value
    torch.save(stored, last)
    assert refused(capsys, "eval", "runs/tiny") == where
    assert refused(capsys, "render", last) == where
    resumed = ["train", scene, "--exp_name", "tiny", "--resume", "--max_steps", 20]
    assert refused(capsys, *resumed) == where
    wrong = json.loads(settings.read_text())
    wrong[section][option] = value
    settings.write_text(json.dumps(wrong))
    assert refused(capsys, *resumed) == f"nerf: {settings}: {told}"
    classic = Path("logs/tiny/settings.json")
    classic.parent.mkdir(parents=True)
    shutil.copy(settings, classic)
    words = ["--root_dir", scene, "--exp_name", "tiny", "--resume"]
    assert refused(capsys, *words, program="train.py") == f"train.py: {classic}: {told}"


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "a\\b", "..", " . ", "/elsewhere", "a\tb", "a\0b", "x" * 201])
def test_a_name_cannot_lead_to_another_folder(scene_dir, run, capsys, name):
    last = run / "checkpoints" / "last.ckpt"
    before = sorted(Path().rglob("*"))
    for words, program in (
        (["train", scene_dir, *TRAIN, "--exp_name", name], "nerf"),
        (["--root_dir", scene_dir, "--img_wh", 16, 16, "--exp_name", name], "train.py"),
        (["--root_dir", scene_dir, "--img_wh", 16, 16, "--ckpt_path", last, "--scene_name", name], "eval.py"),
    ):
        told = refused(capsys, *words, program=program)
        assert told.startswith(f"{program}: {words[-2]} ")
        assert told.endswith("cannot work: give a name of up to 200 characters, without slashes")
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("words", [["--rays_per_pixel", 0], ["--rays_per_pixel", 65], ["--chunk", 0]])
def test_ways_to_render_that_cannot_work(run, capsys, words):
    for command in ("eval", "render"):
        told = refused(capsys, command, run, *words)
        assert told.startswith(f"nerf: {words[0]} {words[1]} cannot work: give 1 ")


def test_films_that_cannot_be(run, capsys):
    cases = {"frames": 0, "fps": 0, "elevation": 90, "radius": 0, "every": 0, "path": "sprial"}
    for option, value in cases.items():
        assert f"--{option} {value}" in refused(capsys, "render", run, f"--{option}", value)
    assert "--img_wh 16 0" in refused(capsys, "render", run, "--img_wh", 16, 0)


def test_runs_without_a_scene(scene, run, capsys):
    last = run / "checkpoints" / "last.ckpt"
    stored = content(run)
    for root in ("", "/gone"):
        for command, kept in (("eval", stored["views"]), ("render", {})):  # films need cameras alone
            torch.save({**stored, "scene": root, "views": kept}, last)
            assert "add --scene FOLDER" in refused(capsys, command, run)
    nerf("eval", run, "--scene", scene)
    assert (run / "metrics.json").is_file()


def test_no_such_run(capsys):
    assert "run nowhere does not exist" in refused(capsys, "eval", "nowhere")


def at_validation(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> None:
    """Call something at each validation from this step on."""

    def on_validation_start(self, trainer, system):
        if system.step >= step:
            act()

    monkeypatch.setattr(ImageLog, "on_validation_start", on_validation_start)


@pytest.mark.parametrize(("limit", "failing"), [(20_000, "checkpoints/"), (100, "logs")])
def test_a_disk_that_is_full_leaves_the_last_good_checkpoint(scene_dir, capsys, monkeypatch, limit, failing):
    """A limit on the size of files stands for a full disk; it comes down after some steps."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    at_validation(monkeypatch, 6, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1])))
    try:
        told = refused(capsys, "train", scene_dir, *TRAIN, "--exp_name", "full", "--val_every", 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"cannot write runs/full/{failing}" in told
    assert content(Path("runs/full"))["global_step"] == 3
    assert sorted(os.listdir("runs/full/checkpoints")) == ["best.ckpt", "last.ckpt"]


@pytest.mark.parametrize(
    ("words", "model", "sent", "told"),
    [
        (FLAGS, MODEL, signal.SIGINT, "interrupted"),
        (NGP_FLAGS, config("ngp").model, signal.SIGTERM, "ended by SIGTERM"),
    ],
    ids=["nerf", "ngp"],
)
def test_a_signal_leaves_a_checkpoint_to_resume(scene_dir, capsys, monkeypatch, words, model, sent, told):
    """It ends after the steps under way, and what was learned until then is saved."""
    words = ["train", scene_dir, *words, "--num_gpus", 0, "--exp_name", "long", "--val_every", 5]
    with monkeypatch.context() as patch:
        at_validation(patch, 10, lambda: signal.raise_signal(sent))
        found = refused(capsys, *words, "--max_steps", 1000, code=128 + sent)
    saved = "runs/long/checkpoints/last.ckpt is saved: the same command with --resume goes on"
    assert found == f"nerf: {told}; {saved}"
    assert content(Path("runs/long"))["global_step"] == 10
    nerf("train", scene_dir, "--resume", "--exp_name", "long", "--max_steps", 12)
    assert content(Path("runs/long"))["global_step"] == 12
    assert read_settings(Path("runs/long/settings.json")).model == model  # as it was started


@pytest.mark.parametrize(("sent", "how"), [(signal.SIGINT, "interrupted"), (signal.SIGHUP, "ended by SIGHUP")])
def test_a_signal_before_the_first_step_ends_at_once(scene_dir, capsys, monkeypatch, sent, how):
    monkeypatch.setattr(NeRF, "fit", lambda self, scene, keep_box=False: signal.raise_signal(sent))
    told = refused(capsys, "train", scene_dir, *TRAIN, "--exp_name", "none", code=128 + sent)
    assert told == f"nerf: {how}; nothing was saved yet"
    assert not Path("runs/none/checkpoints").exists()


def test_ctrl_c_reaches_two_processes(scene_dir, tmp_path):
    """Both of them stop after the same step, and one says so."""
    words = [scene_dir, *FLAGS, "--batch_size", 64, "--num_gpus", 2, "--accelerator", "cpu", "--max_steps", 100_000]
    process = start(tmp_path, "train", *words, "--exp_name", "long", "--val_every", 5)
    last = tmp_path / "runs" / "long" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert err.count("\n") == 1, err
    assert err.startswith("nerf: interrupted; ")
    assert "last.ckpt is saved" in err
    step = content(tmp_path / "runs" / "long")["global_step"]
    assert 5 <= step < 100_000
    nerf("train", scene_dir, "--resume", "--exp_name", "long", "--max_steps", step + 2, "--num_gpus", 0)
    assert content(tmp_path / "runs" / "long")["global_step"] == step + 2


@pytest.mark.parametrize("words", [["train", "a\0b"], ["prepare", "\0"], ["export", "run", "--scene", "\0.nerf"]])
def test_a_path_that_no_shell_can_type(capsys, words):
    assert "\\x00" in refused(capsys, *words)


def test_a_variable_of_the_shell_that_is_not_set_is_no_checkpoint(capsys):
    assert "--ckpt_path cannot work: name a file" in refused(capsys, "train", "scene", "--ckpt_path", "")


def test_a_path_of_thousands_of_letters_is_told_in_a_short_line(capsys):
    assert len(refused(capsys, "info", "/".join(30 * ["d" * 200]))) < 300
