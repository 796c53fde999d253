"""Edits of checkpoints and of files of safetensors: tensors of another shape, type or kind, keys more or less.

As in `fuzz_edits`, an edit is a list of plain values.
"""

import io
import json
import struct
from functools import lru_cache
from random import Random
from typing import Any

import torch
from fuzz_edits import KEYS, TOKENS, Edit
from fuzz_edits import draw as draw_bytes

PLAIN: list[Any] = [
    None, True, -1, 0, 10**30, 10**400, 1.5, float("nan"), float("inf"), 1e39, -1e308, "", "x", "a[/b]", "\x1b[31m",
    "/" * 300, [], {}, [1, 2], [[1.0] * 4] * 4, {"a": 1}, (), (0.0, 1.0), b"x",
]  # fmt: skip
SHAPES = ["flat", "empty", "more", "scalar", "turned", "first"]
KINDS = [
    "half",
    "double",
    "int",
    "bool",
    "complex",
    "quantised",
    "meta",
    "sparse",
    "nan",
    "inf",
    "large",
    "zero",
    "expand",
]


def is_weights(name: str) -> bool:
    return name.endswith((".ckpt", ".tar", ".nerf", ".safetensors"))


def draw(rng: Random, name: str, data: bytes) -> Edit:
    if rng.random() < 0.25:
        return draw_bytes(rng, name, data)
    if name.endswith((".nerf", ".safetensors")):
        return _draw_header(rng, data)
    places = [*_places(_loaded(data))]
    deep = rng.choice(sorted({len(place) for place in places if place}))
    path = rng.choice([place for place in places if len(place) == deep])
    how = rng.choice(["remove", "plain", "plain", "add", "tensor", "tensor", "kind", "kind", "kind"])
    return ["weights", how, path, rng.randrange(10**6)]


def _places(value: Any, path: tuple = ()):
    yield list(path)
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value[:4]):
            yield from _places(inner, (*path, index))


def apply(edit: Edit, data: bytes) -> bytes:
    kind, *rest = edit
    if kind == "header":
        return _header(data, *rest)
    try:
        content = _loaded(data)
    except Exception:
        return data
    how, path, choice = rest
    content = _edited(content, how, path, choice)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@lru_cache(16)
def _loaded(data: bytes) -> Any:
    """What is in a checkpoint. Edits make copies of what they change."""
    return torch.load(io.BytesIO(data), weights_only=True)


def _edited(value: Any, how: str, path: list, choice: int) -> Any:
    if isinstance(value, dict) and path and path[0] in value:
        key, *inner = path
        if inner:
            return {**value, key: _edited(value[key], how, inner, choice)}
        if how == "remove":
            return {name: each for name, each in value.items() if name != key}
        if how == "add":
            return {**value, KEYS[choice % len(KEYS)]: value[key]}
        return {**value, key: _other(value[key], how, choice)}
    if isinstance(value, list | tuple) and path and isinstance(path[0], int) and path[0] < len(value):
        items = list(value)
        index, *inner = path
        if how == "remove" and not inner:
            del items[index]
        else:
            items[index] = _edited(items[index], how, inner, choice) if inner else _other(items[index], how, choice)
        return type(value)(items)
    return value


def _other(value: Any, how: str, choice: int) -> Any:
    if not isinstance(value, torch.Tensor):
        return PLAIN[choice % len(PLAIN)] if how != "tensor" else torch.full((1, choice % 3), float("nan"))
    if how == "plain":
        return PLAIN[choice % len(PLAIN)]
    value = value.detach().clone()
    if how == "tensor":
        shape = SHAPES[choice % len(SHAPES)]
        return {
            "flat": lambda: value.flatten(), "empty": lambda: value[:0] if value.ndim else value.new_zeros(0),
            "more": lambda: torch.cat([value.flatten(), value.flatten()]), "scalar": lambda: value.sum(),
            "turned": lambda: value.T.contiguous() if value.ndim == 2 else value[None],
            "first": lambda: value[:1] if value.ndim else value[None],
        }[shape]()  # fmt: skip
    return _of_kind(value, KINDS[choice % len(KINDS)])


def _of_kind(value: torch.Tensor, kind: str) -> torch.Tensor:
    if kind == "quantised":
        return torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8)
    if kind == "meta":
        return value.to("meta")
    if kind == "sparse":
        return value.to_sparse() if value.ndim else value
    if kind == "expand":
        return value.flatten()[:1].expand(2**20) if value.numel() else value
    to = {"half": torch.half, "double": torch.double, "int": torch.int64, "bool": torch.bool, "complex": torch.cfloat}
    if kind in to:
        return value.to(to[kind])
    filled = value.float()
    if filled.numel():
        filled.view(-1)[0] = {"nan": float("nan"), "inf": float("inf"), "large": 1e38, "zero": 0.0}[kind]
    return filled


def _draw_header(rng: Random, data: bytes) -> Edit:
    head, _ = _split(data)
    name = rng.choice(sorted(head))
    how = rng.choice(["remove", "dtype", "shape", "offsets", "meta", "meta", "meta", "nan"])
    part, place = "", []
    if how == "meta":
        name, part = "__metadata__", rng.choice(sorted(head.get("__metadata__", {"": ""})))
        try:
            place = rng.choice([*_places(json.loads(head["__metadata__"][part]))])
        except (ValueError, KeyError):
            place = []
    return ["header", name, how, part, place, rng.randrange(len(TOKENS)), rng.randrange(10**6)]


def _split(data: bytes) -> tuple[dict, bytes]:
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def _header(data: bytes, name: str, how: str, part: str, place: list, token: int, choice: int) -> bytes:
    try:
        head, body = _split(data)
        found = head[name]
    except (ValueError, KeyError, struct.error):
        return data
    if how == "remove":
        del head[name]
    elif how == "meta" and isinstance(found, dict):
        found[part] = _in_json(found.get(part, ""), place, TOKENS[token])
    elif name != "__metadata__":
        if how == "dtype":
            found["dtype"] = ["F16", "F32", "F64", "I8", "U8", "BOOL", "BF16", "F8_E4M3", "X9"][choice % 9]
        elif how == "shape":
            found["shape"] = [[], [0], [1], [2**40], [2, 2], [-1], found["shape"][::-1]][choice % 7]
        elif how == "offsets":
            found["data_offsets"] = [[0, 0], [0, 2**60], [4, 0], [-1, 4]][choice % 4]
        else:
            start, end = found["data_offsets"]
            body = body[:start] + b"\xff" * (end - start) + body[end:]
    whole = json.dumps(head).encode()
    return struct.pack("<Q", len(whole)) + whole + body


def _in_json(text: str, place: list, token: str) -> str:
    """Some JSON text with another value at a place."""
    try:
        values = json.loads(text)
    except ValueError:
        return token
    if not place:
        return token
    inner = values
    try:
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = "@@HERE@@"
    except (LookupError, TypeError):
        return token
    return json.dumps(values).replace('"@@HERE@@"', token)
