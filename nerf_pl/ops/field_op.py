"""The loss of a hash-grid field along rays as one differentiable op on the kernels; see `grid_reference.field_loss`.

One op, for two reasons. The gradient travels in bfloat16 between networks and grid: mean squared errors over thousands
of rays have gradients that float16, the type of the features, cannot hold, and autograd would cast them to it. And only
a part of the samples is gone back to, those that a draw by the size of their gradients has listed.
"""

import torch
from torch import Tensor

from nerf_pl.ops import field_kernels, grid_kernels, loss_kernels
from nerf_pl.ops.grid_reference import Target
from nerf_pl.ops.layout import FieldLayout, GridLayout
from nerf_pl.types import Samples


class _FieldLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, params, values, unit, view, samples, grid, networks, aim):
        count = samples.offsets[-1:]
        features = grid_kernels.encode(unit, values, grid, count)
        view = view.to(features.dtype)
        sigma, rgb = field_kernels.forward(features, view, samples.ray_ids, params, networks, count)
        assert rgb is not None
        loss, *listed = loss_kernels.photometric(sigma, rgb, samples, aim)
        ctx.save_for_backward(unit, features, view, samples.ray_ids, params, *listed)
        ctx.grid, ctx.networks, ctx.values, ctx.smoothness = grid, networks, values, aim.smoothness
        return loss

    @staticmethod
    def backward(ctx, *grads):
        # the loss is the end of the graph, so its own gradient is taken for 1
        unit, features, view, ray_ids, params, order, number, d_sigma, d_rgb = ctx.saved_tensors
        given = features, view, ray_ids, params, ctx.networks, order, number
        d_features, d_params = field_kernels.backward(*given, d_sigma, d_rgb)
        d_table = grid_kernels.encode_backward(unit, order, d_features, ctx.grid, number, ctx.values, ctx.smoothness)
        return d_table, d_params, None, None, None, None, None, None, None


def field_loss(
    unit: Tensor, view: Tensor, samples: Samples, table: Tensor, params: Tensor, grid: GridLayout,
    networks: FieldLayout, values: Tensor, aim: Target,
) -> Tensor:  # fmt: skip
    return _FieldLoss.apply(  # pyright: ignore[reportReturnType]
        table, params, values, unit.contiguous(), view, samples, grid, networks, aim
    )
