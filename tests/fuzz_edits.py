"""Edits that damage a file: each is a list of plain values, so that those of past failures can be stored and repeated.

`draw` invents an edit for some content, `apply` makes it. An edit that finds nothing to change leaves the content as it
is.
"""

import io
import json
import re
import struct
import zipfile
from random import Random

import numpy as np

Edit = list

HUGE = "9" * 5000  # more digits than Python makes a whole number of
# JSON values as they stand in a file
TOKENS = [
    "null", "true", "false", "0", "-1", "1", "-0.0", "5e-324", "1e-9", "1e15", "1e39", "1e308", "-1e308", "1e400",
    "NaN", "Infinity", "-Infinity", "1" + "0" * 400, HUGE, "-" + HUGE, str(2**63), str(-(2**63)), str(2**64), "0.5",
    '""', '" "', '"/"', '"."', '".."', '"../.."', '"~"', '"a/../../../etc/passwd"', '"' + "x" * 300 + '"',
    '"' + "x/" * 3000 + '"', '"a[/b]"', '"[bold red]"', '":smile:"', r'"\u001b[31m\u001b]0;x\u0007"', r'"\ud800"',
    r'"\udcff\udcfe"',
    r'"\u0000"', r'"a\u0000b"', r'"\n\r\n"', r'"\u202e\u2066"',
    '"C:\\\\x\\\\y"', '"nan"', '"%s%n{0}"',
    '"file:///etc/passwd"', '"//"', '"\u00e9\u4f60"', "[]", "{}", "[[]]", "[null]", '{"a": 1}', "[1, 2, 3]",
    "[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]", "[[1e39, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]",
    "[" * 400 + "]" * 400, "[" * 100_000 + "]" * 100_000, '{"a":' * 3000 + "1" + "}" * 3000,
]  # fmt: skip
KEYS = [
    "w", "h", "fl_x", "cx", "k1", "k4", "p1", "camera_model", "camera_angle_x", "is_fisheye", "mask_path", "aabb_scale",
    "scene_box", "ply_file_path", "depth_file_path", "integer_depth_scale", "depth_unit_scale_factor", "clear_distance",
    "applied_transform", "applied_scale", "train_filenames", "fps", "seconds", "width", "height", "time", "fov", "K",
    "look_at", "position", "up", "coordinates", "camera_type", "loop", "frames", "views", "scene", "config", "a[/b]",
    "fisheye_crop_radius", "split", "psnr", "checkpoint", "rolling_shutter", "orientation_override", "\x1b[31m", "",
]  # fmt: skip
NUMBERS = ["", "0", "-1", "1e39", "1e308", "1e999", "-5e-324", "nan", "inf", "x", HUGE, "1" + "0" * 400, str(2**63),
           str(2**64 - 1), "\x1b[31m", "0x10", "1_0", "1,5", "٣"]  # fmt: skip
WORDS = [b"", b"\0", b"\xff\xfe", b"\x1b[31m", b"[/b]", b"&x;", b"<", b"]]>", b"\n", b"\r", b" ", b"\xed\xa0\x80",
         b'<!DOCTYPE a [<!ENTITY b "b"><!ENTITY c "&b;&b;&b;">]>', b"9" * 5000, b"/" * 300]  # fmt: skip
INTEGERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]
DTYPES = ["f2", "f4", ">f8", "i1", "i8", "u8", "c16", "?", "U3", "S5", "M8[s]", "V4", "f8,i4", "O"]
SHAPES = [
    (),
    (0,),
    (1,),
    (0, 17),
    (1, 17),
    (3, 0),
    (2, 2, 2),
    (17, 3),
    (1,) * 20,
    (12 * 2**40,),
    (2**63,),
    (-1,),
    (2**31, 2**31),
]


def draw(rng: Random, name: str, data: bytes) -> Edit:
    """An edit that suits a file of this name."""
    kinds = {"json": _draw_json, "npy": _draw_array, "npz": _draw_archive}
    text = ("xml", "xmp", "csv", "txt", "out", "ply", "json", "cameras")
    ending = name.rpartition(".")[2].lower()
    if ending in kinds and rng.random() < 0.75:
        return kinds[ending](rng, data)
    if ending in text and rng.random() < 0.6:
        return _draw_text(rng, data)
    return _draw_bytes(rng, data)


