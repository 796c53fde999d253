"""Signals: what ends a command, at which moment, and what it says."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiny import FLAGS, PROJECT, config, content, refused

from nerf_pl.errors import Interrupted, UserError
from nerf_pl.options import RunFolders
from nerf_pl.signals import ENDING, Stopped, handled, stopped_by_signals, until_ctrl_c
from nerf_pl.training import processes
from nerf_pl.training.callbacks import Checkpoints, Interrupt
from nerf_pl.training.run import train

TRAIN = [*FLAGS, "--batch_size", 64, "--max_steps", 12, "--num_gpus", 0, "--exp_name", "tiny"]
LAST = "runs/tiny/checkpoints/last.ckpt"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("sent", ENDING)
def test_a_signal_stops_a_block(sent):
    before = signal.getsignal(sent)
    with pytest.raises(Stopped) as stop, stopped_by_signals():
        signal.raise_signal(sent)
    assert stop.value.number == sent
    assert signal.getsignal(sent) == before


def test_a_signal_that_comes_twice_stops_a_block_once():
    """`timeout` sends it to a process and to its group: the second one must not end what the first one saves."""
    ended = []

    def saves_in_the_end() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            ended.append(True)

    with pytest.raises(Stopped), stopped_by_signals():
        saves_in_the_end()
    assert ended


def test_ignored_signals_stay_so():
    """As SIGHUP after nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopped_by_signals():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_have_no_signals():
    said = []

    def work():
        with handled(said.append, ENDING):
            said.append("fine")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == ["fine"]


def test_what_ctrl_c_usually_ends():
    with until_ctrl_c():
        raise KeyboardInterrupt
    with pytest.raises(Stopped), until_ctrl_c():
        raise Stopped


@pytest.mark.parametrize(("method", "moment"), [("on_train_epoch_end", "before"), ("on_save_checkpoint", "after")])
def test_a_signal_while_a_checkpoint_is_written(scene_dir, tmp_path, monkeypatch, method, moment):
    """The file is whole, and the training has saved all that it has learned."""
    real = getattr(Checkpoints, method)

    def with_signal(self, *given):
        if moment == "after":
            real(self, *given)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        if moment == "before":
            real(self, *given)

    monkeypatch.setattr(Checkpoints, method, with_signal)
    with pytest.raises(Interrupted) as stop:
        train(config(val_every=6, max_steps=1000), scene_dir, RunFolders.modern(tmp_path / "run"))
    assert stop.value.number == signal.SIGTERM
    assert stop.value.resumable
    assert 6 <= content(tmp_path / "run")["global_step"] < 100


def test_a_signal_when_all_steps_are_done(scene_dir, capsys, monkeypatch):
    monkeypatch.setattr(Interrupt, "on_validation_start", lambda self, *_: signal.raise_signal(signal.SIGTERM), False)
    told = refused(capsys, "train", scene_dir, *TRAIN, "--val_every", 12, code=143)
    assert told == f"nerf: ended by SIGTERM; {LAST} is saved, and the training is finished"
    assert content(Path("runs/tiny"))["global_step"] == 12
    assert Path("runs/tiny/report.html").is_file()


def test_a_signal_while_the_report_is_written(scene_dir, capsys, monkeypatch):
    monkeypatch.setattr("nerf_pl.training.run.train", lambda *_: Path(LAST))  # the training itself is tested elsewhere
    monkeypatch.setattr("nerf_pl.cli.report", lambda *_: signal.raise_signal(signal.SIGTERM))
    told = refused(capsys, "train", scene_dir, *TRAIN, code=143)
    assert told == ("nerf: ended by SIGTERM; all but the report is written: nerf report runs/tiny writes it")


def test_a_command_that_starts_again(capsys, monkeypatch):
    monkeypatch.setattr("nerf_pl.cli.parse", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert refused(capsys, "eval", "runs/tiny", code=143) == "nerf: ended by SIGTERM; the same command starts again"


def helper(code: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code])


@pytest.mark.parametrize(
    ("code", "told", "kind"),
    [
        ("import os; os.kill(os.getpid(), 9)", "process 2 of 2 was ended by SIGKILL", UserError),
        ("raise SystemExit(1)", "process 2 of 2 failed, so the training ends; nothing was saved yet", UserError),
        ("raise SystemExit(143)", "nothing was saved yet", Interrupted),
        ("import os; os.kill(os.getpid(), 15)", "^nothing was saved yet", Interrupted),  # while it starts
        # the first one answers Ctrl-C for all
        ("import os; os.kill(os.getpid(), 2); raise SystemExit(1)", "process 2 of 2 failed, so", UserError),
    ],
)
def test_a_process_that_is_lost_ends_the_training(monkeypatch, code, told, kind):
    """The library that waits for it fails in its own words."""
    monkeypatch.setattr(processes, "_command", lambda: [sys.executable, "-c", code])

    def trains() -> None:
        with processes.together(2, lambda number: Interrupted("nothing was saved yet", False, number)):
            assert os.environ["WORLD_SIZE"] == "2"
            raise RuntimeError("connection closed by peer")

    with pytest.raises(kind, match=told) as stop:
        trains()
    assert "LOCAL_RANK" not in os.environ
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert kind is UserError or stop.value.number == signal.SIGTERM


def test_processes_that_somebody_else_started_are_left_alone(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(processes, "_command", lambda: ["/does/not/exist"])
    with processes.together(2, lambda number: Interrupted("", False, number)):
        pass


def test_the_processes_end_with_the_first_one(monkeypatch):
    """Even if it fails in its own way."""
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(processes, "_command", lambda: [sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    with pytest.raises(UserError), processes.together(2, lambda number: Interrupted("", False, number)):
        raise UserError("diverged")
    assert started[0].returncode == -signal.SIGKILL


@pytest.mark.parametrize("is_saved", [True, False])
def test_a_process_notices_that_the_first_one_is_gone(tmp_path, is_saved):
    """It was started by a process that is gone already."""
    folders = RunFolders.modern(tmp_path / "run")
    if is_saved:
        folders.checkpoints.mkdir(parents=True)
        folders.last.touch()
    code = f"""
import time
from pathlib import Path
from nerf_pl.options import RunFolders
from nerf_pl.training.folders import held
with held(RunFolders.modern(Path({str(tmp_path / "run")!r}))):
    time.sleep(60)
"""
    environment = {**os.environ, "LOCAL_RANK": "1", processes.FIRST: str(2**22 + 1), "PYTHONPATH": str(PROJECT)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    goes_on = f"{folders.last} is of an earlier step: the same command with --resume goes on"
    left = goes_on if is_saved else "nothing was saved yet"
    told = f"nerf: the first process of the training is gone, so the others end; {left}"
    assert " ".join(ended.stderr.split()) == told


def test_optional_packages_do_not_answer_signals(capfd):
    """pycolmap has a handler of SIGTERM, which Python does not see, and which dumps the stack."""
    code = """
import signal, sys
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
from nerf_pl.extras import extra
extra("pycolmap", "the test")
signal.raise_signal(signal.SIGTERM)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 7
    assert capfd.readouterr().err == ""
