"""A run that goes on: options that are not given stay as the run had them, and what clashes with them says so."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

from nerf_pl.checkpoints.files import read_checkpoint
from nerf_pl.checkpoints.weights import stored_config
from nerf_pl.errors import UserError
from nerf_pl.methods import method_of
from nerf_pl.options import Config, Options, fixed_in_a_run

LEFT_OPEN = (None, "auto")  # values of options that leave the choice to the program
# for which None and auto say something about the part that is to come
OF_THIS_PART = {"max_steps", "seconds", "num_epochs", "ckpt_path", "accelerator", "precision"}

Part = TypeVar("Part", bound=Options)


def begun_with(last: Path) -> Config | None:
    """The options of the run that a checkpoint is of. None if it cannot be read: `resume_run` tells."""
    try:
        return stored_config(read_checkpoint(last, lazily=True), last)
    except (UserError, KeyError):
        return None


def as_begun(config: Config, last: Path) -> Config:
    """The options of a run that goes on: those that are left open are what they were before, so that neither a default
    that is new nor an option that did not exist then changes the training. It stays deterministic if it was. A
    checkpoint that cannot be read, or is of another method, changes nothing: `resume_run` tells."""
    stored = begun_with(last)
    if stored is None or stored.method != config.method:
        return config
    train = _filled(config.train, stored.train)
    train = replace(train, deterministic=train.deterministic or stored.train.deterministic)
    model, data = _filled(config.model, stored.model), _filled(config.data, stored.data)
    return replace(config, model=model, data=data, train=train)


def _filled(asked: Part, stored: Part) -> Part:
    names = [f.name for f in fields(asked) if f.name not in OF_THIS_PART and getattr(asked, f.name) in LEFT_OPEN]
    return replace(asked, **{name: getattr(stored, name) for name in names})


@contextmanager
def clashes_told(config: Config, last: Path) -> Iterator[None]:
    """While the options of a run that goes on are checked: a UserError about options that the run had says so, for the
    user has not given them."""
    try:
        yield
    except UserError as error:
        stored = begun_with(last)
        if stored is None or stored.method != config.method:
            raise
        now, before, default = map(_values, (config, stored, method_of(config.method).preset))
        named = [name for name in dict.fromkeys(re.findall(r"--(\w+)", str(error))) if now.get(name) is not None]
        given = [name for name in named if now[name] != before[name]]
        kept = [name for name in named if now[name] == before[name] != default[name]]
        if not kept:
            raise
        if not given:
            raise UserError(f"{error}; {last} was trained with {_shown(kept, now)}") from error
        told = f"{_shown(given, now)}, asked now, clashes with {_shown(kept, now)}, of {last}"
        out = f"leave --{given[0]} out, or "
        fixed = {name for part in _parts(config) for name in fixed_in_a_run(type(part))}
        if fixed & set(kept):
            raise UserError(f"{told}: {out}start another run with another --exp_name") from error
        raise UserError(f"{told}: {out}change --{kept[0]}: {str(error).partition(': ')[2]}") from error


def _parts(config: Config) -> tuple[Options, ...]:
    return (config.data, config.model, config.optim, config.train)


def _values(config: Config) -> dict[str, object]:
    return {f.name: getattr(part, f.name) for part in _parts(config) for f in fields(part)}


def _shown(names: list[str], values: Mapping[str, object]) -> str:
    words = {name: value if isinstance(value, tuple) else (value,) for name, value in values.items()}
    return " ".join(f"--{name} {' '.join(map(str, words[name]))}" for name in names)
