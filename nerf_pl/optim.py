"""Optimizers and the course of the learning rate."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from nerf_pl import ops
from nerf_pl.errors import UserError

FLAT = 0.4  # share of the epochs for which flat_cosine keeps the learning rate
WARM_UP = 100  # steps over which GridAdam reaches its learning rate: at once, a white ground drives all density away
SETTLED = 10_000  # steps over which its networks reach theirs: short trainings want the higher one
EPS = 1e-8  # added to the root of the second moment; the classic value


def make_optimizer(
    params: Iterable[Tensor], optimizer: str, lr: float, momentum: float = 0.9, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """The optimizer of that name: sgd, adam, radam or ranger.

    momentum is used by sgd alone. weight_decay is added to the gradient in sgd and adam; in radam and ranger it shrinks
    the weights directly, as their authors do it. Raises UserError for another name.
    """
    params = list(params)
    if optimizer == "sgd":
        return torch.optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay)
    if optimizer == "adam":
        fused = True if params and all(p.is_cuda for p in params) else None
        adam = torch.optim.Adam(params, lr=lr, eps=EPS, weight_decay=weight_decay, fused=fused)
        adam.register_load_state_dict_pre_hook(_keep_fused)
        return adam
    if optimizer == "radam":
        return torch.optim.RAdam(params, lr=lr, eps=EPS, weight_decay=weight_decay, decoupled_weight_decay=True)
    if optimizer == "ranger":
        return Ranger(params, lr=lr, eps=EPS, weight_decay=weight_decay)
    raise UserError(f"--optimizer {optimizer} is not known: give sgd, adam, radam or ranger")


def _keep_fused(adam: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Let a state that comes from another kind of device not decide which kernel runs on this one."""
    return {**state, "param_groups": [{**group, "fused": adam.defaults["fused"]} for group in state["param_groups"]]}


class Ranger(torch.optim.RAdam):
    """RAdam whose weights are pulled back every k steps: slow += alpha (fast - slow), then fast = slow.

    RAdam: Liu et al. 2020. Lookahead: Zhang et al. 2019, algorithm 1. The slow weights start as the weights before the
    first step and live in the state beside RAdam's moments, so `state_dict` holds all there is.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = EPS,
        weight_decay: float = 0.0,
        k: int = 6,
        alpha: float = 0.5,
    ) -> None:
        if k < 1 or not 0 <= alpha <= 1:
            raise ValueError(f"k {k} must be 1 or more, and alpha {alpha} between 0 and 1")
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay=True)
        self.defaults.update(k=k, alpha=alpha)
        for group in self.param_groups:
            group.update(k=k, alpha=alpha)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of RAdam, and of Lookahead when it is due. Returns what closure returned."""
        loss = None
        if closure is not None:  # here and not in RAdam: only afterwards is it known which weights have a gradient
            with torch.enable_grad():
                loss = closure()
        active = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        # RAdam takes an entry in the state as a sign that its moments exist, so that new slow weights enter after it.
        slow = {p: p.detach().clone() for _, p in active if not self.state.get(p)}
        super().step()
        for p, weights in slow.items():
            self.state[p]["slow"] = weights
        for group, p in active:
            state = self.state[p]
            if int(state["step"]) % group["k"] == 0:
                p.copy_(state["slow"].lerp_(p, group["alpha"]))
        return loss


