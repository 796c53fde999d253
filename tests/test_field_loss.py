"""The loss along rays as one op: kernels against twins, and a backward pass over a share of the samples."""

from dataclasses import replace

import pytest
import torch

from nerf_pl.ops import FieldLayout, Target
from nerf_pl.ops import grid_reference as reference
from nerf_pl.types import Samples

pytest.importorskip("triton")

from test_grid_ops import DEVICE, HALF, NATIVE, SMALL, field_inputs, uniform

from nerf_pl.ops import field_kernels, field_op, grid_kernels, loss_kernels, visiting

RAYS = 9
LAYOUT = FieldLayout(SMALL.width, 32, 16, 16, 32)


def along_rays(kept: int, share: float, number: torch.dtype) -> tuple[Samples, Target]:
    counts = (uniform(RAYS, seed=30) * 40).long()
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    n = int(offsets[-1])
    ray_ids = torch.repeat_interleave(torch.arange(RAYS, device=DEVICE), counts).int()
    samples = Samples(uniform(n, seed=31).to(number), uniform(n, seed=32).to(number) * 0.1, ray_ids, offsets)
    at = {"dtype": torch.int32, "device": DEVICE}
    colours = [uniform(RAYS, 3, seed=33 + i).to(number) for i in range(2)]
    marks = torch.zeros(n, **at), torch.zeros(9, **at), torch.tensor([5], device=DEVICE)
    return samples, Target(*colours, torch.tensor([kept], **at), *marks, torch.full((1,), 1e-9, device=DEVICE), share)


def weights() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Encoded directions, table and networks."""
    _, view, _, params = field_inputs(LAYOUT, RAYS)
    return view, uniform(SMALL.total, 4, seed=1) - 0.5, params


@pytest.mark.parametrize(("kept", "smoothness"), [(RAYS, 0.0), (6, 0.0), (6, 2.0)])
def test_field_loss(kept, smoothness):
    view, *start = weights()
    results = []
    for is_kernel, number in ((True, torch.float32), (False, torch.float64)):
        samples, aim = along_rays(kept, 1.0, number)
        n = int(samples.offsets[kept])  # the kernels know of no samples on rays that found no room
        samples = Samples(samples.t[:n], samples.dt[:n], samples.ray_ids[:n], samples.offsets.clamp(max=n))
        aim = replace(aim, cells=aim.cells[:n], smoothness=smoothness)
        leaves = [value.detach().clone().to(number).requires_grad_() for value in start]
        given = uniform(n, 3).to(number), view.to(number), samples, *leaves, SMALL, LAYOUT
        loss = field_op.field_loss(*given, start[0].to(HALF), aim) if is_kernel else reference.field_loss(*given, aim)
        loss.backward()
        results.append([loss, *(leaf.grad for leaf in leaves)])
    for own, truth in zip(*results, strict=True):
        assert (own.double() - truth).norm() / truth.norm() < (2e-2 if NATIVE else 1e-5)


def test_the_smoothness_of_visited_samples(monkeypatch):
    """Of all of them, where all are visited; and it is no part of the value."""

    def all_of_them(d_sigma, d_rgb, share):
        return torch.arange(len(d_sigma), device=DEVICE), torch.tensor([len(d_sigma)]), d_sigma, d_rgb

    monkeypatch.setattr(visiting, "drawn", all_of_them)
    view, *start = weights()
    samples, aim = along_rays(RAYS, 1.0, torch.float64)
    aim = replace(aim, smoothness=2.0)
    results = []
    for loss_of in (visiting.field_loss, reference.field_loss):
        leaves = [value.double().requires_grad_() for value in start]
        loss = loss_of(uniform(len(samples), 3).double(), view.double(), samples, *leaves, SMALL, LAYOUT, aim)
        loss.backward()
        results.append([loss, *(leaf.grad for leaf in leaves)])
    assert torch.isclose(results[0][0], results[1][0], rtol=1e-12)  # sums on a GPU come in any order
    given = uniform(len(samples), 3).double(), view.double(), samples, *(value.double() for value in start)
    without = reference.field_loss(*given, SMALL, LAYOUT, replace(aim, smoothness=0.0))
    assert torch.isclose(results[0][0], without, rtol=1e-12)
    for own, truth in zip(*results, strict=True):
        assert torch.allclose(own, truth, rtol=1e-9)


@pytest.mark.parametrize("is_kernel", [True, False])
def test_a_share_of_the_samples_has_the_whole_gradient_on_average(is_kernel):
    view, *start = weights()
    leaves = [value.clone().requires_grad_() for value in start]

    def gradient(share: float, step: int, tau: float) -> torch.Tensor:
        samples, aim = along_rays(RAYS, share, torch.float32)
        aim.step.fill_(step)
        aim.least.fill_(tau)
        # the twin's draw follows from the gradients alone, to their last digits
        given = uniform(len(samples), 3) * (1 - 1e-6 * step), view, samples, *leaves, SMALL, LAYOUT
        if is_kernel:
            loss = field_op.field_loss(*given, start[0].to(HALF), aim)
        else:
            loss = (visiting if share < 1 else reference).field_loss(*given, aim)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, leaves)])

    truth = gradient(1.0, 0, 0.0)
    draws = torch.stack([gradient(0.4, i, 2e-3) for i in range(40 if is_kernel else 100)])
    assert (draws.mean(0) - truth).norm() / truth.norm() < 0.1
    assert (draws[0] - draws[1]).norm() / truth.norm() > 0.05


def test_the_threshold_follows_the_share():
    view, table, params = weights()
    samples, aim = along_rays(RAYS, 0.3, torch.float32)
    features = grid_kernels.encode(uniform(len(samples), 3), table.to(HALF), SMALL, None)
    sigma, rgb = field_kernels.forward(features, view.to(HALF), samples.ray_ids, params, LAYOUT, None)
    numbers = []
    for step in range(60):
        aim.step.fill_(step)
        _, _, number, _, _ = loss_kernels.photometric(sigma, rgb, samples, aim)
        numbers.append(int(number))
    assert numbers[0] == len(samples)
    assert sum(numbers[-20:]) / 20 == pytest.approx(0.3 * len(samples), rel=0.2)
