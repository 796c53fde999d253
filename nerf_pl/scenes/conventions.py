"""How files have poses, and what poses most likely are that were read in another way than they are meant."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.scenes.normalize import camera_focus, looks_at


class Convention(NamedTuple):
    """How a file has its poses, in words. turned, inverse, both: how it has them in truth if what was read must be
    given the other y and z, must be inverted, or must be inverted first."""

    right: str
    turned: str
    inverse: str
    both: str


MATRICES = Convention(
    "camera to world, y up and z back",
    "camera to world with y down and z ahead",
    "world to camera",
    "world to camera with y down and z ahead",
)
ROWS = MATRICES._replace(right="camera to world, with the axes down, right, back")
MODEL = Convention(
    "a model has world to camera, QW QX QY QZ TX TY TZ, with the axes right, down, ahead",
    "world to camera with y up and z back",
    "camera to world with y up and z back",
    "camera to world with y down and z ahead",
)


def readings(c2w: Float[Tensor, "C 3 4"], poses: Convention) -> Iterator[tuple[str, Float[Tensor, "C 3 4"]]]:
    """What the poses of a file may be instead, and the cameras that they are then. c2w: as they were read, in the
    coordinates of the file, for an inverse is another one in other coordinates."""
    turn = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=c2w.dtype)
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=c2w.dtype).expand(len(c2w), 1, 4)
    inverse = torch.linalg.inv(torch.cat([c2w, last], 1))[:, :3]
    yield poses.turned, c2w * turn
    yield poses.inverse, inverse
    yield poses.both, inverse * turn


def misread(c2w: Float[Tensor, "C 3 4"], poses: Convention = MATRICES) -> str:
    """What the poses of a file would have to be for the cameras to look at one point, if they do not as they are. An
    empty text if that is no better. Cameras that look outward may seem so, too. c2w: see `readings`."""
    if len(c2w) < 3 or looks_at(c2w, camera_focus(c2w)):
        return ""
    return next((told for told, other in readings(c2w, poses) if looks_at(other, camera_focus(other))), "")