class GridAdam(torch.optim.Optimizer):
    """Adam for a hash grid and the networks behind it, as Instant-NGP has it (Mueller et al. 2022, appendix E.1).

    Entries of the table that a step did not touch stay as they are; the networks decay by weight_decay. The learning
    rate rises to its value over the first WARM_UP steps; that of the networks falls to `network_rate` times it over the
    first SETTLED ones. A step whose
    gradients are not finite is skipped and counted in `skipped`. copies: half-precision copies of parameters, kept up
    to date.
    """

    def __init__(
        self,
        tables: Iterable[Tensor],
        networks: Iterable[Tensor],
        lr: float,
        weight_decay: float = 0.0,
        copies: dict[Tensor, Tensor] | None = None,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-15,
        network_rate: float = 1.0,
    ) -> None:
        groups = [
            {"params": list(networks), "weight_decay": weight_decay, "sparse": False, "rate": network_rate},
            {"params": list(tables), "weight_decay": 0.0, "sparse": True, "rate": 1.0},
        ]
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps})
        self.copies = copies or {}
        self.skipped: Tensor | None = None

    @torch.no_grad()
    def prepare(self) -> None:
        """Make the moments and compile the kernels; moves no weight."""
        no = torch.zeros((), device=self.param_groups[0]["params"][0].device)
        for group in self.param_groups:
            for p in group["params"]:
                self._update(group, p, torch.zeros_like(p), no)
                self.state[p]["step"] -= 1

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step. Returns what closure returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # a sample's bad number reaches the gradient of a network's weight, which sums over all samples
        sums = [p.grad.sum() for p in self.param_groups[0]["params"] if p.grad is not None]
        ok = torch.stack(sums).sum().isfinite().to(torch.float32)
        self.skipped = 1 - ok if self.skipped is None else self.skipped + (1 - ok)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(group, p, p.grad, ok)
        return loss

    def _update(self, group: dict[str, Any], p: Tensor, g: Tensor, ok: Tensor) -> None:
        state = self.state[p]
        if not state:
            state.update(step=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
        state["step"] += 1
        rate = group["rate"] ** min(state["step"] / SETTLED, 1)
        lr = group["lr"] * rate * min(state["step"] / WARM_UP, 1)
        rates = lr, group["weight_decay"], group["betas"]
        moments = state["m"], state["v"], self.copies.get(p)
        ops.adam(p, g, *moments, ok, *rates, state["step"], group["eps"], group["sparse"])


def lr_factor(
    epoch: float | int,
    num_epochs: float | int,
    lr_scheduler: str,
    decay_step: Sequence[float | int] = (20,),
    decay_gamma: float | int = 0.1,
    poly_exp: float | int = 0.9,
    warmup_multiplier: float | int = 1.0,
    warmup_epochs: float | int = 0,
    per_step: bool = False,
) -> float:
    """What to multiply the learning rate with after `epoch` epochs (a fraction inside an epoch).

        steplr    decay_gamma ^ (how many of decay_step have been reached)
        cosine    (1 + cos(pi epoch / num_epochs)) / 2               Loshchilov and Hutter 2017, without restarts
        flat_cosine    1 for the first 40 % of the epochs, then the same over the rest
        poly      (1 - epoch / num_epochs) ^ poly_exp

    per_step False counts whole epochs only, as the classic implementation does. Past num_epochs cosine and poly stay 0;
    the classic cosine ends at a learning rate of 1e-8 instead, which moves nothing.

    Warm-up (Goyal et al. 2017): over the first warmup_epochs the factor rises linearly from 1 to warmup_multiplier, or
    from 0 to 1 if that is 1; then follows the schedule times warmup_multiplier, its epochs counted from the end of the
    warm-up. In whole epochs a rise from 0 means that the first epoch changes nothing: better with per_step. The classic
    implementation has no warm-up for radam and ranger, which is for the caller to heed.

    Raises UserError for an unknown schedule or a warm-up to less than its start.
    """
    if warmup_epochs > 0 and warmup_multiplier < 1:
        raise UserError(f"--warmup_multiplier {warmup_multiplier} cannot work: give 1 or more")
    if not per_step:
        epoch = math.floor(epoch + 1e-6)  # an epoch made of steps may fall short of a whole one by rounding
    if epoch < warmup_epochs:
        start = 0.0 if warmup_multiplier == 1 else 1.0
        return start + (warmup_multiplier - start) * epoch / warmup_epochs
    scale = warmup_multiplier if warmup_epochs > 0 else 1.0
    epoch -= max(warmup_epochs, 0)
    progress = min(epoch / num_epochs, 1.0)
    if lr_scheduler == "steplr":
        return scale * decay_gamma ** sum(epoch >= step for step in decay_step)
    if lr_scheduler == "cosine":
        return scale * (1 + math.cos(math.pi * progress)) / 2
    if lr_scheduler == "flat_cosine":
        return scale * (1 + math.cos(math.pi * max(progress - FLAT, 0) / (1 - FLAT))) / 2
    if lr_scheduler == "poly":
        return scale * (1 - progress) ** poly_exp
    raise UserError(f"--lr_scheduler {lr_scheduler} is not known: give steplr, cosine, flat_cosine or poly")
