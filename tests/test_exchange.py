"""What processes that train together exchange. The other process is one whose tensors are all twice as large."""

import pytest
import torch

from nerf_pl.training.exchange import Exchange, LocalSteps


class Steps(torch.optim.SGD):
    """Two steps apart, and a copy of the weight that follows it."""

    every = 2

    def __init__(self, weight):
        super().__init__([weight], lr=1.0)
        self.weight, self.moment, self.copy = weight, torch.full((2,), 4.0), weight.detach().clone()

    def shared(self):
        yield from (self.weight.data, self.moment)

    def refresh(self):
        self.copy.copy_(self.weight.data)


@pytest.fixture
def sums(monkeypatch):
    """The tensors that were summed over both processes."""
    found = []

    def add(value):
        found.append(value)
        value *= 3

    monkeypatch.setattr(torch.distributed, "all_reduce", add)
    return found


def parameter():
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    return weight


def test_other_optimizers_use_the_mean_gradient(sums):
    weight = parameter()
    exchange = Exchange(torch.optim.SGD([weight], lr=1.0), 2)
    exchange.gradients()
    assert torch.equal(sums[0], torch.full((2,), 1.5))
    exchange.weights(2)
    exchange.level()
    assert weight.tolist() == [1.0, 1.0]


def test_weights_and_moments_become_their_mean_after_some_steps(sums):
    weight = parameter()
    optimizer = Steps(weight)
    assert isinstance(optimizer, LocalSteps)
    exchange = Exchange(optimizer, 2)
    exchange.gradients()
    exchange.weights(1)
    assert not sums
    exchange.weights(2)
    assert weight.tolist() == optimizer.copy.tolist() == [1.5, 1.5]
    assert optimizer.moment.tolist() == [6.0, 6.0]
    exchange.level()  # nothing was stepped since
    assert len(sums) == 2
    exchange.weights(3)
    exchange.level()
    assert weight.tolist() == [2.25, 2.25]


def test_one_process_exchanges_nothing(sums):
    weight = parameter()
    for optimizer in (torch.optim.SGD([weight], lr=1.0), Steps(weight)):
        exchange = Exchange(optimizer, 1)
        exchange.gradients()
        exchange.weights(2)
        exchange.level()
    assert not sums
