"""The optimizers of the 2020 method: they descend, and go on exactly from their state."""

import copy

import pytest
import torch

from nerf_pl.errors import UserError
from nerf_pl.methods.nerf.optimizer import Ranger, make_optimizer

OPTIMIZERS = ["sgd", "adam", "radam", "ranger"]
LR = {"sgd": 0.05, "adam": 0.05, "radam": 0.05, "ranger": 0.1}


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"--optimizer lbfgs .*sgd, adam, radam or ranger"):
        make_optimizer([torch.zeros(1, requires_grad=True)], "lbfgs", 0.1)


def quadratic(seed: int = 0) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    params = [torch.randn(4, 3, generator=generator).requires_grad_(), torch.randn(5, generator=generator)]
    params[1].requires_grad_()
    return params, torch.tensor([1.0, 3.0, 0.3])


def loss_of(params: list[torch.Tensor], stiffness: torch.Tensor) -> torch.Tensor:
    return (stiffness * (params[0] - 1) ** 2).sum() + ((params[1] + 2) ** 2).sum()


def train(params, stiffness, optimizer, steps: int) -> float:
    loss = loss_of(params, stiffness)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(params, stiffness)
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_minimises_a_quadratic(name):
    params, stiffness = quadratic()
    assert train(params, stiffness, make_optimizer(iter(params), name, LR[name]), 600) < 1e-4
    assert torch.allclose(params[1], torch.tensor(-2.0), atol=1e-2)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_pulls_towards_zero(name):
    (free, stiffness), (decayed, _) = quadratic(), quadratic()
    train(free, stiffness, make_optimizer(free, name, LR[name]), 600)
    train(decayed, stiffness, make_optimizer(decayed, name, LR[name], weight_decay=0.1), 600)
    assert decayed[1].norm() < free[1].norm() - 0.01


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps_before", [1, 4, 6, 13])
def test_resuming_from_the_state_is_bit_exact(name, steps_before, tmp_path):
    params, stiffness = quadratic()
    optimizer = make_optimizer(params, name, LR[name], weight_decay=0.01)
    train(params, stiffness, optimizer, steps_before)
    torch.save({"params": params, "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")

    stored = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = [p.detach().clone().requires_grad_() for p in stored["params"]]
    other = make_optimizer(resumed, name, lr=99.0)  # everything must come from the state
    other.load_state_dict(stored["optimizer"])
    before, after = optimizer.state_dict(), other.state_dict()
    assert before["param_groups"] == after["param_groups"]
    for i, state in before["state"].items():
        assert state.keys() == after["state"][i].keys()
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(after["state"][i][key])), key

    train(params, stiffness, optimizer, 20)
    train(resumed, stiffness, other, 20)
    for p, q in zip(params, resumed, strict=True):
        assert torch.equal(p, q)


def test_lookahead_of_ranger_by_hand():
    """Between its pulls ranger is radam; at each sixth step the weights go half way back to where the last pull ended.

    The gradient here does not depend on the weights, so that the pulls leave the moments and the steps as they are.
    """
    start, gradient = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.3, -0.1, 0.7])
    ranger, radam = start.clone().requires_grad_(), start.clone().requires_grad_()
    by_ranger = make_optimizer([ranger], "ranger", 0.01)
    by_radam = torch.optim.RAdam([radam], lr=0.01, betas=(0.95, 0.999), eps=1e-8)
    expected, slow = start.clone(), start.clone()
    for step in range(1, 20):
        ranger.grad, radam.grad, before = gradient.clone(), gradient.clone(), radam.detach().clone()
        by_ranger.step()
        by_radam.step()
        expected += radam.detach() - before
        if step % 6 == 0:
            slow = 0.5 * (slow + expected)
            expected = slow.clone()
        assert torch.allclose(ranger, expected, atol=1e-6), step
        assert torch.allclose(by_ranger.state[ranger]["slow"], slow, atol=1e-6), step


def test_ranger_takes_a_closure_and_skips_weights_without_gradient():
    used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = make_optimizer([used, unused], "ranger", 0.1)

    def closure():
        optimizer.zero_grad()
        loss = (used**2).sum()
        loss.backward()
        return loss.item()

    for _ in range(30):
        optimizer.step(closure)
    assert closure() < 1  # it was 2
    assert torch.equal(unused, torch.ones(2))
    assert unused not in optimizer.state


def test_ranger_can_be_copied():
    params, stiffness = quadratic()
    optimizer = make_optimizer(params, "ranger", 0.1)
    train(params, stiffness, optimizer, 7)
    twin = copy.deepcopy(optimizer)
    assert twin.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


def test_ranger_rejects_senseless_settings():
    with pytest.raises(ValueError, match="k 0"):
        Ranger([torch.zeros(1, requires_grad=True)], lr=0.1, k=0)


def test_adam_resumes_on_another_kind_of_device():
    params, stiffness = quadratic()
    optimizer = make_optimizer(params, "adam", 0.1)
    train(params, stiffness, optimizer, 3)
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0]["fused"] = True  # what a GPU would have stored
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["fused"] is None
    assert state["param_groups"][0]["fused"] is True
    train(params, stiffness, optimizer, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_adam_is_fused_on_a_gpu():
    params = [torch.zeros(3, device="cuda", requires_grad=True)]
    assert make_optimizer(params, "adam", 0.1).param_groups[0]["fused"] is True
