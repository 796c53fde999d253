"""Whose turn it is among several fields, and at which step of its own, in any number of processes."""

import pytest
from tiny import config, make, with_model

from nerf_pl.methods.ngp import ensemble
from nerf_pl.methods.ngp.ensemble import Ensemble
from nerf_pl.methods.ngp.model import NGP
from nerf_pl.methods.ngp.occupancy import OccupancyGrid
from nerf_pl.methods.ngp.optimizer import GridAdam

FIELDS = 3


def fields(n: int) -> Ensemble:
    model = make(with_model(config("ngp"), ensemble=n))
    assert isinstance(model, Ensemble)
    return model


@pytest.mark.parametrize(("world", "step", "expected"), [(1, 70, [67, 67, 68, 68]), (2, 140, [76, 77, 78, 79])])
def test_parts_go_on_from_their_own_steps(monkeypatch, world, step, expected):
    """Also in another number of processes than before: each field has taken 70 steps, or some less than an update of
    its grid is away from that."""
    monkeypatch.setattr(ensemble, "this_process", lambda: (0, world))
    begun, model = [], fields(2)
    monkeypatch.setattr(NGP, "before_step", lambda self, step: begun.append((self, step)))
    for part in model.fields:
        part.step.fill_(70)
    model.go_on(step)
    for turn in range(step, step + 4):
        model.before_step(turn)
    assert [number for _, number in begun] == expected
    assert {model.parts.index(part) for part, _ in begun} == set(range(2 // world))


@pytest.mark.parametrize("step", [5, 70, 247])
def test_grids_are_updated_right_after_an_exchange(monkeypatch, step):
    """Three fields that three processes have trained go on with two, which exchange weights."""
    monkeypatch.setattr(ensemble, "this_process", lambda: (0, 2))
    updated, model = [], fields(FIELDS)
    monkeypatch.setattr(OccupancyGrid, "update", lambda self, *_, **__: updated.append(self))
    for part in model.fields:
        part.step.fill_(step)
    model.go_on(step)
    stepped: set[NGP] = set()  # since the last exchange
    updates = 0
    for turn in range(step, step + 100):
        if turn % GridAdam.every == 0:
            stepped.clear()
        updated.clear()
        model.before_step(turn)
        assert not updated or model.in_turn not in stepped
        updates += len(updated)
        stepped.add(model.in_turn)
    assert updates == 2 * FIELDS
