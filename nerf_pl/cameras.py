"""Pinhole cameras: from pixels to rays and back, and what lenses do to pictures."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nerf_pl.types import Background, Rays


@dataclass(frozen=True)
class Cameras:
    """C cameras.

    c2w: camera to world, OpenGL axes (x right, y up, z back: the camera looks along -z).
    K: intrinsics in pixels. width, height: the size of all pictures. If their sizes differ, it is the size of a canvas;
    each picture fills the top left of it, and `sizes` has the width and height of each. pixel_offset: where in a pixel
    its ray passes. 0.5 is the centre; 0 is the corner, as in the classic implementation. panorama: pictures are
    equirectangular instead, all around each camera, whatever K is: columns are longitudes, from behind over the left,
    ahead in the middle, and rows are latitudes.

        >>> K = torch.tensor([[100.0, 0, 40], [0, 100, 30], [0, 0, 1]])
        >>> cameras = Cameras(torch.eye(3, 4)[None], K[None], width=80, height=60)
        >>> cameras.resized(40, 30).K[0, :2].tolist()
        [[50.0, 0.0, 20.0], [0.0, 50.0, 15.0]]
    """

    c2w: Float[Tensor, "C 3 4"]
    K: Float[Tensor, "C 3 3"]
    width: int
    height: int
    pixel_offset: float = 0.5
    sizes: Int[Tensor, "C 2"] | None = None
    panorama: bool = False

    def __len__(self) -> int:
        return self.c2w.shape[0]

    def __getitem__(self, index: slice | Tensor) -> "Cameras":
        sizes = None if self.sizes is None else self.sizes[index]
        return replace(self, c2w=self.c2w[index], K=self.K[index], sizes=sizes)

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of one view."""
        if self.sizes is None:
            return self.width, self.height
        width, height = self.sizes[index].tolist()
        return width, height

    def to(self, device: torch.device | str) -> "Cameras":
        """The same cameras, with poses and intrinsics on a device."""
        return replace(self, c2w=self.c2w.to(device), K=self.K.to(device))

    def resized(self, width: int, height: int) -> "Cameras":
        """The same views at another resolution. Raises ValueError for views of several sizes."""
        if self.sizes is not None:
            raise ValueError("views of several sizes have no one resolution to be changed")
        K = self.K.clone()
        K[:, 0] *= width / self.width
        K[:, 1] *= height / self.height
        return replace(self, K=K, width=width, height=height)


def pixel_rays(
    cameras: Cameras,
    camera_ids: Int[Tensor, "R"],
    pixel_ids: Int[Tensor, "R"],
    near: float,
    far: float,
    within: Float[Tensor, "R 2"] | None = None,
) -> Rays:
    """The ray of each pixel; pixel id = row * width + column.

    within: offset of the ray from the usual place in its pixel, in columns and rows. Directions are normalised, so
    near, far and depth are distances from the camera centre, not along its axis.

        >>> K = torch.tensor([[1.0, 0, 1.5], [0, 1, 0.5], [0, 0, 1]])
        >>> cameras = Cameras(torch.eye(3, 4)[None], K[None], width=3, height=1)
        >>> rays = pixel_rays(cameras, torch.tensor([0]), torch.tensor([1]), near=2.0, far=6.0)
        >>> (rays.directions + 0.0).tolist()  # the pixel in the middle: straight ahead
        [[0.0, 0.0, -1.0]]
    """
    place = (0.0, 0.0) if within is None else (within[:, 0], within[:, 1])
    return _rays(cameras, cameras.K[camera_ids], cameras.c2w[camera_ids], pixel_ids, near, far, place)


def image_rays(
    cameras: Cameras,
    camera_id: int,
    near: float,
    far: float,
    within: tuple[float | Tensor, float | Tensor] = (0.0, 0.0),
    pixel_ids: Int[Tensor, "R"] | None = None,
) -> Rays:
    """Rays of one camera, row by row: of the pixels in pixel_ids, or of all. within: see `pixel_rays`."""
    width, height = cameras.size(camera_id)
    if pixel_ids is None:
        pixel_ids = torch.arange(width * height, device=cameras.c2w.device)
    one = slice(camera_id, camera_id + 1)  # a copy for each pixel would take longer than a fast method's rendering
    return _rays(cameras, cameras.K[one], cameras.c2w[one], pixel_ids, near, far, within, width)


