"""The twins of the 2020 network; see the public ops of the same names for what they compute."""

import torch
import torch.nn.functional as F
from torch import Tensor

from nerf_pl.ops.layout import MLPLayout, encoded_width
from nerf_pl.ops.mlp.visiting import drawn


def frequency(x: Tensor, n_freqs: int, dtype: torch.dtype) -> Tensor:
    scaled = x[:, None] * 2.0 ** torch.arange(n_freqs, device=x.device, dtype=x.dtype)[:, None]  # (N, n_freqs, 3)
    waves = torch.stack([scaled.sin(), scaled.cos()], 2).flatten(1)  # (N, 6 n_freqs)
    encoded = torch.cat([x, waves], 1)
    return F.pad(encoded, (0, encoded_width(n_freqs) - encoded.shape[1])).to(dtype)


def nerf_mlp(
    xyz: Tensor, dirs: Tensor | None, params: Tensor, layout: MLPLayout, visited: float = 1.0
) -> tuple[Tensor, Tensor | None]:
    if visited < 1 and dirs is not None and len(xyz) and not (xyz.requires_grad or dirs.requires_grad):
        return _Visited.apply(xyz, dirs, params, layout, visited)  # pyright: ignore[reportReturnType]
    return _network(xyz, dirs, params, layout)


def _network(xyz: Tensor, dirs: Tensor | None, params: Tensor, layout: MLPLayout) -> tuple[Tensor, Tensor | None]:
    p = layout.parts(params.to(xyz.dtype))
    h = F.relu(F.linear(xyz, p["first"], p["b_hidden"][0]))
    for i in range(1, layout.depth):
        pre = F.linear(h, p["hidden"][i - 1], p["b_hidden"][i])
        h = F.relu(pre + F.linear(xyz, p["skip"]) if i == layout.skip else pre)
    sigma = F.linear(h, p["sigma"][None], p["b_sigma"]).squeeze(-1)
    if dirs is None:
        return sigma.to(params.dtype), None
    feature = F.linear(h, p["hidden"][-1], p["b_hidden"][-1])
    h = F.relu(F.linear(feature, p["dir"], p["b_dir"]) + F.linear(dirs, p["view"]))
    rgb = torch.sigmoid(F.linear(h, p["rgb"], p["b_rgb"]))
    return sigma.to(params.dtype), rgb.to(params.dtype)


class _Visited(torch.autograd.Function):
    """The network, whose backward pass computes a share of the samples again and differentiates those alone: one pass
    over all samples and three over a share of them, instead of three over all.

    No shape depends on the number of drawn samples, so a CUDA graph can record this. Rows after them have no gradient.
    """

    @staticmethod
    def forward(ctx, xyz, dirs, params, layout, visited):
        ctx.save_for_backward(xyz, dirs, params)
        ctx.layout, ctx.visited = layout, visited
        return _network(xyz, dirs, params, layout)

    @staticmethod
    def backward(ctx, *grad_outputs):
        xyz, dirs, params = ctx.saved_tensors
        order, count, d_sigma, d_rgb = drawn(grad_outputs[0], grad_outputs[1], ctx.visited)
        rows, live = order.long(), torch.arange(len(order), device=order.device) < count
        if not xyz.is_cuda:  # on a CPU the count is known, so the rows past it need not be computed
            rows, live = rows[live], live[live]
        grads = torch.where(live, d_sigma[rows], 0), torch.where(live[:, None], d_rgb[rows], 0)
        with torch.enable_grad():
            params = params.detach().requires_grad_()
            sigma, rgb = _network(xyz[rows], dirs[rows], params, ctx.layout)
            assert rgb is not None
            (grad,) = torch.autograd.grad((sigma, rgb), params, grads)
        return None, None, grad, None, None
