"""What a client of the viewer wants to see, and the view of the scene that shows it."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.cameras import Cameras, View, corners_of
from nerf_pl.export.region import box_in_file
from nerf_pl.films.paths import UP, fit_turn
from nerf_pl.scenes import Scene
from nerf_pl.scenes.crop import crop_of
from nerf_pl.types import Background
from nerf_pl.viewer.pace import Size

Mode = Literal["colour", "depth", "opacity", "normals"]
MODES: tuple[Mode, ...] = ("colour", "depth", "opacity", "normals")
LEAST_SHARE = 0.01  # of the scene's near plane: what is nearer is never shown
AHEAD_OF_PHOTOS = 1.0  # in scenes in normalised device coordinates, whose nearest point is there


@dataclass(frozen=True)
class Wish:
    """A picture that a client wants.

    pose: camera to world, 3x4 row by row, OpenGL axes. fov: the vertical field of view in radians. size: of the sharp
    picture. near: a distance; None is that of the scene. crop: corners of a box in the coordinates of the scene's file.
    """

    pose: tuple[float, ...]
    fov: float
    size: Size
    background: Background = None
    mode: Mode = "colour"
    near: float | None = None
    crop: tuple[float, ...] | None = None

    @property
    def c2w(self) -> Float[Tensor, "3 4"]:
        return torch.tensor(self.pose).view(3, 4)


def wish_of(view: View, mode: Mode = "colour") -> Wish:
    """The wish for a picture of a view. Its principal point is taken to be in the middle."""
    camera, (_, height) = view.camera, view.size
    fov = 2 * math.atan(height / 2 / float(camera.K[0, 1, 1]))
    return Wish(tuple(camera.c2w[0].flatten().tolist()), fov, view.size, view.background, mode)


def view_of(scene: Scene, wish: Wish, size: Size) -> View:
    """The view of a scene that a wish asks for, with a picture of `size` pixels.

    From where the cameras of the scene are, near and far are as in `Scene.view_of`. A camera that is nearer to the
    target than all of them has a nearer near plane, and one that is farther off a farther far plane.
    """
    width, height = size
    focal = height / 2 / math.tan(wish.fov / 2)
    K = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]])
    camera = Cameras(wish.c2w[None], K, width, height, scene.cameras.pixel_offset)
    near, far = scene.view_of(camera).near, scene.far
    if scene.ndc is None:
        target = torch.tensor(scene.target)
        away = (scene.cameras.c2w[:, :, 3].float().cpu() - target).norm(dim=1)
        own = (wish.c2w[:, 3] - target).norm()
        if not scene.ahead:
            near = max(near - max(float(away.min() - own), 0), LEAST_SHARE * near)
        far += max(float(own - away.max()), 0)
    if wish.near is not None:
        near = min(wish.near, 0.99 * far)
    crop = None if wish.crop is None else crop_of(scene, wish.crop)
    return View(camera, near, far, scene.ndc, wish.background, crop)


def up_of(scene: Scene) -> tuple[float, float, float]:
    """The direction that is up for the cameras of a scene."""
    return UP if scene.orbit else fit_turn(scene.cameras.c2w, scene.target)[2]


def looked_at(scene: Scene, pose: Float[Tensor, "3 4"]) -> tuple[float, float, float]:
    """The point that a camera looks at, and that it turns about: on its axis, as far away as the scene's target."""
    pose = pose.double()
    if scene.ndc is not None:
        ahead = 3 * AHEAD_OF_PHOTOS
    else:
        away = torch.tensor(scene.target, dtype=torch.float64) - pose[:, 3]
        ahead = max(float(-away @ pose[:, 2]), 0.2 * float(away.norm()), 2 * LEAST_SHARE)
    x, y, z = (pose[:, 3] - ahead * pose[:, 2]).tolist()
    return x, y, z


def box_to_crop(scene: Scene) -> tuple[float, ...]:
    """The box of a scene, lowest and highest corner, in the coordinates of its file; of photos from one side, a piece
    of what they show."""
    if scene.ndc is None:
        return box_in_file(scene)
    near = corners_of(torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0]], dtype=torch.float64))[:, :2]
    near = torch.cat([near / torch.tensor(scene.ndc), -torch.ones(len(near), 1)], 1)
    return box_in_file(scene, torch.cat([AHEAD_OF_PHOTOS * near, 10 * AHEAD_OF_PHOTOS * near]))
