"""The commands of the pages do what the pages say: run one after the other, on a tiny scene and a run of it."""

import ast
import json
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
import test_toy_method
from page_world import ELSEWHERE, command_lines, furnish, place_of, quick, write_photos
from PIL import Image
from test_docs import FENCE, PAGES, accepted, blocks, our_program
from tiny import nerf

from nerf_pl.cli.parse import COMMANDS
from nerf_pl.methods import METHODS
from nerf_pl.scenes import Request, load_scene

PROJECT = Path(__file__).resolve().parent.parent
TESTS = PROJECT / "tests"
WITH_COMMANDS = [page for page in PAGES if any(quick(words, page.name) for words in command_lines(page))]
OUTSIDE = ("bash", "cd", "export", "source")  # programs of the shell


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_runs_here_or_in_another_test(page):
    left = [
        shlex.join(words)
        for words in command_lines(page)
        if words[0] not in OUTSIDE and quick(words, page.name) is None and place_of(words) is None
    ]
    assert not left, f"{page.name}: add these to page_world.py"


@pytest.mark.parametrize("place", sorted(set(ELSEWHERE.values())))
def test_the_other_tests_are_there(place):
    file, _, name = place.partition("::")
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_extras_that_pages_install_are_there():
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    named = {name for text in texts for group in re.findall(r"pip install ['\"]\.\[([\w,]+)\]", text)
             for name in group.split(",")}  # fmt: skip
    assert {"colmap", "mesh", "viewer"} <= named <= set(extras)


@pytest.mark.slow
def test_commands_in_the_text_are_accepted():
    """Those that are whole: others are the name of a command, or of an option without its value."""
    wrong = []
    for page in PAGES:
        for span in re.findall(r"`([^`]+)`", FENCE.sub("", page.read_text(encoding="utf-8"))):
            words = shlex.split(span) if span.startswith(("nerf ", "python train.py", "python eval.py")) else []
            if (
                len(words) > 2
                and words[2] != "needs"
                and not words[2].startswith("-")
                and (found := our_program(words))
            ):
                wrong += [] if accepted(*found) or words[1] not in COMMANDS else [f"{page.name}: {span}"]
    assert not wrong


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    made = []

    def folder() -> Path:
        if not made:
            made.append(write_photos(tmp_path_factory.mktemp("photos") / "photos"))
        return made[0]

    return folder


@pytest.fixture
def short_waits(monkeypatch):
    """Viewers end at once, and measurements are of one step."""
    from nerf_pl.bench import budgets, classic
    from nerf_pl.viewer.live import Live
    from nerf_pl.viewer.loop import Loop

    monkeypatch.setattr(Loop, "run", lambda loop: None)
    monkeypatch.setattr(Live, "run", lambda live: None)
    for name in ("WARM_UP", "STEPS"):
        monkeypatch.setattr(budgets, name, 1)
    for name in ("SIZE", "RAYS"):
        monkeypatch.setattr(classic, name, 16)


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page, scene_dir, trained_ngp, photos, short_waits, tmp_path, monkeypatch):
    for package in ("pycolmap", "skimage", "viser"):
        pytest.importorskip(package)
    for name in ("HOME", "XDG_DATA_HOME", "BASH_COMPLETION_USER_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.chdir(tmp_path)
    lines = list(command_lines(page))
    furnish(scene_dir, trained_ngp, photos, lines)
    for words in lines:
        if (found := quick(words, page.name)) is None:
            continue
        program, command = found
        assert run(command, program) == 0, command


def run(command: list[str], program: str) -> int:
    """The exit code of a command."""
    try:
        nerf(*command, program=program)
    except SystemExit as stop:  # --help, for example
        return int(stop.code or 0)
    return 0


# ---- blocks that are no commands -------------------------------------------------------------------------------------


def block_of(page: str, language: str) -> str:
    (found,) = [block.values[0] for block in blocks(language) if block.id.startswith(f"{page}:")]
    return str(found)


def test_all_blocks_that_are_no_commands_are_known():
    """Each is run by a test: of the reader of portable scenes, of films, of the README, and those below."""
    found = sorted(block.id.rpartition(":")[0] for block in blocks("python", "json", "yaml", "toml"))
    python = ["README.md", "docs/method.md", "docs/portable.md", "docs/python.md"]
    assert found == sorted([*python, "docs/films.md", "docs/formats.md"])


def test_the_example_of_the_page_is_that_of_the_readme():
    assert block_of("docs/python.md", "python") == block_of("README.md", "python")


def test_a_method_is_registered_as_the_page_says(monkeypatch):
    monkeypatch.setitem(METHODS, "fog", None)  # taken out again
    exec(block_of("docs/method.md", "python"), vars(test_toy_method).copy())
    assert METHODS["fog"].preset.method == "fog"


def test_the_file_of_a_scene_in_the_page_is_read(tmp_path):
    (tmp_path / "train").mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "train" / "r_0.png")
    (tmp_path / "transforms_train.json").write_text(json.dumps(json.loads(block_of("docs/formats.md", "json"))))
    scene = load_scene(tmp_path, Request("train"))
    assert scene.images.shape[:3] == (1, 6, 8)
    assert float(scene.cameras.K[0, 0, 0]) == pytest.approx(4 / 0.35987, rel=1e-3)
