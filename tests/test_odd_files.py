"""What stands in place of a file: a pipe, a device, a sparse file. Nothing waits for it, and it takes no memory."""

import os
from pathlib import Path

import pytest
from tiny import refused

from nerf_pl.checkpoints import is_portable, read_checkpoint
from nerf_pl.errors import UserError, content_of, reason
from nerf_pl.media import read_pfm
from nerf_pl.methods import read_settings
from nerf_pl.report.history import read_history
from nerf_pl.report.record import read_values
from nerf_pl.scenes import Request, load_scene
from nerf_pl.scenes.importers.files import holds, read_text
from nerf_pl.scenes.pictures import read_json
from nerf_pl.writing import locked

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with pipes that have names")

LONG = "n" * 300


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [pipe, device, sparse, loop])
def test_what_is_no_file_is_refused(tmp_path, make, capsys):
    for name, read in [
        ("transforms.json", lambda path: load_scene(path.parent, Request())), ("path.json", read_json),
        ("settings.json", read_settings), ("a.csv", read_text), ("a.pfm", read_pfm), ("a.ckpt", read_checkpoint),
    ]:  # fmt: skip
        (tmp_path / name).mkdir()
        make(tmp_path / name / name)
        with pytest.raises(UserError):
            read(tmp_path / name / name)
        assert not is_portable(tmp_path / name / name)
    with pytest.raises(OSError, match=r"no file|claims|levels"):
        content_of(tmp_path / "a.csv" / "a.csv")
    assert not holds(tmp_path / "a.csv" / "a.csv", b"x")


@pytest.mark.parametrize("words", [("mesh", LONG), ("render", "a", "--path", LONG), ("train", LONG), ("eval", LONG)])
def test_a_path_that_is_too_long_is_one_line(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "nnn" in refused(capsys, *words, "--num_gpus", 0)


def test_places_that_cannot_be_written(tmp_path):
    loop(tmp_path / "loop")
    for path, told in [(Path("/"), "/ holds everything"), (tmp_path / "loop", "is a link that leads to itself")]:
        with pytest.raises(UserError, match=told), locked(path):
            pass


def test_reports_do_without_it(tmp_path, capsys):
    for name in ("metrics.json", "history.json"):
        pipe(tmp_path / name)
    assert read_values(tmp_path / "metrics.json") == {}
    assert "metrics.json cannot be read" in capsys.readouterr().err
    assert read_history(tmp_path) == []


def test_a_reason_is_not_the_line_that_announces_it():
    told = "Error(s) in loading state_dict for A:\n\tsize mismatch for x\n\tsize mismatch for y"
    assert reason(RuntimeError(told)) == "RuntimeError: size mismatch for x"
    assert reason(RuntimeError("nothing follows:")) == "RuntimeError: nothing follows:"
