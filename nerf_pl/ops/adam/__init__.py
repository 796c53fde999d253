"""The optimizer's step, in one launch."""

from jaxtyping import Float
from torch import Tensor

from nerf_pl.ops.adam.types import AdamStep
from nerf_pl.ops.backend import Backend

__all__ = ["AdamStep", "adam"]


def adam(
    p: Float[Tensor, "*shape"],
    g: Float[Tensor, "*shape"],
    m: Float[Tensor, "*shape"],
    v: Float[Tensor, "*shape"],
    half: Float[Tensor, "*shape"] | None,
    ok: Float[Tensor, ""],
    how: AdamStep,
    *,
    backend: Backend,
) -> None:
    """One step of Adam on the parameter p with the gradient g, in place; see `AdamStep`.

    m, v: the moments, zero before the first step. half: a copy of p in half precision, which is written too. ok: 0 on
    the device skips the step.
    """
    backend.module("adam").adam(p, g, m, v, half, ok, how)
