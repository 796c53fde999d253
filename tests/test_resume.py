"""What a run that goes on takes from its checkpoint, what from the command line, and what an interrupt leaves."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import FLAGS, NGP_FLAGS, config, content, make, nerf, refused, with_model

from nerf_pl.checkpoints import as_begun, load_training, write_checkpoint
from nerf_pl.errors import Interrupted
from nerf_pl.options import RunFolders
from nerf_pl.scenes import load_scene
from nerf_pl.training import run as training
from nerf_pl.training import system
from nerf_pl.training.callbacks import Checkpoints, Interrupt
from nerf_pl.training.length import Length
from nerf_pl.training.resume import resume_run
from nerf_pl.training.run import train
from nerf_pl.training.system import NeRFSystem


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.mark.parametrize(("option", "value"), [("weight_decay", 0.5), ("lr", 1e-5)])
def test_a_resumed_run_can_be_given_other_settings_of_its_optimizer(run, scene_dir, option, value):
    options = config(max_steps=14)
    train(replace(options, optim=replace(options.optim, **{option: value})), scene_dir, RunFolders.modern(run), True)
    (state,) = content(run)["optimizer_states"]
    if option == "lr":
        assert 0 < state["param_groups"][0]["lr"] <= value
    else:
        assert state["param_groups"][0][option] == value
    assert content(run)["config"]["optim"][option] == value


def test_a_run_that_had_no_time_for_another_step_is_finished(scene_dir):
    options = config(seconds=60.0, max_steps=None)
    state = {"optimizer_states": [{}], "global_step": 10, "train_seconds": 59.998, "step_seconds": 0.01}
    ours = NeRFSystem(options, make(options), load_scene(scene_dir))
    ours.resume_from({"state_dict": ours.state_dict(), **state})
    assert ours.length.finished


def test_a_new_run_and_an_old_one_at_once(run, scene_dir, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    told = refused(capsys, "train", scene_dir, *NGP_FLAGS, "--resume", "--overwrite")
    assert "--resume goes on with a run and --overwrite starts again" in told


@pytest.mark.parametrize("resumed", [False, True])
def test_an_interrupt_before_anything_is_saved(tmp_path, resumed):
    """last.ckpt may be of an earlier run of the name, which is to be overwritten: it is nothing to go on from."""
    (tmp_path / "last.ckpt").touch()
    callback = Interrupt(tmp_path, resumed=resumed)
    with pytest.raises(Interrupted) as stop:
        callback._on_signal()
    assert stop.value.resumable == resumed
    assert ("of an earlier step" if resumed else "nothing was saved yet") in str(stop.value)


@pytest.mark.parametrize(("val_every", "budget"), [(None, 1.5), (10, 0.5)])
def test_a_validation_takes_a_tenth_of_the_time_since_the_last_one(scene_dir, monkeypatch, val_every, budget):
    """Whether the clock or the number of steps says when there is one."""
    budgets = []
    plan = system.plan
    monkeypatch.setattr(system, "probe", lambda *_: 1e-6)
    monkeypatch.setattr(system, "plan", lambda *given: budgets.append(given[-1]) or plan(*given))
    options = config(seconds=60.0, max_steps=None, val_every=val_every)
    scene = load_scene(scene_dir)
    ours = NeRFSystem(options, make(options), scene, scene)
    ours.length.step_seconds = 0.01
    ours.on_validation_start()
    assert budgets == [pytest.approx(budget)]


def test_an_epoch_passes_over_the_pixels_that_count(scene_dir):
    scene = load_scene(scene_dir)
    masks = torch.zeros(scene.images.shape[:3], dtype=torch.bool)
    masks[:, :8, :8] = True
    sizes = torch.tensor([[16, 16], [8, 8], [8, 8], [8, 8]])
    assert scene.n_pixels == 4 * 256
    assert replace(scene, masks=masks).n_pixels == 4 * 64
    assert replace(scene, cameras=replace(scene.cameras, sizes=sizes)).n_pixels == 256 + 3 * 64
    options = config(max_steps=None, num_epochs=1.0)
    assert NeRFSystem(options, make(options), replace(scene, masks=masks)).length.max_steps == 4


def test_memory_in_rendering_can_be_lowered(run, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    nerf("eval", run, "--chunk", 7)
    assert "--chunk 0 cannot work: give 1 or more" in refused(capsys, "eval", run, "--chunk", 0)


def test_a_backend_that_is_not_known(run, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NERF_PL_OPS", "kernels")
    assert "NERF_PL_OPS='kernels'" in refused(capsys, "eval", run)


def test_an_old_run_stays_whole_until_the_new_one_has_a_checkpoint(run, scene_dir, monkeypatch):
    """Its settings, its best weights and its log."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    class CrashError(Exception):
        pass

    def crash(self, *_):
        raise CrashError

    monkeypatch.setattr(NeRFSystem, "training_step", crash)
    with pytest.raises(CrashError):
        train(config("ngp"), scene_dir, RunFolders.modern(run), overwrite=True)
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("state_dict", {}), ("state_dict", 3), ("global_step", None), ("global_step", -5), ("train_seconds", "long"),
        ("train_seconds", float("nan")), ("best_psnr", None), ("optimizer_states", []), ("optimizer_states", [{}]),
        ("begun_on", 7),
    ],
)  # fmt: skip
def test_a_damaged_checkpoint_is_not_resumed(run, scene_dir, capsys, monkeypatch, tmp_path, key, value):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, "runs/run")
    damaged = content(Path("runs/run"))
    damaged[key] = value
    torch.save(damaged, "runs/run/checkpoints/last.ckpt")
    words = ["--exp_name", "run", "--resume", "--max_steps", 20, "--num_gpus", 0]
    assert "cannot be resumed" in refused(capsys, "train", scene_dir, *words)


