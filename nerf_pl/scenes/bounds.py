"""The bounds of depth in poses_bounds.npy, which are often wrong: by one point, or in another unit than the poses."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.console import warn
from nerf_pl.scenes.normalize import OF_NEAREST, camera_focus, looks_at, usual_nearest

OUTLIER = 20  # a near bound that is less than others, or than the way between cameras, by this factor is doubtful
LEAST_TOLD = 0.1  # share of the way to what cameras look at; bounds that are nearer are rather wrong than meant
DISTANT = 100  # times as far as cameras are apart, from where on photos show next to no depth


def nearest_bound(path: Path, c2w: Float[Tensor, "C 3 4"], bounds: Float[Tensor, "C 2"], facing: bool) -> float:
    """The nearest bound, which sets the scale of photos from one side: nothing nearer is shown.

    Bounds that cannot be meant are said. facing: one that is much nearer than others does not count, and in place of
    one beyond what the cameras look at, or nearer than a tenth of the way there, a third of the way is taken.
    """
    near, usual = bounds[:, 0], bounds[:, 0].median()
    counts = near * OUTLIER >= usual
    nearest, row = near.min().item(), int(near.argmin())
    if not counts.all():
        told = f"row {row} has the near bound {nearest:.3g}, and half of all have more than {usual:.3g}"
        warn(f"{path}: {told}; {'it does not count, so ' if facing else ''}correct it if it is wrong")
        row = int(near.where(counts, torch.inf).argmin())
        nearest = near[row].item()
    apart = (c2w[:, :, 3] - c2w[:, :, 3].mean(0)).norm(dim=-1).median().item()
    focus = camera_focus(c2w)
    way = usual_nearest(c2w, focus) if looks_at(c2w, focus) else None
    what = f"the nearest bound is {nearest:.3g} (row {row})"
    if way and facing and not LEAST_TOLD * way <= nearest <= way:
        told = f"{what}, but what the cameras look at is {way:.3g} away"
        warn(f"{path}: {told}; are both in the same unit? {OF_NEAREST * way:.3g} is taken in its place")
        return OF_NEAREST * way
    if nearest * OUTLIER < apart:
        warn(f"{path}: {what}, but the cameras are some {apart:.3g} apart; are both in the same unit?")
    elif facing and nearest > DISTANT * apart > 0:
        told = f"{what}, but the cameras are only some {apart:.3g} apart"
        warn(f"{path}: {told}; are both in the same unit? What is nearer than the bound is not shown")
    return nearest
