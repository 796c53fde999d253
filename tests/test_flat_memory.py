"""A training takes no more memory the longer it runs, with all that it writes on the way.

JAXTYPING_DISABLE=1 leaves the checks of shapes out, and takes a third of the time.
"""

import os
from itertools import pairwise

import pytest
from tiny import config, with_model

from nerf_pl.options import RunFolders
from nerf_pl.scenes.memory import memory_of_process
from nerf_pl.training.callbacks import Checkpoints
from nerf_pl.training.run import train

STEPS = int(os.environ.get("NERF_PL_MEMORY_STEPS", "50000"))
LOOKS = 50  # at the memory, after validations and checkpoints
GROWTH = 10e6  # bytes from the second fifth of the training to the last one; libraries keep some of what they freed


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ngp", "nerf"])
def test_memory_stays_flat(scene_dir, tmp_path, monkeypatch, method):
    options = config(method, max_steps=STEPS, val_every=STEPS // LOOKS, batch_size=32)
    options = with_model(options, samples=256) if method == "ngp" else with_model(options, N_samples=4, N_importance=4)
    taken, save = [], Checkpoints.save

    def look(self, trainer, system) -> None:
        save(self, trainer, system)
        taken.append((system.step, memory_of_process()))

    monkeypatch.setattr(Checkpoints, "save", look)
    train(options, scene_dir, RunFolders.modern(tmp_path / "run"))
    assert [b > a for (a, _), (b, _) in pairwise(taken)].count(False) <= 1
    fifth = len(taken) // 5
    early, late = (max(size for _, size in part) for part in (taken[fifth : 2 * fifth], taken[-fifth:]))
    print(f"{method}: {taken[-1][0]} steps, {early / 1e6:.1f} MB early and {late / 1e6:.1f} MB late")
    assert late - early < GROWTH
