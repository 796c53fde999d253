"""Weights as portable scenes hold them: named, and in half precision."""

from collections.abc import Mapping

import torch
from jaxtyping import Shaped
from torch import Tensor


def halved(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights in float16, each under its name after the prefix. One with a value beyond the range of float16 stays
    as it is."""
    found = {}
    for name, weight in weights.items():
        half = weight.detach().half()
        found[f"{prefix}{name}"] = half.contiguous() if bool(half.isfinite().all()) else weight.detach().contiguous()
    return found


@torch.no_grad()
def take(tensors: Mapping[str, Tensor], weights: Mapping[str, Shaped[Tensor, "*shape"]], prefix: str) -> None:
    """The inverse of `halved`, in place. Raises ValueError for a weight that is not there, has another shape or is not
    finite, and where whole numbers belong, for numbers of another type, which would be cut to these."""
    for name, weight in weights.items():
        stored = tensors.get(f"{prefix}{name}")
        if stored is None or stored.shape != weight.shape or not bool(stored.isfinite().all()):
            told = "is missing" if stored is None else f"has the shape {tuple(stored.shape)}, or is not finite"
            raise ValueError(f"{prefix}{name} {told}")
        if not weight.is_floating_point() and stored.dtype != weight.dtype:
            raise ValueError(f"{prefix}{name} has numbers of the type {stored.dtype}, and not {weight.dtype}")
        weight.copy_(stored)
