"""From the words of a command line to a command."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import tyro

from nerf_pl.cli.bench import Bench
from nerf_pl.cli.classic_eval import ClassicEval
from nerf_pl.cli.classic_train import ClassicTrain
from nerf_pl.cli.completion import install
from nerf_pl.cli.demo import Demo
from nerf_pl.cli.doctor import Doctor
from nerf_pl.cli.eval import Eval
from nerf_pl.cli.export import Export
from nerf_pl.cli.flags import RUNS, with_model
from nerf_pl.cli.help import options_of, sorted_help
from nerf_pl.cli.hints import meant_command, meant_options
from nerf_pl.cli.import_ import Import
from nerf_pl.cli.info import Info
from nerf_pl.cli.mesh import Mesh
from nerf_pl.cli.points import Points
from nerf_pl.cli.prepare import Prepare
from nerf_pl.cli.refusals import in_one_line
from nerf_pl.cli.render import Render
from nerf_pl.cli.report import Report
from nerf_pl.cli.sweep import Sweeping, methods_in, sweep_command, sweep_defaults, with_trainings
from nerf_pl.cli.train import Train, train_command, train_defaults
from nerf_pl.cli.values import is_flag, not_understood, takes_no_value
from nerf_pl.cli.view import View
from nerf_pl.console import console
from nerf_pl.errors import UserError
from nerf_pl.methods import CLASSIC, DEFAULT, METHODS, method_of, read_settings
from nerf_pl.options import Config, RunFolders
from nerf_pl.version import VERSION


@runtime_checkable
class Command(Protocol):
    """A command: its fields are the options, `run` does the work. What it may return shows the results to the user and
    is called when all of them are written."""

    def run(self) -> Callable[[], None] | None: ...


COMMANDS: dict[str, type] = {
    "train": train_command(DEFAULT), "eval": Eval, "render": Render, "view": View, "mesh": Mesh, "points": Points,
    "export": Export, "sweep": sweep_command(DEFAULT), "demo": Demo, "report": Report, "prepare": Prepare,
    "import": Import, "bench": Bench, "info": Info, "doctor": Doctor,
}  # fmt: skip
ONLY_TELL = (Info, Doctor, Bench)  # commands that are for nothing but what they print
TRAINS = (Train, ClassicTrain, Demo)  # commands that several processes can share
CLASSIC_COMMANDS: dict[str, type] = {"train.py": with_model(ClassicTrain, CLASSIC), "eval.py": ClassicEval}
DESCRIPTION = """\
Neural radiance fields: learn a scene from photos, see it from anywhere.

From photos to a film:
  nerf prepare PHOTOS --out SCENE      find where each photo, or frame of a film, was taken
  nerf train SCENE --exp_name first    learn the scene; everything goes to runs/first
  nerf eval runs/first                 score the photos that were held out
  nerf render runs/first               film it; or see it in the browser: nerf view runs/first

No photos at hand: nerf demo. Something does not work: nerf doctor.

