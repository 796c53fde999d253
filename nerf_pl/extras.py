"""Packages that only some commands need. Each belongs to an extra of this package, and is imported where it is used."""

import importlib
from typing import Any

from nerf_pl.errors import UserError, reason
from nerf_pl.signals import kept

EXTRAS = {
    "pycolmap": "colmap", "viser": "viewer", "skimage": "mesh", "scipy": "mesh", "trimesh": "mesh",
    "fast_simplification": "mesh", "xatlas": "mesh", "tifffile": "tiff", "numba": "cpu",
}  # fmt: skip
"""The extra that brings each package."""


def extra(module: str, wanted_by: object) -> Any:
    """A module of an optional package. Raises UserError, with the pip command, if it is not there, and with the reason
    if it is there and cannot be imported."""
    package = module.partition(".")[0]
    brought = f'"nerf_pl[{EXTRAS[package]}]"' if package in EXTRAS else package
    try:
        with kept():
            return importlib.import_module(module)
    except Exception as error:  # what is installed badly raises nearly any type
        if isinstance(error, ModuleNotFoundError) and (error.name or package).partition(".")[0] == package:
            raise UserError(f"{wanted_by} needs {package}: pip install {brought}") from error
        told = f"{wanted_by} needs {package}, which cannot be imported ({reason(error)})"
        raise UserError(f"{told}: pip install --force-reinstall {brought}") from error
