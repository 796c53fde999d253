"""Where decoded pictures are kept: in memory or, if they are too large for that, in a temporary file that is mapped."""

import math
import mmap
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.memory import GB, PROC, address_space, free_memory, in_gb

RESERVE = 1.5 * GB  # for all else that a training holds, a model of the default size among it
MASK = 9  # bytes for a pixel: whether it counts, and its number among those that do
LEAST_SIDE = 64  # pixels; smaller pictures show little
IN_MEMORY = {"tmpfs", "ramfs", "devtmpfs"}  # file systems without a disk


def empty_pictures(
    shape: Sequence[int], *, told: str, beside: int = 0, downscale: float = 1.0
) -> UInt8[Tensor, "C H W ch"]:
    """Black pictures of a shape (C, H, W, ch), to be filled.

    They lie in memory if that has room for them and for `beside`, the bytes of their masks, or else on a disk.
    told: what to call them in messages; downscale: by how much they were reduced. Raises UserError if neither has room.
    """
    size, free = math.prod(shape), free_memory()
    if free is None or _fits(size + beside, free):
        return torch.zeros(*shape, dtype=torch.uint8)
    told = f"{told} need {in_gb(size + beside)} of memory, and {in_gb(free)} are free"
    remedy = smaller(shape, size + beside, free, downscale)
    space = address_space()
    folder = _folder_on_disk(size) if _fits(beside, free) and (space is None or _fits(size + beside, space)) else None
    if folder is None:
        raise UserError(f"{told}: {remedy}")
    warn(f"{told}: they are kept in a temporary file in {folder}, which is slower; {remedy} to do without")
    return _mapped(folder, size).view(*shape)


def require_gpu_memory(
    images: UInt8[Tensor, "C H W ch"], free: int, *, told: str, masked: bool, downscale: float
) -> None:
    """Raises UserError if the free memory of a GPU, in bytes, has no room for a copy of the pictures beside a training.
    See `empty_pictures`."""
    size = images.nbytes + (MASK * images.shape[:3].numel() if masked else 0)
    if not _fits(size, free):
        remedy = smaller(images.shape, size, free, downscale)
        raise UserError(f"{told} need {in_gb(size)} of GPU memory, and {in_gb(free)} are free: {remedy}")


def smaller(shape: Sequence[int], size: float, free: float, downscale: float) -> str:
    """What to give so that pictures of a shape (C, H, W, ch), which take `size` bytes, fit into what is free."""
    factor = math.ceil(downscale)
    while not _fits(size * (downscale / factor) ** 2, free):
        factor += 1
        if min(shape[1:3]) * downscale / factor < LEAST_SIDE:
            return "use fewer pictures, or a machine with more memory"
    return f"give --downscale {factor}"


def reduced(file: Path, stored: tuple[int, int], size: tuple[int, int]) -> float:
    """By how much a picture is reduced; a folder such as images_4 says by how much its pictures already were."""
    before = re.fullmatch(r"images_(\d+)", file.parent.name)
    return max(max(stored) / max(size), 1.0) * (max(int(before[1]), 1) if before else 1)


def _fits(size: float, free: float) -> bool:
    """Whether memory has room for pictures and a training; small scenes make small trainings."""
    return size + min(size, RESERVE) <= free


def _folder_on_disk(size: int) -> Path | None:
    """A folder for temporary files on a disk that has room; None if there is none, or if the system cannot map them."""
    if os.name != "posix":
        return None
    for folder in (Path(tempfile.gettempdir()), Path("/var/tmp")):
        is_disk = folder.is_dir() and os.access(folder, os.W_OK) and _file_system(folder) not in IN_MEMORY
        if is_disk and shutil.disk_usage(folder).free > size + RESERVE:
            return folder
    return None


def _file_system(folder: Path) -> str:
    """The kind of file system that a folder lies in, as Linux tells it; "" elsewhere."""
    try:
        mounts = [
            line.split()[1:3] for line in (PROC / "mounts").read_text(encoding="utf-8", errors="replace").splitlines()
        ]
    except OSError:
        return ""
    place = folder.resolve()
    found = [(len(at), kind) for at, kind in mounts if place.is_relative_to(at.replace("\\040", " "))]
    return max(found, default=(0, ""))[1]


def _mapped(folder: Path, size: int) -> UInt8[Tensor, "N"]:
    """Zeros in a file without a name, which goes when they are no longer used, or when the process is killed."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # a disk that fills up later would end the program
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                os.ftruncate(file.fileno(), size)
            return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=torch.uint8)
    except OSError as error:
        told = f"cannot write a temporary file in {folder}: {error.strerror}"
        raise UserError(f"{told}; free some space, or give --downscale") from error
