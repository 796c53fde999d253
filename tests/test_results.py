"""The tables of the docs are those of docs/results.json, and its figures can be traced."""

import importlib.util
import json
import re
import shlex
import shutil
import sys
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest

from nerf_pl import cli

DOCS = Path(__file__).resolve().parent.parent / "docs"


def load_tables() -> ModuleType:
    """docs/tables.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("docs_tables", DOCS / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module


tables = load_tables()
MEASUREMENTS = tables.read(DOCS / "results.json")
LOG = (DOCS / "log.md").read_text(encoding="utf-8")
ENTRIES = re.findall(r"^## (\d{4}-\d\d-\d\d) (.+)$", LOG, re.M)


@pytest.fixture
def docs(tmp_path):
    for name in ("results.json", *tables.PAGES):
        shutil.copy(DOCS / name, tmp_path)
    return tmp_path


def measurement(**changes):
    values = {
        "method": "ngp", "scene": "lego", "what": "test PSNR", "value": 36.0, "unit": "dB", "target": 36.0,
        "ssim": None, "gpu": "H200", "commit": "abcdef0", "command": "nerf train LEGO", "date": "2026-11-26",
        "current": True,
    }  # fmt: skip
    return tables.Measurement(**{**values, **changes})


def test_tables_are_up_to_date():
    assert tables.main(["--check"]) == 0, "run python docs/tables.py"


@pytest.mark.parametrize("current", [True, False])
def test_a_changed_figure_is_noticed(docs, current):
    figures = json.loads((docs / "results.json").read_text())
    next(m for m in figures if m["current"] == current)["value"] += 0.01
    (docs / "results.json").write_text(json.dumps(figures))
    before = {name: (docs / name).read_text() for name in tables.PAGES}
    assert tables.main(["--check"], docs) == 1
    assert {name: (docs / name).read_text() for name in tables.PAGES} == before, "a check writes nothing"
    assert tables.main([], docs) == 0
    assert tables.main(["--check"], docs) == 0


def test_a_table_changed_by_hand_is_noticed(docs):
    page = (docs / "results.md").read_text()
    (docs / "results.md").write_text(page.replace("37.00 dB", "38.00 dB"))
    assert tables.main(["--check"], docs) == 1


@pytest.mark.parametrize(
    ("value", "target", "unit", "expected"),
    [
        (36.0, 36.0, "dB", True),
        (35.99, 36.0, "dB", False),
        (2.5, 2.5, "ms", True),
        (2.51, 2.5, "ms", False),
        (1.0, None, "s", None),
    ],
)
def test_pass_follows_from_value_and_target(value, target, unit, expected):
    m = measurement(value=value, target=target, unit=unit)
    assert tables.passes(m) is expected
    assert tables.row(m, 1).count("pass") == (expected is True)
    assert tables.row(m, 1).count("fail") == (expected is False)


def test_a_method_without_a_table_is_an_error():
    with pytest.raises(ValueError, match="other"):
        tables.filled("<!-- table: ngp -->\n<!-- end -->\n", [measurement(), measurement(method="other")])


@pytest.mark.parametrize("m", MEASUREMENTS, ids=lambda m: f"{m.method}, {m.scene}, {m.what}")
def test_a_figure_can_be_traced(m):
    assert re.fullmatch(r"[0-9a-f]{7,40}", m.commit)
    assert date.fromisoformat(m.date)
    assert m.unit in tables.UNITS
    assert m.command
    assert m.ssim is None or 0 < m.ssim <= 1
    assert "|" not in "".join([m.scene, m.what, m.note, m.peers, m.command]), "it would end a cell of the table"


def test_no_figure_stands_twice():
    keys = [(m.method, m.scene, m.what, m.gpu, m.commit, m.note) for m in MEASUREMENTS]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("command", sorted({m.command for m in MEASUREMENTS}))
def test_commands_are_accepted(command):
    words = shlex.split(command.removeprefix("python ").replace("`", ""))
    if words[0] in ("nerf", "train.py") and command.startswith(tables.PROGRAMS):
        cli.parse(words[1:], program=words[0])


def test_log_is_newest_first():
    dates = [date.fromisoformat(day) for day, _ in ENTRIES]
    assert dates
    assert dates == sorted(dates, reverse=True)


def test_log_entries_have_a_verdict_and_their_parts():
    parts = re.split(r"^## \d{4}.*$", LOG, flags=re.M)[1:]
    for (_, title), text in zip(ENTRIES, parts, strict=True):
        assert ": " in title, f"no verdict: {title}"
        for word in ("Question", "Setting", "Decision"):
            assert f"**{word}.**" in text, f"{title} has no {word}"


def test_index_leads_to_entries():
    slugs = [re.sub(r"[^\w\- ]", "", f"{day} {title}".lower()).replace(" ", "-") for day, title in ENTRIES]
    assert len(set(slugs)) == len(slugs)
    links = re.findall(r"\]\(#([^)]+)\)", LOG)
    assert links
    assert set(links) <= set(slugs), set(links) - set(slugs)
