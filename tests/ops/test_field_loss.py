"""The loss along rays as one op: kernels against twins, and a backward pass over a share of the samples."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import pad

from nerf_pl.ops import Backend, FieldLayout, HashWeights, Target, field_loss
from nerf_pl.ops.hash_field import reference
from nerf_pl.types import Samples

pytest.importorskip("triton")

from inputs import BOTH, DEVICE, HALF, KERNELS, NATIVE, SMALL, TWINS, field_inputs, integer, uniform

from nerf_pl.ops.hash_field import triton_grid, triton_loss, triton_networks

RAYS = 9
LAYOUT = FieldLayout(SMALL.width, 32, 16, 16, 32)


def along_rays(number: torch.dtype, kept: int = RAYS, share: float = 1.0) -> tuple[Samples, Target]:
    counts = (uniform(RAYS, seed=30) * 20).long()
    counts[kept:] = 0  # the kernels know of no samples on rays that found no room
    offsets = pad(counts.cumsum(0), (1, 0))
    n = int(offsets[-1])
    ray_ids = torch.repeat_interleave(torch.arange(RAYS, device=DEVICE), counts).int()
    samples = Samples(uniform(n, seed=31).to(number), uniform(n, seed=32).to(number) * 0.1, ray_ids, offsets)
    colours = [uniform(RAYS, 3, seed=33 + i).to(number) for i in range(2)]
    cells, seen = torch.zeros(n, dtype=torch.int32, device=DEVICE), torch.zeros(9, dtype=torch.int32, device=DEVICE)
    least = torch.full((1,), 1e-9, device=DEVICE)
    return samples, Target(*colours, integer(kept), cells, seen, integer(5), least, share)


def start(number: torch.dtype = torch.float32) -> tuple[HashWeights, torch.Tensor]:
    """Weights to learn, and encoded directions."""
    _, view, _, params = field_inputs(LAYOUT, RAYS)
    table = uniform(SMALL.total, 4, seed=1) - 0.5
    leaves = [value.to(number).requires_grad_() for value in (table, params)]
    return HashWeights(*leaves, SMALL, LAYOUT, table.to(HALF)), view.to(number)


def outcome(backend: Backend, samples: Samples, target: Target) -> list[torch.Tensor]:
    """The loss and its gradients in table and networks."""
    weights, view = start(samples.t.dtype)
    loss = field_loss(uniform(len(samples), 3).to(samples.t.dtype), view, samples, weights, target, backend=backend)
    return [loss.detach(), *torch.autograd.grad(loss, (weights.table, weights.params))]


@pytest.mark.parametrize(("kept", "smoothness"), [(RAYS, 0.0), (6, 0.0), (6, 2.0)])
def test_field_loss(kept, smoothness):
    results = []
    for backend, number in ((KERNELS, torch.float32), (TWINS, torch.float64)):
        samples, target = along_rays(number, kept)
        results.append(outcome(backend, samples, replace(target, smoothness=smoothness)))
    for own, truth in zip(*results, strict=True):
        assert (own.double() - truth).norm() / truth.norm() < (2e-2 if NATIVE else 1e-5)


def test_smoothness_is_no_part_of_the_value():
    samples, target = along_rays(torch.float64)
    (plain, *_), (smooth, *_) = (outcome(TWINS, samples, replace(target, smoothness=s)) for s in (0.0, 2.0))
    assert torch.equal(plain, smooth)


def test_the_smoothness_of_visited_samples(monkeypatch):
    """Of all of them, where all are visited."""

    def all_of_them(d_sigma, d_rgb, share):
        return torch.arange(len(d_sigma), device=DEVICE), torch.tensor([len(d_sigma)]), d_sigma, d_rgb

    monkeypatch.setattr(reference, "drawn", all_of_them)
    samples, target = along_rays(torch.float64)
    target = replace(target, smoothness=2.0)
    for own, truth in zip(*(outcome(TWINS, samples, replace(target, share=s)) for s in (0.9, 1.0)), strict=True):
        assert torch.allclose(own, truth, rtol=1e-9)


@pytest.mark.parametrize("kind", BOTH)
def test_a_share_of_the_samples_has_the_whole_gradient_on_average(kind):
    samples, target = along_rays(torch.float32)
    truth = torch.cat([g.flatten() for g in outcome(BOTH[kind], samples, target)[1:]])
    weights, view = start()
    draws = []
    for step in range(25 if kind == "kernel" else 100):
        given = replace(target, share=0.4, step=integer(step), least=torch.full((1,), 2e-3, device=DEVICE))
        # the twin's draw follows from the gradients alone, to their last digits
        unit = uniform(len(samples), 3) * (1 - 1e-6 * step)
        loss = field_loss(unit, view, samples, weights, given, backend=BOTH[kind])
        draws.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, (weights.table, weights.params))]))
    assert (torch.stack(draws).mean(0) - truth).norm() / truth.norm() < 0.15
    assert torch.stack(draws).std(0).norm() / truth.norm() > 0.05


def test_the_threshold_follows_the_share():
    samples, target = along_rays(torch.float32, share=0.3)
    weights, view = start()
    features = triton_grid.encode(uniform(len(samples), 3), weights.values, SMALL, None)
    given = features, view.to(HALF), samples.ray_ids, weights.params, LAYOUT, None
    sigma, rgb = triton_networks.forward(*given)
    numbers = []
    for step in range(40):
        _, listed = triton_loss.pixel_loss(sigma, rgb, samples, replace(target, step=integer(step)))
        numbers.append(int(listed.count))
    assert numbers[0] == len(samples)
    assert sum(numbers[-20:]) / 20 == pytest.approx(0.3 * len(samples), rel=0.25)
