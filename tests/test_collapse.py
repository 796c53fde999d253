"""A white ground tempts a network to be empty everywhere, and empty has no gradient. No start may end there."""

import pytest
import torch
from nerf_pl.models import NeRF
from nerf_pl.optim import make_optimizer
from nerf_pl.system import PRECROP_STEPS, Gradients, render_view

from nerf_pl.scenes import Scene, load_scene
from nerf_pl.training.batches import PixelBatches

STEPS = 120


@pytest.fixture(scope="module")
def scene(scene_dir) -> Scene:
    return load_scene(scene_dir)


def opacity_after_training(model: NeRF, scene: Scene) -> float:
    """Mean opacity of the middle of a view, where the toys are."""
    gradients = Gradients(model.train(), PixelBatches(scene, 256, model.seed, PRECROP_STEPS))
    optimizer = make_optimizer(list(model.parameters()), "adam", 1e-3)
    for _ in range(STEPS):
        gradients()
        optimizer.step()
    return float(render_view(model, scene, 0, 1024, torch.device("cpu"))["opacity"][6:10, 6:10].mean())


def deep(seed: int) -> NeRF:
    """As deep as the real one, since depth is what makes the start matter, and without noise, which might help out."""
    torch.manual_seed(seed)
    return NeRF(8, 8, noise_std=0.0, net_depth=8, net_width=32, net_skip=4, seed=seed)


@pytest.mark.parametrize("seed", range(5))
def test_no_seed_ends_empty(scene, seed):
    assert opacity_after_training(deep(seed), scene) > 0.5


def test_a_start_below_zero_does_end_empty(scene):
    """What the test above looks for happens, where the start does not prevent it."""
    model = deep(0)
    for field in (model.coarse, model.fine):
        weight, bias = field.layers()["sigma"]
        field.assign({"sigma": (weight, bias - 2)})
    assert opacity_after_training(model, scene) < 0.01