def _rays(
    cameras: Cameras,
    K: Tensor,
    c2w: Tensor,
    pixel_ids: Tensor,
    near: float,
    far: float,
    within: tuple[float | Tensor, float | Tensor],
    width: int | None = None,
) -> Rays:
    """Rays through pixels of cameras K (R or 1, 3, 3), c2w (R or 1, 3, 4). A row has `width` pixels."""
    width = width or cameras.width
    x = (pixel_ids % width).to(K.dtype) + cameras.pixel_offset
    y = torch.div(pixel_ids, width, rounding_mode="floor").to(K.dtype) + cameras.pixel_offset
    x, y = x + within[0], y + within[1]
    if cameras.panorama:
        longitude, latitude = (x / width - 0.5) * (2 * math.pi), (0.5 - y / cameras.height) * math.pi
        right, up, ahead = longitude.sin() * latitude.cos(), latitude.sin(), longitude.cos() * latitude.cos()
        directions = right[:, None] * c2w[:, :, 0] + up[:, None] * c2w[:, :, 1] - ahead[:, None] * c2w[:, :, 2]
    else:
        right, up = (x - K[:, 0, 2]) / K[:, 0, 0], -(y - K[:, 1, 2]) / K[:, 1, 1]
        directions = right[:, None] * c2w[:, :, 0] + up[:, None] * c2w[:, :, 1] - c2w[:, :, 2]
    directions = torch.nn.functional.normalize(directions, dim=-1)
    bound = torch.ones_like(x)
    return Rays(c2w[:, :, 3].expand_as(directions), directions, directions, near * bound, far * bound)


def ndc_rays(rays: Rays, ndc: tuple[float, float]) -> Rays:
    """World rays of forward-facing cameras (looking along -z) in normalised device coordinates (NeRF 2020, appendix C).

    ndc: 2 fx / width and 2 fy / height of the frustum whose near plane is z = -1. The part of the frustum from there to
    infinity fills the cube [-1, 1]^3. Directions have unit length there; near is 0, and far is the length of the way to
    infinity. viewdirs stay in the world. A ray that does not look forward has no image; it is bent forward.
    """
    ox, oy, oz = rays.origins.unbind(-1)
    dx, dy, dz = rays.directions.unbind(-1)
    dz = dz.clamp(max=-1e-3)
    t = -(1 + oz) / dz  # to the near plane
    ox, oy, oz = ox + t * dx, oy + t * dy, torch.full_like(oz, -1.0)
    x, y = -ndc[0] * ox / oz, -ndc[1] * oy / oz
    origins = torch.stack([x, y, torch.full_like(x, -1.0)], -1)
    way = torch.stack([-ndc[0] * (dx / dz - ox / oz), -ndc[1] * (dy / dz - oy / oz), torch.full_like(x, 2.0)], -1)
    far = way.norm(dim=-1)
    return Rays(origins, way / far[:, None], rays.viewdirs, torch.zeros_like(far), far)


TURNED = 0.03  # mean square of the sine by which cameras turn to the side; of a turn over 35 degrees (docs/log.md)
LEVEL = 5.0  # times as much as they roll, from which on it is known what is level
NDC_FAR = 1e4  # a distance in the world that is as good as infinite there
AHEAD = (0.0, 0.0, -1.0)
"""The direction along which lengths in normalised device coordinates are compared, where none is given."""


def ndc_points(xyz: Float[Tensor, "N 3"], ndc: tuple[float, float]) -> Float[Tensor, "N 3"]:
    """World points in front of the cameras, in normalised device coordinates; see `ndc_rays`."""
    x, y, z = xyz.unbind(-1)
    z = z.clamp(max=-1e-6)  # what lies beside or behind has no place there
    return torch.stack([-ndc[0] * x / z, -ndc[1] * y / z, 1 + 2 / z], -1)


