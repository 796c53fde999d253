"""Floaters: fog and crumbs that hang in front of a camera, where there is nothing."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from nerf_pl.methods.model import Model
from nerf_pl.rendering import Image, render_lattice
from nerf_pl.scenes import Scene

ROOM = 0.5  # of the usual depth of the other views; what is nearer is a floater
MOST = 10**6  # depths of a picture that are looked at
EVERY = 4  # pixels along rows and columns


def usual_depth(image: Image) -> float:
    """The median of the depths of a picture, as a distance; nan for a picture of nothing."""
    depths = image.depth[image.opacity > 0.5]
    depths = depths[:: len(depths) // MOST + 1]
    return float(depths.median()) if len(depths) else math.nan


@torch.no_grad()
def floater_shares(model: Model, scene: Scene, usual: Sequence[float], chunk: int) -> list[float]:
    """For each view the share of its light that comes from nearer than half the usual depth of the other views.

    usual: of each view, see `usual_depth`; of the others' the median is taken. Without others, or if these show
    nothing, the share is nan.
    """
    shares = []
    for i in range(len(scene)):
        others = torch.tensor([*usual[:i], *usual[i + 1 :]])
        others, view = others[others.isfinite()], scene.view(i)
        if not len(others):
            shares.append(math.nan)
            continue
        allowed = max(ROOM * float(others.median()), view.near)
        shares.append(float(render_lattice(model, replace(view, far=allowed), EVERY, chunk).opacity.mean()))
    return shares
