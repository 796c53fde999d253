"""Which samples a backward pass visits, and the twin of the network with such a backward pass.

Either all that have a gradient other than zero (empty space, where the rectified density is 0, has none), or a random
share of them, drawn with a probability in proportion to the size of their gradient and weighted by its inverse: an
unbiased estimate of the gradient, whose noise is small beside that of drawing some pixels out of millions (importance
sampling; the systematic variant, Madow 1949).
"""

import torch
from torch import Tensor

from nerf_pl.ops import grid_reference, reference
from nerf_pl.ops.grid_reference import Target
from nerf_pl.ops.layout import FieldLayout, GridLayout, MLPLayout
from nerf_pl.types import Samples


def listed(d_sigma: Tensor, d_rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Which samples have a gradient: their indices in order (N,), padded with zeros, and how many they are (1,).

    Shapes do not depend on values, so there is no synchronisation and a CUDA graph can replay it.
    """
    n = d_sigma.shape[0]
    active = (d_sigma != 0) | (d_rgb != 0).any(1)
    position = active.cumsum(0)
    order = torch.zeros(n + 1, dtype=torch.int32, device=d_sigma.device)
    slots = torch.where(active, position - 1, n)  # the inactive all write into the last place, which is cut off
    order.scatter_(0, slots, torch.arange(n, dtype=torch.int32, device=d_sigma.device))
    return order[:n], position[-1:].to(torch.int32)


def drawn(d_sigma: Tensor, d_rgb: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A share of the samples, at most, drawn by the size of their gradients: indices in order, padded with zeros, and
    how many they are (1,); then both gradients, divided by the probability of being drawn.

    The probabilities p sum up to no more than the share, and a sample is drawn where a comb of distance 1 meets the
    running sum of p. The comb is shifted by digits of that sum which nothing else depends on.
    """
    n = d_sigma.shape[0]
    most = max(int(share * n), 1)
    tiny = torch.finfo(torch.float32).tiny
    by_sigma, by_rgb = d_sigma.abs(), d_rgb.abs().sum(1)
    p = by_sigma / by_sigma.sum().clamp(min=tiny) + by_rgb / by_rgb.sum().clamp(min=tiny)
    p = (p * (most / 2)).clamp(max=1)
    edge = p.cumsum(0, dtype=torch.float64)  # fp32 would lose small terms beside a sum of ten thousands
    after = (edge + (edge[-1] * 2.0**30).frac()).floor().to(torch.int64)
    before = torch.nn.functional.pad(after[:-1], (1, 0))
    order = torch.zeros(most + 2, dtype=torch.int32, device=p.device)
    slots = torch.where(after > before, before.clamp(max=most), most + 1)  # the rest into the last place, cut off
    order.scatter_(0, slots, torch.arange(n, dtype=torch.int32, device=p.device))
    inverse = 1 / p.clamp(min=tiny)
    return order[:-1], after[-1:].to(torch.int32), d_sigma * inverse, d_rgb * inverse[:, None]


def nerf_mlp(xyz: Tensor, dirs: Tensor, params: Tensor, layout: MLPLayout, visited: float) -> tuple[Tensor, Tensor]:
    """`reference.nerf_mlp`, whose backward pass computes a share of the samples again and differentiates only those.

    One pass over all samples and three over a share of them, instead of three over all. Differentiable in params alone.
    """
    return _Visited.apply(xyz, dirs, params, layout, visited)  # pyright: ignore[reportReturnType]


class _Visited(torch.autograd.Function):
    @staticmethod
    def forward(ctx, xyz, dirs, params, layout, visited):
        ctx.save_for_backward(xyz, dirs, params)
        ctx.layout, ctx.visited = layout, visited
        return reference.nerf_mlp(xyz, dirs, params, layout)

    @staticmethod
    def backward(ctx, *grad_outputs):
        xyz, dirs, params = ctx.saved_tensors
        order, count, d_sigma, d_rgb = drawn(grad_outputs[0], grad_outputs[1], ctx.visited)
        rows = order[: int(count)].long()
        with torch.enable_grad():
            params = params.detach().requires_grad_()
            sigma, rgb = reference.nerf_mlp(xyz[rows], dirs[rows], params, ctx.layout)
            assert rgb is not None
            (grad,) = torch.autograd.grad((sigma, rgb), params, (d_sigma[rows], d_rgb[rows]))
        return None, None, grad, None, None


def field_loss(
    unit: Tensor,
    view: Tensor,
    samples: Samples,
    table: Tensor,
    params: Tensor,
    grid: GridLayout,
    networks: FieldLayout,
    aim: Target,
) -> Tensor:
    """`grid_reference.field_loss`, whose backward pass computes a share of the samples again and differentiates those;
    it is these that are smoothed.

    For the end of a graph: the gradient that comes from above is taken for 1.
    """
    return _FieldLoss.apply(table, params, unit, view, samples, grid, networks, aim)  # pyright: ignore


class _FieldLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, params, unit, view, samples, grid, networks, aim):
        entries, weights = grid_reference.vertices(unit, grid)
        features = grid_reference.interpolate(entries, weights, table)
        sigma, rgb = grid_reference.field(features, view, samples.ray_ids, params, networks)
        assert rgb is not None
        with torch.enable_grad():
            leaves = sigma.requires_grad_(), rgb.requires_grad_()
            loss = grid_reference.photometric(*leaves, samples, aim)
            d_sigma, d_rgb = torch.autograd.grad(loss, leaves)
        # drawn by the gradient of the raw density, whose exponential sigma is
        order, count, d_raw, d_rgb = drawn(d_sigma * sigma.detach(), d_rgb, aim.share)
        rows = order[: int(count)].long()
        grads = d_raw[rows] / sigma.detach()[rows], d_rgb[rows]
        ctx.save_for_backward(table, params, entries[:, rows], weights[:, rows], view, samples.ray_ids[rows], *grads)
        ctx.networks, ctx.smoothness = networks, aim.smoothness
        return loss.detach()

    @staticmethod
    def backward(ctx, *grad_outputs):
        table, params, entries, weights, view, ray_ids, *grads = ctx.saved_tensors
        with torch.enable_grad():
            table, params = table.detach().requires_grad_(), params.detach().requires_grad_()
            features = grid_reference.interpolate(entries, weights, table)
            sigma, rgb = grid_reference.field(features, view, ray_ids, params, ctx.networks)
            assert rgb is not None
            outputs = [sigma, rgb]
            if ctx.smoothness:
                outputs.append(grid_reference.roughness(entries, table))
                grads.append(torch.full_like(outputs[-1], ctx.smoothness))
            d_table, d_params = torch.autograd.grad(outputs, (table, params), grads)
        return d_table, d_params, None, None, None, None, None, None
