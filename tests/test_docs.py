"""What the README and the docs tell the reader to type is accepted by the real parsers, and what they name is there."""

import ast
import importlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny import PACKAGE

from nerf_pl import cli
from nerf_pl.errors import UserError

PROJECT = Path(__file__).resolve().parent.parent
PAGES = [*(PROJECT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"))]
PAGES += sorted((PROJECT / "docs").glob("*.md"))
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
OPERATORS = {"&&", "||", "|", ";", "&", ">", ">>", "<", "2>"}
PROGRAMS = ("nerf", "train.py", "eval.py")
CODE_PAGES = [PROJECT / "docs" / "code.md", PROJECT / "docs" / "math.md"]  # which name modules, functions and options
CODE_SUFFIXES = ("py", "md", "json", "ipynb", "ckpt", "png", "toml", "lock")


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


@pytest.fixture(autouse=True)
def home_of_its_own(monkeypatch, tmp_path) -> None:
    """`nerf --install-completion` asks for the shell, which batch systems do not name, and writes to the home."""
    for name in ("HOME", "XDG_DATA_HOME", "BASH_COMPLETION_USER_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")


def accepted(program: str, arguments: list[str]) -> bool:
    try:
        cli.parse(arguments, program=program)
    except UserError:
        return False
    except SystemExit as stop:  # how an argument parser answers --help
        return not stop.code
    return True


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))


@cache
def sources() -> dict[str, str]:
    """The text of every module of nerf_pl, by its full name."""
    files = sorted(PACKAGE.rglob("*.py"))
    parts = {file: file.relative_to(PACKAGE.parent).with_suffix("").parts for file in files}
    return {".".join(parts[file]).removesuffix(".__init__"): file.read_text(encoding="utf-8") for file in files}


def names_in(page: Path, pattern: str) -> set[str]:
    """What stands in backticks and is all of that form; a call counts as the name before its brackets."""
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text(encoding="utf-8")))
    return {match[1] for span in spans if (match := re.fullmatch(rf"({pattern})(\([\w, ]*\))?", span))}


def holds(owner: object, name: str) -> bool:
    return hasattr(owner, name) or name in getattr(owner, "__annotations__", {})


def is_there(dotted: str) -> bool:
    """Whether `module.function`, as seen from nerf_pl, or `Class.member` exists; also a name of another package."""
    first, *rest = dotted.split(".")
    homes = [name for name, text in sources().items() if re.search(rf"^class {first}\b", text, re.M)]
    if f"nerf_pl.{first}" in sources():
        home, rest = "nerf_pl", [first, *rest]
    elif homes:
        home, rest = homes[0], [first, *rest]
    elif find_spec(first) is not None:
        home = first
    else:
        return False
    while rest and f"{home}.{rest[0]}" in sources():  # a module first: `ops.march` is a function and a folder
        home = f"{home}.{rest.pop(0)}"
    owner: object = importlib.import_module(home)
    for i, name in enumerate(rest):
        if not holds(owner, name):
            return False
        if not hasattr(owner, name):  # a field without a default
            return i == len(rest) - 1
        owner = getattr(owner, name)
    return True


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


@pytest.mark.parametrize("page", CODE_PAGES, ids=lambda page: page.name)
def test_modules_and_functions_are_there(page):
    dotted = {name for name in names_in(page, r"[A-Za-z_]\w*(?:\.\w+)+") if name.split(".")[-1] not in CODE_SUFFIXES}
    assert len(dotted) > 20
    gone = sorted(name for name in dotted if not is_there(name))
    assert not gone, f"{page.name} names what is not there: {gone}"


@pytest.mark.parametrize("page", CODE_PAGES, ids=lambda page: page.name)
def test_plain_names_are_in_the_code(page):
    """Names of classes, functions, options and constants, and of what the tests take from their surroundings."""
    conftest = (PROJECT / "tests" / "conftest.py").read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", "\n".join([*sources().values(), conftest]))) | targets()
    gone = sorted(names_in(page, r"[A-Za-z]\w{2,}") - words)
    assert not gone, f"{page.name} names what is not in the code: {gone}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_the_code_are_there(page):
    paths = names_in(page, r"(?:nerf_pl|tests|docs|options|ops|scenes|methods|training|films|cli)/[\w/.]*")
    folders = (PROJECT, PACKAGE.parent, PACKAGE)
    gone = sorted(path for path in paths if not any((folder / path).exists() for folder in folders))
    assert not gone, f"{page.name} names what is not there: {gone}"


def test_names_that_are_gone_are_noticed():
    assert all(
        map(is_there, ["ops.march", "ops.march.reference.march", "types.Rays.near", "NeRF.loss", "torch.nn.Module"])
    )
    gone = ["data.PixelBatches", "ops.grid_reference.march", "ops.march.reference.gone", "types.Rays.gone", "NeRF.gone"]
    assert not any(map(is_there, gone))


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
