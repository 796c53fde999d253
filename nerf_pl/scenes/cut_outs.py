"""Masks as transparency: of an object on nothing they say where it is, instead of which pixels count."""

from dataclasses import replace

import torch

from nerf_pl.errors import UserError
from nerf_pl.scenes.backgrounds import doubt_masks
from nerf_pl.scenes.request import Request
from nerf_pl.scenes.scene import Scene, as_object
from nerf_pl.scenes.store import empty_pictures


def masks_as_asked(scene: Scene, request: Request) -> Scene:
    """The scene with its masks as those of pixels that count, as the transparency of its pictures, or without them.

    As transparency they cut out an object on nothing, which gets a box if nothing else has settled its space. Raises
    UserError if there are no masks to do so.
    """
    if request.masks in ("none", "alpha") and scene.partial and scene.masks is not None:
        told = "masks also say which part of a photo its lens has filled"
        raise UserError(f"--masks {request.masks}: {scene.root}: {told}; leave the option out")
    if request.masks == "none":
        return replace(scene, masks=None)
    if request.pictures and request.split == "train" and not scene.partial:
        doubt_masks(scene)
    if request.masks != "alpha":
        return scene
    if request.pictures and scene.masks is None:
        raise UserError(f"--masks alpha: {scene.root} has no masks; leave the option out, or add them")
    scene = replace(_transparent(scene), masks=None, background=scene.background or (1.0, 1.0, 1.0))
    if scene.unbounded and request.objects:
        return as_object(scene, "masks cut the pictures out")
    return scene


def _transparent(scene: Scene) -> Scene:
    """The scene with pictures that show nothing where its masks leave something out."""
    n, height, width, channels = scene.images.shape
    if scene.masks is None:
        return replace(scene, images=torch.zeros(1, dtype=torch.uint8).expand(n, height, width, 4))
    told = f"{scene.root}: {n} pictures of {width}x{height} pixels, with transparency,"
    images = empty_pictures((n, height, width, 4), told=told)
    for i in range(n):
        images[i, ..., :channels] = scene.images[i]
        if channels == 3:
            images[i, ..., 3] = 255
        images[i, ..., 3] *= scene.masks[i]
    return replace(scene, images=images)
