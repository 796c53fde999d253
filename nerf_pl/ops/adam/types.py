"""What a step of Adam is told."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AdamStep:
    """How Adam moves a parameter (Kingma and Ba 2015).

    decay: decoupled weight decay (Loshchilov and Hutter 2019), times lr in a step. betas: how much of both moments
    stays. step: its number, counted from 1. sparse: entries without a gradient stay as they are, moments and all, as in
    Instant-NGP. pull: this times the parameter is a part of its gradient, as that of a loss pull / 2 |p|^2.
    """

    lr: float
    decay: float
    betas: tuple[float, float]
    step: int
    eps: float
    sparse: bool
    pull: float = 0.0
