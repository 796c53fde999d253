"""The door of every checkpoint: its tensors are plain ones, its weights finite and in range, its parts all there."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nerf_pl.errors import UserError
from nerf_pl.text import counted

MOST = 1e9  # of a weight; trained ones are far smaller, and products of larger ones are not finite
MOST_NESTED = 32  # levels of dictionaries and lists in a checkpoint
HOLDS = (Tensor, Mapping, list, tuple)  # what may be or hold a tensor


def require_plain(content: Mapping[str, Any], path: Path) -> None:
    """Raises UserError if a tensor in a checkpoint is none that a training writes: quantised, sparse, without data, or
    one that repeats its data to claim a size."""
    for name, tensor in _tensors(content, path):
        kind = _odd_kind(tensor)
        if kind:
            raise UserError(f"{path} is damaged, {name} is {kind}: give a checkpoint that a training wrote")


def _odd_kind(tensor: Tensor) -> str:
    if tensor.is_quantized or tensor.is_complex():
        return "quantised" if tensor.is_quantized else "complex"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_meta:
        return "without data"
    claimed, held = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    return f"of {claimed:.3g} bytes, and has {held}" if claimed > held else ""


def _tensors(content: Mapping[str, Any], path: Path) -> Iterator[tuple[str, Tensor]]:
    """All tensors in a checkpoint, in its order, each with its name."""
    left: list[tuple[str, Any, int]] = [("", content, 0)]
    while left:
        name, value, level = left.pop()
        if level > MOST_NESTED:
            raise UserError(f"{path} is damaged, it nests too deep: give a checkpoint that a training wrote")
        if isinstance(value, Tensor):
            yield name, value
            continue
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        inner = [(f"{name}.{key}".removeprefix("."), each, level + 1) for key, each in items if isinstance(each, HOLDS)]
        left += reversed(inner)


def require_parts(names: Collection[str], said: int | None, path: Path) -> None:
    """Raises UserError if somebody changed the number of fields that a checkpoint says it has. Fewer than it holds
    would show other pictures, and nobody would notice. names: of its weights. said: None if its method has no parts."""
    held = len({name.split(".")[1] for name in names if name.startswith("fields.")}) or 1
    if names and said is not None and held != said:
        told = f"checkpoint {path} holds {counted(held, 'field')}, and its options say --ensemble {said}"
        raise UserError(f"{told}: give the file as it was trained, or fetch it again")


def wrong_weight(weight: Tensor) -> str:
    """What is wrong with the values of a weight; "" if nothing is."""
    if not weight.is_floating_point() or not weight.numel():
        return ""
    if weight.element_size() == 1:
        return f"has numbers of the type {weight.dtype}"
    low, high = torch.aminmax(weight)  # both are nan if one value is
    if not bool(low.isfinite() and high.isfinite()):
        return "is not finite"
    return "" if float(low) > -MOST and float(high) < MOST else f"has values up to {max(float(high), -float(low)):.3g}"
