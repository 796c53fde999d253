"""Whatever a terminal can show, and however files are called, a command goes through and shows names as they are."""

import errno
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import NGP_FLAGS, PROJECT, nerf

from nerf_pl import console
from nerf_pl.cli.train import Train
from nerf_pl.options.shared import NAME

SCENE = "[bold]sc:car:ène 你好 [red]"
VIEW = "[0] 你好 :car:"


@pytest.fixture
def named_scene(scene_dir, tmp_path, monkeypatch) -> Path:
    """A scene whose names need all kinds of characters."""
    monkeypatch.chdir(tmp_path)
    root = Path(shutil.copytree(scene_dir, SCENE))
    path = root / "transforms_test.json"
    values = json.loads(path.read_text())
    for i, frame in enumerate(values["frames"]):
        file = root / f"{frame['file_path']}.png"
        frame["file_path"] = f"./test/{i}{VIEW}"
        file.rename(root / f"test/{i}{VIEW}.png")
    path.write_text(json.dumps(values))
    return root


def output(monkeypatch: pytest.MonkeyPatch, encoding: str, terminal: bool) -> io.BytesIO:
    """What the commands print from now on, as bytes in an encoding."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, write_through=True))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written, encoding=encoding, write_through=True))
    for shown in (console.console, console.errors):
        monkeypatch.setattr(shown, "_force_terminal", terminal)
        monkeypatch.setattr(shown, "_environ", {"TERM": "xterm"})
        monkeypatch.setattr(shown, "is_interactive", terminal)
        monkeypatch.setattr(shown, "_width", 300)
    return written


@pytest.mark.parametrize(("encoding", "terminal"), [("ascii", False), ("cp1252", True), ("utf-8", True)])
def test_names_are_shown_and_end_no_command(named_scene, monkeypatch, encoding, terminal):
    written = output(monkeypatch, encoding, terminal)
    monkeypatch.setattr(console, "QUIET_SECONDS", 0)
    nerf("train", named_scene, *NGP_FLAGS, "--max_steps", 2, "--num_gpus", 0)
    run = f"runs/{SCENE}-ngp"
    nerf("eval", run, "--num_gpus", 0)
    nerf("render", run, "--frames", 2, "--depth", "none", "--num_gpus", 0)
    with pytest.raises(SystemExit) as stop:
        nerf("eval", run, "--scene", f"no {SCENE}", "--num_gpus", 0)
    assert stop.value.code == 2
    shown = written.getvalue().decode(encoding)
    for name in (SCENE, f"0{VIEW}", f"runs/{SCENE}-ngp/renders", f"no {SCENE} is"):
        assert name.encode(encoding, "backslashreplace").decode(encoding) in shown, shown


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("bar", ["progress", "progress_lines"])
def test_progress_of_anything(monkeypatch, encoding, bar):
    written = output(monkeypatch, encoding, bar == "progress")
    monkeypatch.setattr(console, "QUIET_SECONDS", 0)
    console.escape_what_is_not_encodable()
    for i in getattr(console, bar)(range(2), 2, SCENE):
        time.sleep(0 if i else 0.25)  # a bar draws itself ten times a second
    assert SCENE.encode(encoding, "backslashreplace") in written.getvalue()


def test_a_name_that_is_no_text(monkeypatch):
    """Bytes that are no UTF-8 come from the file system as surrogates. The run is named without them."""
    written = output(monkeypatch, "utf-8", False)
    name = os.fsdecode(b"caf\xe9")
    with pytest.raises(SystemExit):
        nerf("train", name)
    assert b"caf\\xe9 is not a folder" in written.getvalue()
    assert Train(Path(name)).name == "caf_-ngp"
    assert NAME.holds(Train(Path("x" * 300)).name)


class Lost(io.StringIO):
    """A stream on a full disk, or one that nobody reads."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_is_printed_may_be_lost_if_it_is_not_all_that_a_command_is_for(monkeypatch):
    printed, told = console.Terminal(), console.Terminal(stderr=True)
    monkeypatch.setattr(console, "errors", told)
    printed.file, told.file = Lost(), io.StringIO()
    with pytest.raises(OSError, match="No space left"):
        printed.print("a")
    printed.quiet = printed.is_needed = False
    printed.print("a")
    printed.print("b")
    assert told.file.getvalue() == "what is printed is lost (No space left on device); the work goes on\n"
    told.file = Lost()
    told.print("an error that nobody reads")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell")
@pytest.mark.parametrize(
    ("command", "code"),
    [(">&- 2>&- <&-", 0), (">/dev/full", 2), ("nowhere --exp_name 2>/dev/full", 2), ("| true", 141)],
)
def test_closed_and_full_streams_end_nothing_with_a_traceback(command, code):
    """Also those of the process itself, and what is still to be written when it ends."""
    word = "train" if "nowhere" in command else "--help"
    script = f"{shlex.quote(sys.executable)} -m nerf_pl {word} {command}; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
