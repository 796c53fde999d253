"""Packages that only some commands need. Each belongs to an extra of this package, and is imported where it is used."""

import importlib
from typing import Any

from nerf_pl.errors import UserError
from nerf_pl.signals import kept

EXTRAS = {
    "pycolmap": "colmap", "viser": "viewer", "skimage": "mesh", "scipy": "mesh", "trimesh": "mesh",
    "fast_simplification": "mesh", "xatlas": "mesh", "tifffile": "tiff", "numba": "cpu",
}  # fmt: skip
"""The extra that brings each package."""


def extra(module: str, wanted_by: object) -> Any:
    """A module of an optional package. Raises UserError, with the pip command, if it is not there."""
    package = module.partition(".")[0]
    try:
        with kept():
            return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f'{wanted_by} needs {package}: pip install "nerf_pl[{EXTRAS[package]}]"') from error
