"""The same weights and rays as the classic implementation must give the same pixels."""

import numpy as np
import pytest
import torch

from nerf_pl.checkpoints import read_checkpoint
from nerf_pl.methods.nerf import foreign
from nerf_pl.methods.nerf.model import NeRF
from nerf_pl.methods.nerf.options import NeRFOptions
from nerf_pl.ops import choose
from nerf_pl.types import Pixels, Rays

EVERY = 4  # rays: a quarter of those that are stored


@pytest.fixture(scope="module")
def expected(data_dir) -> dict[str, torch.Tensor]:
    with np.load(data_dir / "parity" / "nerf_pl_lego_parity.npz") as stored:
        return {name: torch.from_numpy(stored[name])[::EVERY] for name in stored}


@pytest.fixture(scope="module")
def levels(data_dir, expected) -> list[Pixels]:
    """Coarse and fine pixels of our model with the weights of the classic checkpoint, on white."""
    path = data_dir / "parity" / "nerf_pl_lego.ckpt"
    found = foreign.read(read_checkpoint(path), ("loss",))
    assert found is not None
    model = NeRF(NeRFOptions(N_samples=64, N_importance=64), choose(torch.device("cpu")))
    foreign.assign(model, found, path)
    model.eval()
    origins, directions, near, far = torch.split(expected["rays"], [3, 3, 1, 1], dim=1)
    rays = Rays(origins, directions, directions, near[:, 0], far[:, 0])
    with torch.no_grad():
        return model(rays, background=(1, 1, 1))


@pytest.mark.parametrize("quantity", ["rgb", "depth", "opacity"])
@pytest.mark.parametrize(("level", "name"), [(0, "coarse"), (1, "fine")])
def test_pixels_of_the_classic_implementation(levels, expected, level, name, quantity):
    assert len(levels) == 2
    ours, theirs = getattr(levels[level], quantity), expected[f"{quantity}_{name}"]
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 1e-4