def apply(edit: Edit, data: bytes) -> bytes:
    kind, *rest = edit
    return {"bytes": _bytes, "text": _text, "json": _json, "array": _array, "archive": _archive}[kind](data, *rest)


def _draw_bytes(rng: Random, data: bytes) -> Edit:
    how = rng.choice(
        ["flip", "flip", "set", "cut", "remove", "repeat", "insert", "integer", "integer", "zero", "whole"]
    )
    # most of what matters stands at the beginning
    at = int(len(data) * rng.random() ** rng.choice([1, 1, 4])) if len(data) else 0
    more = {
        "flip": lambda: rng.randrange(8),
        "set": lambda: rng.randrange(256),
        "cut": lambda: 0,
        "remove": lambda: rng.choice([1, 2, 4, 8, 100]),
        "repeat": lambda: rng.choice([1, 4, 64, 1000]),
        "insert": lambda: rng.randrange(len(WORDS)),
        "integer": lambda: [rng.randrange(len(INTEGERS)), rng.choice("BHIQ"), rng.choice("<>")],
        "zero": lambda: rng.choice([1, 4, 16, 256]),
        "whole": lambda: rng.choice([0, 1, 2, 3]),
    }[how]()
    return ["bytes", how, at, more]


def _bytes(data: bytes, how: str, at: int, more) -> bytes:
    at = min(at, max(len(data) - 1, 0))
    before, after = data[:at], data[at:]
    if how in ("flip", "set") and data:
        value = data[at] ^ (1 << more) if how == "flip" else more
        return before + bytes([value]) + after[1:]
    if how == "cut":
        return before
    if how == "remove":
        return before + after[more:]
    if how == "repeat":
        return before + after[:more] * 3 + after[more:]
    if how == "insert":
        return before + WORDS[more] + after
    if how == "integer":
        number, size, order = more
        packed = struct.pack(order + size, INTEGERS[number] % 2 ** (8 * struct.calcsize(size)))
        return before + packed + after[len(packed) :]
    if how == "zero":
        return before + bytes(min(more, len(after))) + after[more:]
    return [b"", b"[" * 100_000, b"\0" * 1000, b"\xff" * 1000][more] if how == "whole" else data


NUMBER = re.compile(rb"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")


def _draw_text(rng: Random, data: bytes) -> Edit:
    how = rng.choice(["number", "number", "number", "line", "drop", "word"])
    if how == "number":
        return ["text", how, rng.randrange(max(len(NUMBER.findall(data)), 1)), rng.randrange(len(NUMBERS))]
    if how == "word":
        return ["text", how, rng.randrange(max(len(data.split()), 1)), rng.randrange(len(WORDS))]
    return ["text", how, rng.randrange(data.count(b"\n") + 1), 0]


def _text(data: bytes, how: str, index: int, choice: int) -> bytes:
    if how == "number":
        found = [*NUMBER.finditer(data)]
        if not found:
            return data
        at = found[min(index, len(found) - 1)]
        return data[: at.start()] + NUMBERS[choice].encode() + data[at.end() :]
    if how == "word":
        found = [*re.finditer(rb"\S+", data)]
        if not found:
            return data
        at = found[min(index, len(found) - 1)]
        return data[: at.start()] + WORDS[choice] + data[at.end() :]
    lines = data.splitlines(keepends=True)
    if lines:
        index = min(index, len(lines) - 1)
        lines[index : index + 1] = [] if how == "drop" else [lines[index]] * 2
    return b"".join(lines)


def _places(value, path=()):
    """The paths to all values of a JSON document, but for most of the numbers in long lists."""
    yield list(path)
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:6]):
            yield from _places(inner, (*path, index))


