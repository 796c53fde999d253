"""The door of every scene, also of those that checkpoints keep: all of its numbers are finite and in range."""

import math
from pathlib import Path

import torch
from torch import Tensor

from nerf_pl.errors import UserError
from nerf_pl.scenes.scene import Scene
from nerf_pl.scenes.values import FARTHEST

MOST = FARTHEST  # units of the world that anything is from the origin
LONGEST = 1e7  # pixels of a focal length
MOST_SIDE = 2**24  # pixels of a picture
TURNED = 1e-3  # how far the products of a rotation's axes may be from those of unit axes at right angles
SMALLEST, LARGEST = 2.5e-7, 1e15  # units of the world that a unit of the file may be: 4 km in millimetres still fit


def require_sound(scene: Scene, what: Path | str) -> None:
    """Raises UserError if a scene has a number that is not finite, or out of range, or a shape that does not fit the
    others. what: what it was read from."""
    wrong = _of_cameras(scene) or _of_place(scene) or _of_pictures(scene)
    if wrong:
        raise UserError(f"{what}: {wrong}; correct or remove it")


def _of_cameras(scene: Scene) -> str:
    c2w, K, n = scene.cameras.c2w, scene.cameras.K, len(scene.cameras)
    if n == 0 or c2w.shape != (n, 3, 4) or K.shape != (n, 3, 3) or {c2w.dtype, K.dtype} != {torch.float32}:
        return f"its cameras have the shapes {tuple(c2w.shape)} and {tuple(K.shape)}"
    centres = c2w[:, :, 3].abs().amax(1)
    if (at := _first(~(centres < MOST))) is not None:
        return f"{_named(scene, at)} is {float(centres[at]):.3g} from the middle, in units of the placed scene"
    axes = c2w[:, :, :3].double()
    off = (axes.transpose(1, 2) @ axes - torch.eye(3).to(axes)).abs().amax((1, 2))
    if (at := _first(~(off < TURNED))) is not None:
        return f"the axes of {_named(scene, at)} are no rotation"
    focal, finite = K[:, [0, 1], [0, 1]], K.isfinite().all(2).all(1)
    good = finite & (focal > 0).all(1) & (K.abs().amax((1, 2)) < LONGEST)
    if not scene.cameras.panorama and (at := _first(~good)) is not None:
        return f"{_named(scene, at)} has a focal length or a middle of {float(K[at].abs().max()):.3g} pixels"
    return ""


def _of_place(scene: Scene) -> str:
    if not 0 <= scene.near < scene.far < MOST:
        return f"its rays go from {scene.near:.3g} to {scene.far:.3g}"
    box = scene.aabb
    if box.shape != (2, 3) or not bool((box.abs() < MOST).all()) or not bool((box[0] < box[1]).all()):
        return f"its box is {[[round(x, 4) for x in row] for row in box.tolist()]!r:.80}"
    if not (0 <= scene.ahead < 1 and 0 <= scene.closest < MOST):
        return f"its rays begin at {scene.ahead:.3g} of the way, {scene.closest:.3g} long or more"
    numbers = (*scene.target, *(scene.ndc or ()), *(scene.orbit or ()))
    if not all(math.isfinite(number) and abs(number) < MOST for number in numbers):
        return f"it has the numbers {numbers!r:.60}"
    frame = scene.frame
    if frame is None:
        return ""
    if frame.shape != (4, 4) or not bool(frame.isfinite().all()):
        return "its frame is no matrix of finite numbers"
    unit = float(frame[0, :3].double().norm())
    if not SMALLEST < unit < LARGEST:
        return f"a unit of its file becomes {unit:.3g} units, which leaves nothing to learn"
    return ""


def _of_pictures(scene: Scene) -> str:
    cameras, colour = scene.cameras, scene.background or ()
    if not 1 <= min(cameras.width, cameras.height) <= max(cameras.width, cameras.height) <= MOST_SIDE:
        return f"its pictures have {cameras.width:.3g}x{cameras.height:.3g} pixels"
    if not all(0 <= part <= 1 for part in (*colour, cameras.pixel_offset)):
        return f"its background is {colour!r:.60}, and rays pass their pixels at {cameras.pixel_offset:.3g}"
    shape = (len(cameras), cameras.height, cameras.width)
    if scene.images.shape[:3] != shape or scene.images.shape[3] not in (3, 4):
        return f"its pictures have the shape {tuple(scene.images.shape)}, and its cameras {shape}"
    if scene.masks is not None and scene.masks.shape != shape:
        return f"its masks have the shape {tuple(scene.masks.shape)}"
    for names in (scene.names, scene.photos):
        if names and len(names) != len(cameras):
            return f"it has {len(names)} names for {len(cameras)} views"
    sides = [side for _, *size in scene.originals for side in size]
    if sides and (len(scene.originals) != len(cameras) or not 1 <= min(sides) <= max(sides) <= MOST_SIDE):
        return f"it has {len(scene.originals)} photos of {min(sides)} to {max(sides)} pixels for {len(cameras)} views"
    sizes = cameras.sizes
    if sizes is not None:
        fitting = bool((sizes >= 1).all()) and bool((sizes <= torch.tensor([cameras.width, cameras.height])).all())
        if sizes.shape != (len(cameras), 2) or not fitting:
            return "the sizes of its views are not those of its pictures"
    return ""


def _first(flags: Tensor) -> int | None:
    """The first index at which one is set."""
    return int(flags.nonzero()[0]) if bool(flags.any()) else None


def _named(scene: Scene, index: int) -> str:
    return f"the pose of {scene.names[index]}" if index < len(scene.names) else f"the pose of view {index}"
