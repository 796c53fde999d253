"""transforms.json from what an importer found."""

import json
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError
from nerf_pl.scenes.importers.found import Found, Lens, Photo
from nerf_pl.writing import atomic_write, replacing

AABB_SCALE = 16  # for Instant-NGP, where the scene has no box
FAR_AWAY = 1000.0  # times as far from the origin as the cameras are apart: geographic coordinates
MARGIN = 1.01  # of the cube about a box


def write_transforms(found: Found, root: Path, overwrite: bool) -> tuple[Path, list[str]]:
    """transforms.json in `root`, and what to say about it. Raises UserError if it is there and overwrite is False."""
    target = root / "transforms.json"
    if target.exists() and not overwrite:
        raise UserError(f"{target} exists: give --overwrite to replace it")
    values, notes = transforms(found, root)
    with replacing(target), atomic_write(target) as temporary:
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
    return target, notes


def transforms(found: Found, root: Path) -> tuple[dict[str, object], list[str]]:
    """The content of transforms.json, with paths as seen from `root`, and what to say about it.

    Intrinsics that all pictures share stand at the top. Coordinates far from the origin are moved there, and
    applied_transform says by how much.
    """
    photos = sorted(found.photos, key=lambda photo: photo.file)
    shift = None if found.box is not None else _shift(np.stack([photo.c2w[:, 3] for photo in photos]))
    shared = _shared([photo.lens for photo in photos])
    values: dict[str, object] = {**shared, **_bounds(found.box)}
    notes = []
    if shift is not None:
        values["applied_transform"] = np.concatenate([np.eye(3), -shift[:, None]], 1).tolist()
        told = ", ".join(f"{number:.0f}" for number in shift)
        notes.append(f"coordinates: the origin is moved to ({told}), see applied_transform in the file")
    if found.depth_scale is not None and any(photo.depth for photo in photos):
        values["integer_depth_scale"] = found.depth_scale
    for name, files in found.splits.items():
        values[f"{name}_filenames"] = [_seen_from(root, file) for file in sorted(files)]
    values["frames"] = [_frame(photo, root, shared, shift) for photo in photos]
    return values, notes


def _frame(photo: Photo, root: Path, shared: Lens, shift: Float[np.ndarray, "3"] | None) -> dict[str, object]:
    c2w = photo.c2w.copy()
    if shift is not None:
        c2w[:, 3] -= shift
    entry: dict[str, object] = {"file_path": _seen_from(root, photo.file)}
    if photo.mask:
        entry["mask_path"] = _seen_from(root, photo.mask)
    if photo.depth:
        entry["depth_file_path"] = _seen_from(root, photo.depth)
    entry |= {key: value for key, value in photo.lens.items() if key not in shared}
    return {**entry, "transform_matrix": [*c2w.tolist(), [0.0, 0.0, 0.0, 1.0]]}


def _seen_from(root: Path, file: Path) -> str:
    return Path(os.path.relpath(file, root)).as_posix()


def _shared(lenses: list[Lens]) -> Lens:
    """What is the same for all pictures."""
    first = lenses[0]
    return {key: value for key, value in first.items() if all(lens.get(key) == value for lens in lenses)}


def _bounds(box: Float[np.ndarray, "2 3"] | None) -> dict[str, object]:
    """A box as Instant-NGP's unit cube: the cube about it. point * scale + offset lies in [0, 1]."""
    if box is None:
        return {"aabb_scale": AABB_SCALE}
    scale = 1 / (MARGIN * float((box[1] - box[0]).max()))
    return {"aabb_scale": 1, "scale": scale, "offset": (0.5 - scale * box.mean(0)).tolist()}


def _shift(centres: Float[np.ndarray, "C 3"]) -> Float[np.ndarray, "3"] | None:
    """Where to put the origin, if the cameras lie so far from it that programs with short numbers lose them."""
    middle = centres.mean(0)
    apart = float(np.linalg.norm(centres - middle, axis=1).max())
    return np.round(middle) if apart > 0 and np.linalg.norm(middle) > FAR_AWAY * apart else None
