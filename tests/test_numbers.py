"""Every number that an option takes, in every command: a value that cannot work is refused in one line, before the work
begins, and no other error comes."""

import dataclasses
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from tiny import FLAGS, NGP_FLAGS, nerf

from nerf_pl import evaluation
from nerf_pl.bench import budgets, classic
from nerf_pl.cli.classic_train import ClassicTrain
from nerf_pl.cli.flags import with_model
from nerf_pl.cli.parse import CLASSIC_COMMANDS, COMMANDS
from nerf_pl.cli.train import train_command
from nerf_pl.export import mesh
from nerf_pl.films import film as films
from nerf_pl.methods import CLASSIC
from nerf_pl.scenes import demo
from nerf_pl.scenes import prepare as photos
from nerf_pl.training import run as training

VALUES = ("0", "-1", "1e-30", str(10**30), "nan", "inf")
KINDS: dict[str, type] = {
    "train": train_command("ngp"), "train --method nerf": train_command("nerf"),
    "train.py": with_model(ClassicTrain, CLASSIC), "eval.py": CLASSIC_COMMANDS["eval.py"],
    **{name: COMMANDS[name] for name in ("eval", "render", "mesh", "demo", "prepare", "import") if name in COMMANDS},
    "bench ngp": COMMANDS["bench"], "bench nerf": COMMANDS["bench"],
}  # fmt: skip


def numbers(hint: Any) -> int:
    """How many numbers an option takes; 0 if it takes none."""
    if get_origin(hint) is Annotated:
        return numbers(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return max(map(numbers, get_args(hint)))
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        return numbers(parts[0]) * (1 if parts[-1] is ... else len(parts))
    return int(hint in (int, float))


def options(kind: type) -> Iterator[tuple[str, int]]:
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if field.name == "model":
            inner = type(field.default_factory()) if callable(field.default_factory) else inner
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            yield from options(inner)
        elif get_origin(inner) is not Literal and (count := numbers(hint)):
            yield field.name, count


def cases() -> Iterator[Any]:
    """Options of trainings are slow here, where each command is parsed. Their ranges are tested elsewhere, too."""
    for command, kind in KINDS.items():
        marks = [pytest.mark.slow] if command.startswith("train") else []
        yield from (pytest.param(command, *option, marks=marks) for option in options(kind))


@pytest.fixture(scope="module")
def place(tmp_path_factory, trained, scene_dir) -> Path:
    root = tmp_path_factory.mktemp("numbers")
    shutil.copytree(trained, root / "run")
    (root / "photos").mkdir()
    return root


@pytest.fixture
def words(place, scene_dir, monkeypatch, request) -> dict[str, list[object]]:
    """Each command without the work that it does once its options are good."""
    is_demo = request.node.callspec.params["command"] == "demo"
    monkeypatch.chdir(place)
    nothing = lambda *_, **__: None  # noqa: E731
    monkeypatch.setattr(training, "train", lambda config, *_, **__: config.check() or place / "last.ckpt")
    for command in (COMMANDS["eval"], COMMANDS["render"]) if is_demo else ():
        monkeypatch.setattr(command, "run", nothing)
    monkeypatch.setattr(photos, "stage_photos", lambda *_, **__: [])
    monkeypatch.setattr(evaluation, "evaluate", nothing)
    monkeypatch.setattr(films, "film", nothing)
    monkeypatch.setattr(films, "tell", nothing)
    monkeypatch.setattr(budgets, "bench_budgets", nothing)
    monkeypatch.setattr(classic, "bench_classic", nothing)
    monkeypatch.setattr(demo, "make_demo", lambda *_, **__: scene_dir)
    monkeypatch.setattr(mesh, "mesh_of", lambda *_, **__: sys.exit())
    monkeypatch.setattr("nerf_pl.extras.EXTRAS", {})
    on_cpu, last = ["--num_gpus", 0], "run/checkpoints/last.ckpt"
    return {
        "train": [scene_dir, *NGP_FLAGS, "--overwrite", *on_cpu, "--exp_name", "a"],
        "train --method nerf": [scene_dir, *FLAGS, "--overwrite", *on_cpu, "--exp_name", "b"],
        "train.py": ["--root_dir", scene_dir, *FLAGS[2:], "--img_wh", 16, 16, "--overwrite", *on_cpu],
        "eval.py": ["--root_dir", scene_dir, "--ckpt_path", last, "--img_wh", 16, 16, "--N_importance", 8, *on_cpu],
        "eval": ["run", *on_cpu], "render": ["run", *on_cpu], "mesh": ["run", *on_cpu], "demo": on_cpu,
        "prepare": ["photos"], "import": [last, "--out", place / "imported", "--scene", scene_dir],
        "bench ngp": [scene_dir], "bench nerf": [scene_dir],
    }  # fmt: skip


@pytest.mark.parametrize(("command", "option", "count"), list(cases()))
def test_absurd_numbers(words, capsys, place, command, option, count):
    program = command if command.endswith(".py") else "nerf"
    start = [] if program == command else command.split()
    for value in VALUES:
        shutil.rmtree(place / "imported", ignore_errors=True)
        capsys.readouterr()
        code = run(*start, *words[command], f"--{option}", *[value] * count, program=program)
        message = capsys.readouterr().err
        if code is not None:
            assert (code, message.count("\n")) == (2, 1), (value, message)
            assert option in message or "has 0 photos" in message, (value, message)


def run(*words: object, program: str) -> object:
    """The exit code of a command; None if it goes through."""
    try:
        nerf(*words, program=program)
    except SystemExit as stop:
        return stop.code
    return None
