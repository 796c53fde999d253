"""The weights in a checkpoint, put into a model that they fit."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from nerf_pl.checkpoints.files import read_checkpoint
from nerf_pl.checkpoints.sound import require_parts, wrong_weight
from nerf_pl.errors import UserError, reading
from nerf_pl.methods import METHODS, Foreign, from_dict, method_of
from nerf_pl.methods.model import Model
from nerf_pl.options import Config, ModelOptions, differing
from nerf_pl.text import typed

ANOTHER = "give another, or fetch it again"
MOST_NAMES = 5  # of weights in a message


def load_weights(model: Model, config: Config, path: Path, prefixes_to_ignore: Sequence[str]) -> None:
    """Load the weights of a checkpoint into `model`, which was made from `config`.

    prefixes_to_ignore: weights whose names start with one of these are left out. Raises UserError if the checkpoint
    does not fit the model, or if other weights than these are missing or left over.
    """
    with reading(path, ANOTHER):
        _load_weights(model, config, path, prefixes_to_ignore)


def _load_weights(model: Model, config: Config, path: Path, prefixes_to_ignore: Sequence[str]) -> None:
    checkpoint = read_checkpoint(path)
    found = read_foreign(checkpoint, prefixes_to_ignore, path) if "config" not in checkpoint else None
    stored = stored_config(checkpoint, path) if "config" in checkpoint else None
    theirs = stored.method if stored else found[2] if found else config.method
    if theirs != config.method:
        told = f"--ckpt_path {path} is of the method {theirs}, and this training of {config.method}"
        raise UserError(f"{told}: train with nerf train --method {theirs}, or leave the option out")
    if found:
        _require_match(*found[0].unmatched(model, found[1]), path)
        found[0].assign(model, found[1], path)
        return
    if stored:
        compare(stored.model, config.model, f"--ckpt_path {path}", parts=False)
    if own_weights(checkpoint):
        _require_match(*_unmatched(model, checkpoint, tuple(prefixes_to_ignore)), path)
    load_own(model, checkpoint, path, prefixes_to_ignore, model.state_of_a_run)


def _unmatched(model: Model, checkpoint: Mapping[str, Any], ignored: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Weights of the model that are missing in a checkpoint of ours, and those that the model has no place for."""
    ours, theirs = model.state_dict().keys(), own_weights(checkpoint).keys()
    optional = model.state_of_a_run | model.essential_state  # the latter are required below, whatever is ignored
    pairs = (ours - theirs - optional, theirs - ours)
    missing, surplus = (sorted(name for name in names if not name.startswith(ignored)) for names in pairs)
    return missing, surplus


def _require_match(missing: Sequence[str], surplus: Sequence[str], path: Path) -> None:
    """Raises UserError if there is one of either. Weights that nobody named would train from nothing, unnoticed."""
    told = [f"has no {', '.join(missing[:MOST_NAMES])}"] if missing else []
    told += [f"has {', '.join(surplus[:MOST_NAMES])}, which this model lacks"] if surplus else []
    if told:
        remedy = "give another checkpoint, or name these weights in --prefixes_to_ignore"
        raise UserError(f"--ckpt_path {path} {' and '.join(told)}: {remedy}")


def compare(stored: ModelOptions, asked: ModelOptions, source: str, resumed: bool = False, parts: bool = True) -> None:
    """Raises UserError, naming the options to give, if the weights of `source` have other sizes than are asked for.

    resumed: options that only a resumed run must keep count as well. parts: so do parts that one of the two lacks.
    """
    found = differing(stored, asked, resumed=resumed, parts=parts)
    if found:
        here = ", ".join(typed(name, pair[1]) for name, pair in found.items())
        given = " ".join(typed(name, pair[0]) for name, pair in found.items())
        raise UserError(f"{here}: {source} was trained with other sizes; give {given}")


def stored_config(checkpoint: Mapping[str, Any], path: Path) -> Config:
    """The options that a checkpoint was trained with, every size filled in. Raises UserError if they cannot work, or if
    the weights are of another number of parts."""
    try:
        config = from_dict(checkpoint["config"])
        config.check()
        # a training stores every size; if one is missing, the shapes of the weights will not fit
        config = method_of(config.method).complete(config, "cpu")
        config.check()
    except UserError as error:
        raise UserError(f"checkpoint {path}: {error}") from error
    require_parts(own_weights(checkpoint), getattr(config.model, "ensemble", None), path)
    return config


def read_foreign(
    checkpoint: Mapping[str, Any], prefixes_to_ignore: Sequence[str], path: Path
) -> tuple[Foreign, Any, str] | None:
    """What reads the networks that another implementation wrote, the networks, and the name of their method."""
    for name, method in METHODS.items():
        if method.foreign is not None:
            foreign = method.foreign()
            if networks := foreign.read(checkpoint, prefixes_to_ignore, path):
                return foreign, networks, name
    return None


def own_weights(checkpoint: Mapping[str, Any]) -> dict[str, object]:
    """Weights by their names in the model."""
    state = checkpoint.get("state_dict")
    state = state if isinstance(state, dict) else {}
    return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}


def load_own(
    model: Model,
    checkpoint: Mapping[str, Any],
    path: Path,
    prefixes_to_ignore: Sequence[str] = (),
    left_out: Collection[str] = (),
) -> None:
    """Load what a checkpoint of ours has of the weights of `model`. Raises UserError if they do not fit, or if nothing
    of them is there. left_out: weights that stay as they are."""
    own = {name: value for name, value in model.state_dict().items() if name not in left_out}
    ignored, essential = tuple(prefixes_to_ignore), model.essential_state
    weights: dict[str, Any] = {
        name: value
        for name, value in own_weights(checkpoint).items()
        if name in own and (name in essential or not name.startswith(ignored))
    }
    if not weights.keys() - essential:
        raise UserError(f"checkpoint {path} holds no weights for this model: give one of nerf_pl or nerf-pytorch")
    if missing := essential - weights.keys():
        raise UserError(f"checkpoint {path} has no {min(missing)}: it is incomplete, give another")
    for name, value in weights.items():
        if not isinstance(value, Tensor) or own[name].shape != value.shape:
            raise UserError(f"checkpoint {path} has another network size ({name}): set {model.size_options}")
        if wrong := wrong_weight(value):
            raise UserError(f"checkpoint {path}: {name} {wrong}, training had diverged: give an earlier one")
    model.load_state_dict(weights, strict=False)
