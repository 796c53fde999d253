"""Poses of the training photos, refined while a model learns them."""

from dataclasses import replace

import torch

from nerf_pl.alignment import align_together
from nerf_pl.methods.model import Model
from nerf_pl.scenes import Scene, views_of_photos
from nerf_pl.training.batches import PixelBatches

TURNS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Shares of a training after which poses are refined. Not before the model shows the scene, and not at the end, so that
the model still learns the details in their right place."""
PIXELS = (10_000, 10_000, 20_000, 20_000, 40_000, 40_000, 40_000, 40_000)
"""Size of the pictures that are compared in each turn: small ones at first, where a far way is a short one."""

CPU_FEWER = 8  # times fewer pixels on a CPU, whose rendering is slow


@torch.no_grad()
def refine(model: Model, scene: Scene, batches: PixelBatches, turn: int, chunk: int) -> None:
    """Move the camera of each training photo to where the model's picture fits the photo better. The views of a photo
    that was cut move as one."""
    pixels = PIXELS[turn] // (CPU_FEWER if batches.c2w.device.type == "cpu" else 1)
    for members in views_of_photos(scene):
        views = [scene.view(i) for i in members]
        views = [
            replace(view, camera=replace(view.camera, c2w=batches.c2w[i : i + 1]))
            for i, view in zip(members, views, strict=True)
        ]
        photos, masks = [scene.image(i) for i in members], [scene.mask(i) for i in members]
        found = align_together(model, views, photos, masks, pixels=pixels, chunk=chunk)
        batches.c2w[members] = torch.cat([view.camera.c2w for view in found])
