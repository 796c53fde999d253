"""What processes that train together exchange: the gradients of each step, or the weights after some steps."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class LocalSteps(Protocol):
    """An optimizer with which each process takes steps of its own, and all go on from the mean of what they come to
    (local SGD; Lin et al. 2018).

    every: steps from one mean to the next.
    """

    every: int

    def shared(self) -> Iterable[Tensor]:
        """The weights and moments that are replaced by their mean."""
        ...

    def refresh(self) -> None:
        """Bring what follows from the weights up to date."""
        ...


class Exchange:
    """The exchange between `world` processes that step an optimizer.

    With `LocalSteps` they exchange weights. Otherwise they exchange gradients, so all weights are the same at any time.
    apart: nothing is exchanged, see `Model.apart`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, world: int, apart: bool = False):
        world = 1 if apart else world
        self._local = optimizer if isinstance(optimizer, LocalSteps) and world > 1 else None
        self._optimizer, self._world = optimizer, world
        self._behind = False  # whether there were steps since the weights were last the same

    def gradients(self) -> None:
        """Called in each step, before the optimizer uses the gradients."""
        if self._world == 1 or self._local is not None:
            return
        grads = [p.grad for group in self._optimizer.param_groups for p in group["params"]]
        assert all(grad is not None for grad in grads)
        replace_by_mean(grads, self._world)

    def weights(self, steps: int) -> None:
        """Called after each step. steps: how many were taken so far."""
        if self._local is not None:
            self._behind = True
            if steps % self._local.every == 0:
                self.level()

    def level(self) -> None:
        """Make the weights of all processes the same, if they are not."""
        if self._local is not None and self._behind:
            with torch.no_grad():
                replace_by_mean(self._local.shared(), self._world)
                self._local.refresh()
            self._behind = False


def replace_by_mean(values: Iterable[Tensor], world: int) -> None:
    """Replace each tensor by its mean over all processes, in place."""
    for value in values:
        torch.distributed.all_reduce(value)
        value /= world
