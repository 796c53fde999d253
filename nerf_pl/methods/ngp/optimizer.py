"""The optimizer of a hash grid and its networks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.ops import AdamStep, Backend, adam

WARM_UP = 100  # steps of rising learning rate: without them a white ground drives all density away (docs/log.md)
SETTLED = 10_000  # steps over which the networks' rate falls: short trainings profit from the higher one (docs/log.md)
BETAS, EPS = (0.9, 0.99), 1e-15  # of Instant-NGP
APART = 16  # steps; the occupancy grid, which all processes share, is updated as often (docs/log.md)


class GridAdam(torch.optim.Optimizer):
    """Adam for a hash grid and its networks, as in Instant-NGP (Mueller et al. 2022, appendix E.1).

    An entry of a table that a step did not touch stays as it is. weight_decay applies to the networks alone. The
    learning rate rises to `lr` over the first WARM_UP steps. The factor of the networks falls from 1 to network_rate
    over the first SETTLED steps. A step whose gradients are not finite is skipped and counted in `skipped`.
    copies: half-precision copies of parameters, which each step updates. pulls: of each table, the numbers of entries
    of its levels, and the pull on each; see `AdamStep`. Of several processes each takes its own steps, see
    `training.exchange.LocalSteps`.
    """

    every = APART
    moments = frozenset({"step", "m", "v"})  # what it remembers of a weight

    def __init__(
        self,
        tables: Iterable[Tensor],
        networks: Iterable[Tensor],
        *,
        lr: float,
        weight_decay: float = 0.0,
        network_rate: float = 1.0,
        pulls: dict[Tensor, list[tuple[int, float]]] | None = None,
        copies: dict[Tensor, Tensor] | None = None,
        backend: Backend,
    ) -> None:
        groups = [
            {"params": list(networks), "weight_decay": weight_decay, "sparse": False, "rate": network_rate},
            {"params": list(tables), "weight_decay": 0.0, "sparse": True, "rate": 1.0},
        ]
        super().__init__(groups, {"lr": lr, "betas": BETAS, "eps": EPS})
        self.copies, self.pulls, self.backend = copies or {}, pulls or {}, backend
        self.skipped = torch.zeros((), device=self.param_groups[0]["params"][0].device)

    @torch.no_grad()
    def prepare(self) -> None:
        """Make the moments and compile the kernels. No weight moves."""
        no = torch.zeros_like(self.skipped)
        for group in self.param_groups:
            for p in group["params"]:
                self._update(group, p, torch.zeros_like(p), no)
                self.state[p]["step"] -= 1

    def shared(self) -> Iterator[Tensor]:
        """See `training.exchange.LocalSteps`."""
        for p in (p for group in self.param_groups for p in group["params"]):
            yield from (p.data, self.state[p]["m"], self.state[p]["v"])

    @torch.no_grad()
    def share(self, owners: Sequence[int]) -> None:
        """Take over what the process `owners[i]` remembers of the i-th table and network, each of which one process
        alone has trained."""
        for group in self.param_groups:
            for p, owner in zip(group["params"], owners, strict=True):
                state = self.state[p]
                taken = torch.full_like(self.skipped, state["step"], dtype=torch.int64)
                for tensor in (state["m"], state["v"], taken):
                    torch.distributed.broadcast(tensor, owner)
                state["step"] = int(taken)

    def refresh(self) -> None:
        """Bring the copies in half precision up to date."""
        for p, half in self.copies.items():
            half.copy_(p.data)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step. Returns the result of closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # the gradient of a network's weight sums over all samples, so a number that is not finite shows in it
        sums = [p.grad.sum() for p in self.param_groups[0]["params"] if p.grad is not None]
        ok = torch.stack(sums).sum().isfinite().to(torch.float32)
        self.skipped = self.skipped + (1 - ok)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(group, p, p.grad, ok)
        return loss

    def _update(self, group: dict[str, Any], p: Tensor, g: Tensor, ok: Float[Tensor, ""]) -> None:
        state = self.state[p]
        if not state:
            state.update(step=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
        state["step"] += 1
        rate = group["rate"] ** min(state["step"] / SETTLED, 1)
        lr = group["lr"] * rate * min(state["step"] / WARM_UP, 1)
        how = AdamStep(lr, group["weight_decay"], group["betas"], state["step"], group["eps"], group["sparse"])
        m, v, half = state["m"], state["v"], self.copies.get(p)
        begin = 0
        for entries, pull in self.pulls.get(p, [(len(p), 0.0)]):
            of = slice(begin, begin + entries)
            copy = None if half is None else half[of]
            adam(p[of], g[of], m[of], v[of], copy, ok, replace(how, pull=pull), backend=self.backend)
            begin += entries
