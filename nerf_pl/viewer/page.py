"""The page in the browser: the camera and the controls of each client become wishes, the pictures its background.

Each client has controls of its own. viser draws the page; its handles have no types that are known without it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from nerf_pl.cameras import quaternions, rotation_matrices
from nerf_pl.scenes import Scene
from nerf_pl.viewer.loop import Loop
from nerf_pl.viewer.pace import FLOOR, fitted
from nerf_pl.viewer.stage import MODES, Wish, box_to_crop, looked_at, up_of, wish_of

QUALITY = {False: 75, True: 92}  # of JPEG pictures, by whether they are sharp
LARGEST = {"cpu": 800, "cuda": 1600}  # pixels of the longer side of the sharp picture, until the user chooses
MOST_SIDE = 4096
MOST_FRUSTA = 100
LEAST_UPRIGHT = 0.05  # the cosine between the two up directions, of the scene and of a picture
FRUSTUM = 0.05  # the size of a drawn camera, as a share of the distance between the outermost ones
THIN = 0.003  # the thickness of its lines, likewise
TO_OPENCV = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)  # viser's cameras have y down and look along +z

Photos = Callable[[Sequence[int]], Sequence[UInt8[np.ndarray, "h w 3"]] | None]
"""Gives small versions of the photos of these views; None if there are none."""


def pose_of(camera: Any) -> Float[Tensor, "3 4"]:
    """Camera to world, OpenGL axes, of a client's camera."""
    turned = rotation_matrices(torch.tensor(np.asarray(camera.wxyz), dtype=torch.float64)[None])[0] * TO_OPENCV
    return torch.cat([turned, torch.tensor(np.asarray(camera.position), dtype=torch.float64)[:, None]], 1)


def wxyz_of(pose: Float[Tensor, "3 4"]) -> Float[np.ndarray, "4"]:
    """The rotation of viser's camera at a pose with OpenGL axes."""
    return quaternions((pose[:, :3].double().cpu() * TO_OPENCV)[None])[0].numpy()


def go_to(camera: Any, scene: Scene, pose: Float[Tensor, "3 4"], fov: float) -> None:
    """Move a client's camera to a pose. Then it turns about the point that it looks at, and about the axis nearest to
    the scene's up direction that leaves the picture upright as it is."""
    right, own = pose[:, 0].double(), pose[:, 1].double()
    up = torch.tensor(up_of(scene), dtype=torch.float64)
    up = up - (up @ right) * right
    camera.position = tuple(pose[:, 3].tolist())
    camera.up_direction = tuple((up if float(up @ own) > LEAST_UPRIGHT else own).tolist())
    camera.look_at = looked_at(scene, pose)
    camera.fov = fov


@dataclass
class Controls:
    """The controls of one client, by viser's handles."""

    mode: Any
    largest: Any
    background: Any
    nearest: Any
    cameras: Any
    photos: Any
    crop: Any = None
    corners: tuple[Any, Any] | None = None
    frusta: list[Any] = field(default_factory=list)

    def all(self) -> list[Any]:
        """Those that change the picture."""
        handles = [self.mode, self.largest, self.background, self.nearest]
        return handles + ([self.crop, *self.corners] if self.corners else [])

    def box(self) -> tuple[float, ...] | None:
        """The crop that is switched on."""
        if not self.corners or not self.crop.value:
            return None
        ends = np.array([corner.value for corner in self.corners], dtype=float)
        return (*ends.min(0).tolist(), *ends.max(0).tolist())

    def wish(self, camera: Any) -> Wish:
        """What a client with this camera wants to see."""
        full = fitted((max(int(camera.image_width), 1), max(int(camera.image_height), 1)), int(self.largest.value))
        r, g, b = (part / 255 for part in self.background.value)
        pose = tuple(pose_of(camera).flatten().tolist())
        near = float(self.nearest.value) or None
        return Wish(pose, float(camera.fov), full, (r, g, b), self.mode.value, near, self.box())


