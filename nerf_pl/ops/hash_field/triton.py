"""The kernels of the hash-grid field: encoded directions, the field, and its loss along rays as one differentiable op.

The loss is one op for two reasons. The gradient travels in bfloat16 between networks and grid: mean squared errors over
thousands of rays have gradients that float16, the type of the features, cannot hold, and autograd would cast them to
it. And only a part of the samples is gone back to, those that a draw by the size of their gradients has listed.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_pl.ops.hash_field import triton_grid, triton_loss, triton_networks
from nerf_pl.ops.hash_field.reference import LEAST_NORMAL
from nerf_pl.ops.hash_field.types import HashWeights, Listed, Normals, Target
from nerf_pl.types import Samples

POINTS, WARPS = 128, 4  # of a program
PROGRAMS = 2048  # where the number of points is an upper bound, each takes several blocks


@triton.jit
def _harmonics(x, y, z, BLOCK: tl.constexpr):
    """Rows (BLOCK, 16); see `reference.spherical_harmonics`."""
    xx, yy, zz = x * x, y * y, z * z
    v0 = tl.full((BLOCK,), 0.28209479177387814, tl.float32)
    v1, v2, v3 = -0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x
    v4, v5 = 1.0925484305920792 * x * y, -1.0925484305920792 * y * z
    v6, v7 = 0.31539156525252005 * (3 * zz - 1), -1.0925484305920792 * x * z
    v8, v9 = 0.5462742152960396 * (xx - yy), -0.5900435899266435 * y * (3 * xx - yy)
    v10, v11 = 2.890611442640554 * x * y * z, -0.4570457994644658 * y * (5 * zz - 1)
    v12, v13 = 0.3731763325901154 * z * (5 * zz - 3), -0.4570457994644658 * x * (5 * zz - 1)
    v14, v15 = 1.445305721320277 * z * (xx - yy), -0.5900435899266435 * x * (xx - 3 * yy)
    # side by side, so that a row is stored at once: the last join varies fastest
    even = tl.join(tl.join(tl.join(v0, v8), tl.join(v4, v12)), tl.join(tl.join(v2, v10), tl.join(v6, v14)))
    odd = tl.join(tl.join(tl.join(v1, v9), tl.join(v5, v13)), tl.join(tl.join(v3, v11), tl.join(v7, v15)))
    return tl.reshape(tl.join(even, odd), (BLOCK, 16))


@triton.jit
def _vector(ptr, rows, live):
    """Three numbers of each row."""
    x, y = tl.load(ptr + rows * 3, mask=live, other=0.0), tl.load(ptr + rows * 3 + 1, mask=live, other=0.0)
    return x, y, tl.load(ptr + rows * 3 + 2, mask=live, other=0.0)


@triton.jit
def harmonics_kernel(dirs_ptr, out_ptr, count_ptr, n, COUNTED: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = i < n
    if COUNTED:
        live = i < tl.load(count_ptr)
    x, y, z = _vector(dirs_ptr, i, live)
    rows = _harmonics(x, y, z, BLOCK)
    tl.store(out_ptr + i[:, None] * 16 + tl.arange(0, 16)[None, :], rows, mask=live[:, None])


@triton.jit
def _normal(unit_ptr, normals_ptr, scale_ptr, rows, live, SIZE: tl.constexpr, LEAST: tl.constexpr):
    """The unit normal at each point, read between the eight cells around it; 0 where it is not known."""
    corner = tl.arange(0, 8)[None, :]
    weight = tl.full((1, 8), 1.0, tl.float32)
    cell = tl.zeros((1, 8), tl.int32)
    stride = 1
    for axis in tl.static_range(3):
        place = tl.load(unit_ptr + rows * 3 + axis, mask=live, other=0.0) * tl.load(scale_ptr + axis) - 0.5
        place = tl.minimum(tl.maximum(place, 0.0), SIZE - 1.0)
        low = tl.minimum(tl.floor(place), SIZE - 2.0)
        far = (place - low)[:, None]
        bit = (corner >> axis) & 1
        weight = weight * tl.where(bit == 1, far, 1 - far)
        cell = cell + (low.to(tl.int32)[:, None] + bit) * stride
        stride = stride * SIZE
    part = tl.arange(0, 4)[None, :]  # the four numbers of a cell travel as one vector
    values = tl.load(normals_ptr + cell[:, :, None] * 4 + part[:, None, :], mask=live[:, None, None], other=0.0)
    found = tl.sum(values.to(tl.float32) * weight[:, :, None], 1)
    found = found / tl.maximum(tl.sqrt(tl.sum(found * found, 1)), LEAST)[:, None]
    x, y = tl.sum(tl.where(part == 0, found, 0.0), 1), tl.sum(tl.where(part == 1, found, 0.0), 1)
    return x, y, tl.sum(tl.where(part == 2, found, 0.0), 1)


@triton.jit
def mirrored_kernel(
    unit_ptr, dirs_ptr, ray_ptr, normals_ptr, scale_ptr, out_ptr, count_ptr, n,
    SIZE: tl.constexpr, LEAST: tl.constexpr, COUNTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    if COUNTED:
        n = tl.minimum(tl.load(count_ptr).to(tl.int32), n)
    for start in range(tl.program_id(0) * BLOCK, n, tl.num_programs(0) * BLOCK):
        rows = start + tl.arange(0, BLOCK)
        live = rows < n
        dx, dy, dz = _vector(dirs_ptr, tl.load(ray_ptr + rows, mask=live, other=0), live)
        nx, ny, nz = _normal(unit_ptr, normals_ptr, scale_ptr, rows, live, SIZE, LEAST)
        twice = 2 * (dx * nx + dy * ny + dz * nz)
        out = out_ptr + rows[:, None] * 32 + tl.arange(0, 16)[None, :]
        tl.store(out, _harmonics(dx, dy, dz, BLOCK), mask=live[:, None])
        mirrored = _harmonics(dx - twice * nx, dy - twice * ny, dz - twice * nz, BLOCK)
        tl.store(out + 16, mirrored, mask=live[:, None])


def spherical_harmonics(dirs: Tensor, count: Tensor | None = None) -> Tensor:
    n = dirs.shape[0]
    out = torch.empty(n, 16, dtype=torch.float16, device=dirs.device)
    if n:
        harmonics_kernel[(triton.cdiv(n, POINTS),)](
            dirs.contiguous(), out, dirs if count is None else count, n, COUNTED=count is not None, BLOCK=POINTS,
            num_warps=WARPS,
        )  # fmt: skip
    return out


def mirrored_harmonics(
    unit: Tensor, dirs: Tensor, ray_ids: Tensor, normals: Normals, count: Tensor | None = None
) -> Tensor:
    n = unit.shape[0]
    out = torch.empty(n, 32, dtype=torch.float16, device=unit.device)
    if n:
        mirrored_kernel[(min(triton.cdiv(n, POINTS), PROGRAMS),)](
            unit.contiguous(), dirs.contiguous(), ray_ids, normals.values, normals.scale, out,
            dirs if count is None else count, n, SIZE=len(normals.values), LEAST=LEAST_NORMAL,
            COUNTED=count is not None, BLOCK=POINTS, num_warps=WARPS,
        )  # fmt: skip
    return out


def hash_field(
    unit: Tensor, view: Tensor, ray_ids: Tensor | None, weights: HashWeights, count: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    features = triton_grid.encode(unit.contiguous(), weights.read(), weights.grid, count)
    view = view.to(features.dtype)
    sigma, rgb = triton_networks.forward(features, view, ray_ids, weights.params, weights.networks, count)
    assert rgb is not None
    return sigma, rgb


def hash_density(unit: Tensor, weights: HashWeights) -> Tensor:
    features = triton_grid.encode(unit.contiguous(), weights.read(), weights.grid, None)
    return triton_networks.forward(features, None, None, weights.params, weights.networks, None)[0]


def field_loss(
    unit: Tensor, view: Tensor, samples: Samples, weights: HashWeights, target: Target, of_samples: bool
) -> Tensor:
    rows = None if of_samples else samples.ray_ids
    return _FieldLoss.apply(
        weights.table, weights.params, target.rgb, unit.contiguous(), view, rows, samples, weights, target
    )  # fmt: skip


class _FieldLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, params, rgb_target, unit, view, rows, samples, weights, target):
        count, grid, networks, values = samples.offsets[-1:], weights.grid, weights.networks, weights.read()
        features = triton_grid.encode(unit, values, grid, count)
        view = view.to(features.dtype)
        sigma, rgb = triton_networks.forward(features, view, rows, params, networks, count)
        d_target = torch.zeros_like(rgb_target) if ctx.needs_input_grad[2] else None
        loss, listed = triton_loss.pixel_loss(sigma, rgb, samples, target, d_target)
        ctx.save_for_backward(unit, features, view, rows, params, *listed)
        ctx.grid, ctx.networks, ctx.values, ctx.smoothness = grid, networks, values, target.smoothness
        ctx.d_target = d_target
        return loss

    @staticmethod
    def backward(ctx, *grads):
        # the loss is the end of the graph, so its own gradient is taken for 1
        unit, features, view, rows, params, *rest = ctx.saved_tensors
        listed = Listed(*rest)
        d_features, d_params = triton_networks.backward(features, view, rows, params, ctx.networks, listed)
        d_table = triton_grid.encode_backward(
            unit, listed.order, d_features, ctx.grid, listed.count, ctx.values, ctx.smoothness
        )
        return d_table, d_params, ctx.d_target, None, None, None, None, None, None
