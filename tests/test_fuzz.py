"""Damaged files, by the hundreds, and those that were once read wrongly; `python tests/fuzz.py` tries more of them."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import fuzz
import pytest
from fuzz import Bench, recipe_of
from fuzz_pace import quick
from tiny import refused

from nerf_pl import console
from nerf_pl.errors import STRICT, DamagedError, UserError, reading
from nerf_pl.text import one_line, visible

PAST = Path(__file__).parent / "fuzz_past.jsonl"
SEED = 20  # of the inputs below; each of them has the seed and its number


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """The valid files of all readers."""
    with pytest.MonkeyPatch.context() as patch, quick():
        patch.setenv(STRICT, "1")
        yield Bench(tmp_path_factory.mktemp("fuzz"))


def test_valid_files_are_read(bench):
    for name in bench.targets:
        wrong = bench.run((name, min(bench.prepared(name)), []))
        assert (wrong, bench.outcome) == ("", "read"), name


@pytest.mark.parametrize("count", [250, pytest.param(20_000, marks=pytest.mark.slow)])
def test_damaged_files_are_told(bench, count):
    wrong = {}
    for index in range(count):
        recipe = bench.draw(Random(f"{SEED} {index}"))
        if told := bench.run(recipe):
            wrong[json.dumps(recipe)] = told
    assert not wrong, f"{len(wrong)} of {count}, such as {next(iter(wrong.items()))}"


def test_files_that_were_once_read_wrongly(bench):
    for line in PAST.read_text().splitlines():
        assert not bench.run(recipe_of(line)), line


def test_the_fuzzer_sees_what_is_wrong(bench, monkeypatch):
    """Other errors, senseless success, what is printed, and what takes too long."""
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    name, file = "pfm", "a.pfm"
    target = bench.targets[name]

    def outcome(read) -> str:
        bench.targets[name] = replace(target, read=read)
        try:
            return bench.run((name, file, []))
        finally:
            bench.targets[name] = target

    def told(message: str) -> None:
        error = UserError("")
        error.args = (message,)
        raise error

    def for_ever() -> None:
        while True:
            pass

    assert "KeyError" in outcome(lambda root: {}["a"])
    assert "AssertionError" in outcome(lambda root: pytest.fail("nonsense") if root is None else exec("assert False"))
    assert "obey" in outcome(lambda root: told("\x1b[31m"))
    assert "300 characters" in outcome(lambda root: told("x" * 300))
    assert "more than 0.2 s" in outcome(lambda root: for_ever())
    assert "printed" in outcome(lambda root: print("\x1b[31m", file=console.console.file))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RecursionError("maximum recursion depth exceeded"), "it nests too deep"),
        (MemoryError(), "more than fits into memory"),
        (OSError(36, "File name too long"), "File name too long"),
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError("\x1b[31m" + "x" * 1000), "\\x1b[31mxxx"),
        (ZeroDivisionError("division by zero"), "division by zero"),
    ],
)
def test_whatever_is_raised_becomes_one_line_with_its_cause(monkeypatch, error, told):
    monkeypatch.delenv(STRICT, raising=False)
    with pytest.raises(DamagedError) as caught, reading(Path("scene.json"), "restore it"):
        raise error
    message = str(caught.value)
    assert message.startswith("scene.json is damaged (")
    assert told in message
    assert message.endswith("): restore it")
    assert len(message) < 300
    assert message.isprintable()
    assert caught.value.__cause__ is error


def test_what_the_system_refuses_is_no_damage():
    with pytest.raises(UserError) as caught, reading(Path("scene.json"), "restore it"):
        raise OSError(24, "Too many open files", "a/b.png")
    assert str(caught.value) == "a/b.png cannot be read (Too many open files): allow more open files (ulimit -n)"
    assert not isinstance(caught.value, DamagedError)
    told = r"^scene.json is damaged \(a.png: No such file\): restore it$"
    with pytest.raises(DamagedError, match=told), reading(Path("scene.json"), "restore it"):
        raise OSError(2, "No such file", b"a.png")


def test_mistakes_of_the_program_stay_visible(monkeypatch):
    """Those raised by its own lines, and those that the checks of types raise; not those of libraries."""
    from nerf_pl.scenes.splits import held_out

    monkeypatch.setenv(STRICT, "1")
    with pytest.raises(TypeError), reading("a"):
        held_out(None, "train", 8)
    with pytest.raises(DamagedError), reading("a"):
        json.loads({})


def test_text_from_files_is_harmless_and_short():
    assert visible("a[/b] \x1b[31m\udcff\u202e\n") == "a[/b] \\x1b[31m\\xff\\u202e\n"
    assert one_line("a\nb\tc") == "a b c"
    long = one_line(f"/folder/{'x' * 1000}/a.json: {'word ' * 100}")
    assert len(long) < 300
    assert long.startswith("/folder/xxx")
    assert one_line(f"{'y' * 400} is damaged").endswith("y is damaged")


def test_what_was_told_first_counts_where_cleaning_up_fails_too(capsys, monkeypatch):
    """After an illegal access nothing works on a GPU any more."""

    def fails(*_: object) -> None:
        try:
            raise UserError("the kernels are wrong")
        finally:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("nerf_pl.cli.info.Info.run", fails)
    assert "nerf: the kernels are wrong" in refused(capsys, "info", "scene")


def test_a_system_without_threads_is_no_damage(capsys, monkeypatch):
    """Nor is it a traceback."""

    def none(*_: object) -> None:
        with reading("scene"):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr("nerf_pl.cli.info.Info.run", none)
    assert "nerf: the system allows no more threads: allow more processes" in refused(capsys, "info", "scene")