All options of a training: nerf train --help-all. Others: nerf --version, nerf --install-completion."""
HELP, HELP_ALL = ("-h", "--help"), ("--help-all", "--help_all")
LENGTHS = ("max_steps", "seconds", "num_epochs")  # options that say how long a training takes


def parse(argv: Sequence[str], program: str = "nerf") -> Command:
    """The command of a command line. Raises UserError with a suggestion for an unknown word. --help exits.

    With --resume, an option that is not typed has the value that the run was started with.
    """
    argv = ["--spheric" if word == "--spheric_poses" else word for word in argv]  # classic, in full
    first = argv[0].replace("_", "-") if argv else "--help"
    if first == "--version":
        console.print(f"nerf_pl {VERSION}")
        sys.exit()
    if program in CLASSIC_COMMANDS or first == "train":
        argv = _with_mode(argv)
    if program in CLASSIC_COMMANDS:
        command = _parse(CLASSIC_COMMANDS[program], program, argv)
        return _resumed(command, program, argv) if isinstance(command, ClassicTrain) else command
    if first == "--install-completion":
        install(" ".join(argv[1:]), _write_completion)
        sys.exit()
    if first == "train":
        return _parse_train("nerf train", argv[1:])
    if first == "sweep":
        return _parse_sweep("nerf sweep", argv[1:])
    if first in COMMANDS:
        return _parse(COMMANDS[first], f"nerf {first}", argv[1:])
    return _all(["--help" if word in HELP_ALL else word for word in argv] or ["--help"])


def _write_completion(shell: str, file: Path) -> None:
    with suppress(SystemExit):  # as --help does
        _all(["--tyro-write-completion", shell, str(file)])


def _all(argv: Sequence[str]) -> Any:
    """Lets tyro answer with all commands at hand."""
    words = {"prog": "nerf", "args": argv, "description": DESCRIPTION, **_settings()}
    parse = partial(tyro.extras.subcommand_cli_from_dict, COMMANDS, **words)
    return in_one_line(parse, lambda _: meant_command(argv[0], COMMANDS))


def _parse_train(program: str, argv: Sequence[str]) -> Train:
    name = _method(argv)
    method_of(name)
    _refuse_options_of_others(name, argv)
    return _resumed(_parse(train_command(name), program, argv, train_defaults(METHODS[name].preset)), program, argv)


def _parse_sweep(program: str, argv: Sequence[str]) -> Sweeping:
    commands = {}
    for name in methods_in(argv):
        method_of(name, "methods")
        _refuse_options_of_others(name, argv)
        commands[name] = _parse(sweep_command(name), program, argv, sweep_defaults(METHODS[name].preset))
    return with_trainings(commands, lambda option: _typed(argv, option) is not None, argv)


def _method(argv: Sequence[str]) -> str:
    """The method of a training: the typed one, or that of the run to be resumed."""
    typed, run = _typed(argv, "method"), _typed(argv, "exp_name")
    resume = _typed(argv, "resume")
    if run and resume is not None:
        folders = RunFolders.modern(RUNS / run)
        begun = _begun_with(folders) if folders.goes_on("auto" if resume == "auto" else True) else None
        stored = begun.method if begun is not None else None
        if stored and typed not in (None, stored):
            told = f"--method {typed}: run {RUNS / run} was trained with {stored}"
            raise UserError(f"{told}; leave the option out, or give another --exp_name")
        return stored or typed or DEFAULT
    return typed or DEFAULT


def _refuse_options_of_others(name: str, argv: Sequence[str]) -> None:
    """Raises UserError for an option that only another method has."""
    own = {field.name for field in dataclasses.fields(METHODS[name].options)}
    for other, method in METHODS.items():
        for field in dataclasses.fields(method.options):
            words = [word for word in (field.name, f"no_{field.name}") if _typed(argv, word) is not None]
            if words and field.name not in own:
                told = f"--{words[0]} is an option of --method {other}, and this training is of {name}"
                raise UserError(f"{told}: leave it out, or add --method {other}")


def _resumed(command: Any, program: str, argv: Sequence[str]) -> Any:
    """The command with the options of the run that it resumes. Typed options take precedence."""
    stored = _begun_with(command.folders) if command.folders.goes_on(command.resume) else None
    if stored is not None and isinstance(stored.model, type(command.model)):  # of another method: `resume_run` tells
        parts: dict[str, Any] = {f.name: getattr(stored, f.name) for f in dataclasses.fields(Config)}
        parts = {name: value for name, value in parts.items() if hasattr(command, name)}
        # the name by which the run was found: in a folder that was copied, the stored one is that of another run
        parts["train"] = dataclasses.replace(stored.train, exp_name=command.train.exp_name)
        default = dataclasses.replace(command, resume=False, overwrite=False, **parts)
        command = _parse(type(command), program, argv, default)
        if stored.train.deterministic and not command.train.deterministic:  # later this looks as if it was not typed
            told = f"--no_deterministic: {command.folders.last} was trained with --deterministic"
            raise UserError(f"{told}; leave the option out, or start another run with another --exp_name")
    # If the length of the training is typed, other lengths have no default: the default seconds do not end 5000 steps.
    if any(_typed(argv, name) is not None for name in LENGTHS):
        unset = {name: None for name in ("max_steps", "seconds") if _typed(argv, name) is None}
        command = dataclasses.replace(command, train=dataclasses.replace(command.train, **unset))
    return command


def _begun_with(folders: RunFolders) -> Config | None:
    """The options of the run in these folders, from its checkpoint if settings.json is not there. None if there is no
    run, or none that can be read."""
    if folders.settings.is_file():
        return read_settings(folders.settings)
    if not folders.last.is_file():
        return None
    from nerf_pl.checkpoints import begun_with  # which imports torch

    return begun_with(folders.last)


def _with_mode(argv: Sequence[str]) -> list[str]:
    """The words with a value after each --resume: auto if that is typed, else True."""
    whole = ("--resume=auto", "--resume=True")
    words = [part for word in argv for part in (word.split("=") if word in whole else [word])]
    for i in reversed([i for i, word in enumerate(words) if word == "--resume"]):
        if words[i + 1 : i + 2] not in (["auto"], ["True"]):
            words.insert(i + 1, "True")
    return words


def _typed(argv: Sequence[str], option: str) -> str | None:
    """The word after an option, the last one if the option is typed twice. None if it is not typed."""
    found = None
    for word, following in zip(argv, [*argv[1:], ""], strict=False):
        name, equals, value = word.partition("=")
        if name.startswith("--") and name[2:].replace("-", "_") == option:
            found = value if equals else following
    return found


def _parse(kind: type, program: str, argv: Sequence[str], default: object = None) -> Any:
    typed = default or kind
    if any(word in (*HELP, *HELP_ALL) for word in argv):
        if any(option.help.common for option in options_of(typed)):
            shown, told = sorted_help(typed, any(word in HELP_ALL for word in argv))
            tyro.cli(shown, prog=program, args=["--help"], description=told, **_settings())
        argv = ["--help"]
    if told := _valued_flag(typed, argv, ()):
        raise UserError(told)
    parse = partial(tyro.cli, kind, prog=program, args=argv, default=default, **_settings())
    stray = partial(_valued_flag, typed, argv)
    return in_one_line(parse, partial(_meant, typed), partial(_unknown, typed, argv), partial(_refused, typed), stray)


def _valued_flag(command: object, argv: Sequence[str], left: Sequence[str]) -> str | None:
    """What to tell of a flag with a value: after an equals sign, or the word behind it, if that is left over."""
    flags = {option.name: option for option in options_of(command) if is_flag(option)}
    words = list(argv)
    for i, word in enumerate(words):
        typed, equals, _ = word.partition("=")
        option = flags.get(typed[2:].replace("-", "_").removeprefix("no_")) if typed.startswith("--") else None
        following = words[i + 1 : i + 3]
        if option is not None and option.name == "resume" and following[:1] == ["True"]:  # which `_with_mode` added
            following = following[1:]
        valued = set(following[:1]) & {each for each in left if not each.startswith("--")}  # those are unknown options
        if option is not None and (equals or valued):
            return takes_no_value(option, word if equals else f"{word} {following[0]}")
    return None


def _refused(command: object, name: str, typed: list[str]) -> str | None:
    """What to tell of words that an option of the command cannot take."""
    return next((not_understood(option, typed) for option in options_of(command) if option.name == name), None)


def _meant(command: object, words: Sequence[str]) -> list[str]:
    """What words that a command does not understand may have been meant for."""
    kinds = {f"nerf {name}": kind for name, kind in COMMANDS.items()}
    if command in CLASSIC_COMMANDS.values():
        kinds = {**CLASSIC_COMMANDS, **kinds}
    all_options = [(name, option) for name, kind in kinds.items() for option in options_of(kind)]
    elsewhere = {option.name: name for name, option in reversed(all_options) if not option.is_positional}
    own = options_of(command)
    named = [option.name for option in own if not option.is_positional]
    return meant_options(words, named, elsewhere, takes_folder=len(named) < len(own))


def _unknown(command: object, argv: Sequence[str]) -> list[str]:
    """The words that look like options, but are none of the command."""
    known = {option.name for option in options_of(command) if not option.is_positional}
    names = {word: word.partition("=")[0][2:].replace("-", "_") for word in argv if word.startswith("--")}
    return [word for word, name in names.items() if name.removeprefix("no_") not in known]


def _settings() -> dict[str, Any]:
    return {"use_underscores": True, "config": (tyro.conf.DisallowNone,)}
