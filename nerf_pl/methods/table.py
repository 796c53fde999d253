"""Which methods there are."""

from nerf_pl.errors import UserError
from nerf_pl.methods.method import Method
from nerf_pl.methods.nerf import NERF
from nerf_pl.methods.ngp import NGP

METHODS: dict[str, Method] = {"ngp": NGP, "nerf": NERF}
DEFAULT = "ngp"
"""The method of `nerf train` without --method."""


def method_of(name: str, option: str = "method") -> Method:
    """The method of that name. Raises UserError for another one. option: by which it was named."""
    if name not in METHODS:
        raise UserError(f"--{option} {name} is not known: give {' or '.join(METHODS)}")
    return METHODS[name]
