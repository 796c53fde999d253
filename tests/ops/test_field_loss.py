"""The loss along rays as one op: kernels against twins, and a backward pass over a share of the samples."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import pad

from nerf_pl.ops import Backend, FieldLayout, HashWeights, Target, field_loss
from nerf_pl.ops.hash_field import reference
from nerf_pl.types import Samples

pytest.importorskip("triton")

from inputs import BOTH, DEVICE, FUSED, HALF, NATIVE, SMALL, TWINS, field_inputs, integer, uniform

from nerf_pl.ops.hash_field import triton_loss

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
@pytest.mark.parametrize("fused", FUSED)
def test_field_loss(fused, kept, smoothness):
    results = []
    for backend, number in ((FUSED[fused], torch.float32), (TWINS, torch.float64)):
        samples, target = along_rays(number, kept)
        results.append(outcome(backend, samples, replace(target, smoothness=smoothness)))
    for own, truth in zip(*results, strict=True):
        assert (own.double() - truth).norm() / truth.norm() < (2e-2 if NATIVE else 1e-5)


@pytest.mark.parametrize("share", [1.0, 0.4])
@pytest.mark.parametrize("kind", BOTH)
def test_a_row_of_directions_for_each_sample(kind, share):
    """It is as if each sample were on a ray of its own."""
    results = []
    for of_samples in (False, True):
        samples, target = along_rays(torch.float32, kept=7, share=share)
        target.least.fill_(2e-3)
        weights, view = start()
        given = view[samples.ray_ids] if of_samples else view
        loss = field_loss(uniform(len(samples), 3), given, samples, weights, target, of_samples, backend=BOTH[kind])
        results.append([loss.detach(), *torch.autograd.grad(loss, (weights.table, weights.params))])
    for one, other in zip(*results, strict=True):
        assert (one - other).norm() / one.norm() < (1e-3 if NATIVE else 1e-5)


def test_smoothness_is_no_part_of_the_value():
    samples, target = along_rays(torch.float64)
    (plain, *_), (smooth, *_) = (outcome(TWINS, samples, replace(target, smoothness=s)) for s in (0.0, 2.0))
    assert torch.allclose(plain, smooth, rtol=1e-12)  # sums on a GPU have no fixed order


@pytest.mark.parametrize("smoothness", [0.0, 2.0])
@pytest.mark.parametrize("least", [2e-3, 1e-2])
@pytest.mark.parametrize("fused", FUSED)
def test_kernel_and_twin_go_back_to_the_same_share(fused, least, smoothness):
    """To the same samples, so that their gradients are the same and not only so on average."""
    results = []
    for backend, number in ((FUSED[fused], torch.float32), (TWINS, torch.float64)):
        samples, target = along_rays(number, kept=7, share=0.4)
        target.least.fill_(least)
        results.append([*outcome(backend, samples, replace(target, smoothness=smoothness)), target.least])
    for own, truth in zip(*results, strict=True):
        assert (own.double() - truth).norm() / truth.norm() < (
            1e-1 if NATIVE else 1e-5
        )  # in half precision a few samples fall on the other side
    whole = outcome(TWINS, *along_rays(torch.float64, kept=7))
    assert (results[1][1] - whole[1]).norm() / whole[1].norm() > 0.05


def test_the_list_of_the_kernel_is_that_of_the_twin():
    samples, target = along_rays(torch.float32, share=0.4)
    target.least.fill_(2e-3)
    sigma, rgb = (uniform(len(samples), seed=2) * 9).requires_grad_(), uniform(len(samples), 3, seed=3).requires_grad_()
    loss = reference.pixel_loss(sigma, rgb, samples, target)
    grads, before = torch.autograd.grad(loss, (sigma, rgb)), target.least.clone()
    truth, after = reference.listed(sigma.detach(), *grads, target), target.least.clone()
    target.least.copy_(before)
    value, own = triton_loss.pixel_loss(sigma.detach(), rgb.detach(), samples, target)
    n = int(own.count)
    order = own.order[:n].argsort()
    assert 0 < n < len(samples)
    assert torch.equal(own.order[order], truth.order)
    assert torch.allclose(own.d_sigma[order], truth.d_sigma, rtol=1e-3, atol=1e-8)
    assert torch.allclose(own.d_rgb[order], truth.d_rgb, rtol=1e-3, atol=1e-8)
    assert torch.isclose(value, loss)
    assert torch.allclose(target.least, after)


def test_a_share_of_the_samples_has_the_whole_gradient_on_average():
    samples, target = along_rays(torch.float32)
    sigma, rgb = uniform(len(samples), seed=2) * 9, uniform(len(samples), 3, seed=3)
    leaves = sigma.requires_grad_(), rgb.requires_grad_()
    d_sigma, d_rgb = torch.autograd.grad(reference.pixel_loss(*leaves, samples, target), leaves)
    sizes = (d_sigma * sigma.detach()).abs() + d_rgb.abs().sum(1)
    least, draws, numbers = float(sizes.quantile(0.8)), [], []
    for step in range(400):
        given = replace(target, share=0.4, step=integer(step), least=torch.full((1,), least, device=DEVICE))
        rows, count, *grads = reference.listed(sigma.detach(), d_sigma, d_rgb, given)
        whole = torch.zeros(len(samples), 4, device=DEVICE)
        whole[rows] = torch.cat([grads[0][:, None], grads[1]], 1)
        draws.append(whole)
        numbers.append(int(count))
    probability = (sizes / least).clamp(max=1)
    assert sum(numbers) / len(numbers) == pytest.approx(float(probability.sum()), rel=0.02)
    truth, mean = torch.cat([d_sigma[:, None], d_rgb], 1), torch.stack(draws).mean(0)
    deviation = truth.abs() * ((1 / probability.clamp(min=1e-12) - 1) / len(draws)).sqrt()[:, None]
    assert ((mean - truth).abs() <= 5 * deviation + 1e-4 * truth.abs()).all()
    assert (mean - truth).norm() / truth.norm() < 0.1


@pytest.mark.parametrize("kind", BOTH)
def test_the_threshold_follows_the_share(kind):
    """From far off by a factor of 8 a step; and where all samples count it stays."""
    samples, target = along_rays(torch.float32, share=0.3)
    weights, view = start()
    unit, numbers = uniform(len(samples), 3), []
    target.least.fill_(1e-5)
    for step in range(14):
        before = float(target.least)
        field_loss(unit, view, samples, weights, replace(target, step=integer(step)), backend=BOTH[kind])
        numbers.append(float(target.least) / before * 0.3)  # the share that was listed, if the factor was no limit
    assert numbers[0] == pytest.approx(1.0, abs=1e-3)
    assert sum(numbers[-8:]) / 8 == pytest.approx(0.3, rel=0.25)
    before = target.least.clone()
    field_loss(unit, view, samples, weights, replace(target, share=1.0), backend=BOTH[kind])
    assert torch.equal(target.least, before)


def test_nothing_to_go_back_to():
    """Where no sample has a gradient none is listed, and the threshold falls."""
    samples, target = along_rays(torch.float32, share=0.3)
    nothing = torch.zeros(len(samples), device=DEVICE)
    listed = reference.listed(nothing, nothing, nothing[:, None].expand(-1, 3), target)
    assert len(listed.order) == int(listed.count) == 0
    assert float(target.least) == pytest.approx(1e-9 / 8)