def ndc_to_world(xyz: Float[Tensor, "N 3"], ndc: tuple[float, float]) -> Float[Tensor, "N 3"]:
    """The inverse of `ndc_points`. What is at infinity comes as far as `NDC_FAR`."""
    x, y, z = xyz.unbind(-1)
    z = 2 / (z - 1).clamp(max=-2 / NDC_FAR)
    return torch.stack([-x * z / ndc[0], -y * z / ndc[1], z], -1)


def ndc_scale(xyz: Float[Tensor, "N 3"], dirs: Float[Tensor, "N 3"], ndc: tuple[float, float]) -> Float[Tensor, "N"]:
    """The length, in normalised device coordinates, of a unit of world length along `dirs` at world points. It is the
    length of the derivative of `ndc_points` along `dirs`."""
    x, y, z = xyz.unbind(-1)
    dx, dy, dz = dirs.unbind(-1)
    z = z.clamp(max=-1e-6)
    way = [ndc[0] * (x * dz / z - dx) / z, ndc[1] * (y * dz / z - dy) / z, -2 * dz / z**2]
    return torch.stack(way, -1).norm(dim=-1)


@dataclass(frozen=True)
class Crop:
    """A box along the axes of a scene's file. box: its lowest and its highest corner, from any origin. to_file: the
    similarity that takes points of the world there."""

    box: Float[Tensor, "2 3"]
    to_file: Float[Tensor, "4 4"]

    def clip(self, rays: Rays) -> Rays:
        """World rays with near and far of the part of each that is inside. If none is, near and far are the far end."""
        to_file, box = self.to_file.to(rays.origins), self.box.to(rays.origins)
        origins = rays.origins @ to_file[:3, :3].T + to_file[:3, 3]
        directions = rays.directions @ to_file[:3, :3].T  # longer or shorter than 1: t stays a length of the world
        inverse = 1 / torch.where(directions.abs() < 1e-9, 1e-9, directions)
        a, b = (box[0] - origins) * inverse, (box[1] - origins) * inverse
        near = torch.maximum(rays.near, torch.minimum(a, b).amax(1))
        far = torch.minimum(rays.far, torch.maximum(a, b).amin(1))
        return replace(rays, near=torch.where(far > near, near, rays.far), far=torch.where(far > near, far, rays.far))

    def clip_ndc(self, rays: Rays, ndc: tuple[float, float]) -> Rays:
        """The same of world rays, in normalised device coordinates."""
        clipped, moved = self.clip(rays), ndc_rays(rays, ndc)
        ends = [rays.origins + t[:, None] * rays.directions for t in (clipped.near, clipped.far)]
        near, far = (((ndc_points(end, ndc) - moved.origins) * moved.directions).sum(1) for end in ends)
        near, is_inside = near.clamp(min=0), clipped.far > clipped.near
        return replace(moved, near=near, far=torch.where(is_inside, torch.maximum(near, far), near))


def corners_of(box: Float[Tensor, "2 3"]) -> Float[Tensor, "8 3"]:
    """The corners of a box that is given by its lowest and its highest."""
    return torch.cartesian_prod(*box.T)


@dataclass(frozen=True)
class View:
    """What it takes to render one picture.

    camera: one camera, with the size of the picture. near, far: bounds of t, as distances. ndc: if it is not None, the
    model lives in normalised device coordinates, see `ndc_rays`. background: the colour where the scene is transparent;
    None is black. crop: nothing outside is shown.
    """

    camera: Cameras
    near: float
    far: float
    ndc: tuple[float, float] | None = None
    background: Background = None
    crop: Crop | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.camera.size(0)

    def to(self, device: torch.device | str) -> "View":
        return replace(self, camera=self.camera.to(device))

    def rays(
        self,
        within: tuple[float | Tensor, float | Tensor] = (0.0, 0.0),
        pixels: Int[Tensor, "R"] | None = None,
    ) -> Rays:
        """Rays in the space that the model lives in, row by row: of the given pixels, or of all.

        within: offset of each ray from the usual place in its pixel, in columns and rows.
        """
        # in normalised device coordinates near and far are not those of the world, where a crop is
        bounds = (0.0, NDC_FAR) if self.ndc and self.crop else (self.near, self.far)
        rays = image_rays(self.camera, 0, *bounds, within, pixels)
        if self.crop is None:
            return rays if self.ndc is None else ndc_rays(rays, self.ndc)
        return self.crop.clip(rays) if self.ndc is None else self.crop.clip_ndc(rays, self.ndc)


