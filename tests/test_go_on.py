"""Trainings that go on, or must not: --resume auto, runs that are to be replaced, checkpoints by time, SLURM."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from tiny import FLAGS, CrashError, config, content, nerf, refused

from nerf_pl import cli
from nerf_pl.checkpoints import files, read_checkpoint
from nerf_pl.errors import Interrupted, UserError
from nerf_pl.options import RunFolders
from nerf_pl.report.history import FILE, read_history
from nerf_pl.training import callbacks, checkpoint_io
from nerf_pl.training import run as training
from nerf_pl.training.callbacks import Checkpoints
from nerf_pl.training.length import Length
from nerf_pl.training.run import train
from nerf_pl.training.saving import Saving
from nerf_pl.training.system import NeRFSystem

TRAIN = [*FLAGS, "--batch_size", 64, "--num_gpus", 0, "--exp_name", "tiny"]
LAST, MARK = Path("runs/tiny/checkpoints/last.ckpt"), Path("runs/tiny/being-replaced.txt")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(trained) -> Path:
    """A finished run of twelve steps."""
    return Path(shutil.copytree(trained, "runs/tiny"))


@pytest.mark.parametrize(
    ("words", "resume"),
    [
        (["x"], False), (["x", "--resume"], True), (["--resume", "x"], True), (["x", "--resume", "auto"], "auto"),
        (["--resume", "auto", "x"], "auto"), (["--resume=auto", "x"], "auto"), (["--resume", "--lr", "1", "x"], True),
    ],
)  # fmt: skip
def test_words_that_go_on(words, resume):
    assert cli.parse(["train", *words]).resume == resume
    classic = ["--root_dir" if word == "x" else word for word in words]
    classic.insert(classic.index("--root_dir") + 1, "x")
    assert cli.parse(classic, "train.py").resume == resume


def test_auto_starts_goes_on_and_does_nothing(scene_dir, capsys, monkeypatch):
    """The same command each time, as a batch system gives it."""
    words = ["train", scene_dir, *TRAIN, "--resume", "auto", "--max_steps", 12, "--val_every", 3]
    with monkeypatch.context() as patch:
        stop = lambda self, trainer, system: system.step == 3 and signal.raise_signal(signal.SIGTERM)  # noqa: E731
        patch.setattr(callbacks.ImageLog, "on_validation_start", stop, raising=False)
        assert "--resume goes on" in refused(capsys, *words, code=143)
    assert content(Path("runs/tiny"))["global_step"] == 3
    nerf(*words)
    assert content(Path("runs/tiny"))["global_step"] == 12
    before = {file: file.read_bytes() for file in Path("runs").rglob("*") if file.is_file()}
    assert len(read_history(Path("runs/tiny"))) == 2
    capsys.readouterr()
    nerf(*words)  # exit code 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{LAST} is finished, after 12 steps and ")
    assert (told.out.count("\n"), told.err) == (1, "")
    assert {file: file.read_bytes() for file in Path("runs").rglob("*") if file.is_file()} == before


def killed_while_overwriting(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As kill -9 before the first checkpoint: nothing can be cleaned up."""

    def crash(self, *_):
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(NeRFSystem, "training_step", crash)
        with pytest.raises(CrashError):
            nerf("train", scene, *TRAIN, "--overwrite", "--lr", 0.25, "--max_steps", 5)


