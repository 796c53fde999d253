"""The optimizer of the hash grid."""

import copy

import torch

from nerf_pl.methods.ngp import optimizer as grid_optimizer
from nerf_pl.methods.ngp.optimizer import WARM_UP, GridAdam
from nerf_pl.ops import choose

BACKEND = choose(torch.device("cpu"))


def grid_adam(seed: int = 0) -> GridAdam:
    """A table, of which each step touches the first row alone, and a network."""
    torch.manual_seed(seed)
    table, network = torch.rand(4, 2).requires_grad_(), torch.rand(5).requires_grad_()
    return GridAdam([table], [network], lr=0.1, backend=BACKEND)


def steps(optimizer: GridAdam, n: int) -> None:
    for _ in range(n):
        network, table = (group["params"][0] for group in optimizer.param_groups)
        network.grad, table.grad = network.detach() - 3, torch.zeros_like(table)
        table.grad[0] = 1.0
        optimizer.step()


def test_grid_adam_moves_what_a_step_touched():
    optimizer = grid_adam()
    network, table = (group["params"][0] for group in optimizer.param_groups)
    before, far = table.detach().clone(), (network.detach() - 3).abs()
    steps(optimizer, 30)
    assert torch.equal(table[1:], before[1:])
    assert (table[0] < before[0]).all()
    assert ((network - 3).abs() < far).all()
    assert float(optimizer.skipped) == 0


def test_a_table_decays_level_by_level():
    """As with the gradient of the loss that it stands for: the mean square of each level, of one and of three rows."""
    moved = []
    for is_loss in (True, False):
        torch.manual_seed(0)
        table, network = torch.rand(4, 2).requires_grad_(), torch.rand(5).requires_grad_()
        pulls = {} if is_loss else {table: [(1, 2 * 0.5 / 2), (3, 2 * 0.5 / 6)]}
        optimizer = GridAdam([table], [network], lr=0.1, pulls=pulls, backend=BACKEND)
        before = table.detach().clone()
        for _ in range(5):
            table.grad, network.grad = torch.zeros_like(table), torch.zeros_like(network)
            table.grad[0] = 0.01
            if is_loss:
                (0.5 * ((table[:1] ** 2).mean() + (table[1:] ** 2).mean())).backward(inputs=[table])
            optimizer.step()
        assert (table.abs() < before.abs()).all()
        moved.append(table.detach())
    torch.testing.assert_close(*moved)


def test_the_networks_have_a_rate_of_their_own(monkeypatch):
    """They come to it over the first SETTLED steps, each time by the same factor."""
    monkeypatch.setattr(grid_optimizer, "SETTLED", 2)
    monkeypatch.setattr(grid_optimizer, "WARM_UP", 1)
    moved = []
    for rate in (1.0, 0.25):
        torch.manual_seed(0)
        table, network = torch.rand(4, 2).requires_grad_(), torch.rand(5).requires_grad_()
        optimizer = GridAdam([table], [network], lr=0.1, network_rate=rate, backend=BACKEND)
        moves = []
        for _ in range(4):
            before = table.detach().clone(), network.detach().clone()
            table.grad, network.grad = torch.ones_like(table), torch.ones_like(network)
            optimizer.step()
            moves.append((table.detach() - before[0], network.detach() - before[1]))
        moved.append(moves)
    for factor, (table, network), (same, slower) in zip((0.5, 0.25, 0.25, 0.25), *moved, strict=True):
        assert torch.equal(table, same)
        assert torch.allclose(factor * network, slower, rtol=1e-4)


def test_grid_adam_starts_slowly():
    """Adam's first move is as long as the learning rate, which is then a WARM_UP-th of what was asked for."""
    optimizer = grid_adam()
    before = optimizer.param_groups[1]["params"][0].detach().clone()
    steps(optimizer, 1)
    assert torch.allclose(before[0] - optimizer.param_groups[1]["params"][0][0], torch.tensor(0.1 / WARM_UP), rtol=1e-3)


def test_grid_adam_goes_on_from_its_state():
    """Also when it has been prepared, before the state is there or after."""
    whole, parts = grid_adam(), grid_adam()
    steps(whole, 7)
    steps(parts, 3)
    state, weights = copy.deepcopy(parts.state_dict()), [group["params"][0].detach() for group in parts.param_groups]
    for when in ("before", "after", "both"):
        other = grid_adam(seed=1)
        for group, p in zip(other.param_groups, weights, strict=True):
            group["params"][0].data.copy_(p)
        if when != "after":
            other.prepare()
        other.load_state_dict(copy.deepcopy(state))
        if when != "before":
            other.prepare()
        steps(other, 4)
        for group, truth in zip(other.param_groups, whole.param_groups, strict=True):
            assert torch.equal(group["params"][0], truth["params"][0]), when
        assert [entry["step"] for entry in other.state_dict()["state"].values()] == [7, 7]


def test_grid_adam_leaves_out_what_is_not_finite():
    ours, truth = grid_adam(), grid_adam()
    steps(ours, 2)
    network, table = (group["params"][0] for group in ours.param_groups)
    state = copy.deepcopy(ours.state_dict())
    before = network.detach().clone(), table.detach().clone()
    for bad in (torch.nan, torch.inf):
        network.grad[2], table.grad[0] = bad, bad
        ours.step()
        assert torch.equal(network, before[0])
        assert torch.equal(table, before[1])
    assert float(ours.skipped) == 2
    for old, new in zip(state["state"].values(), ours.state_dict()["state"].values(), strict=True):
        assert torch.equal(old["m"], new["m"])
        assert torch.equal(old["v"], new["v"])
    steps(truth, 3)
    steps(ours, 1)
    assert float(ours.skipped) == 2
    assert torch.isfinite(network).all()
