"""Every command and option that a message advises is there, in the command that prints the message."""

import ast
import re
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tyro
from tiny import PACKAGE

from nerf_pl.cli.parse import CLASSIC_COMMANDS, COMMANDS
from nerf_pl.cli.train import train_command, train_defaults
from nerf_pl.methods import METHODS

# which command prints the messages of a file: that of the longest path which fits. Loaders of scenes speak to those who
# train, as a run keeps what was asked for then
PRINTED_BY = {
    "": "train", "cli/bench.py": "bench", "cli/classic_train.py": "eval.py", "cli/demo.py": "demo",
    "cli/eval.py": "eval", "cli/export.py": "export", "cli/import_.py": "import", "cli/mesh.py": "mesh",
    "cli/points.py": "points", "cli/prepare.py": "prepare", "cli/render.py": "render", "cli/report.py": "report",
    "cli/trained.py": "eval", "cli/view.py": "view", "evaluation": "eval", "export": "mesh", "export/web": "export",
    "export/cameras.py": "export", "films": "render", "rendering.py": "eval", "scenes/importers": "import",
    "cli/sweep.py": "sweep", "doctor/compiles.py": "doctor", "scenes/prepare": "prepare",
    "viewer": "view", "viewer/page.py": "render", "viewer/track.py": "render",
}  # fmt: skip
ELSEWHERE = {
    ("sweep/scores.py", "--split"): "eval",
    ("report/page.py", "--split"): "eval",
    ("cli/trained.py", "--path"): "render",
    ("cli/import_.py", "--dataset_name"): "train",  # of the next command
    ("cli/parse.py", "--spheric_poses"): "",  # a spelling that is understood
    ("cli/parse.py", "--version"): "",  # of `nerf` itself
    ("cli/parse.py", "--help_all"): "",
    ("cli/trained.py", "--overwrite"): "train",  # what was begun
    ("cli/sweep.py", "--method"): "train",  # which it starts
    ("cli/sweep.py", "--resume"): "train",
    ("doctor/compiles.py", "--json"): "",  # of a command of its own
    ("doctor/compiles.py", "--only"): "",
    ("checkpoints/models.py", "--checkpoint"): "eval",
}
NO_COMMAND = {"also", "is"}  # words after the name of the method
OPTION = re.compile(r"(?<![\w-])--[A-Za-z]\w*(?![\w{-])")  # options with a hyphen are those of `nerf` itself


@cache
def options(command: str) -> frozenset[str]:
    """Those of a command, of all methods."""
    kinds: list[tuple[type, Any]] = [({**COMMANDS, **CLASSIC_COMMANDS}[command], None)]
    if command == "train":
        kinds = [(train_command(name), train_defaults(method.preset)) for name, method in METHODS.items()]
    found = set()
    for kind, default in kinds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            how: dict[str, Any] = {"use_underscores": True, "config": (tyro.conf.DisallowNone,)}
            parser = tyro.extras.get_parser(kind, **how, **({"default": default} if default else {}))
        found |= {word for action in parser._actions for word in action.option_strings}
    return frozenset(found)


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """The strings in a file that are not mere documentation of code, with {} for what is put into them."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    parts |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, node.value


def advised(text: str, own: str) -> Iterator[tuple[str, str]]:
    """Command and option of each option in a text; "" for a command without one. own: the command that prints it."""
    text = re.sub(r"pip install [^;,:]*", "", text)
    rest = text
    for match in re.finditer(r"(?<![.\w])nerf ([a-z_]+)([^`;,:]*)", text):
        if match[1] not in NO_COMMAND:
            yield match[1], ""
            yield from ((match[1], option) for option in OPTION.findall(match[2]))
            rest = rest.replace(match[0], "")
    yield from ((own, option) for option in OPTION.findall(rest))


def printed_by(path: str) -> str:
    return PRINTED_BY[max((start for start in PRINTED_BY if path.startswith(start)), key=len)]


FILES = sorted(file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES)
def test_what_messages_advise_is_there(path):
    wrong = []
    for line, text in texts(PACKAGE / path):
        for command, option in advised(text, printed_by(path)):
            command = ELSEWHERE.get((path, option), command)
            if command and command not in {**COMMANDS, **CLASSIC_COMMANDS}:
                wrong.append(f"line {line}: there is no command nerf {command}")
            elif command and option and option not in options(command):
                wrong.append(f"line {line}: {command} has no {option}: {text}")
    assert not wrong, "\n".join(wrong)


def test_the_table_names_what_is_there():
    assert all((PACKAGE / path).exists() for path in PRINTED_BY)
    assert set(PRINTED_BY.values()) <= {*COMMANDS, *CLASSIC_COMMANDS}
    assert {path for path, _ in ELSEWHERE} <= set(FILES)
    found = {pair for path in FILES for _, text in texts(PACKAGE / path) for pair in advised(text, printed_by(path))}
    assert {("train", "--downscale"), ("render", "--path"), ("train", ""), ("import", "--overwrite")} <= found
