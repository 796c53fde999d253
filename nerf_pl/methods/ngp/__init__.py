"""A hash-grid field with an occupancy grid, which trains in seconds (after Mueller et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nerf_pl.methods.method import Method
from nerf_pl.methods.ngp.options import PRESET, NGPOptions, complete
from nerf_pl.options import Config

if TYPE_CHECKING:
    import torch

    from nerf_pl.methods.model import Model


def _make(config: Config, device: torch.device, rank: int = 0) -> Model:
    from nerf_pl.methods.ngp.ensemble import make

    return make(config, device, rank)


NGP = Method(NGPOptions, PRESET, complete, _make)
