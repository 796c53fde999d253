"""What a mesh looks like from a camera, without light: to compare it with pictures of its field."""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from nerf_pl.cameras import View, project
from nerf_pl.export.files import Geometry
from nerf_pl.export.raster import covered, shares_at
from nerf_pl.export.texture import places

FINER = 2  # times as many pixels along each side are drawn; each pixel is their mean


def picture(mesh: Geometry, view: View) -> Float[Tensor, "H W 3"]:
    """The picture of a mesh that lies in the world, in front of the view's background."""
    width, height = view.size
    camera = view.camera.resized(FINER * width, FINER * height).to("cpu")
    xy, depth = (part.numpy() for part in project(camera, 0, torch.from_numpy(mesh.vertices).float()))
    number, shares = nearest_triangles(
        xy[mesh.faces].astype(np.float64), depth[mesh.faces].astype(np.float64), FINER * width, FINER * height
    )
    rgb = np.empty((*number.shape, 3))
    rgb[:] = view.background or (0.0, 0.0, 0.0)
    shown = number >= 0
    around, shares = mesh.faces[number[shown]], shares[shown][..., None]
    if mesh.texture is None or mesh.uv is None:
        rgb[shown] = (shares * mesh.colours[around]).sum(1) / 255
    else:
        rgb[shown] = sampled(mesh.texture, (shares * mesh.uv[around]).sum(1))
    return torch.from_numpy(rgb).float().view(height, FINER, width, FINER, 3).mean((1, 3))


def sampled(texture: UInt8[np.ndarray, "S S 3"], uv: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 3"]:
    """Colours in [0, 1] of a texture, interpolated between its texels."""
    size = len(texture)
    at = np.clip(places(uv, size) - 0.5, 0, size - 1)
    low = np.minimum(at.astype(np.int64), size - 2)
    x, y = (at - low).T[..., None]
    (column, row), rgb = low.T, texture / 255.0
    upper = (1 - x) * rgb[row, column] + x * rgb[row, column + 1]
    lower = (1 - x) * rgb[row + 1, column] + x * rgb[row + 1, column + 1]
    return (1 - y) * upper + y * lower


def nearest_triangles(
    corners: Float[np.ndarray, "F 3 2"], depths: Float[np.ndarray, "F 3"], width: int, height: int
) -> tuple[Int[np.ndarray, "H W"], Float[np.ndarray, "H W 3"]]:
    """The triangle that each pixel of a picture shows, -1 for none, and the shares of its corners there, in space.

    corners: see `covered`. depths: of the corners, along the camera's axis. What has a corner that is not in front of
    the camera is left out.
    """
    number = np.full(height * width, -1)
    shares, nearest = np.zeros((height * width, 3)), np.full(height * width, np.inf)
    front = np.flatnonzero((depths > 0).all(1))
    for pixels, own in covered(corners[front], width, height):
        own = front[own]
        # shares in the picture are those in space over the depths
        inverse = shares_at(corners[own], pixels, width) / depths[own]
        depth = 1 / inverse.sum(1)
        order = np.lexsort((depth, pixels))
        pixels, kept = np.unique(pixels[order], return_index=True)
        chosen = order[kept]
        closer = depth[chosen] < nearest[pixels]
        pixels, chosen = pixels[closer], chosen[closer]
        number[pixels], nearest[pixels] = own[chosen], depth[chosen]
        shares[pixels] = inverse[chosen] * depth[chosen, None]
    return number.reshape(height, width), shares.reshape(height, width, 3)
