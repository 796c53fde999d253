"""The examples in the docstrings that the API page shows do what they say, on a tiny scene and a run of it."""

import ast
import doctest
import importlib.util
import inspect
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
NAMES = re.findall(r"^::: (\S+)$", (PROJECT / "docs" / "api.md").read_text(encoding="utf-8"), re.M)
WITHOUT = {"nerf_pl.methods.model.Model"}  # what a method must have: the toy method is its example
SLOW = {"nerf_pl.training.run.train"}  # a model of its usual size
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples(name: str) -> Iterator[tuple[str, str, str]]:
    """The module, the owner and the text of each docstring with examples, of what has this name and what is in it."""
    module, member = (name, "") if is_module(name) else name.rsplit(".", 1)
    tree = ast.parse(Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8"))
    owners = [node for node in tree.body if getattr(node, "name", None) == member] if member else [tree]
    assert owners, f"docs/api.md names {name}, which is not there"
    for node in ast.walk(owners[0]):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node, clean=False) or ""
            if ">>>" in text:
                yield module, getattr(node, "name", module), text


@pytest.fixture
def here(tmp_path, monkeypatch, scene_dir, trained_ngp):
    """A working folder with what the examples name."""
    shutil.copytree(scene_dir, tmp_path / "my_scene")
    shutil.copytree(trained_ngp, tmp_path / "runs" / "first")
    monkeypatch.chdir(tmp_path)


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a class or a function
        return False


def marked(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name


@pytest.mark.parametrize("name", [marked(name) for name in NAMES])
def test_examples_do_what_they_say(name, here):
    found = list(examples(name))
    assert found or name in WITHOUT, f"{name} has no example"
    for module, owner, text in found:
        assert not re.search("^>>>", inspect.cleandoc(text), re.M), f"{owner}: the page would show quotations"
        names = vars(importlib.import_module(module)).copy()
        told: list[str] = []
        test = doctest.DocTestParser().get_doctest(text, names, owner, module, 0)
        assert not doctest.DocTestRunner(optionflags=FLAGS).run(test, out=told.append).failed, "".join(told)
