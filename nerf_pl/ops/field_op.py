"""Hash grid and networks as one differentiable op on the kernels; see `reference.hash_grid` and `reference.field`.

One op, because between the two the gradient travels in bfloat16: mean squared errors over thousands of rays have
gradients that float16, the type of the features, cannot hold, and autograd would cast them to it.
"""

import torch
from torch import Tensor

from nerf_pl.ops import field_kernels, grid_kernels
from nerf_pl.ops.layout import FieldLayout, GridLayout


class _HashField(torch.autograd.Function):
    @staticmethod
    def forward(ctx, unit, view, ray_ids, table, values, params, grid, networks, count):
        features = grid_kernels.encode(unit, values, grid, count)
        view = view.to(features.dtype)
        ctx.save_for_backward(unit, features, view, ray_ids, params, count)
        ctx.grid, ctx.networks, ctx.shape = grid, networks, table.shape
        return field_kernels.forward(features, view, ray_ids, params, networks, count)

    @staticmethod
    def backward(ctx, *grads):
        unit, features, view, ray_ids, params, count = ctx.saved_tensors
        d_sigma, d_rgb = (g.contiguous() for g in grads)
        given = features, view, ray_ids, params, ctx.networks, count
        d_features, d_params = field_kernels.backward(*given, d_sigma, d_rgb)
        d_table = grid_kernels.encode_backward(unit, d_features, ctx.shape, ctx.grid, count)
        return None, None, None, d_table, None, d_params, None, None, None


def hash_field(
    unit: Tensor, view: Tensor, ray_ids: Tensor, table: Tensor, values: Tensor, params: Tensor, grid: GridLayout,
    networks: FieldLayout, count: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    given = unit.contiguous(), view, ray_ids, table, values, params
    return _HashField.apply(*given, grid, networks, count)  # pyright: ignore[reportReturnType]
