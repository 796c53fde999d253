"""The help of a command with many options: sorted by what they are for, and short unless all are asked for."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import tyro

from nerf_pl.cli.flags import Flags
from nerf_pl.options.purposes import PURPOSES, Help

OTHERS = "other"  # the box of options without a mark


class Option(NamedTuple):
    """An option as the help shows it. kind: its annotation, with all marks. text: what its docstring says."""

    name: str
    kind: Any
    default: Any
    text: str
    help: Help

    @property
    def is_positional(self) -> bool:
        """Whether it is typed without its name."""
        return tyro.conf.Positional in get_args(self.kind)

    @property
    def is_required(self) -> bool:
        return self.default is MISSING or self.default is tyro.MISSING


def options_of(command: object) -> list[Option]:
    """The options of a command, with those of the dataclasses in it. command: its class, or an instance that has the
    defaults."""
    kind: Any = command if isinstance(command, type) else type(command)
    hints, texts = get_type_hints(kind, include_extras=True), _texts(kind)
    found = []
    for each in fields(kind):
        default = getattr(command, each.name, MISSING)  # a class lacks those that a factory makes
        if command is kind and each.default_factory is not MISSING:
            default = each.default_factory()
        base, *marks = get_args(hints[each.name]) if get_origin(hints[each.name]) is Annotated else [hints[each.name]]
        if is_dataclass(base):  # the default may be of a class that extends this one
            found += options_of(base if default is MISSING else default)
            continue
        mark = next((mark for mark in marks if isinstance(mark, Help)), Help(OTHERS))
        found.append(Option(each.name, hints[each.name], default, texts.get(each.name, ""), mark))
    return found


def sorted_help(command: object, everything: bool) -> tuple[type, str]:
    """A class whose help tyro prints in place of the command's, and the text above it. everything: not the common
    options alone."""
    found = options_of(command)
    shown = [option for option in found if everything or option.help.common or option.is_required]
    parts: list[Any] = [_field(option) for option in shown if option.is_required]
    for purpose in (*PURPOSES, OTHERS):
        inside = [_field(option) for option in shown if option.help.purpose == purpose and not option.is_required]
        if inside:
            box = make_dataclass("Box", inside, namespace={"__doc__": ""})
            boxed = Flags[Annotated[box, tyro.conf.arg(name=purpose)]]
            parts.append((purpose.replace(" ", "_"), boxed, field(default_factory=box)))
    kind = command if isinstance(command, type) else type(command)
    told = " ".join((kind.__doc__ or "").split())
    if not everything:
        rest = len(found) - len(shown)
        told += f"\n\nThese are the options that most people use. --help-all shows the other {rest}, too."
    return make_dataclass("Sorted", parts), told


def _field(option: Option) -> tuple[str, Any, Any]:
    """The option as a field of the class that shows it, with its text and an example."""
    negated = option.default is True and bool in get_args(option.kind)
    example = f"--{'no_' if negated else ''}{option.name} {option.help.example}".rstrip()

    def hint(default: str) -> str:
        known = "" if default in ("None", repr("")) else f"(default: {default}) "
        return f"{known}(example: {example})"

    about = tyro.conf.arg(help=option.text, help_behavior_hint=None if option.is_required else hint)
    return option.name, Annotated[option.kind, about], field() if option.is_required else field(default=option.default)


@cache
def _texts(kind: type) -> dict[str, str]:
    """The text below each field of a dataclass and of those that it extends."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        try:
            source = textwrap.dedent(inspect.getsource(owner))
        except (OSError, TypeError):  # made while the program runs, or built in
            continue
        found |= dict(_texts_in(ast.parse(source).body[0]))
    return found


def _texts_in(owner: ast.stmt) -> Iterator[tuple[str, str]]:
    body = owner.body if isinstance(owner, ast.ClassDef) else []
    for line, below in pairwise(body):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(below, ast.Expr):
            text = ast.literal_eval(below.value)
            yield line.target.id, " ".join(str(text).split())