@pytest.mark.parametrize(("key", "value"), [("ndc", "x"), ("ndc", 7), ("scene", 7)])
def test_a_damaged_checkpoint_is_not_shown(run, capsys, monkeypatch, tmp_path, key, value):
    monkeypatch.chdir(tmp_path)
    damaged = content(run)
    damaged[key] = value
    torch.save(damaged, run / "checkpoints" / "last.ckpt")
    assert "is damaged" in refused(capsys, "eval", run)
    damaged["config"]["method"] = ["ngp"]
    torch.save(damaged, run / "checkpoints" / "last.ckpt")
    assert "--method ['ngp'] in the stored settings" in refused(capsys, "eval", run)


@pytest.fixture
def grid(trained_ngp, tmp_path, monkeypatch) -> Path:
    """A finished run of the hash grid, of twenty steps."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(trained_ngp, "runs/grid"))


GO_ON = ("--exp_name", "grid", "--resume", "--num_gpus", 0)


@pytest.mark.parametrize(
    "words",
    [
        ("--downscale", 2), ("--img_wh", 8, 8), ("--test_every", 4), ("--seed", 1), ("--spheric",), ("--fit_colours",),
        ("--aabb", -1.0, -1.0, -1.0, 1.0, 1.0, 1.0), ("--levels", 5), ("--method", "nerf"),
    ],
)  # fmt: skip
def test_a_resumed_run_keeps_what_it_was_begun_with(grid, scene_dir, capsys, words):
    told = refused(capsys, "train", scene_dir, *GO_ON, "--max_steps", 30, *words)
    assert " ".join(map(str, words)) in told
    assert "was trained with" in told


def test_a_resumed_run_says_what_is_new(grid, scene_dir, capsys):
    nerf("train", scene_dir, *GO_ON, "--max_steps", 22, "--lr", 0.001, "--distortion", 0.5)
    out = capsys.readouterr().out
    assert "goes on with other options than before: --distortion 0.5 (was 0.0), --lr 0.001 (was 0.01)\n" in out


OF_A_GPU = "goes on with the sizes of a GPU, on which it was begun, and not of the CPU"


BEGUN_THERE = {"march_steps": 768, "rays_per_pixel": 4, "samples": 2**18}


@pytest.mark.parametrize(
    ("begun", "sizes", "words", "told"),
    [
        ("cuda", {}, (), f"{OF_A_GPU}: --samples 8192, as runs begun here have, makes a step cheaper\n"),
        ("cuda", {}, ("--samples", 8192), f"{OF_A_GPU}\n"),
        ("cuda", {"march_steps": 2048}, (), f"{OF_A_GPU}\n"),  # 8192 samples are too few for a pixel then
        ("cuda", {"march_steps": 1024, "rays_per_pixel": 8}, (), f"{OF_A_GPU}\n"),
        ("cuda", {"samples": 2**14}, (), f"{OF_A_GPU}\n"),  # typed: a GPU has 2**18
        ("cuda", {"samples": 2**14, "rays_per_pixel": 2}, (), ""),  # all that differs was typed
        ("cpu", {}, (), ""),
    ],
)
def test_a_run_that_was_begun_on_another_device_says_whose_sizes_it_has(
    grid, scene_dir, capsys, monkeypatch, begun, sizes, words, told
):
    stored, settings = content(grid), json.loads((grid / "settings.json").read_text())
    assert stored["begun_on"] == "cpu"
    for each in (stored["config"], settings):
        each["model"] |= BEGUN_THERE | sizes
    write_checkpoint(stored | {"begun_on": begun}, grid / "checkpoints" / "last.ckpt")
    (grid / "settings.json").write_text(json.dumps(settings))
    saved = {}
    monkeypatch.setattr(training, "_fit", lambda trainer, system, logs: system.on_save_checkpoint(saved))
    nerf("train", scene_dir, *GO_ON, "--max_steps", 22, *words)
    out = capsys.readouterr().out
    assert saved["begun_on"] == begun  # as a run that goes on a second time must know
    assert told in out
    assert ("sizes of" in out) == bool(told)


def test_a_run_that_was_begun_on_a_cpu_says_so_on_a_gpu(grid, scene_dir):
    stored, last = content(grid), grid / "checkpoints" / "last.ckpt"
    stored["config"]["model"]["samples"] = 2**13
    write_checkpoint(stored, last)
    options = as_begun(with_model(config("ngp", max_steps=22, fit_colours=None), samples=None), last)
    options, scene = load_training(options, scene_dir)
    ours = NeRFSystem(options, make(options), scene)
    ours.begun_on = "cuda"
    told = resume_run(ours, Checkpoints(last.parent), last)[0]
    assert told.startswith(
        "goes on with the sizes of the CPU, on which it was begun, and not of a GPU: --samples 262144"
    )
    assert told.endswith(" lets a step do more")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--max_steps", 40), "goes on to 40 steps in all, before it was 20 steps: the schedule spans the new length, "
                              "and the learning rate is at 93% of --lr now"),
        (("--seconds", 1000), "goes on to 1000 s in all, before it was 20 steps"),
        (("--num_epochs", 100), "goes on to 100 epochs in all, before it was 20 steps"),
    ],
)  # fmt: skip
def test_a_finished_run_can_be_extended(grid, scene_dir, capsys, monkeypatch, words, told):
    for more in ((), ("--max_steps", 20), ("--seconds", 0.0001)):
        assert "is finished, after 20 steps and " in refused(capsys, "train", scene_dir, *GO_ON, *more)
    monkeypatch.setattr(training, "_fit", lambda *_: None)  # the training itself is tested elsewhere
    nerf("train", scene_dir, *GO_ON, *words)
    assert told in capsys.readouterr().out


def test_the_learning_rate_of_an_extended_run_follows_the_longer_schedule(grid, scene_dir, capsys):
    assert content(grid)["optimizer_states"][0]["param_groups"][0]["lr"] < 2e-4
    nerf("train", scene_dir, *GO_ON, "--max_steps", 22)
    assert "the learning rate is at 6% of --lr now" in capsys.readouterr().out
    after = content(grid)
    assert after["global_step"] == 22
    assert after["optimizer_states"][0]["param_groups"][0]["lr"] < 2e-4


@pytest.mark.parametrize("world", [4, 1, 0.5])
def test_epochs_that_were_taken_count_with_another_number_of_processes(world):
    options = config("ngp", num_epochs=8, max_steps=None).train
    before, now = (Length(options, steps, fixed_batches=True, validates=False) for steps in (320, round(320 / world)))
    before.go_on(700, 5.0, None)
    now.go_on(700, 5.0, before.epochs)
    assert now.max_steps == 700 + (8 * 320 - 700) / world
    assert now.progress == before.progress
    now.step = now.max_steps or 0
    assert (now.progress, now.epochs, now.finished) == (1, 8, True)


def test_a_run_in_epochs_goes_on_with_larger_batches(scene_dir, tmp_path, monkeypatch):
    """With more processes it does the same."""
    monkeypatch.chdir(tmp_path)
    words = ["train", scene_dir, *FLAGS, "--num_gpus", 0, "--exp_name", "short"]
    nerf(*words, "--batch_size", 64, "--num_epochs", 1)
    steps = content(Path("runs/short"))["global_step"]
    nerf(*words, "--batch_size", 128, "--num_epochs", 2, "--resume")
    assert content(Path("runs/short"))["global_step"] == steps + steps // 2
