"""Portable scenes: files of safetensors that hold what it takes to render a run, and no more. docs/portable.md has the
format."""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nerf_pl.errors import UserError
from nerf_pl.version import VERSION
from nerf_pl.writing import atomic_write, replacing

SUFFIX = ".nerf"
MARK = "nerf_pl_scene"  # the key of the metadata that says that a file is a portable scene, and its format
FORMAT = 1
MODEL, FRAME = "model.", "frame"  # names of tensors: those of the model begin so; the similarity
PARTS = ("config", "facts", "views", "ndc", "scene")  # keys of the metadata, each in JSON
SUM = "crc32"  # the key of the checksum; files of the first versions have none
MOST_HEADER = 2**27  # bytes; safetensors reads no longer ones

Content = dict[str, Any]


def is_portable(path: Path) -> bool:
    """Whether a file is meant to be a portable scene: by its name or, if it has another one, by what it holds."""
    if path.suffix.lower() == SUFFIX:
        return True
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            return size < MOST_HEADER and f'"{MARK}"'.encode() in file.read(size)
    except OSError:
        return False


def write_portable(path: Path, model: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """Write a portable scene. An earlier file of that name is replaced once the new one is whole.

    model: `Model.portable`. content: what `models.facts` gives, and `facts`, which are told to whoever opens the file.
    Raises UserError if the file cannot be written.
    """
    from safetensors.torch import save

    tensors = {f"{MODEL}{name}": tensor.cpu().contiguous() for name, tensor in model.items()}
    if content.get("frame") is not None:
        tensors[FRAME] = torch.tensor(content["frame"], dtype=torch.float64)
    views = _without_tensors(content["views"], "views.", tensors)
    parts = {**content, "views": views}
    metadata = {MARK: str(FORMAT), "nerf_pl_version": VERSION}
    metadata |= {name: json.dumps(parts[name]) for name in PARTS}
    metadata[SUM] = _checksum(metadata, tensors)
    whole = save(tensors, metadata)  # in memory first: its own writing tells no cause if a disk is full
    with replacing(path), atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(whole)
        file.flush()
        os.fsync(file.fileno())


def read_portable(path: Path) -> Content:
    """What `write_portable` wrote, as a checkpoint has it, with the model's tensors under `portable`. No code in the
    file runs. Raises UserError for a file that is not there, damaged, not one of these, or of a later format."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {reason}: give a run, or a {SUFFIX} file that `nerf export` wrote")
    remedy = f"copy it again, or write it anew with nerf export RUN --scene {path.name}"
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()} if MARK in metadata else {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise UserError(f"{path} is damaged, cut short or no {SUFFIX} file ({reason:.100}): {remedy}") from error
    if MARK not in metadata:
        raise UserError(f"{path} is a file of safetensors, but not of a scene of nerf_pl: give one of `nerf export`")
    if metadata[MARK] != str(FORMAT):
        by = f"nerf_pl {metadata.get('nerf_pl_version', '?'):.20}"
        told = f"{path} has format {metadata[MARK]:.20}, written by {by}, and this version reads format {FORMAT}"
        raise UserError(f"{told}: pip install --upgrade nerf_pl")
    try:
        if SUM in metadata and metadata[SUM] != _checksum(metadata, tensors):
            raise UserError(f"{path} is damaged, its bytes are not those that were written: {remedy}")
        parts = {name: json.loads(metadata[name]) for name in PARTS}
        if not isinstance(parts["views"], dict) or not isinstance(parts["facts"], dict):
            raise ValueError("no dictionaries")
        views = _with_tensors(parts["views"], "views.", tensors)
    except (KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged, its metadata cannot be read: {remedy}") from error
    frame = tensors[FRAME].tolist() if FRAME in tensors else None
    model = {name.removeprefix(MODEL): tensor for name, tensor in tensors.items() if name.startswith(MODEL)}
    return {**parts, "views": views, "frame": frame, "portable": model}


def _checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of the texts of PARTS, one after the other, and then of the tensors' bytes in the order of their names."""
    found = 0
    for name in PARTS:
        found = zlib.crc32(metadata[name].encode(), found)
    for name in sorted(tensors):
        found = zlib.crc32(tensors[name].flatten().view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


def _without_tensors(values: Mapping[str, Any], prefix: str, found: dict[str, Tensor]) -> Content:
    """The plain values of a dictionary of dictionaries, for JSON. Its tensors go to `found`, under their paths."""
    plain: Content = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            plain[name] = _without_tensors(value, f"{prefix}{name}.", found)
        elif isinstance(value, Tensor):
            found[f"{prefix}{name}"] = value.contiguous()
        else:
            plain[name] = value
    return plain


def _with_tensors(values: Mapping[str, Any], prefix: str, tensors: Mapping[str, Tensor]) -> Content:
    """The inverse of `_without_tensors`; lists come back as tuples."""
    whole: Content = {}
    for name, value in values.items():
        inner = isinstance(value, dict)
        whole[name] = _with_tensors(value, f"{prefix}{name}.", tensors) if inner else _tuples(value)
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return whole | {name: tensor for name, tensor in own.items() if "." not in name}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
