"""Directions and mirrored directions as harmonics, compiled for a CPU; see `reference.mirrored_harmonics`."""

import math

import torch
from torch import Tensor

from nerf_pl.ops.hash_field.reference import LEAST_NORMAL
from nerf_pl.ops.hash_field.types import Normals
from nerf_pl.ops.numba_jit import compiled, in_parts


@compiled
def _harmonics(x, y, z, out):
    """See `reference.spherical_harmonics`."""
    xx, yy, zz = x * x, y * y, z * z
    out[0] = 0.28209479177387814
    out[1], out[2], out[3] = -0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x
    out[4], out[5] = 1.0925484305920792 * x * y, -1.0925484305920792 * y * z
    out[6], out[7] = 0.31539156525252005 * (3 * zz - 1), -1.0925484305920792 * x * z
    out[8], out[9] = 0.5462742152960396 * (xx - yy), -0.5900435899266435 * y * (3 * xx - yy)
    out[10], out[11] = 2.890611442640554 * x * y * z, -0.4570457994644658 * y * (5 * zz - 1)
    out[12], out[13] = 0.3731763325901154 * z * (5 * zz - 3), -0.4570457994644658 * x * (5 * zz - 1)
    out[14], out[15] = 1.445305721320277 * z * (xx - yy), -0.5900435899266435 * x * (xx - 3 * yy)


@compiled
def _along(place, scale, size):
    """The first of the two cells around a place along an axis, and how near it is to the second. What is not a number
    lies at 0."""
    at = place * scale - 0.5
    at = min(at, size - 1.0) if at > 0 else 0.0
    low = min(int(at), size - 2)
    return low, at - low


@compiled
def _mirrored(unit, dirs, ray_ids, values, scale, least, out, begin, end):
    size = len(values)
    for i in range(begin, end):
        x, far_x = _along(unit[i, 0], scale[0], size)
        y, far_y = _along(unit[i, 1], scale[1], size)
        z, far_z = _along(unit[i, 2], scale[2], size)
        nx, ny, nz = 0.0, 0.0, 0.0
        for corner in range(8):
            a, b, c = corner & 1, corner >> 1 & 1, corner >> 2
            share = (far_x if a else 1 - far_x) * (far_y if b else 1 - far_y) * (far_z if c else 1 - far_z)
            cell = values[z + c, y + b, x + a]
            nx, ny, nz = nx + share * cell[0], ny + share * cell[1], nz + share * cell[2]
        d = dirs[ray_ids[i]]
        length = max(math.sqrt(nx * nx + ny * ny + nz * nz), least)
        twice = 2 * (d[0] * nx + d[1] * ny + d[2] * nz) / (length * length)
        _harmonics(d[0], d[1], d[2], out[i, :16])
        _harmonics(d[0] - twice * nx, d[1] - twice * ny, d[2] - twice * nz, out[i, 16:])


@torch.no_grad()
def mirrored_harmonics(
    unit: Tensor, dirs: Tensor, ray_ids: Tensor, normals: Normals, count: Tensor | None = None
) -> Tensor:
    out = torch.empty(len(unit), 32)
    given = unit.numpy(), dirs.numpy(), ray_ids.numpy(), normals.values.float().numpy(), normals.scale.numpy()
    in_parts(lambda begin, end: _mirrored(*given, LEAST_NORMAL, out.numpy(), begin, end), len(unit))
    return out
