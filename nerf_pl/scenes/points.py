"""Sparse points of a scene, as programs that place photos leave them: how near to the cameras it comes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.console import warn
from nerf_pl.errors import UserError, require_plain_file
from nerf_pl.scenes.normalize import camera_focus, looks_at, usual_nearest
from nerf_pl.text import counted

TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
MOST_HEADER = 2**20  # bytes of a PLY file in which its header must end; it may name thousands of photos
AHEAD = 0.8  # cosine to the axis of a camera, from which on a point counts as one that it sees
LEAST_POINTS = 10  # that a camera must see to tell anything
FOREMOST = 0.01  # quantile of the depths: the very nearest points are often wrong
STRAYS = 2  # so many of the points that a camera sees may be wrong, whatever quantile they are
ODD = 0.02  # share of the cameras that may see only wrong points
CLEAR = 0.5  # of the depth of the nearest points: in front of that there is nothing


@dataclass(frozen=True)
class Room:
    """The room in front of cameras. clear: the distance in front of which there is nothing, from every camera, in the
    unit of the scene's file. share: see `first_share`."""

    clear: float
    share: float = math.inf


def room_in_file(path: Path, poses: Float[Tensor, "C 3 4"]) -> Room | None:
    """The room that the points in a PLY file leave, which does not say who sees them: ahead of each camera all that
    are there. None, with one line, if the file is not there, if its points are too few, not in front of most of the
    cameras, or far behind what these look at.

    poses: in the coordinates of the file. Raises UserError for a damaged file.
    """
    if not path.is_file():
        warn(f"{path}, the points of the scene, is not there, so how near the scene comes is a guess")
        return None
    points, poses = read_points(path), poses.double()
    if len(points) < LEAST_POINTS:
        warn(f"{path}, the points of the scene, has {counted(len(points), 'finite point')}, too few to be used")
        return None
    ahead, behind = ([_depths(points, pose, sign) for pose in poses] for sign in (1.0, -1.0))
    nearest, behind = ([foremost(each) for each in some if len(each) >= LEAST_POINTS] for some in (ahead, behind))
    if len(nearest) <= len(poses) / 2:
        told = f"the {len(points)} points in {path} are in front of {len(nearest)} of {len(poses)} cameras"
        why = "they do not belong to these photos"
        if len(behind) > len(poses) / 2:
            why += (
                f", or the poses have y down and z ahead where y up and z back belong ({len(behind)} see them behind)"
            )
        warn(f"{told}: {why}, and are not used")
        return None
    focus, clear = camera_focus(poses), CLEAR * min(nearest)
    if looks_at(poses, focus) and clear >= (way := usual_nearest(poses, focus)):
        told = f"the nearest points in {path} are {clear / CLEAR / way:.2g} times as far as what the cameras look at"
        warn(f"{told}: they do not belong to these photos, or have another unit, and are not used")
        return None
    return Room(clear, first_share(ahead, (poses[:, :, 3] - focus).norm(dim=1).numpy()))


def _depths(points: Float[Tensor, "N 3"], pose: Float[Tensor, "3 4"], sign: float) -> Float[np.ndarray, "_"]:
    """Of the points ahead of a camera or, with sign -1, behind it."""
    ways = points - pose[:, 3]
    depths = -sign * ways @ pose[:, 2]
    return depths[depths > AHEAD * ways.norm(dim=1)].numpy()


def seen_from(
    seen: Sequence[Float[np.ndarray, "_ 3"] | None],
    centres: Float[np.ndarray, "C 3"],
    focus: Float[np.ndarray, "3"],
) -> float:
    """From which share of its way to the focus on a camera sees points, see `first_share`. seen: what each camera
    sees."""
    each = [
        np.zeros(0) if points is None else np.linalg.norm(points - centre, axis=1)
        for points, centre in zip(seen, centres, strict=True)
    ]
    return first_share(each, np.linalg.norm(centres - focus, axis=1))


def first_share(distances: Sequence[Float[np.ndarray, "_"]], ways: Float[np.ndarray, "C"]) -> float:
    """The least share of its way to what all look at, from which on a camera sees points. distances: of the points that
    each camera sees; ways: of the cameras, in the same unit.

    A few wrong points, or cameras, do not count: of each camera the nearest hundredth of its points and at least
    STRAYS of them, of the shares the lowest fiftieth. Infinite if no camera sees LEAST_POINTS.
    """
    shares = []
    for known, way in zip(distances, ways.tolist(), strict=True):
        if len(known) >= LEAST_POINTS and way > 0:
            first = max(foremost(known), float(np.partition(known, STRAYS)[STRAYS]))
            shares.append(first / way)
    return sorted(shares)[int(ODD * len(shares))] if shares else math.inf


def foremost(depths: Float[np.ndarray, "N"]) -> float:
    """The depth of the nearest of the points that a camera sees, but for those that are wrong."""
    return float(np.quantile(depths, FOREMOST))


def read_points(path: Path) -> Float[Tensor, "N 3"]:
    """The places of the vertices in a PLY file, text or binary, in float64. Raises UserError for a damaged file."""
    try:
        require_plain_file(path)
        with path.open("rb") as file:
            head, found, body = file.read(MOST_HEADER).partition(b"end_header")
            if not head.startswith(b"ply") or not found:
                raise UserError(_wrong(path, "has no header of a PLY file"))
            content = body.partition(b"\n")[2] + file.read()
    except OSError as error:
        raise UserError(_wrong(path, f"cannot be read ({error.strerror})")) from error
    order, count, columns = _header(path, head.decode("ascii", "replace"))
    if order:
        kind = np.dtype([(name, order + form) for name, form in columns])
        if len(content) < count * kind.itemsize:
            raise UserError(_wrong(path, "is cut short"))
        rows = np.frombuffer(content, kind, count)
        xyz = np.stack([rows[axis].astype(np.float64) for axis in "xyz"], 1)
    else:
        lines = content.split(b"\n")[:count]
        places = [[name for name, _ in columns].index(axis) for axis in "xyz"]
        try:
            xyz = np.array([[float(line.split()[i]) for i in places] for line in lines]).reshape(-1, 3)
        except (ValueError, IndexError) as error:
            raise UserError(_wrong(path, "has a vertex that is no row of numbers")) from error
        if len(xyz) < count:
            raise UserError(_wrong(path, "is cut short"))
    return torch.from_numpy(xyz[np.isfinite(xyz).all(1)])


def _header(path: Path, head: str) -> tuple[str, int, list[tuple[str, str]]]:
    """Byte order ("" for text), number of vertices, and names and types of what each vertex has."""
    order, count, columns = None, -1, []
    elements = 0
    for line in head.splitlines():
        words = line.split()
        if words[:1] == ["format"] and len(words) > 1:
            order = ORDERS.get(words[1])
        elif words[:1] == ["element"]:
            elements += 1
            if elements == 1 and words[1:2] == ["vertex"] and len(words) == 3 and words[2].isdigit():
                count = int(words[2])
        elif words[:1] == ["property"] and elements == 1:
            if len(words) != 3 or words[1] not in TYPES:
                raise UserError(_wrong(path, f"has vertices with a {' '.join(words)}, which is not understood"))
            columns.append((words[2], TYPES[words[1]]))
    names = [name for name, _ in columns]
    if order is None or count < 0 or not {"x", "y", "z"} <= set(names) or len(set(names)) < len(names):
        raise UserError(_wrong(path, "does not begin with vertices that have x, y and z"))
    return order, count, columns


def _wrong(path: Path, what: str) -> str:
    return f"{path} {what}: restore it, or remove ply_file_path from the scene's JSON file"