def project(
    cameras: Cameras, which: int | Int[Tensor, "V"], points: Float[Tensor, "N 3"]
) -> tuple[Float[Tensor, "*V N 2"], Float[Tensor, "*V N"]]:
    """Pixel coordinates (column, row; continuous, the centre of the first pixel at 0.5) and depth along the axis.

    which: a camera, or several. What lies behind the camera has a negative depth.

        >>> K = torch.tensor([[100.0, 0, 40], [0, 100, 30], [0, 0, 1]])
        >>> cameras = Cameras(torch.eye(3, 4)[None], K[None], width=80, height=60)
        >>> pixels, depth = project(cameras, 0, torch.tensor([[0.4, 0.0, -4.0]]))
        >>> [[round(x, 3) for x in pixel] for pixel in pixels.tolist()], depth.tolist()
        ([[50.0, 30.0]], [4.0])
    """
    c2w, K = cameras.c2w[which], cameras.K[which][..., None]
    x, y, z = ((points - c2w[..., None, :, 3]) @ c2w[..., :3]).unbind(-1)
    xy = torch.stack([x / -z * K[..., 0, 0, :] + K[..., 0, 2, :], -y / -z * K[..., 1, 1, :] + K[..., 1, 2, :]], -1)
    return xy + (0.5 - cameras.pixel_offset), -z


def quaternions(rotations: Float[Tensor, "N 3 3"]) -> Float[Tensor, "N 4"]:
    """Unit quaternions (w, x, y, z) of rotation matrices. Their sign is arbitrary."""
    m = rotations
    xx, yy, zz = m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]
    wx, wy, wz = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    xy, xz, yz = m[:, 1, 0] + m[:, 0, 1], m[:, 0, 2] + m[:, 2, 0], m[:, 2, 1] + m[:, 1, 2]
    # 4 q q^T; its longest column, which cannot vanish, is a multiple of q
    rows = [1 + xx + yy + zz, wx, wy, wz, wx, 1 + xx - yy - zz, xy, xz]
    rows += [wy, xy, 1 - xx + yy - zz, yz, wz, xz, yz, 1 - xx - yy + zz]
    products = torch.stack(rows, -1).view(-1, 4, 4)
    longest = products.norm(dim=1).argmax(-1)
    return torch.nn.functional.normalize(products[torch.arange(len(m)), :, longest], dim=-1)


def rotation_matrices(quaternions: Float[Tensor, "N 4"]) -> Float[Tensor, "N 3 3"]:
    """The inverse of `quaternions`; these need not have unit length."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]
    rows += [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]
    rows += [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    return torch.stack(rows, -1).view(-1, 3, 3)


def up_direction(c2w: Float[Tensor, "C 3 4"]) -> Float[Tensor, "3"]:
    """What is up, a unit vector in float64 on the CPU.

    People hold cameras level, so what points to the right in their pictures lies across up. If cameras were not held
    level, or look in much the same way, up is the mean of their up directions: it leans where all look down from one
    side. If these cancel out, it is z.
    """
    mean = c2w[:, :, 1].double().mean(0).cpu()
    if mean.norm() <= 0.2:
        return torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    mean = mean / mean.norm()
    right = c2w[:, :, 0].double().cpu()
    spreads, directions = torch.linalg.eigh(right.T @ right / len(right))  # the least one first
    across = directions[:, 0] * torch.sign(directions[:, 0] @ mean)
    is_known = spreads[1] > TURNED and spreads[1] > LEVEL * spreads[0] and across @ mean > 0.5
    return across if bool(is_known) else mean
