"""Cameras that are not where they can all belong: far from all others, or in two groups far apart."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.console import warn
from nerf_pl.scenes.normalize import camera_focus, looks_at, strays
from nerf_pl.scenes.pictures import list_some

APART = 10  # times as far as each group is wide; from 25 on, rays of both begin behind what they show
SPOT = 1e-4  # of the way between two groups: cameras that do not move, such as a pair that stands still, are none
FEWEST = 3  # cameras of a group


def tell_spread(path: Path, c2w: Float[Tensor, "C 3 4"], names: Sequence[str]) -> None:
    """Say, in one line, that cameras stand in two groups, or some far from all others. names: of the cameras."""
    if groups := two_groups(c2w):
        few, many = sorted(groups, key=len)
        told = f"the cameras stand in two groups far apart, {len(many)} and {len(few)} ({_some(names, few)})"
        warn(f"{path}: {told}: are their poses right? If so, train on each group as a scene of its own")
    elif far := strays(c2w):
        told = f"{len(far)} of {len(c2w)} cameras are far from all others ({_some(names, far)})"
        warn(f"{path}: {told}: are their poses right?")


def two_groups(c2w: Float[Tensor, "C 3 4"]) -> tuple[list[int], list[int]] | None:
    """The cameras on both sides of the widest gap along the axis on which they are spread most, if it is wide and they
    look at no common point. One world then holds two small scenes, with hardly any detail in either."""
    if len(c2w) < 2 * FEWEST:
        return None
    centres = c2w[:, :, 3].double()
    centres = centres - centres.mean(0)
    along = centres @ torch.linalg.eigh(centres.T @ centres).eigenvectors[:, -1]
    order = along.argsort()
    gaps = along[order].diff()
    cut = int(gaps.argmax()) + 1
    groups = order[:cut], order[cut:]
    gap, width = float(gaps.max()), max(float((centres[g].amax(0) - centres[g].amin(0)).norm()) for g in groups)
    if not SPOT * gap < width < gap / APART or min(map(len, groups)) < FEWEST or looks_at(c2w, camera_focus(c2w)):
        return None
    first, second = (sorted(group.tolist()) for group in groups)
    return first, second


def _some(names: Sequence[str], chosen: Sequence[int]) -> str:
    return list_some([names[i] for i in chosen])
