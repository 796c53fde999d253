"""The arithmetic that has kernels, one folder per family, and `backend.choose`, which decides once what runs.

In each family `__init__.py` has the public ops, `reference.py` their twins in plain PyTorch and `triton.py` their
kernels, under the same names. Every op that has a kernel takes the `Backend` as a keyword.
"""

from nerf_pl.ops.adam import AdamStep, adam
from nerf_pl.ops.backend import FAMILIES, Backend, choose, describe, forced, precision_of
from nerf_pl.ops.hash_field import (
    HashWeights,
    Normals,
    Target,
    field_loss,
    hash_density,
    hash_field,
    mean_of_rays,
    mirrored_harmonics,
    spherical_harmonics,
)
from nerf_pl.ops.layout import FieldLayout, GridLayout, MLPLayout, encoded_width
from nerf_pl.ops.march import (
    Budget,
    Light,
    March,
    Stride,
    Way,
    advance,
    cell_numbers,
    cell_places,
    contract,
    grid_span,
    march,
    moved,
    pack_bits,
)
from nerf_pl.ops.mlp import FUSED_WIDTHS, frequency, nerf_mlp
from nerf_pl.ops.pixels import Draw, Pictures, draw_pixels
from nerf_pl.ops.rays import composite, random_bits, resample

__all__ = [
    "FAMILIES",
    "FUSED_WIDTHS",
    "AdamStep",
    "Backend",
    "Budget",
    "Draw",
    "FieldLayout",
    "GridLayout",
    "HashWeights",
    "Light",
    "MLPLayout",
    "March",
    "Normals",
    "Pictures",
    "Stride",
    "Target",
    "Way",
    "adam",
    "advance",
    "cell_numbers",
    "cell_places",
    "choose",
    "composite",
    "contract",
    "describe",
    "draw_pixels",
    "encoded_width",
    "field_loss",
    "forced",
    "frequency",
    "grid_span",
    "hash_density",
    "hash_field",
    "march",
    "mean_of_rays",
    "mirrored_harmonics",
    "moved",
    "nerf_mlp",
    "pack_bits",
    "precision_of",
    "random_bits",
    "resample",
    "spherical_harmonics",
]
