"""Packages that only exports need: an extra, imported where it is used."""

import importlib
from typing import Any

from nerf_pl.errors import UserError

PACKAGES = ("skimage.measure", "scipy.sparse.csgraph", "scipy.spatial", "trimesh", "fast_simplification")


def package(name: str, wanted_by: str) -> Any:
    """A module of the extra `mesh`. Raises UserError with the pip command if it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f'{wanted_by} needs {name.partition(".")[0]}: pip install "nerf_pl[mesh]"') from error


def require_packages(wanted_by: str) -> None:
    """Raises UserError if one is missing, before any work."""
    for name in PACKAGES:
        package(name, wanted_by)
