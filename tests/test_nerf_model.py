"""The 2020 model as a whole: what training and evaluation do differently, and what the options change."""

import math
from dataclasses import replace

import pytest
import torch
from tiny import MODEL, config, make
from torch import nn

from nerf_pl import sampling
from nerf_pl.methods.nerf.model import NeRF
from nerf_pl.methods.nerf.options import NeRFOptions
from nerf_pl.ops import Backend
from nerf_pl.types import Batch, Pixels, Rays, Samples

WHITE = (1.0, 1.0, 1.0)


def rays(n: int = 32) -> Rays:
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(n, 3), dim=-1)
    return Rays(-4 * directions, directions, directions, torch.full((n,), 2.0), torch.full((n,), 6.0))


def model(seed: int = 0, **options) -> NeRF:
    torch.manual_seed(1)
    sizes = {"N_samples": 8, "N_importance": 8, "net_depth": 2, "net_width": 32, "net_skip": 1}
    return NeRF(NeRFOptions(**{**sizes, **options}), Backend(), seed)


class Ball(nn.Module):
    """A solid ball of radius 1, red."""

    def density(self, xyz):
        return torch.where(xyz.norm(dim=-1) < 1, 1e4, -1.0)

    def forward(self, xyz, dirs):
        return self.density(xyz), torch.tensor([1.0, 0, 0]).expand(len(xyz), 3)


def test_a_ball_is_seen_where_it_is():
    """Rays through the centre meet it 3 away from the camera; rays that pass it see the background."""
    ours = model(N_samples=64, N_importance=64).eval()
    ours.coarse, ours.fine = Ball(), Ball()
    hits = ours(rays(), WHITE)
    passing = replace(rays(), origins=rays().origins + 3 * torch.linalg.cross(rays().directions, torch.randn(32, 3)))
    away = torch.linalg.cross(passing.origins, passing.directions).norm(dim=-1) > 1
    errors = []
    for level, missed in zip(hits, ours(passing, WHITE), strict=True):
        assert torch.allclose(level.rgb, torch.tensor([1.0, 0, 0]), atol=1e-5)
        assert torch.allclose(level.opacity, torch.ones(32))
        errors.append((level.depth - 3).abs().max())
        assert torch.allclose(missed.rgb[away], torch.ones(int(away.sum()), 3))
        assert not missed.opacity[away].any()
    assert errors[0] < 4 / 63 + 1e-4  # as fine as the coarse samples are
    assert errors[1] < 4 / 63 / 8  # the fine ones gather at the surface
    assert away.sum() > 10


def test_evaluation_is_deterministic_and_takes_no_noise():
    ours = model(noise_std=10.0).eval()
    first = ours(rays(), WHITE)[-1]
    ours.step += 5
    assert torch.equal(first.rgb, ours(rays(), WHITE)[-1].rgb)


def test_training_draws_anew_each_step_and_repeats_by_seed():
    ours = model(noise_std=0.0).train()
    first = ours(rays(), WHITE)[-1].rgb
    assert torch.equal(first, ours(rays(), WHITE)[-1].rgb)
    ours.step += 1
    assert not torch.equal(first, ours(rays(), WHITE)[-1].rgb)
    other = model(noise_std=0.0, seed=7).train()
    assert not torch.equal(first, other(rays(), WHITE)[-1].rgb)


def test_noise_and_jitter_can_be_turned_off():
    still = model(noise_std=0.0, perturb=0.0)
    assert torch.equal(still.train()(rays(), WHITE)[0].rgb, still.eval()(rays(), WHITE)[0].rgb)
    noisy = model(noise_std=1.0, perturb=0.0)
    assert not torch.equal(noisy.train()(rays(), WHITE)[0].rgb, still(rays(), WHITE)[0].rgb)


class Fog(nn.Module):
    """So dense everywhere that noise does not make it negative."""

    def density(self, xyz):
        return torch.full_like(xyz[:, 0], 100.0)

    def forward(self, xyz, dirs):
        return self.density(xyz), torch.zeros_like(xyz)


def raw_density(pixels: Pixels, samples: Samples) -> torch.Tensor:
    """What the field and the noise said at the first sample of each ray, from its weight."""
    weights, dt = pixels.weights.view(-1, samples.per_ray)[:, 0], samples.dt.view(-1, samples.per_ray)[:, 0]
    return -(-weights.double()).log1p() / dt


