"""Progress where there is no terminal: a line now and then."""

import re
from types import SimpleNamespace

import pytest
from tiny import nerf

from nerf_pl import console
from nerf_pl.bench import budgets, classic
from nerf_pl.console import progress, progress_lines


def test_lines_are_as_far_apart_as_they_should_be(capsys, monkeypatch):
    """Eight items of four seconds each, from the third of ten on: a line every third item."""
    now = [0.0]
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: now[0]))
    for kind in (progress, progress_lines):
        shown = []
        for item in kind("abcdefgh", 10, "views [of] it", 2):
            shown.append(item)
            now[0] += 4
        assert "".join(shown) == "abcdefgh"
        assert capsys.readouterr().out == "views [of] it: 5 of 10  0:20 left\nviews [of] it: 8 of 10  0:08 left\n"


def test_a_short_task_says_nothing(capsys):
    assert list(progress(range(3), 3, "views")) == [0, 1, 2]
    assert capsys.readouterr().out == ""


@pytest.fixture
def _impatient(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "QUIET_SECONDS", 0)


@pytest.mark.usefixtures("_impatient")
def test_eval_and_render_say_how_far_they_are(trained, tmp_path, capsys):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").symlink_to(trained / "checkpoints" / "last.ckpt")
    nerf("eval", run)
    assert "rendering test: 1 of 2  0:0" in capsys.readouterr().out
    nerf("render", run, "--frames", 3, "--img_wh", 6, 6, "--depth", "none")
    assert re.search(r"filming 360: 1 of 3  \d:\d\d left\nfilming 360: 2 of 3  \d:\d\d left\n", capsys.readouterr().out)


@pytest.mark.usefixtures("_impatient")
def test_bench_says_how_far_it_is(scene_dir, capsys, monkeypatch):
    monkeypatch.setattr(classic, "SIZE", 16)
    monkeypatch.setattr(classic, "RAYS", 16)
    monkeypatch.setattr(classic, "WINDOW", 1)
    nerf("bench", "nerf", scene_dir, "--steps", 2, "--view", 4, "--precisions", "fp32")
    out = capsys.readouterr().out
    assert "  fp32, windows of 1 steps: 1 of 2  0:0" in out
    assert "  fp32, renderings of a view of 4x4: 2 of 3  0:0" in out
    monkeypatch.setattr(budgets, "WARM_UP", 3)
    monkeypatch.setattr(budgets, "PART", 1)
    monkeypatch.setattr(budgets, "STEPS", 1)
    nerf("bench", "ngp", scene_dir, "--seconds", 0.1)
    out = capsys.readouterr().out
    assert "  parts of the warm-up, 1 steps each: 2 of 3  0:0" in out
    assert re.search(r"  views scored: 1 of 2  \S+ left\n  views timed: 1 of 2  \S+ left\n", out)
