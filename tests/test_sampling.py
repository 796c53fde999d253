"""Samples lie in their intervals and follow the weights."""

import math

import pytest
import torch

from nerf_pl import sampling
from nerf_pl.ops import Backend
from nerf_pl.randomness import Stream, uniform
from nerf_pl.types import Rays, Samples

STEP = torch.zeros(1, dtype=torch.int64)
TWINS = Backend()


def rays(n: int, near: float = 2.0, far: float = 6.0) -> Rays:
    directions = torch.nn.functional.normalize(torch.randn(n, 3), dim=-1)
    return Rays(torch.randn(n, 3), directions, directions, torch.full((n,), near), torch.full((n,), far))


@pytest.mark.parametrize("n", [1, 2, 4, 5, 16])
def test_places_in_a_pixel(n):
    """Around its middle, as spread as the pixel is, and no two near each other; turned, they are others."""
    places, turned = (torch.tensor(sampling.pixel_places(n, turn)) for turn in (0.0, 0.3))
    assert torch.allclose(places.mean(0), torch.zeros(2), atol=1e-6)
    if n > 1:
        assert torch.allclose(places.square().mean(), torch.tensor(1 / 12))
        assert not torch.allclose(places, turned)
    if n != 2:  # most pixels are their first ray alone
        assert places[0].tolist() == turned[0].tolist() == [0, 0]
    assert places.abs().max() < 0.55
    apart = (places[:, None] - places).norm(dim=-1) + 9 * torch.eye(n)
    assert apart.min() > 0.5 * n**-0.5  # a square grid has n^-1/2


def test_without_jitter_samples_are_even_in_depth():
    samples = sampling.stratified(rays(3), 5)
    assert torch.allclose(samples.t.view(3, 5), torch.tensor([2.0, 3, 4, 5, 6]))
    assert torch.allclose(samples.dt.view(3, 5)[:, :4], torch.ones(3, 4))
    assert (samples.dt.view(3, 5)[:, 4] == sampling.FAR_AWAY).all()


def test_use_disp_is_even_in_disparity():
    t = sampling.stratified(rays(2, near=1.0, far=8.0), 9, use_disp=True).t.view(2, 9)
    assert torch.allclose(t[:, [0, -1]], torch.tensor([1.0, 8.0]))
    assert torch.allclose((1 / t).diff(dim=1), torch.full((2, 8), -(1 - 1 / 8) / 8), atol=1e-6)


@pytest.mark.parametrize("use_disp", [False, True])
def test_jittered_samples_stay_between_the_midpoints(use_disp):
    n, per_ray = 200, 16
    batch = rays(n)
    middle = sampling.stratified(batch, per_ray, use_disp=use_disp).t.view(n, per_ray)
    edges = torch.cat([middle[:, :1], (middle[:, 1:] + middle[:, :-1]) / 2, middle[:, -1:]], 1)
    jitter = uniform(1, STEP, Stream.JITTER, (n, per_ray), backend=TWINS)
    t = sampling.stratified(batch, per_ray, jitter, use_disp).t.view(n, per_ray)
    assert (t >= edges[:, :-1] - 1e-5).all()
    assert (t <= edges[:, 1:] + 1e-5).all()
    fill = ((t - edges[:, :-1]) / (edges[:, 1:] - edges[:, :-1])).mean(0)  # 0.5 in each interval, spread 0.29 / sqrt(n)
    assert (fill - 0.5).abs().max() < 5 * 0.29 / math.sqrt(n)
    assert torch.equal(t, t.sort(1).values)


def drawn(weights: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """n samples of one ray by these weights at 2 ... 6, and the edges that weights[1:-1] fill evenly."""
    samples = sampling.stratified(rays(1), len(weights))
    u = torch.rand(1, n)
    t = sampling.hierarchical(samples, weights, u, backend=TWINS).t
    kept = torch.isin(t, samples.t)  # the old samples are among the new
    return t[~kept], (samples.t[1:] + samples.t[:-1]) / 2


@pytest.mark.parametrize("weights", [[0.0, 1, 2, 3, 4, 0], [0.0, 0, 1, 0, 0, 0], [9.0, 1, 1, 1, 1, 9]])
def test_new_samples_follow_the_weights(weights):
    torch.manual_seed(0)
    values = torch.tensor(weights)
    t, edges = drawn(values, 20_000)
    shares = torch.histc(t, bins=4, min=float(edges[0]), max=float(edges[-1])) / len(t)  # the edges are even
    expected = values[1:-1] / values[1:-1].sum()
    assert (shares - expected).abs().max() < 5 * math.sqrt(0.25 / len(t)) + 1e-4  # + the floor that weights have


def test_rays_that_saw_nothing_are_sampled_everywhere():
    torch.manual_seed(0)
    t, edges = drawn(torch.zeros(6), 4000)
    shares = torch.histc(t, bins=4, min=float(edges[0]), max=float(edges[-1])) / len(t)
    assert (shares - 0.25).abs().max() < 5 * math.sqrt(0.19 / len(t))


def test_hierarchical_keeps_the_old_samples_sorted_and_detached():
    samples = sampling.stratified(rays(3), 8)
    weights = torch.rand(24, requires_grad=True)
    new = sampling.hierarchical(samples, weights, torch.rand(3, 5), backend=TWINS)
    t = new.t.view(3, 13)
    assert not new.t.requires_grad
    assert torch.equal(t, t.sort(1).values)
    assert all(torch.isin(samples.t.view(3, 8)[i], t[i]).all() for i in range(3))
    assert new.per_ray == 13


def test_hierarchical_needs_dense_samples():
    packed = Samples(torch.ones(2), torch.ones(2), torch.tensor([0, 1]), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="same number"):
        sampling.hierarchical(packed, torch.ones(2), torch.rand(2, 3), backend=TWINS)
