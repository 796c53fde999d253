"""The 2020 network and the encoding of what goes into it."""

from jaxtyping import Float
from torch import Tensor

from nerf_pl.ops.backend import Backend
from nerf_pl.ops.layout import MLPLayout

FUSED_WIDTHS = (32, 64, 128, 256)
"""Widths that the fused network has tiles for; for another one take `replace(backend, mlp="reference")`."""


def frequency(x: Float[Tensor, "N 3"], n_freqs: int, *, backend: Backend) -> Float[Tensor, "N E"]:
    """Encode coordinates by their sines and cosines, in the type that networks multiply in.

        x, sin(2^0 x), cos(2^0 x), ..., sin(2^(n-1) x), cos(2^(n-1) x), then zeros        NeRF 2020, eq. 4

    E is `encoded_width(n_freqs)`. The paper's factor pi is left out, as in its released code and the classic
    implementation. Only the twin is differentiable in x: the kernel raises ValueError if that asks for a gradient.

        >>> import torch
        >>> from nerf_pl.ops import Backend
        >>> frequency(torch.zeros(1, 3), 1, backend=Backend())[0, :9].tolist()  # x, its sines, its cosines
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    """
    return backend.module("mlp").frequency(x, n_freqs, backend.dtype)


def nerf_mlp(
    xyz: Float[Tensor, "N X"],
    dirs: Float[Tensor, "N V"] | None,
    params: Float[Tensor, "P"],
    layout: MLPLayout,
    visited: float = 1.0,
    *,
    backend: Backend,
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 3"] | None]:
    """The 2020 network on encoded inputs: raw density, before its rectifier, and colour in [0, 1] (NeRF 2020, fig. 7).

    xyz, dirs: from `frequency`; their type is that of the products, while sums and outputs have that of params. dirs
    None asks for density alone. params: the flat vector of `layout`.
    visited: the share of the samples that the backward pass visits at most, see `visiting`; 1 gives the exact gradient.
    With less, and in the fused network, there is a gradient in params alone.
    """
    return backend.module("mlp").nerf_mlp(xyz, dirs, params, layout, visited)
