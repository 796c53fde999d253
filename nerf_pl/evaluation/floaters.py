"""Floaters: fog and crumbs that hang in front of a camera, where there is nothing."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from nerf_pl.methods.model import Model
from nerf_pl.rendering import Image, render_lattice
from nerf_pl.scenes import Scene

NEAREST = 0.05  # quantile of a picture's depths: how close the scene comes to its camera
ROOM = 0.5  # of the distance that other views allow; what is nearer is a floater
MOST = 10**6  # depths of a picture that are looked at
EVERY = 4  # pixels along rows and columns


def nearest_depth(image: Image) -> float:
    """How close the scene comes to the camera of a picture, as a distance; nan for a picture of nothing."""
    depths = image.depth[image.opacity > 0.5]
    depths = depths[:: len(depths) // MOST + 1]
    return float(depths.quantile(NEAREST)) if len(depths) else math.nan


@torch.no_grad()
def floater_shares(model: Model, scene: Scene, nearest: Sequence[float], chunk: int) -> list[float]:
    """For each view the share of its light that comes from nearer than half the distance that the other views allow.

    nearest: of each view, see `nearest_depth`. A view is allowed the median of those of the others. Without others, or
    if these show nothing, the share is nan.
    """
    shares = []
    for i in range(len(scene)):
        others = torch.tensor([*nearest[:i], *nearest[i + 1 :]])
        others, view = others[others.isfinite()], scene.view(i)
        if not len(others):
            shares.append(math.nan)
            continue
        allowed = max(ROOM * float(others.median()), view.near)
        shares.append(float(render_lattice(model, replace(view, far=allowed), EVERY, chunk).opacity.mean()))
    return shares
