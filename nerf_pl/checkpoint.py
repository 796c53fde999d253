"""Checkpoints on disk: read without running code, written whole or not at all, and turned back into models."""

import io
import os
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from nerf_pl.checks import check
from nerf_pl.config import CLASSIC, Config, ModelOptions, from_dict, to_dict
from nerf_pl.errors import UserError
from nerf_pl.foreign import ForeignModel, foreign_layers
from nerf_pl.media import atomic_write
from nerf_pl.models import NGP, Model, NeRF, make_model
from nerf_pl.sizes import sized

# options of the grid that decide which weights there are, and which cells
GRID_SHAPE = (
    "levels", "features", "log2_size", "base_resolution", "finest_resolution", "hidden", "outputs", "colour_hidden",
    "cells", "unbounded",
)  # fmt: skip


OF_ONE_RUN = {"step", "occupancy.seen"}  # numbers of steps: they mean nothing to another training
BOX = "occupancy.aabb"  # without which the weights mean nothing


class _Inert:
    """Stands for an object of which nothing is needed: takes whatever a file says about it and does nothing."""

    def __new__(cls, *_: object) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _PlainDict:
    """Stands for a dictionary of some other class: what is made of it is a plain dict."""

    def __new__(cls, *items: Any) -> Any:
        return dict(*items)


