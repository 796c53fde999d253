"""The method of the 2020 paper (Mildenhall et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nerf_pl.methods.method import Foreign, Method
from nerf_pl.methods.nerf.options import PRESET, NeRFOptions, complete, pixel_offset
from nerf_pl.options import Config, ModelOptions

if TYPE_CHECKING:
    import torch

    from nerf_pl.methods.model import Model


def _make(config: Config, device: torch.device, rank: int = 0) -> Model:
    from nerf_pl.methods.nerf.model import make

    return make(config, device, rank)


def _foreign() -> Foreign:
    from nerf_pl.methods.nerf import foreign

    return foreign


def _least_bytes(options: ModelOptions) -> int:
    """Of the samples of a ray: place, direction, way, length, density and colour, in 32 bits."""
    assert isinstance(options, NeRFOptions)
    return 4 * 12 * (options.N_samples + options.N_importance)


NERF = Method(NeRFOptions, PRESET, complete, _make, pixel_offset, _foreign, tight=True, least_bytes=_least_bytes)
