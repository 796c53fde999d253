"""What the README and the docs tell the reader to type is accepted by the real parsers."""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nerf_pl import cli

PROJECT = Path(__file__).resolve().parent.parent
PAGES = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs").glob("*.md"))]
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
OPERATORS = {"&&", "||", "|", ";", "&", ">", ">>", "<", "2>"}
PROGRAMS = ("nerf", "train.py", "eval.py")


def blocks(*languages: str) -> list:
    """The fenced blocks in one of these languages, each named by its page and line."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match["language"] in languages:
                place = f"{page.relative_to(PROJECT).as_posix()}:{text.count(chr(10), 0, match.start()) + 1}"
                rows = [row.removeprefix(match["indent"]) for row in match["text"].splitlines()]
                found.append(pytest.param("\n".join(rows) + "\n", id=place))
    return found


def commands(block: str) -> Iterator[list[str]]:
    """The simple commands of a bash block, as words; variables stand for a folder or file called `scene`."""
    text = re.sub(r"\$\{\w+\}|\$\w+", "scene", block.replace("\\\n", " "))
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.commenters = "#"
        words: list[str] = []
        for token in [*lexer, ";"]:
            if token in OPERATORS:
                if words:
                    yield words
                words = []
            elif words or not re.fullmatch(r"\w+=.*", token):  # leading VAR=value
                words.append(token)


def our_program(words: list[str]) -> tuple[str, list[str]] | None:
    """The program of ours that a command runs, and its arguments."""
    if words[0] in ("python", "python3", ".venv/bin/python") and len(words) > 1:
        words = words[1:]
    program = words[0].removeprefix(".venv/bin/").removeprefix("./")
    return (program, words[1:]) if program in PROGRAMS else None


def accepted(program: str, arguments: list[str]) -> bool:
    try:
        cli.parse(arguments, program=program)
    except SystemExit as stop:  # how an argument parser says no, or answers --help
        return not stop.code
    return True


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("block", blocks("bash", "sh", "shell", "console"))
def test_bash_blocks_are_valid(block):
    done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for words in commands(block):
        if words[0] == "make":
            wanted = {word for word in words[1:] if "=" not in word and not word.startswith("-")}
            assert wanted <= targets(), f"no such target in the Makefile: {wanted - targets()}"
        elif found := our_program(words):
            assert accepted(*found), f"not accepted: {shlex.join(words)}"


@pytest.mark.parametrize("block", blocks("python"))
def test_python_blocks_compile(block):
    compile(block, "<docs>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://", "mailto:", "#")):
            assert (page.parent / target.split("#")[0]).exists(), f"{page.name} links to {target}, which is not there"


def test_commands_are_found_in_a_block():
    block = 'export X=1\nOMP_NUM_THREADS=1 nerf train "$DIR/lego" \\\n  --lr 1 && make test # why\n'
    block += "python train.py --a b\n"
    found = list(commands(block))
    assert found == [
        ["export", "X=1"],
        ["nerf", "train", "scene/lego", "--lr", "1"],
        ["make", "test"],
        ["python", "train.py", "--a", "b"],
    ]
    assert our_program(found[3]) == ("train.py", ["--a", "b"])