# What checkpoints of nerf_pl and nerf-pytorch, written by old versions of PyTorch Lightning, hold beside tensors. These
# names lead to the two classes above, so the packages need not be there and none of their code runs.
_STAND_INS: list[tuple[Any, str]] = [
    (_Inert, "argparse.Namespace"),
    (_Inert, "pathlib.PosixPath"),
    (_Inert, "pathlib.WindowsPath"),
    (_Inert, "numpy.dtype"),
    (_Inert, "numpy.ndarray"),
    *((_Inert, f"numpy.{core}.multiarray.{name}") for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    # classes of callbacks, keys to their state
    (_Inert, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
    (_Inert, "pytorch_lightning.callbacks.early_stopping.EarlyStopping"),
    (_Inert, "pytorch_lightning.callbacks.lr_monitor.LearningRateMonitor"),
    (_PlainDict, "pytorch_lightning.utilities.parsing.AttributeDict"),
    (_PlainDict, "lightning_fabric.utilities.data.AttributeDict"),
    (_PlainDict, "lightning.fabric.utilities.data.AttributeDict"),
]


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU: .ckpt and .tar as written by torch.save, or .safetensors.

    Nothing in the file is executed. Settings and the like that old checkpoints hold as objects come back as empty
    stand-ins; tensors, numbers, texts, lists and dictionaries come back as they are. Raises UserError if the file is
    missing, empty, damaged, no checkpoint, or asks for anything else to be called.
    """
    return _read(path, _STAND_INS)


def _read(path: str | Path, stand_ins: Sequence[tuple[Any, str]], map_location: Any = "cpu") -> dict[str, Any]:
    path = Path(path)
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"checkpoint {path} {reason}: give a .ckpt, .tar or .safetensors file")
    try:
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except OSError as error:
        raise UserError(f"cannot read checkpoint {path}: {error.strerror or error}; check its permissions") from error
    if is_empty:
        raise UserError(f"checkpoint {path} is empty: the copy or download failed, fetch it again")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals(list(stand_ins)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, in files that are then refused
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # damaged bytes make torch raise nearly any type
        raise UserError(_refusal(path, error)) from error
    if not isinstance(checkpoint, dict) or not all(isinstance(key, str) for key in checkpoint):
        raise UserError(f"{path} holds no checkpoint but a {type(checkpoint).__name__}: give a file with a state_dict")
    return checkpoint


def _refusal(path: Path, error: Exception) -> str:
    """One line for what torch.load says in many."""
    if isinstance(error, UnpicklingError) and (named := re.search(r"GLOBAL ([\w.]+)", str(error))):
        remedy = "save only its state_dict where it was made"
        return f"checkpoint {path} was not loaded, it wants to call {named.group(1)}, which could run code: {remedy}"
    return f"{path} is damaged or no checkpoint ({type(error).__name__}): fetch it again or give a .ckpt or .tar file"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints, on the local disk: a file is there whole or not at all, and reading it runs no code."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object | None = None
    ) -> None:
        """Write `checkpoint`; an earlier file of that name is replaced only once the new one is safe on the disk.

        Raises UserError if it cannot be written (a full disk, say), which leaves the earlier file as it was, and
        TypeError for storage_options, which local files do not have.
        """
        if storage_options is not None:
            raise TypeError("storage_options are for remote storage: AtomicCheckpointIO writes local files")
        # In memory first: when torch itself writes to a full disk, the cause is lost on the way.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read what `save_checkpoint` wrote: tensors and plain Python values, whatever weights_only says.

        Raises UserError as `read_checkpoint` does. There are no stand-ins here: of a run that goes on, nothing may be
        lost.
        """
        return _read(path, (), map_location)


def find_checkpoint(run: Path, which: str = "last") -> Path:
    """The checkpoint of a run folder, or `run` itself if that is a file. Raises UserError if there is none."""
    if run.is_file():
        return run
    path = run / "checkpoints" / f"{which}.ckpt"
    if not path.is_file():
        what = "holds no checkpoint" if run.is_dir() else "does not exist"
        raise UserError(f"run {run} {what} ({path} is missing): give the folder of a training, such as runs/NAME")
    return path


def load_model(path: Path, device: torch.device, config: Config | None = None) -> tuple[Model, Config, str]:
    """The model of a checkpoint, ours or another implementation's, ready to render; its options; its scene's folder.

    config: options to use instead of the stored ones, but for the size of the networks; it must be given for
    checkpoints that hold none. Raises UserError.
    """
    checkpoint = read_checkpoint(path)
    scene = checkpoint.get("scene", "")
    if "config" in checkpoint:
        stored = stored_config(checkpoint, path)
        if config and stored.method != config.method:
            raise UserError(f"checkpoint {path} was trained with the method {stored.method}: use nerf eval")
        config = fit_config(config, _size(stored.model), stored.model.N_importance > 0) if config else stored
        model = make_model(config, device)
        _load_own(model, checkpoint, path)
        if missing := model.state_dict().keys() - OF_ONE_RUN - _own_weights(checkpoint).keys():
            raise UserError(f"checkpoint {path} has no {min(missing)}: it is incomplete, give another")
    else:
        foreign = foreign_layers(checkpoint, (), path)
        if foreign is None:
            raise UserError(f"checkpoint {path} was not made by nerf_pl or nerf-pytorch: give one of theirs")
        if foreign.net_skip is None:
            raise UserError(f"{path} holds a network without the skip connection of the 2020 model: give another")
        size = (foreign.net_depth, foreign.net_width, foreign.net_skip)
        config = fit_config(config or CLASSIC, size, "fine" in foreign.fields)
        model = make_model(config, device)
        assert isinstance(model, NeRF)
        _assign(model, foreign)
    return model.to(device).eval(), config, scene


def load_weights(model: Model, config: Config, path: Path, prefixes_to_ignore: Sequence[str]) -> None:
    """Start `model`, made from `config`, from the weights in a checkpoint, less those whose names start with one of the
    prefixes. Raises UserError if it does not fit the model.
    """
    checkpoint = read_checkpoint(path)
    foreign = foreign_layers(checkpoint, prefixes_to_ignore, path)
    stored = stored_config(checkpoint, path) if "config" in checkpoint else None
    theirs = stored.method if stored else "nerf" if foreign else config.method
    if theirs != config.method:
        told = f"--ckpt_path {path} is of the method {theirs}, and this training of {config.method}"
        raise UserError(f"{told}: train with nerf train --method {theirs}, or leave the option out")
    if foreign is None:
        if stored and isinstance(model, NGP):
            compare_grids(stored, config, f"--ckpt_path {path}")
        _load_own(model, checkpoint, path, prefixes_to_ignore, OF_ONE_RUN)
        return
    assert isinstance(model, NeRF)
    own = model.coarse.layout
    size = (foreign.net_depth, foreign.net_width, foreign.net_skip)
    if size != (own.depth, own.width, own.skip):
        raise UserError(
            f"checkpoint {path} has depth {size[0]}, width {size[1]}, skip {size[2]}; this model has "
            f"{own.depth}, {own.width}, {own.skip}: set --net_depth, --net_width and --net_skip"
        )
    _assign(model, foreign)


def compare_grids(stored: Config, asked: Config, source: str, more: Sequence[str] = ()) -> None:
    """Raises UserError, naming the options to give, where the grid of `source` has other sizes than are asked for, or
    one of `more` differs."""
    values = {name: (getattr(stored.grid, name), getattr(asked.grid, name)) for name in (*GRID_SHAPE, *more)}
    differing = {name: pair for name, pair in values.items() if pair[0] != pair[1]}
    if differing:
        here = ", ".join(f"--{name} {pair[1]}" for name, pair in differing.items())
        given = " ".join(f"--{name} {pair[0]}" for name, pair in differing.items())
        raise UserError(f"{here}: {source} was trained with other sizes; give {given}")


def fit_config(config: Config, size: tuple[int, int, int], has_fine: bool) -> Config:
    """The options for networks of this (depth, width, skip); without a fine one there are no fine samples."""
    depth, width, skip = size
    importance = config.model.N_importance if has_fine else 0
    model = replace(config.model, N_importance=importance, net_depth=depth, net_width=width, net_skip=skip)
    return replace(config, model=model)


def _size(model: ModelOptions) -> tuple[int, int, int]:
    return model.net_depth, model.net_width, model.net_skip


def stored_config(checkpoint: dict[str, Any], path: Path) -> Config:
    """The options that a checkpoint was trained with, every size filled in. Raises UserError if they cannot work."""
    try:
        config = from_dict(checkpoint["config"])
        check(config)
    except UserError as error:
        raise UserError(f"checkpoint {path}: {error}") from error
    return sized(config, "cpu")  # a training stores every size; without them the weights will tell


def _assign(model: NeRF, foreign: ForeignModel) -> None:
    model.coarse.assign(foreign.fields["coarse"])
    if model.fine is not None:
        model.fine.assign(foreign.fields.get("fine", {}))


def _own_weights(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Weights by their names in the model."""
    state = checkpoint.get("state_dict")
    state = state if isinstance(state, dict) else {}
    return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}


def _load_own(
    model: Model,
    checkpoint: dict[str, Any],
    path: Path,
    prefixes_to_ignore: Sequence[str] = (),
    left_out: Collection[str] = (),
) -> None:
    own = {name: value for name, value in model.state_dict().items() if name not in left_out}
    ignored = tuple(prefixes_to_ignore)
    weights = {
        k: v for k, v in _own_weights(checkpoint).items() if k in own and (k == BOX or not k.startswith(ignored))
    }
    if not weights.keys() - {BOX}:
        raise UserError(f"checkpoint {path} holds no weights for this model: give one of nerf_pl or nerf-pytorch")
    for name, value in weights.items():
        if not isinstance(value, Tensor) or own[name].shape != value.shape:
            remedy = "the sizes of its grid" if isinstance(model, NGP) else "--net_depth and --net_width"
            raise UserError(f"checkpoint {path} has another network size ({name}): set {remedy}")
        if not value.isfinite().all():
            raise UserError(f"checkpoint {path}: {name} is not finite, training had diverged: give an earlier one")
    model.load_state_dict(weights, strict=False)


def save_model(path: Path, model: Model, config: Config, scene: str = "") -> None:
    """Write a checkpoint that holds a model and its options, as training does, without the state of an optimizer."""
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    content = {"state_dict": state, "config": to_dict(config), "scene": scene, "global_step": 0}
    AtomicCheckpointIO().save_checkpoint(content, path)
