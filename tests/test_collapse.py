"""A white ground tempts a network to be empty everywhere, and empty has no gradient. No start may end there."""

import pytest
import torch
from tiny import batches

from nerf_pl.methods.nerf.model import NeRF
from nerf_pl.methods.nerf.options import NeRFOptions
from nerf_pl.ops import Backend
from nerf_pl.options import OptimOptions
from nerf_pl.rendering import render_view
from nerf_pl.scenes import Scene, load_scene
from nerf_pl.training.gradients import Gradients, take_steps

STEPS = 80


@pytest.fixture(scope="module")
def scene(scene_dir) -> Scene:
    return load_scene(scene_dir)


def opacity_after_training(model: NeRF, scene: Scene) -> float:
    """Mean opacity of the middle of a view, where the toys are."""
    gradients = Gradients(model.train(), batches(model, scene, 128, model.precrop_steps))
    take_steps(gradients, model.make_optimizer(OptimOptions(optimizer="adam", lr=1e-3)), range(STEPS))
    return float(render_view(model, scene.view(0)).opacity[6:10, 6:10].mean())


def deep(seed: int) -> NeRF:
    """As deep as the real one, since depth is what makes the start matter, and without noise, which might help out."""
    torch.manual_seed(seed)
    return NeRF(NeRFOptions(8, 8, noise_std=0.0, net_depth=8, net_width=32, net_skip=4), Backend(), seed)


@pytest.mark.parametrize("seed", range(2))
def test_no_seed_ends_empty(scene, seed):
    assert opacity_after_training(deep(seed), scene) > 0.5


def test_a_start_below_zero_does_end_empty(scene):
    """What the test above looks for happens, where the start does not prevent it."""
    model = deep(0)
    for field in (model.coarse, model.fine):
        weight, bias = field.layers()["sigma"]
        field.assign({"sigma": (weight, bias - 2)})
    assert opacity_after_training(model, scene) < 0.01
