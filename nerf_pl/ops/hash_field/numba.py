"""The hash-grid field, compiled for a CPU. Its networks are those of the twins: PyTorch multiplies matrices well."""

import torch
from torch import Tensor

from nerf_pl.ops.hash_field import numba_grid, numba_loss
from nerf_pl.ops.hash_field.numba_mirror import mirrored_harmonics
from nerf_pl.ops.hash_field.reference import field, of_listed, spherical_harmonics
from nerf_pl.ops.hash_field.types import HashWeights, Target
from nerf_pl.types import Samples

__all__ = ["field_loss", "hash_density", "hash_field", "mirrored_harmonics", "spherical_harmonics"]


@torch.no_grad()
def hash_field(
    unit: Tensor, view: Tensor, ray_ids: Tensor | None, weights: HashWeights, count: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    features = numba_grid.encode(unit, weights.table, weights.grid)
    sigma, rgb = field(features, view, ray_ids, weights.params, weights.networks)
    assert rgb is not None
    return sigma, rgb


@torch.no_grad()
def hash_density(unit: Tensor, weights: HashWeights) -> Tensor:
    features = numba_grid.encode(unit, weights.table, weights.grid)
    return field(features, None, None, weights.params, weights.networks)[0]


def field_loss(
    unit: Tensor, view: Tensor, samples: Samples, weights: HashWeights, target: Target, of_samples: bool
) -> Tensor:
    given = unit, view, None if of_samples else samples.ray_ids, samples, weights, target
    return _FieldLoss.apply(weights.table, weights.params, target.rgb, *given)  # pyright: ignore[reportReturnType]


class _FieldLoss(torch.autograd.Function):
    """The loss, whose backward pass computes the listed samples again and differentiates those alone."""

    @staticmethod
    def forward(ctx, table, params, rgb_target, unit, view, ray_ids, samples, weights, target):
        features = numba_grid.encode(unit, table, weights.grid)
        sigma, rgb = field(features, view, ray_ids, params, weights.networks)
        assert rgb is not None
        ctx.d_target = torch.zeros_like(rgb_target) if ctx.needs_input_grad[2] else None
        loss, listed = numba_loss.pixel_loss(sigma, rgb, samples, target, ctx.d_target)
        rows = listed.order
        own = unit[rows], features[rows], *of_listed(view, ray_ids, rows), listed.d_sigma, listed.d_rgb
        ctx.save_for_backward(table, params, *own)
        ctx.grid, ctx.networks, ctx.smoothness = weights.grid, weights.networks, target.smoothness
        return loss

    @staticmethod
    def backward(ctx, *grad_outputs):
        table, params, unit, features, view, ray_ids, *grads = ctx.saved_tensors
        with torch.enable_grad():
            leaves = features.detach().requires_grad_(), params.detach().requires_grad_()
            sigma, rgb = field(leaves[0], view, ray_ids, leaves[1], ctx.networks)
            assert rgb is not None
            d_features, d_params = torch.autograd.grad((sigma, rgb), leaves, grads)
        d_table = numba_grid.encode_backward(unit, table, ctx.grid, d_features, ctx.smoothness)
        return d_table, d_params, ctx.d_target, None, None, None, None, None, None