def test_noise_has_the_asked_for_spread():
    """On both levels, and independently."""
    n, ours = 20_000, model(N_samples=3, N_importance=1, noise_std=3.0, perturb=0.0).train()
    ours.coarse, ours.fine = Fog(), Fog()
    straight = torch.tensor([[0.0, 0, 1]]).expand(n, 3)
    given = Rays(torch.zeros(n, 3), straight, straight, torch.zeros(n), torch.full((n,), 0.02))
    coarse, fine = ours(given, None)
    samples = sampling.stratified(given, 3)
    found = [raw_density(coarse, samples)]
    u = torch.linspace(0, 1, 1).expand(n, 1)
    found.append(raw_density(fine, sampling.hierarchical(samples, coarse.weights, u, backend=Backend())))
    for raw in found:
        assert raw.mean() == pytest.approx(100, abs=5 * 3 / math.sqrt(n))
        assert raw.std() == pytest.approx(3.0, rel=5 / math.sqrt(2 * n))
    # of the numbers, those in the same place: 3 samples to a coarse ray, and 4 to a fine one. Their sizes tell, since
    # half of what makes up a normal number lies elsewhere when there are more of them
    same = torch.stack([found[0][::4][: n // 4], found[1][::3][: n // 4]]).sub(100).square()
    assert abs(torch.corrcoef(same)[0, 1]) < 5 / math.sqrt(n // 4)


@pytest.mark.parametrize("perturb", [0.0, 0.5, 1.0])
def test_jitter_is_scaled_by_perturb(perturb):
    """As the classic implementation does it: towards the near end of each interval."""
    ours = model(N_samples=9, N_importance=0, noise_std=0.0, perturb=perturb).train()
    ours.coarse = Fog()  # of which nothing but the first sample shows, at 2 to 2.25
    depth = ours(rays(2000), None)[0].depth
    assert float(depth.mean()) == pytest.approx(2 + perturb / 8, abs=5 * perturb / 4 * 0.29 / math.sqrt(2000) + 1e-5)
    assert float(depth.max()) == pytest.approx(2 + perturb / 4, abs=5e-3)


def test_coarse_alone():
    ours = model(N_importance=0)
    assert ours.fine is None
    assert len(ours.eval()(rays(), WHITE, coarse_colour=False)) == 1
    assert ours(rays(), WHITE, coarse_colour=False)[0].rgb.any()
    xyz = torch.randn(9, 3)
    assert torch.equal(ours.density(xyz), ours.coarse.density(xyz).relu())
    sigma, rgb = ours.coarse(xyz, xyz)
    assert all(map(torch.equal, ours.radiance(xyz, xyz), (sigma.relu(), rgb)))


def test_fine_colours_do_not_need_coarse_ones():
    ours = model().eval()
    whole, spared = (ours(rays(), WHITE, coarse_colour=colour)[-1] for colour in (True, False))
    assert torch.equal(whole.rgb, spared.rgb)
    assert len(whole.weights) == 32 * 16 == ours.samples_in(32) - 32 * 8
    assert torch.equal(ours.render(rays(), WHITE).rgb, whole.rgb)


@pytest.mark.parametrize("background", [None, WHITE, (0.5, 0.0, 1.0)])
def test_background_fills_what_is_open(background):
    ours = model().eval()
    bare, filled = ours(rays(), None)[-1], ours(rays(), background)[-1]
    colour = torch.tensor(background or (0.0, 0, 0))
    assert torch.allclose(filled.rgb, bare.rgb + (1 - bare.opacity)[:, None] * colour, atol=1e-6)


def test_disparity_samples():
    assert not torch.equal(model(use_disp=True).eval()(rays(), WHITE)[0].depth, model().eval()(rays(), WHITE)[0].depth)


def test_every_parameter_learns():
    ours = model().train()
    sum(level.rgb.sum() for level in ours(rays(), WHITE)).backward()
    assert all(p.grad is not None and p.grad.any() for p in ours.parameters())


def test_a_model_depends_on_the_seed_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    ours = make(config(seed=3))
    assert torch.equal(before, torch.random.get_rng_state())
    again = make(config(seed=3), rank=1)
    assert all(map(torch.equal, ours.parameters(), again.parameters()))
    assert ours.seed != again.seed  # processes start equal and draw different pixels
    other = make(config(seed=4))
    assert not torch.equal(next(ours.parameters()), next(other.parameters()))
    assert ours.options == MODEL


def test_precision():
    """That of its networks' products; which one runs where is `ops.choose`'s."""
    for asked, dtype, told in (("auto", torch.float32, "fp32"), ("bf16", torch.bfloat16, "bf16")):
        ours = make(config(precision=asked))
        assert {ours.backend.dtype, ours.coarse.backend.dtype, ours.fine.backend.dtype} == {dtype}
        assert ours.describe() == f"plain PyTorch, {told}"
        assert ours.density(torch.zeros(3, 3)).dtype == torch.float32


def test_widths_that_the_fused_network_has_no_tiles_for():
    """They run as their twin, and nothing else does."""
    kernels = Backend("triton", "triton", "triton", "triton", "triton", "triton")
    for width, mlp in ((64, "triton"), (96, "reference")):
        ours = NeRF(NeRFOptions(net_depth=2, net_skip=1, net_width=width), kernels)
        assert ours.backend == ours.fine.backend == replace(kernels, mlp=mlp)
        assert ("fused" in ours.describe()) == (mlp == "triton")


def test_the_loss_is_that_of_both_levels():
    ours, batch = model(noise_std=0.0).train(), Batch(rays(), torch.rand(32, 3), torch.rand(32, 3))
    loss, error = ours.loss(batch)
    errors = [((level.rgb - batch.rgb) ** 2).mean() for level in ours(batch.rays, batch.background)]
    assert torch.allclose(loss, sum(errors))
    assert torch.allclose(error, errors[-1])
    assert not error.requires_grad