def _draw_json(rng: Random, data: bytes) -> Edit:
    how = rng.choice(["value", "value", "value", "value", "remove", "add", "add", "double", "wrap", "key"])
    try:
        places = [*_places(json.loads(data))]
    except (ValueError, RecursionError):
        return _draw_bytes(rng, data)
    # long matrices would otherwise take most of the edits
    deep = rng.choice(sorted({len(place) for place in places}))
    path = rng.choice([place for place in places if len(place) == deep])
    return ["json", how, path, rng.randrange(len(TOKENS)), rng.randrange(len(KEYS))]


def _json(data: bytes, how: str, path: list, token: int, key: int) -> bytes:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return data
    mark = "@@HERE@@"
    if not path:
        values = {"value": mark, "wrap": [values]}.get(how, values)
        if how == "add" and isinstance(values, dict):
            values[KEYS[key]] = mark
    else:
        inner = values
        try:
            for step in path[:-1]:
                inner = inner[step]
            found = inner[path[-1]]
        except (LookupError, TypeError):
            return data
        if how == "value":
            inner[path[-1]] = mark
        elif how == "remove":
            del inner[path[-1]]
        elif how == "wrap":
            inner[path[-1]] = [found]
        elif how == "double" and isinstance(inner, list):
            inner.insert(path[-1], found)
        elif how == "add" and isinstance(found, dict):
            found[KEYS[key]] = mark
        elif how == "key" and isinstance(inner, dict):
            inner[KEYS[key]] = inner.pop(path[-1])
    return json.dumps(values).replace(f'"{mark}"', TOKENS[token]).encode()


def _draw_array(rng: Random, data: bytes) -> Edit:
    how = rng.choice(["dtype", "shape", "value", "value", "header", "header"])
    if how == "header":
        return ["array", how, rng.randrange(len(WORDS)), rng.randrange(10, 80)]
    number = rng.randrange({"dtype": len(DTYPES), "shape": len(SHAPES), "value": 12}[how])
    return ["array", how, number, rng.randrange(1000)]


VALUES = [0.0, -1.0, 1e39, 1e308, -1e308, np.inf, -np.inf, np.nan, 5e-324, 1e15, 1e16, 1e-30]


def _array(data: bytes, how: str, choice: int, at: int) -> bytes:
    """Of an .npy file: another type, a shape that it claims, a value, or bytes in its header."""
    if how == "header":
        return data[:at] + WORDS[choice] + data[at:]
    try:
        array = np.load(io.BytesIO(data))
    except (ValueError, OSError, EOFError):
        return data
    if how == "value":
        flat = array.astype(np.float64).reshape(-1)
        if len(flat):
            flat[at % len(flat)] = VALUES[choice]
        return _saved(flat.reshape(array.shape))
    if how == "dtype":
        head = {"descr": DTYPES[choice] if DTYPES[choice] != "f8,i4" else [("a", "<f8")], "shape": array.shape}
    else:
        head = {"descr": array.dtype.str, "shape": SHAPES[choice]}
    text = repr({**head, "fortran_order": False}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + array.tobytes()


def _saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _draw_archive(rng: Random, data: bytes) -> Edit:
    names = zipfile.ZipFile(io.BytesIO(data)).namelist() if zipfile.is_zipfile(io.BytesIO(data)) else [""]
    how = rng.choice(["array", "array", "array", "remove", "rename"])
    return ["archive", rng.choice(names), how, _draw_array(rng, b"")]


def _archive(data: bytes, name: str, how: str, edit: Edit) -> bytes:
    """Of an .npz file: an edit of one of its arrays, which may also go or have another name."""
    try:
        parts = {info: content for info, content in _members(data)}
    except (zipfile.BadZipFile, OSError, EOFError, ValueError):
        return data
    if name in parts:
        part = parts.pop(name)
        if how != "remove":
            parts["x.npy" if how == "rename" else name] = apply(edit, part) if how == "array" else part
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for inner, content in parts.items():
            archive.writestr(inner, content)
    return buffer.getvalue()


def _members(data: bytes):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        yield from ((name, archive.read(name)) for name in archive.namelist())
