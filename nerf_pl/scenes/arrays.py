"""Arrays of numbers in NumPy's files, read without running code, and not before it is clear that they are there."""

import math
import os
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from nerf_pl.errors import UserError, reading

VERSIONS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
MOST_IN_ARCHIVE = 2**28  # bytes of the arrays in a file; matrices of cameras take a few kilobytes


def read_array(file: Path, told: str, remedy: str) -> Shaped[np.ndarray, "*shape"]:
    """The array in a .npy file. Raises DamagedError, with the words told and remedy, for a file that is damaged, holds
    objects or claims more than it has."""
    with reading(file, remedy, told), file.open("rb") as content:
        version = np.lib.format.read_magic(content)
        if version not in VERSIONS:
            raise ValueError(f"version {version[0]}.{version[1]} of the format")
        shape, _, dtype = VERSIONS[version](content)
        if dtype.hasobject:
            raise ValueError("it holds objects")
        claimed, held = math.prod(shape) * dtype.itemsize, os.fstat(content.fileno()).st_size - content.tell()
        if claimed > held:
            raise ValueError(f"it claims {claimed:.3g} bytes and has {held}")
        content.seek(0)
        return np.lib.format.read_array(content, allow_pickle=False)


def read_arrays(file: Path, told: str, remedy: str) -> dict[str, Shaped[np.ndarray, "*shape"]]:
    """The arrays in a .npz file, by name. Raises UserError as `read_array` does."""
    with reading(file, remedy, told):
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_IN_ARCHIVE:
            raise UserError(f"{file} claims to hold {size / 1e9:.3g} GB, which no file of cameras does: {remedy}")
        with file.open("rb") as content, np.load(content, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in arrays.files}