def test_a_run_that_was_to_be_replaced_does_not_go_on(run, scene_dir, capsys, monkeypatch):
    before = LAST.read_bytes()
    killed_while_overwriting(scene_dir, monkeypatch)
    assert LAST.read_bytes() == before
    told = refused(capsys, "train", scene_dir, *TRAIN, "--resume", "--max_steps", 20)
    assert f"{LAST} is of the run before, which a training with --overwrite was to replace: that saved nothing" in told
    assert f"remove {MARK} to go on with the old" in told
    for given in (run, LAST):
        nerf("points", given, "--count", 50)
        assert "a training with --overwrite has saved nothing yet" in capsys.readouterr().err
    assert "--overwrite to start again" in refused(capsys, "train", scene_dir, *TRAIN, "--max_steps", 2)
    nerf("train", scene_dir, *TRAIN, "--resume", "auto", "--max_steps", 2)  # starts what was to replace the run
    assert not MARK.exists()
    assert content(run)["global_step"] == 2
    assert json.loads((run / "settings.json").read_text())["train"]["max_steps"] == 2
    assert len(read_history(run)) == 1
    killed_while_overwriting(scene_dir, monkeypatch)
    MARK.unlink()
    nerf("train", scene_dir, *TRAIN, "--resume", "--max_steps", 3)  # the run before
    assert content(run)["global_step"] == 3


@pytest.mark.parametrize("error", [CrashError, UserError])
def test_a_run_is_whole_until_the_first_checkpoint_of_the_next_is_on_the_disk(run, scene_dir, monkeypatch, error):
    """As kill -9 while that is written, and a full disk."""
    (run / FILE).write_text("[]")
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}

    def fail(content: dict, path: Path) -> None:
        raise error("cannot write it")

    monkeypatch.setattr(checkpoint_io, "write_checkpoint", fail)
    with pytest.raises((CrashError, SystemExit)):
        nerf("train", scene_dir, *TRAIN, "--overwrite", "--lr", 0.25, "--max_steps", 5)
    assert MARK.is_file()
    assert {file: file.read_bytes() for file in before} == before


def test_best_weights_alone_are_not_lost(run, scene_dir, capsys, monkeypatch):
    """Who wants to save space removes last.ckpt."""
    best = LAST.with_name("best.ckpt")
    LAST.unlink()
    words = ["train", scene_dir, *TRAIN, "--max_steps", 13]
    assert refused(capsys, *words).startswith(f"nerf: {best} exists: add --resume to go on")
    told = f"nerf: --resume: there is no {LAST}: cp {best} {LAST}, then the same command goes on from the best weights"
    for resume in (["--resume"], ["--resume", "auto"]):
        assert refused(capsys, *words, *resume) == told
    assert refused(capsys, "eval", run) == f"nerf: run {run} has no last.ckpt: give --checkpoint best"
    before = best.read_bytes()
    killed_while_overwriting(scene_dir, monkeypatch)
    assert best.read_bytes() == before
    assert f"{best} is the old one" in MARK.read_text()
    nerf(*words, "--overwrite")
    assert not MARK.exists()
    assert content(run)["global_step"] == 13


def test_a_demo_replaces_no_training_on_another_scene(run, capsys):
    settings = run / "settings.json"
    mine = Path("mine").resolve()
    mine.mkdir()
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "scene": str(mine)}))
    told = refused(capsys, "demo", "--out", run, "--seconds", 1)
    assert told == f"nerf: --out {run} holds a training on {mine}, which is no demo: give another folder"
    assert not Path("data").exists()


def test_what_cannot_replace_a_run_leaves_it(run, capsys):
    (run / FILE).write_text("[]")
    refused(capsys, "train", "nowhere", *TRAIN, "--overwrite")
    assert not MARK.exists()
    assert (run / FILE).is_file()


def test_a_scene_that_has_moved_is_said(run, scene_dir, capsys):
    shutil.copytree(scene_dir, "moved")
    nerf("train", "moved", *TRAIN, "--resume", "--max_steps", 13)
    assert (
        f"goes on with the scene in {Path('moved').resolve()}, before it was in {scene_dir}" in capsys.readouterr().out
    )


def test_checkpoints_by_time(scene_dir, tmp_path, monkeypatch):
    """Between two validations, and not in place of one."""
    saved = []
    save = Checkpoints.save

    def noted(self, trainer, system):
        save(self, trainer, system)
        saved.append((system.step, read_checkpoint(self.last)["global_step"]))

    spend = Length.spend
    monkeypatch.setattr(Checkpoints, "save", noted)
    monkeypatch.setattr(Length, "spend", lambda self, seconds, steps: spend(self, 60.0 * steps, steps))
    monkeypatch.setattr(Length, "next_chunks", lambda self: [1] * 6)
    train(config(max_steps=12, save_minutes=3.5, val_every=6), scene_dir, RunFolders.modern(tmp_path))
    assert saved == [(4, 4), (6, 6), (10, 10), (12, 12)]


