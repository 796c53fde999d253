"""A part of a scene: what lies in a box that is given in the coordinates of the scene's own file."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from nerf_pl.cameras import Crop, corners_of
from nerf_pl.errors import UserError
from nerf_pl.scenes.normalize import LEAST_NEAR, reach
from nerf_pl.scenes.scene import Scene, frame_of
from nerf_pl.text import box_text


def crop_of(scene: Scene, box: Sequence[float]) -> Crop:
    """A box, x y z of its lowest and of its highest corner, as rays of the scene's world meet it. Its middle becomes
    the origin: where a file has the coordinates of a map, single precision would be off by half a metre."""
    corners = torch.tensor(box, dtype=torch.float64).view(2, 3)
    to_middle = torch.linalg.inv(frame_of(scene))
    to_middle[:3, 3] -= corners.mean(0)
    return Crop((corners - corners.mean(0)).float(), to_middle.float())


def cropped(scene: Scene, box: Sequence[float], pictures: bool = True, is_needed: bool = True) -> Scene:
    """The scene as one with a box: the axis-aligned one of its world around the given box.

    Pixels whose rays miss the given box do not count; without pictures that is not looked for. Raises UserError for
    photos from one side, or if the views are needed and none sees the box.
    """
    told = f"--aabb {box_text(box)}"
    if scene.ndc is not None:
        raise UserError(f"{told}: {scene.root} has photos from one side, whose space has no box; leave the option out")
    frame = frame_of(scene)
    corners = corners_of(torch.tensor(box, dtype=torch.float64).view(2, 3)) @ frame[:3, :3].T + frame[:3, 3]
    corners = corners.float()
    aabb = torch.stack([corners.amin(0), corners.amax(0)])
    nearest, far = reach(scene.cameras.c2w[:, :, 3], aabb)
    near = max(nearest, min(scene.near, LEAST_NEAR))  # cameras may stand close to the box, or in it
    target = tuple(corners.mean(0).tolist())
    scene = replace(scene, near=near, far=far, aabb=aabb, unbounded=False, target=target, ahead=0.0)
    if not pictures:
        return scene
    masks = _seen(scene, crop_of(scene, box))
    if is_needed and not masks.any():
        raise UserError(
            f"{told}: no view of {scene.root} sees this box; give it in the coordinates of the scene's file"
        )
    return replace(scene, masks=masks if scene.masks is None else masks & scene.masks)


def _seen(scene: Scene, crop: Crop) -> Bool[Tensor, "C H W"]:
    """The pixels whose rays meet the box."""
    masks = torch.zeros(scene.images.shape[:3], dtype=torch.bool)
    for i in range(len(scene)):
        view = replace(scene.view(i), crop=crop)
        (width, height), rays = view.size, view.rays()
        masks[i, :height, :width] = (rays.far > rays.near).view(height, width)
    return masks
