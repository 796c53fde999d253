"""The course of the learning rate, against PyTorch's schedulers and closed forms."""

import math

import pytest
import torch
from torch.optim import lr_scheduler as torch_schedulers

from nerf_pl.errors import UserError
from nerf_pl.options import OptimOptions
from nerf_pl.training.schedule import lr_factor


def factor(epoch: float, num_epochs: float, name: str, **options: object) -> float:
    return lr_factor(OptimOptions(lr_scheduler=name, **options), epoch, num_epochs)


def torch_factors(make_scheduler, epochs: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, factors = make_scheduler(optimizer), []
    for _ in range(epochs):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


@pytest.mark.parametrize(
    ("name", "options", "make_scheduler"),
    [
        (
            "steplr",
            {"decay_step": (2, 5, 9), "decay_gamma": 0.5},
            lambda o: torch_schedulers.MultiStepLR(o, [2, 5, 9], 0.5),
        ),
        ("cosine", {}, lambda o: torch_schedulers.CosineAnnealingLR(o, T_max=12)),
        ("poly", {"poly_exp": 0.9}, lambda o: torch_schedulers.LambdaLR(o, lambda epoch: (1 - epoch / 12) ** 0.9)),
    ],
)
def test_factors_agree_with_the_schedulers_of_torch(name, options, make_scheduler):
    expected = torch_factors(make_scheduler, 12)
    for epoch, truth in enumerate(expected):
        assert factor(epoch, 12, name, **options) == pytest.approx(truth, abs=1e-12)
        assert factor(epoch + 0.999, 12, name, **options) == pytest.approx(truth, abs=1e-12)
        assert factor(epoch, 12, name, lr_per_step=True, **options) == pytest.approx(truth, abs=1e-12)


def test_repeated_milestones_count_each():
    expected = torch_factors(lambda o: torch_schedulers.MultiStepLR(o, [3, 3], 0.1), 5)
    assert [factor(e, 5, "steplr", decay_step=(3, 3), decay_gamma=0.1) for e in range(5)] == pytest.approx(expected)


def test_per_step_is_continuous_inside_an_epoch():
    assert factor(2.5, 10, "cosine", lr_per_step=True) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert factor(2.5, 10, "poly", poly_exp=2, lr_per_step=True) == pytest.approx(0.75**2)
    assert factor(2.5, 10, "cosine") == factor(2, 10, "cosine")


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("name", ["cosine", "poly"])
def test_the_end_is_zero_and_stays_so(name, per_step):
    assert factor(10, 10, name, lr_per_step=per_step) == pytest.approx(0, abs=1e-12)
    assert factor(37.2, 10, name, lr_per_step=per_step) == pytest.approx(0, abs=1e-12)


def test_fractional_number_of_epochs():
    assert factor(0.25, 0.5, "poly", poly_exp=1, lr_per_step=True) == pytest.approx(0.5)


def test_warm_up_from_zero_to_the_base_rate():
    factors = [factor(e / 2, 10, "poly", poly_exp=1, warmup_epochs=2, lr_per_step=True) for e in range(6)]
    assert factors == pytest.approx([0, 0.25, 0.5, 0.75, 1.0, 1 - 0.5 / 10])


def test_warm_up_to_a_multiple_and_the_schedule_after_it():
    how = {"decay_step": (3,), "decay_gamma": 0.5, "warmup_multiplier": 4, "warmup_epochs": 3, "lr_per_step": True}
    assert [factor(e, 10, "steplr", **how) for e in (0, 1.5, 3, 5.9, 6)] == pytest.approx([1, 2.5, 4, 4, 2])


def test_warm_up_by_whole_epochs():
    factors = [factor(e, 10, "steplr", warmup_multiplier=3, warmup_epochs=2) for e in (0, 0.9, 1, 1.9, 2, 2.5)]
    assert factors == pytest.approx([1, 1, 2, 2, 3, 3])


def test_the_multiplier_means_nothing_without_warm_up():
    assert factor(0, 10, "steplr", warmup_multiplier=3) == 1
    assert factor(0, 10, "steplr", warmup_multiplier=0.5) == 1


def test_only_sgd_and_adam_warm_up():
    for optimizer, expected in (("sgd", 0.5), ("adam", 0.5), ("radam", 1), ("ranger", 1)):
        assert factor(1, 10, "steplr", optimizer=optimizer, warmup_epochs=2, lr_per_step=True) == expected


def test_mistakes_are_named():
    options = OptimOptions()
    object.__setattr__(options, "lr_scheduler", "linear")  # which its type forbids
    with pytest.raises(UserError, match=r"--lr_scheduler linear .*steplr, cosine, flat_cosine or poly"):
        lr_factor(options, 0, 10)
    with pytest.raises(UserError, match=r"--warmup_multiplier 0.5 .*1 or more"):
        factor(0, 10, "steplr", warmup_multiplier=0.5, warmup_epochs=1)


@pytest.mark.parametrize("num_epochs", [16, 22, 39])
def test_whole_epochs_are_reached_in_spite_of_rounding(num_epochs):
    """What a training counts is the share that is done, and 15 / 22 * 22 is less than 15."""
    for done in range(num_epochs + 1):
        epoch = done / num_epochs * num_epochs
        found = factor(epoch, num_epochs, "steplr", decay_step=tuple(range(1, num_epochs + 1)), decay_gamma=0.5)
        assert found == 0.5**done


def test_a_schedule_that_is_flat_at_first():
    factors = [factor(epoch, 10, "flat_cosine", lr_per_step=True) for epoch in (0, 2, 3.9, 4, 7, 10, 11)]
    assert factors == pytest.approx([1, 1, 1, 1, 0.5, 0, 0], abs=1e-9)
