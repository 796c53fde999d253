"""Options as settings.json and checkpoints store them, turned back into a Config."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from nerf_pl.errors import UserError, content_of, reading
from nerf_pl.methods.table import METHODS
from nerf_pl.options import Config, DataOptions, OptimOptions, TrainOptions

Values = Mapping[str, object]
OF_ALL_METHODS = ("model", "grid")  # sections in which version 0.1.0 stored the options of all methods


def from_dict(values: object) -> Config:
    """The inverse of `options.to_dict`, also through JSON. An option that is not stored has its default.

    Raises UserError for an option that this version does not know, or for a value that the option cannot have.
    """
    if not isinstance(values, Mapping) or "method" not in values:
        raise UserError("the stored settings are damaged, they name no method: start a new run")
    name = values["method"]
    if not isinstance(name, str) or name not in METHODS:
        raise UserError(f"--method {name!r:.60} in the stored settings is no possible value: correct it there")
    return Config(
        name,
        _options(
            METHODS[name].options, _with_earlier(METHODS[name].options, _of_method(values, METHODS[name].options))
        ),
        _options(DataOptions, _with_earlier(DataOptions, _section(values, "data"))),
        _options(OptimOptions, _section(values, "optim")),
        _options(TrainOptions, _section(values, "train")),
    )


def read_settings(path: Path) -> Config:
    """The options that a run was started with, from its settings.json. Raises UserError if they cannot be read, or
    cannot work."""
    with reading(path, "start again with --overwrite", "cannot be read"):
        values = json.loads(content_of(path))
    try:
        config = from_dict(values)
        config.check()
        return config
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _section(values: Values, name: str) -> Values:
    stored = values.get(name, {})
    if not isinstance(stored, Mapping):
        raise UserError(f"the stored settings are damaged, {name} is {stored!r:.60}: start a new run")
    return stored


def _of_method(values: Values, options: type) -> Values:
    """The stored options of the method: the section model. Version 0.1.0 stored the options of all methods together;
    of these, the method's own are taken."""
    if "grid" not in values:
        return _section(values, "model")
    stored = {key: value for name in OF_ALL_METHODS for key, value in _section(values, name).items()}
    own = {field.name for field in fields(options)}
    known = {field.name for method in METHODS.values() for field in fields(method.options)}
    return {key: value for key, value in stored.items() if key in own or key not in known}


def _with_earlier(options: type, stored: Values) -> Values:
    """The stored options of a section, with what options that came later were before them: so a run goes on as it
    began."""
    return {**getattr(options, "EARLIER", {}), **stored} if stored else stored


Made = TypeVar("Made")


def _options(cls: type[Made], stored: Values) -> Made:
    types = get_type_hints(cls)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
    for name, value in values.items():
        if name not in types:
            raise UserError(f"unknown option {name!r:.60} in the stored settings: made by another version?")
        if not is_of(value, types[name]):
            raise UserError(f"--{name} {value!r:.60} in the stored settings is no possible value: correct it there")
    return cls(**values)


def is_of(value: object, annotation: Any) -> bool:
    """Whether a value has the annotated type."""
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return is_of(value, parts[0])
    if get_origin(annotation) is Literal:
        return value in parts
    if get_origin(annotation) in (Union, UnionType):
        return any(is_of(value, part) for part in parts)
    if get_origin(annotation) is tuple:
        wanted = parts[:1] * len(value) if isinstance(value, tuple) and parts[-1] is ... else parts
        return isinstance(value, tuple) and len(value) == len(wanted) and all(map(is_of, value, wanted))
    if isinstance(value, bool) or annotation is bool:
        return isinstance(value, bool) and annotation is bool
    return isinstance(value, (int, float) if annotation is float else annotation)
