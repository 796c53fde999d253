"""How far it is from a training step to the arithmetic: a newcomer who reads along opens so many functions."""

import sys
from pathlib import Path

import pytest
import torch
from tiny import PACKAGE, config

from nerf_pl.options import RunFolders
from nerf_pl.training.run import train

ENOUGH = 6  # functions of ours from `training_step` to an op
WITHIN = 5  # from there: the op, its twin, an autograd function, a part of it that has one of its own
OPS = PACKAGE / "ops"


def way_here() -> list[tuple[str, Path]] | None:
    """Names and files of our functions on the stack, below `training_step`; None where it did not lead here."""
    found, frame = [], sys._getframe(2)
    while frame is not None:
        file, name = Path(frame.f_code.co_filename), frame.f_code.co_qualname
        if name == "NeRFSystem.training_step":
            return found[::-1]
        if PACKAGE in file.parents:
            found.append((name, file))
        frame = frame.f_back
    return None


@pytest.mark.parametrize(("method", "first"), [("nerf", "nerf_mlp"), ("ngp", "field_loss")])
def test_a_training_step_is_near_its_arithmetic(method, first, scene_dir, tmp_path, monkeypatch):
    ways = set()
    for name in ("linear", "embedding_bag"):
        product = getattr(torch.nn.functional, name)

        def looked_at(*given, product=product, **options):
            if (way := way_here()) is not None:
                ways.add(tuple(way))
            return product(*given, **options)

        monkeypatch.setattr(torch.nn.functional, name, looked_at)
    train(config(method, max_steps=1, val_views=1), scene_dir, RunFolders.modern(tmp_path / "run"))
    assert any(first in [name for name, _ in way] for way in ways)
    for way in ways:
        ours = [name for name, file in way if OPS not in file.parents]
        inside = [name for name, file in way if OPS in file.parents]
        assert [name for name, _ in way] == ours + inside  # no op calls back
        assert len(ours) <= ENOUGH, " > ".join(ours)
        assert len(inside) <= WITHIN, " > ".join(inside)