class SlowDisk:
    """A clock by which each validation comes 10 s after the one before, and each file takes 3 s to be written."""

    def __init__(self, patch: pytest.MonkeyPatch, scores: Sequence[float]) -> None:
        self.now, self.written = 0.0, []
        write, copy = files.write_checkpoint, files.duplicate

        def scored(callback: Checkpoints, trainer: object, system: NeRFSystem) -> None:
            self.now += 10
            if (score := scores[system.step // 2 - 1]) > callback.best:
                callback.best, callback.best_step = score, system.step

        def slow(content: dict, path: Path) -> None:
            write(content, path)
            self._took(path)

        patch.setattr(Checkpoints, "on_validation_end", scored)
        patch.setattr(checkpoint_io, "write_checkpoint", slow)
        patch.setattr(callbacks, "duplicate", lambda source, path: (copy(source, path), self._took(path)))
        patch.setattr(Saving, "clock", lambda _: self.now)

    def _took(self, path: Path) -> None:
        self.now += 3
        self.written.append((path.stem, read_checkpoint(path)["global_step"]))


RISES, FALLS = (20, 21, 22, 23, 24, 25), (20, 24, 26, 25, 24, 23)  # dB after 2, 4 ... 12 steps


@pytest.mark.parametrize(
    ("scores", "written"),
    [
        (RISES, [("last", 2), ("best", 2), ("last", 12), ("best", 12)]),
        (FALLS, [("last", 2), ("best", 2), ("best", 6), ("last", 12)]),
    ],
)
def test_saving_on_a_slow_disk_waits_until_it_is_a_small_part(scene_dir, tmp_path, monkeypatch, scores, written):
    """Six validations save twice. The best weights are none of those that were saved in time, and are kept."""
    disk = SlowDisk(monkeypatch, scores)
    train(config(val_every=2), scene_dir, RunFolders.modern(tmp_path))
    assert disk.written == written
    best = read_checkpoint(tmp_path / "checkpoints" / "best.ckpt")
    assert (best["best_psnr"], best["best_step"]) == (max(scores), 2 * scores.index(max(scores)) + 2)
    assert [content(tmp_path)[name] for name in ("best_psnr", "best_step")] == [best["best_psnr"], best["best_step"]]


def test_a_long_training_on_a_slow_disk_saves_again_when_it_may(scene_dir, tmp_path, monkeypatch):
    """After 6 s of saving the next comes after 120 s."""
    disk = SlowDisk(monkeypatch, [*range(20, 40)])
    train(config(max_steps=40, val_every=2), scene_dir, RunFolders.modern(tmp_path))
    assert disk.written == [(name, step) for step in (2, 24, 40) for name in ("last", "best")]


@pytest.mark.parametrize("ends", ["killed", "signal", "failed"])
def test_the_best_weights_that_wait_are_lost_to_nothing_but_a_kill(scene_dir, tmp_path, monkeypatch, ends):
    """And then the run goes on from before, and finds them again."""
    best, folders = tmp_path / "checkpoints" / "best.ckpt", RunFolders.modern(tmp_path)

    def stop(self, trainer, system):
        if system.step == 8 and ends == "signal":
            signal.raise_signal(signal.SIGTERM)
        elif system.step == 8:
            raise CrashError

    with monkeypatch.context() as patch:
        SlowDisk(patch, FALLS)
        patch.setattr(callbacks.ImageLog, "on_validation_start", stop, raising=False)
        if ends == "killed":  # what is in memory is gone
            patch.setattr(Checkpoints, "on_exception", lambda *_: None)
        with pytest.raises((Interrupted, CrashError)):
            train(config(val_every=2), scene_dir, folders)
    kept = {"killed": 2, "signal": 6, "failed": 6}[ends]
    assert read_checkpoint(best)["global_step"] == kept
    assert content(tmp_path)["global_step"] == (8 if ends == "signal" else 2)
    SlowDisk(monkeypatch, FALLS)
    train(config(val_every=2), scene_dir, folders, resume=True)
    assert read_checkpoint(best)["global_step"] == 6
    assert [content(tmp_path)[name] for name in ("global_step", "best_step")] == [12, 6]


def test_last_is_written_even_if_best_cannot_be(scene_dir, tmp_path, monkeypatch):
    folders = RunFolders.modern(tmp_path)

    def full(source: Path, path: Path) -> None:
        raise UserError(f"cannot write {path}")

    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "duplicate", full)
        with pytest.raises(UserError, match=r"cannot write .*best\.ckpt"):
            train(config(), scene_dir, folders)
    assert content(tmp_path)["global_step"] > 0
    monkeypatch.setattr(training, "_fit", lambda *_: None)
    train(config(), scene_dir, folders, resume=True)  # it catches up
    assert read_checkpoint(folders.checkpoints / "best.ckpt")["best_psnr"] == content(tmp_path)["best_psnr"]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short"])
def test_a_damaged_last_checkpoint_names_what_goes_on_from_the_best(run, scene_dir, capsys, damage):
    best = LAST.with_name("best.ckpt")
    LAST.write_bytes(damage)
    words = ["train", scene_dir, *TRAIN, "--resume", "--max_steps", 13]
    told = refused(capsys, *words)
    copy = f"cp {best} {LAST}"
    why = f"{LAST} cannot be resumed, it is damaged"
    assert told == f"nerf: {why}: {copy}, then the same command goes on from the best weights"
    assert refused(capsys, "eval", run).endswith("or give --checkpoint best, for the best weights of the run")
    subprocess.run(copy.split(), check=True)
    nerf(*words)
    assert files.read_own_checkpoint(LAST)["global_step"] == 13
    for path in (LAST, best):
        path.write_bytes(damage)
    told = refused(capsys, *words)
    assert told == f"nerf: {why}: start again with --overwrite, for {best} is damaged, too"
    best.unlink()
    assert refused(capsys, *words) == f"nerf: {why}: start again with --overwrite"


SLURM = {
    "SLURM_JOB_ID": "1234", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
    "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NODELIST": "node[1-2]",
}  # fmt: skip


@pytest.mark.parametrize("name", ["train", "bash"])
def test_on_slurm_a_training_is_as_elsewhere(scene_dir, capsys, monkeypatch, name):
    """Neither a checkpoint in the working folder nor a requeued job, and none of the former is taken up. The name of
    an interactive shell is bash."""
    for variable, value in {
        **SLURM,
        "SLURM_JOB_NAME": name,
        "PATH": f"{Path().resolve()}:{os.environ['PATH']}",
    }.items():
        monkeypatch.setenv(variable, value)
    for command in ("scontrol", "srun"):
        Path(command).write_text(f"#!/bin/sh\ntouch {Path().resolve()}/called\n")
        Path(command).chmod(0o755)
    Path("hpc_ckpt_1.ckpt").write_bytes(b"of another training")
    before = set(os.listdir())
    made, real = [], training._trainer
    monkeypatch.setattr(training, "_trainer", lambda *given: made.append(real(*given)) or made[-1])
    send = lambda *_: signal.raise_signal(signal.SIGUSR1)  # noqa: E731
    monkeypatch.setattr(callbacks.ImageLog, "on_validation_start", send, raising=False)
    told = refused(capsys, "train", scene_dir, *TRAIN, "--max_steps", 1000, "--val_every", 3, code=138)
    assert told == f"nerf: ended by SIGUSR1; {LAST} is saved: the same command with --resume goes on"
    assert set(os.listdir()) - before == {"runs"}
    assert [trainer.world_size for trainer in made] == [1]
