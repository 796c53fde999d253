"""The door of a training that goes on: what it takes from a checkpoint is finite, in range, and fits the weights."""

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor

from nerf_pl.checkpoints.sound import MOST as MOST_WEIGHT
from nerf_pl.checkpoints.sound import wrong_weight

MOST_STEPS = 10**12
SPENT = ("train_seconds", "step_seconds", "epochs")
SQUARES, MOST_SQUARE = ("v", "exp_avg_sq"), 1e18  # moments whose roots are taken
ADAM = {"step", "exp_avg", "exp_avg_sq"}
MOMENTS = {torch.optim.SGD: {"momentum_buffer"}, torch.optim.Adam: ADAM, torch.optim.RAdam: ADAM}
"""The names of what PyTorch's optimizers remember of a weight. Others say it in `moments`."""


def require_sound_training(content: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Raises ValueError, which says what cannot be, for the checkpoint of a training that cannot go on. optimizer: a
    new one of the weights."""
    _require(_is_count(content["global_step"]), "global_step", content["global_step"])
    for name in ("scene", "begun_on"):
        value = content.get(name)
        _require(value is None or isinstance(value, str), name, value)
    for name in SPENT:
        value = content.get(name, 0.0)
        _require(_is_number(value) and 0 <= value < MOST_STEPS, name, value)
    best, best_step = content.get("best_psnr", 0.0), content.get("best_step", -1)
    _require(_is_number(best) and not math.isnan(best), "best_psnr", best)
    _require(isinstance(best_step, int) and best_step >= -1, "best_step", best_step)
    for name, weight in content["state_dict"].items():
        _require(isinstance(weight, Tensor), name, weight)
        if wrong := wrong_weight(weight):
            raise ValueError(f"{name} {wrong}")
    _require_state(content["optimizer_states"][0], optimizer)
    if (refined := content.get("refined")) is not None:
        _require(_is_count(refined["turns"]), "refined.turns", refined["turns"])
        if wrong := wrong_weight(refined["c2w"]):
            raise ValueError(f"refined.c2w {wrong}")


def _require_state(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """The state of an optimizer has its moments for each of its weights, and they have the shapes of these."""
    groups = [group["params"] for group in optimizer.param_groups]
    stored = [list(group["params"]) for group in state["param_groups"]]
    weights = [weight for group in groups for weight in group]
    numbers = iter(range(len(weights)))
    # types first: what is compared with a tensor may be a tensor
    is_whole = all(type(number) is int for group in stored for number in group)
    if not is_whole or stored != [[next(numbers) for _ in group] for group in groups]:
        raise ValueError("the optimizer has other weights")
    _require(isinstance(state["state"], Mapping), "the optimizer's state", state["state"])
    if not state["state"]:  # of a training without a step
        return
    names = getattr(optimizer, "moments", MOMENTS.get(type(optimizer)))
    moments = [{*of_one} for of_one in state["state"].values()]
    if moments != len(weights) * [names or moments[0]] or {*state["state"]} != {*range(len(weights))}:
        raise ValueError("the optimizer lacks moments")
    for number, weight in enumerate(weights):
        for name, value in state["state"][number].items():
            _require_moment(name, value, weight)


def _require_moment(name: str, value: object, weight: Tensor) -> None:
    if name == "step":
        count = value.item() if isinstance(value, Tensor) and value.numel() == 1 and value.ndim == 0 else value
        _require(_is_number(count) and 0 <= count < MOST_STEPS, name, count)
        return
    if value is None and name == "momentum_buffer":  # of SGD without momentum
        return
    if not isinstance(value, Tensor) or value.shape != weight.shape or not value.is_floating_point():
        raise ValueError(f"the optimizer's {name} has another shape or type")
    low, high = (0.0, MOST_SQUARE) if name in SQUARES else (-MOST_WEIGHT, MOST_WEIGHT)
    if not bool(((value >= low) & (value <= high)).all()):  # nan is neither
        raise ValueError(f"the optimizer's {name} has values that cannot be")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_STEPS


def _require(holds: bool, name: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{name} is {str(value)[:40]}")
