"""NeuS, IDR and the DTU scenes made for them: cameras_sphere.npz, image and mask.

world_mat_I @ scale_mat_I projects picture I from coordinates in which the object lies in the unit sphere; the axes are
right, down, ahead, and the centre of the first pixel is at 0.
"""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError, reading
from nerf_pl.scenes.arrays import read_arrays
from nerf_pl.scenes.files import pictures_in
from nerf_pl.scenes.importers.files import REMEDY, Pictures, stored_size, within_reason
from nerf_pl.scenes.importers.found import Found, Lens, Photo, Source
from nerf_pl.scenes.importers.poses import check_skew, from_world_to_camera
from nerf_pl.scenes.masks import masks_folder
from nerf_pl.scenes.pictures import Size
from nerf_pl.text import counted

FILES = "cameras_sphere.npz or cameras.npz, image"
NAMES = ("cameras_sphere.npz", "cameras_large.npz", "cameras.npz")
PICTURES = ("image", "images", "rgb")
HALF = 0.5  # pixel: our first centre
SPHERE = np.array([[-1.0] * 3, [1.0] * 3])


def recognises(source: Source) -> bool:
    return _cameras_file(source) is not None


def read(source: Source) -> Found:
    """All views in the coordinates of the unit sphere. If there are masks, the sphere's box is all that is learned."""
    file = _cameras_file(source)
    assert file is not None  # recognised
    matrices = _matrices(file)
    root = source.root
    folder = source.images or next((root / name for name in PICTURES if (root / name).is_dir()), None)
    if folder is None:
        raise UserError(f"{root / 'image'} is missing, the pictures of {file}: copy them there")
    pictures = sorted(Pictures(folder).files)
    masks = _masks(masks_folder(root), pictures) if source.masks else {}
    notes: list[str] = []
    photos = []
    for index, picture in zip(_indices(file, matrices, pictures), pictures, strict=True):
        where = f"{file}: camera {index}"
        c2w, lens, note = _decompose(where, matrices[index], stored_size(picture))
        notes += [note] if note else []
        photos.append(Photo(picture, c2w, lens, masks.get(picture)))
    if not masks:
        notes.append("no masks: the pictures are learned whole, and the scene has no box")
    return Found(file, photos, {}, SPHERE if masks else None, notes=notes)


def _cameras_file(source: Source) -> Path | None:
    files = [source.file] if source.file else [source.root / name for name in NAMES]
    return next((file for file in files if file.is_file()), None)


def _matrices(file: Path) -> dict[int, Float[np.ndarray, "4 4"]]:
    """world_mat @ scale_mat by the number of the picture. Raises UserError for a damaged file; runs no code of it."""
    arrays = read_arrays(file, "is damaged, or holds more than numbers", "restore it from the data set")
    with reading(file):
        held = {name: array.astype(np.float64) for name, array in arrays.items() if "_mat_" in name}
    found = {}
    for name, matrix in held.items():
        if (match := re.fullmatch(r"world_mat_(\d+)", name)) is None:
            continue
        scale = held.get(f"scale_mat_{match[1]}")
        if scale is None:
            raise UserError(f"{file} has {name} but no scale_mat_{match[1]}: {REMEDY}")
        for array in (matrix, scale):
            if array.shape not in ((4, 4), (3, 4)) or not within_reason(array):
                raise UserError(f"{file}: {name} or its scale_mat is no 4x4 matrix of finite numbers: {REMEDY}")
        found[int(match[1])] = _square(matrix) @ _square(scale)
    if not found:
        raise UserError(f"{file} has no world_mat_0: give a file with world_mat_N and scale_mat_N")
    return found


def _square(matrix: Float[np.ndarray, "rows 4"]) -> Float[np.ndarray, "4 4"]:
    """The matrix with its last row, which some files leave out."""
    return np.concatenate([matrix, np.eye(4)[len(matrix) :]])


def _indices(file: Path, matrices: dict[int, Float[np.ndarray, "4 4"]], pictures: list[Path]) -> list[int]:
    """Which camera took each picture: in order, or by the number in its name if some are missing."""
    if len(matrices) == len(pictures):
        return sorted(matrices)
    told = [re.findall(r"\d+", picture.stem) for picture in pictures]
    found = [int(words[-1]) for words in told if words]
    if len(found) < len(pictures) or len(set(found)) < len(found) or not set(found) <= set(matrices):
        told = f"{file} has {counted(len(matrices), 'camera')} for {counted(len(pictures), 'picture')}"
        raise UserError(f"{told}: restore the rest")
    return found


def _masks(folder: Path, pictures: list[Path]) -> dict[Path, Path]:
    """The mask of each picture: by name, or in order."""
    files = pictures_in(folder) if folder.is_dir() else []
    if not files:
        return {}
    by_name = {file.stem: file for file in files}
    if all(picture.stem in by_name for picture in pictures):
        return {picture: by_name[picture.stem] for picture in pictures}
    if len(files) != len(pictures):
        told = f"{folder} has {counted(len(files), 'mask')} for {counted(len(pictures), 'picture')}"
        raise UserError(f"{told}: restore the rest, or give --no_masks")
    return dict(zip(pictures, files, strict=True))


def _decompose(
    where: str, projection: Float[np.ndarray, "4 4"], size: Size
) -> tuple[Float[np.ndarray, "3 4"], Lens, str | None]:
    """Pose and intrinsics in a projection matrix K [R | t], and what to say of a skew."""
    left, right = projection[:3, :3], projection[:3, 3]
    if np.linalg.det(left) < 0:
        left, right = -left, -right
    if np.linalg.cond(left) > 1e12:
        raise UserError(f"{where} is no projection: {REMEDY}")
    q, r = np.linalg.qr(left[::-1].T)  # of the reversed matrix: K is upper triangular
    K, rotation = r.T[::-1, ::-1], q.T[::-1]
    signs = np.sign(np.diag(K))
    K, rotation = K * signs, rotation * signs[:, None]
    K = K / K[2, 2]
    c2w = from_world_to_camera(where, rotation, -np.linalg.solve(left, right))
    width, height = size
    lens: Lens = {
        "camera_model": "PINHOLE", "w": width, "h": height, "fl_x": float(K[0, 0]), "fl_y": float(K[1, 1]),
        "cx": float(K[0, 2]) + HALF, "cy": float(K[1, 2]) + HALF,
    }  # fmt: skip
    return c2w, lens, check_skew(where, float(K[0, 1]), (width, height), float(K[1, 1]))
