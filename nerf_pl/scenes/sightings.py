"""Which sparse points photos see: of a COLMAP model, of a PLY file that `nerf prepare` wrote, of depth pictures."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.errors import UserError
from nerf_pl.media import atomic_write
from nerf_pl.scenes.cuts import Cut
from nerf_pl.scenes.points import MOST_HEADER

COUNT = re.compile(r"element \w+ ([0-9]{1,12})")
SIGHTING = b"element sighting "
PHOTO = "comment photo "  # begins a line of the header that names a photo; sightings count these lines
HEADER = """ply
format binary_little_endian 1.0
{names}element vertex {points}
property float x
property float y
property float z
element sighting {sightings}
property uint photo
property uint point
end_header
"""


def of_model(model: Any, views: Sequence[Any]) -> list[Float[np.ndarray, "n 3"]]:
    """The points of a pycolmap.Reconstruction that each view sees, in the model's coordinates."""
    points = dict(model.points3D.items())
    known = np.array(sorted(points), np.uint64)
    xyz = np.array([points[i].xyz for i in known.tolist()]).reshape(-1, 3)
    found = []
    for view in views:
        seen = np.array([point.point3D_id for point in view.get_observation_points2D()], np.uint64)
        found.append(xyz[np.searchsorted(known, seen[np.isin(seen, known)])])  # a damaged model may lack some
    return found


def write_sightings(path: Path, seen: Mapping[str, Float[np.ndarray, "n 3"]]) -> None:
    """Write points as a PLY file. seen: the points that each photo sees, by its name.

    Other programs read the vertices. A second element, "sighting", says which photo sees which of them.
    """
    every = np.concatenate([*seen.values(), np.zeros((0, 3))]).astype("<f4")
    xyz, point = np.unique(every, axis=0, return_inverse=True)
    photo = np.repeat(np.arange(len(seen)), [len(points) for points in seen.values()])
    sightings = np.stack([photo, point.reshape(-1)], 1).astype("<u4")
    names = "".join(f"{PHOTO}{name}\n" for name in seen)
    header = HEADER.format(names=names, points=len(xyz), sightings=len(sightings))
    with atomic_write(path) as temporary:
        temporary.write_bytes(header.encode() + xyz.tobytes() + sightings.tobytes())


def read_sightings(path: Path) -> dict[str, Float[np.ndarray, "n 3"]] | None:
    """What `write_sightings` wrote. None for a PLY file of another program, which does not say who sees its points.

    Raises UserError for a damaged file.
    """
    with path.open("rb") as file:
        head, _, body = file.read(MOST_HEADER).partition(b"end_header\n")
        if SIGHTING not in head:
            return None
        body += file.read()
    lines = (head + b"end_header\n").decode("utf-8", "replace").splitlines()
    names = [line.removeprefix(PHOTO) for line in lines if line.startswith(PHOTO)]
    counts = [int(found[1]) for line in lines if (found := COUNT.fullmatch(line))]
    ours = HEADER.format(names="", points=counts[0], sightings=counts[1]).splitlines() if len(counts) == 2 else None
    if [line for line in lines if not line.startswith(PHOTO)] != ours:
        return None
    points, sightings = counts
    if len(body) != 12 * points + 8 * sightings:
        raise UserError(f"{path} is cut short, or has been changed: restore it, or remove ply_file_path from the scene")
    xyz = np.frombuffer(body, "<f4", 3 * points).reshape(-1, 3).astype(np.float64)
    photo, point = np.frombuffer(body, "<u4", 2 * sightings, 12 * points).reshape(-1, 2).T
    there = not sightings or (photo.max() < len(names) and point.max() < points)
    if not there or not np.isfinite(xyz).all():
        raise UserError(f"{path} is damaged: restore it, or remove ply_file_path from the scene")
    order = np.argsort(photo, kind="stable")
    ends = np.cumsum(np.bincount(photo, minlength=len(names)))
    return dict(zip(names, np.split(xyz[point[order]], ends[:-1]), strict=True)) if names else {}


def seen_by_views(
    points: Sequence[Float[np.ndarray, "_ 3"] | None], cuts: Sequence[Cut], frame: Float[Tensor, "4 4"] | None
) -> tuple[Float[Tensor, "_ 3"], ...] | None:
    """`Scene.seen` of photos that see these points; None if nothing is known of any of them. frame: see `Scene`."""
    if all(seen is None or not len(seen) for seen in points):
        return None
    frame = torch.eye(4, dtype=torch.float64) if frame is None else frame.double()
    found = []
    for seen, cut in zip(points, cuts, strict=True):
        xyz = torch.zeros(0, 3, dtype=torch.float64) if seen is None else torch.from_numpy(seen).double()
        found += [(xyz @ frame[:3, :3].T + frame[:3, 3]).float()] * len(cut.pieces)
    return tuple(found)
