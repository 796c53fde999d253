"""The optimizers of the 2020 method."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from nerf_pl.errors import UserError

EPS = 1e-8  # added to the root of the second moment; the classic value


def make_optimizer(
    params: Iterable[Tensor], optimizer: str, lr: float, momentum: float = 0.9, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """The optimizer of that name: sgd, adam, radam or ranger.

    Only sgd uses momentum. sgd and adam add weight_decay to the gradient. radam and ranger shrink the weights directly,
    as their authors do. Raises UserError for another name.
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
    """Keep the kernel of this device, whatever device the loaded state comes from."""
    return {**state, "param_groups": [{**group, "fused": adam.defaults["fused"]} for group in state["param_groups"]]}


class Ranger(torch.optim.RAdam):
    """RAdam whose weights are pulled back every k steps: slow += alpha (fast - slow), then fast = slow.

    RAdam: Liu et al. 2020. Lookahead: Zhang et al. 2019, algorithm 1. The slow weights start as the weights before the
    first step. They are in the state beside RAdam's moments, so `state_dict` is complete.
    """

    moments = frozenset({"step", "exp_avg", "exp_avg_sq", "slow"})  # what it remembers of a weight

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
        """One step of RAdam, and of Lookahead if it is due. Returns the result of closure."""
        loss = None
        if closure is not None:  # not in RAdam: which weights have a gradient is known only after it
            with torch.enable_grad():
                loss = closure()
        active = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        # RAdam takes any entry in the state as a sign that its moments exist, so slow weights are added after its step.
        slow = {p: p.detach().clone() for _, p in active if not self.state.get(p)}
        super().step()
        for p, weights in slow.items():
            self.state[p]["slow"] = weights
        for group, p in active:
            state = self.state[p]
            if int(state["step"]) % group["k"] == 0:
                p.copy_(state["slow"].lerp_(p, group["alpha"]))
        return loss
