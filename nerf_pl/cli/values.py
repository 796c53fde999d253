"""What an option takes, in plain words, for messages about values that it cannot take."""

import shlex
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tyro

from nerf_pl.cli.help import Option
from nerf_pl.options.ranges import Range

ONE = {int: "a whole number", float: "a number", str: "a word", Path: "a path", bool: "True or False"}
SEVERAL = {int: "whole numbers", float: "numbers", str: "words", Path: "paths"}


def not_understood(option: Option, typed: list[str]) -> str:
    """What to tell of words that an option cannot take, or of none: the option, its value and what to give."""
    told = f"--{option.name} {shlex.join(typed)} cannot work" if typed else f"--{option.name} lacks a value"
    remedy, example = _remedy(option), option.help.example
    shown = f", for instance {example}" if example and not _is_choice(option.kind) and example not in remedy else ""
    return f"{told}: {remedy}{shown}"


def is_flag(option: Option) -> bool:
    """Whether an option is typed alone, without a value."""
    plain = _plain(option.kind)
    return plain is bool or any(choice is False for choice in get_args(plain))  # a 0 equals False, but takes a word


def takes_no_value(option: Option, typed: str) -> str:
    """What to tell of a flag that was typed with a value, in these words."""
    told, name = f"{typed} cannot work", f"--{option.name}"
    if others := [each for each in get_args(_plain(option.kind)) if not isinstance(each, bool)]:
        return f"{told}: give {name} or {' or '.join(f'{name} {each}' for each in others)}, or leave it out"
    alone = tyro.conf.FlagCreatePairsOff in get_args(option.kind)
    return f"{told}, it takes no value: give {name}{', or leave it out' if alone else f' or --no_{option.name}'}"


def _remedy(option: Option) -> str:
    """The words beside its range, if it is no mere number: those of numbers do not say that they want one."""
    given = next((mark.remedy for mark in get_args(option.kind) if isinstance(mark, Range)), None)
    if given is None or _plain(option.kind) in (int, float):
        return f"give {_words(option.kind)}"
    return given


def _plain(kind: Any) -> Any:
    """A type without its marks, and without None."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        rest = [part for part in get_args(kind) if part is not NoneType]
        return _plain(rest[0]) if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007 - of a list
    return kind


def _is_choice(kind: Any) -> bool:
    return get_origin(_plain(kind)) is Literal


def _words(kind: Any) -> str:
    plain = _plain(kind)
    parts = get_args(plain)
    if get_origin(plain) is Literal:
        *others, last = map(str, parts)
        return f"{', '.join(others)} or {last}" if others else last
    if get_origin(plain) is Union:
        return ", or ".join(map(_words, parts))
    if get_origin(plain) is tuple:
        several = SEVERAL.get(_plain(parts[0]), "values")
        return several if Ellipsis in parts else f"{len(parts)} {several}"
    return ONE.get(plain, "another value")
