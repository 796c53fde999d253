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
from nerf_pl.ops.hash_field.types import HashWeights, Listed, Target
from nerf_pl.types import Samples


@triton.jit
def harmonics_kernel(dirs_ptr, out_ptr, count_ptr, n, COUNTED: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = i < n
    if COUNTED:
        live = i < tl.load(count_ptr)
    x, y = tl.load(dirs_ptr + i * 3, mask=live), tl.load(dirs_ptr + i * 3 + 1, mask=live)
    z = tl.load(dirs_ptr + i * 3 + 2, mask=live)
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
    rows = tl.reshape(tl.join(even, odd), (BLOCK, 16))
    tl.store(out_ptr + i[:, None] * 16 + tl.arange(0, 16)[None, :], rows, mask=live[:, None])


def spherical_harmonics(dirs: Tensor, count: Tensor | None = None) -> Tensor:
    n = dirs.shape[0]
    out = torch.empty(n, 16, dtype=torch.float16, device=dirs.device)
    if n:
        harmonics_kernel[(triton.cdiv(n, 128),)](
            dirs.contiguous(), out, dirs if count is None else count, n, COUNTED=count is not None, BLOCK=128,
            num_warps=4,
        )  # fmt: skip
    return out


def hash_field(
    unit: Tensor, view: Tensor, ray_ids: Tensor, weights: HashWeights, count: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    features = triton_grid.encode(unit.contiguous(), weights.read(), weights.grid, count)
    view = view.to(features.dtype)
    sigma, rgb = triton_networks.forward(features, view, ray_ids, weights.params, weights.networks, count)
    assert rgb is not None
    return sigma, rgb


def hash_density(unit: Tensor, weights: HashWeights) -> Tensor:
    features = triton_grid.encode(unit.contiguous(), weights.read(), weights.grid, None)
    return triton_networks.forward(features, None, None, weights.params, weights.networks, None)[0]


def field_loss(unit: Tensor, view: Tensor, samples: Samples, weights: HashWeights, target: Target) -> Tensor:
    return _FieldLoss.apply(
        weights.table, weights.params, target.rgb, unit.contiguous(), view, samples, weights, target
    )  # fmt: skip


class _FieldLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, params, rgb_target, unit, view, samples, weights, target):
        count, grid, networks, values = samples.offsets[-1:], weights.grid, weights.networks, weights.read()
        features = triton_grid.encode(unit, values, grid, count)
        view = view.to(features.dtype)
        sigma, rgb = triton_networks.forward(features, view, samples.ray_ids, params, networks, count)
        d_target = torch.zeros_like(rgb_target) if ctx.needs_input_grad[2] else None
        loss, listed = triton_loss.pixel_loss(sigma, rgb, samples, target, d_target)
        ctx.save_for_backward(unit, features, view, samples.ray_ids, params, *listed)
        ctx.grid, ctx.networks, ctx.values, ctx.smoothness = grid, networks, values, target.smoothness
        ctx.d_target = d_target
        return loss

    @staticmethod
    def backward(ctx, *grads):
        # the loss is the end of the graph, so its own gradient is taken for 1
        unit, features, view, ray_ids, params, *rest = ctx.saved_tensors
        listed = Listed(*rest)
        d_features, d_params = triton_networks.backward(features, view, ray_ids, params, ctx.networks, listed)
        d_table = triton_grid.encode_backward(
            unit, listed.order, d_features, ctx.grid, listed.count, ctx.values, ctx.smoothness
        )
        return d_table, d_params, ctx.d_target, None, None, None, None, None
