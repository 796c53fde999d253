"""Several runs side by side."""

import re
from pathlib import Path

import pytest
from report_files import Page, requires_nothing_else, write_json, write_run
from tiny import nerf, refused

from nerf_pl.metrics import FLOATERS_BY
from nerf_pl.report import write_comparison
from nerf_pl.report.comparison import MOST_RUNS, MOST_VIEWS


def comparison(*folders: Path) -> Page:
    return Page(write_comparison(folders, folders[0].parent / "comparison.html"))


def rows(shown: Page, table: int) -> dict[str, list[str]]:
    """The rows of a table of the page, as text, by their first cell."""
    body = re.findall(r"<tbody>(.*?)</tbody>", shown.text, re.S)[table]
    cells = [re.findall(r"<td.*?>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", body)]
    return {re.sub("<.*?>", "", first): others for first, *others in cells}


def test_scores_and_settings_side_by_side(tmp_path):
    a = write_run(tmp_path / "a", [20.0, 24.0], psnr_fitted=25.0, floaters=0.25, floaters_by=FLOATERS_BY)
    b = write_run(tmp_path / "b", [21.0, 22.0], floaters=0.5, floaters_by=FLOATERS_BY)
    for run, seconds in ((a, 5.0), (b, 9.0)):
        settings = {"scene": "x/toys", "method": "ngp", "train": {"seconds": seconds, "seed": 0, "exp_name": run.name}}
        write_json(run / "settings.json", settings)
    shown = comparison(a, b)
    requires_nothing_else(shown)
    scores = rows(shown, 0)
    assert scores["PSNR, dB"] == ['<b class="best">22.00</b>', "21.50"]
    assert scores["PSNR, colours fitted, dB"] == ["25.00", "–"]
    assert scores["floaters"] == ['<b class="best">25.0%</b>', "50.0%"]  # fewer are better
    assert scores["SSIM"] == ["0.9000", "0.9000"]
    assert rows(shown, 1) == {"seconds": ["5.0", "9.0"]}
    assert "does not compare" not in shown.told


@pytest.mark.parametrize("other", [{}, {"floaters_by": "distance"}, {"floaters_by": 7}])
def test_floaters_of_another_measure_are_not_compared(tmp_path, other):
    a = write_run(tmp_path / "a", [20.0], floaters=0.25, floaters_by=FLOATERS_BY)
    b = write_run(tmp_path / "b", [21.0], floaters=0.01, **other)
    shown = comparison(a, b)
    assert rows(shown, 0)["floaters"] == ["25.0%", "–"]
    assert "Floaters were measured in another way, and are left out: b." in shown.told
    assert "floaters" not in rows(comparison(b), 0)


def test_the_same_views_of_each_run(tmp_path):
    names = [f"v{i}" for i in range(20)]
    a = write_run(tmp_path / "a", [20.0 + i for i in range(20)], names)
    b = write_run(tmp_path / "b", [20.0 + i + 4 * (i == 9) for i in range(20)], names)
    shown = comparison(a, b)
    cards = re.findall(r"<header><h3>(v\d+)</h3>", shown.text)
    assert len(cards) == MOST_VIEWS
    assert {"v9", "v0", "v1", "v19", "v18"} <= {*cards}  # where they differ most, the worst and the best
    assert len(shown.all("img")) == MOST_VIEWS * 5  # of the scene, then the picture and the errors of each run
    assert "<b>b</b> 33.00 dB" in shown.text


def test_views_are_matched_by_name(tmp_path):
    a = write_run(tmp_path / "a", [20.0, 21.0], ["x", "y"])
    b = write_run(tmp_path / "b", [25.0, 26.0, 27.0], ["z", "y", "w"])
    shown = comparison(a, b)
    assert re.findall(r"<header><h3>(\w)</h3>", shown.text) == ["y"]
    assert "<b>b</b> 26.00 dB" in shown.text
    assert "scored on different views" in shown.told


def test_what_does_not_compare_is_said(tmp_path):
    a = write_run(tmp_path / "a", [20.0])
    b = write_run(tmp_path / "b", [21.0], split="val")
    assert "no split on which all of these runs were scored" in comparison(a, b).told
    (tmp_path / "c" / "checkpoints").mkdir(parents=True)
    both = comparison(a, tmp_path / "c")
    assert rows(both, 0)["PSNR, dB"] == ["20.00", "–"]
    d = write_run(tmp_path / "d", [21.0])
    write_json(d / "settings.json", {"scene": "x/other"})
    shown = comparison(a, d)
    assert "different scenes" in shown.told
    assert not shown.all("img")


def test_runs_of_one_name_are_told_apart(tmp_path):
    shown = comparison(write_run(tmp_path / "x" / "run", [20.0]), write_run(tmp_path / "y" / "run", [20.0]))
    assert str(tmp_path / "x" / "run") in shown.told
    assert "All options are the same" in shown.told


def test_the_command(trained_ngp, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a = write_run(tmp_path / "a<b>", [20.0])
    nerf("report", trained_ngp, a, "--out", tmp_path / "both.html")
    assert f"comparison {tmp_path / 'both.html'}" in capsys.readouterr().out
    shown = Page(tmp_path / "both.html")
    assert {"Training", "Settings that differ", "How they were made"} <= {*shown.headings}
    assert "a<b>" in shown.told
    capsys.readouterr()
    nerf("report", a.name, trained_ngp)
    assert capsys.readouterr().out == "comparison comparison.html\n"
    assert (tmp_path / "comparison.html").is_file()
    assert refused(capsys, "report", a, a).endswith("is given twice: name each run once")
    assert "does not exist" in refused(capsys, "report", a, "gone")
    more = [write_run(tmp_path / str(i), [20.0]) for i in range(MOST_RUNS + 1)]
    assert f"give up to {MOST_RUNS}" in refused(capsys, "report", *more)


@pytest.mark.parametrize("n", [1, 10])
def test_more_runs_than_colours(tmp_path, n):
    """Each has a column, however many."""
    shown = comparison(*(write_run(tmp_path / str(i), [20.0 + i]) for i in range(n)))
    assert len(rows(shown, 0)["PSNR, dB"]) == n