@dataclass
class Page:
    """What the server shows. device_type: cpu or cuda. may_crop: whether a crop can be shown. photos: for the
    cameras that it draws."""

    server: Any
    loop: Loop
    device_type: str = "cpu"
    may_crop: bool = True
    photos: Photos | None = None
    controls: dict[int, Controls] = field(default_factory=dict)

    @property
    def scene(self) -> Scene:
        return self.loop.scene

    def home(self) -> Wish:
        """The view that a new client sees: that of the first camera."""
        return wish_of(self.scene.view(0))

    def open(self) -> None:
        """Take clients from now on."""
        home = self.home()
        self.server.scene.set_up_direction(up_of(self.scene))
        start = self.server.initial_camera
        start.position, start.look_at = tuple(home.c2w[:, 3].tolist()), looked_at(self.scene, home.c2w)
        start.up, start.fov = up_of(self.scene), home.fov
        self.server.on_client_connect(self.connect)
        self.server.on_client_disconnect(self.disconnect)

    def connect(self, client: Any) -> None:
        """A new client: give it controls, and pictures from now on."""

        def show(picture: UInt8[np.ndarray, "H W 3"], is_sharp: bool) -> None:
            client.scene.set_background_image(picture, format="jpeg", jpeg_quality=QUALITY[is_sharp])

        def ask(_: Any = None) -> None:
            if client.client_id in self.controls:
                self.loop.ask(client.client_id, controls.wish(client.camera))

        controls = self._controls(client)
        self.controls[client.client_id] = controls
        self.loop.join(client.client_id, show)
        for handle in controls.all():
            handle.on_update(ask)
        for handle in (controls.cameras, controls.photos):
            handle.on_update(lambda _: self._draw_cameras(client, controls))
        client.camera.on_update(ask)
        ask()

    def disconnect(self, client: Any) -> None:
        self.controls.pop(client.client_id, None)
        self.loop.leave(client.client_id)

    def _controls(self, client: Any) -> Controls:
        gui = client.gui
        back = [round(255 * part) for part in self.scene.background or (0.0, 0.0, 0.0)]
        largest = LARGEST.get(self.device_type, LARGEST["cpu"])
        about_near = "Nothing nearer to the camera is shown. 0: as in training."
        controls = Controls(
            gui.add_dropdown("show", MODES, initial_value=MODES[0]),
            gui.add_slider("sharp size", FLOOR, MOST_SIDE, 16, largest, hint="Pixels of the longer side, at rest."),
            gui.add_rgb("background", tuple(back)),
            gui.add_number("near plane", 0.0, min=0.0, step=0.01, disabled=self.scene.ndc is not None, hint=about_near),
            gui.add_checkbox("cameras", False, hint="Click one to see what it saw."),
            gui.add_checkbox("photos", False, disabled=self.photos is None, hint="Photos in the cameras."),
        )
        if self.may_crop:
            box = box_to_crop(self.scene)
            with gui.add_folder("crop", expand_by_default=False):
                controls.crop = gui.add_checkbox("show only this box", False)
                about = "In the coordinates of the scene's file, as --crop of nerf render."
                low = gui.add_vector3("lowest", box[:3], step=0.01, hint=about)
                controls.corners = low, gui.add_vector3("highest", box[3:], step=0.01, hint=about)
        return controls

    def _draw_cameras(self, client: Any, controls: Controls) -> None:
        """Draw the scene's cameras, or take them away."""
        for handle in controls.frusta:
            handle.remove()
        controls.frusta.clear()
        if not controls.cameras.value:
            return
        views, n = self.scene.cameras, len(self.scene)
        shown = sorted({round(i) for i in np.linspace(0, n - 1, min(n, MOST_FRUSTA))})
        pictures = self.photos(shown) if self.photos is not None and controls.photos.value else None
        extent = float((views.c2w[:, :, 3] - views.c2w[:, :, 3].mean(0)).norm(dim=1).max()) or 1.0
        for at, i in enumerate(shown):
            wish, (width, height) = wish_of(self.scene.view(i)), views.size(i)
            handle = client.scene.add_camera_frustum(
                f"/cameras/{i}", wish.fov, width / height, scale=2 * FRUSTUM * extent, thickness=THIN * extent,
                color=(30, 110, 220), image=None if pictures is None else pictures[at], wxyz=wxyz_of(wish.c2w),
                position=tuple(wish.c2w[:, 3].tolist()),
            )  # fmt: skip
            handle.on_click(lambda _, wish=wish: go_to(client.camera, self.scene, wish.c2w, wish.fov))
            controls.frusta.append(handle)
