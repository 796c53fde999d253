"""Each term of the loss by its definition, and what is marked on the way."""

import importlib
from dataclasses import replace

import pytest
import torch

from nerf_pl.ops import GridLayout, Target, composite, mean_of_rays
from nerf_pl.ops.colour import linear, srgb
from nerf_pl.ops.hash_field import losses, reference
from nerf_pl.types import Samples

pytest.importorskip("triton")

from inputs import DEVICE, FUSED, TWINS, integer, uniform

FILES = {"kernel": "triton_loss", "compiled": "numba_loss"}


@pytest.mark.parametrize(
    ("close_range", "emptiness", "charbonnier"), [(0.0, 0.0, 0.0), (0.8, 0.0, 0.2), (0.0, 0.5, 0.0), (0.8, 0.5, 0.05)]
)
@pytest.mark.parametrize("distortion", [0.0, 3.0])
@pytest.mark.parametrize("fused", FUSED)
@pytest.mark.parametrize(
    ("counts", "per_pixel"),
    [([0], 1), ([1], 1), ([0, 1, 31, 32, 33, 0, 100, 5], 1), ([0, 7, 33, 0, 40, 1, 40, 5, 9], 3)],
)
def test_the_kernel_and_its_twin(counts, per_pixel, fused, distortion, close_range, emptiness, charbonnier):
    n, n_rays = sum(counts), len(counts)
    offsets = torch.tensor([0, *counts], device=DEVICE).cumsum(0)
    ray_ids = torch.repeat_interleave(torch.arange(n_rays, device=DEVICE), offsets.diff())
    t, dt = uniform(n), uniform(n, seed=1) * 0.1
    sigma, rgb = uniform(n, seed=2) * 9, uniform(n, 3, seed=3)
    background, rgb_target = (uniform(n_rays // per_pixel, 3, seed=seed) for seed in (4, 5))
    kept, cells, step = integer(max(n_rays - 1, 1)), (uniform(n, seed=6) * 40).int(), integer(7)
    place = torch.cat([part.sort().values for part in uniform(n, seed=7).split(counts)])
    results = []
    for number in (torch.float32, torch.float64):
        samples = Samples(t.to(number), dt.to(number), ray_ids, offsets)
        given = sigma.detach().to(number).requires_grad_(), rgb.detach().to(number).requires_grad_()
        seen, least = torch.zeros(40, dtype=torch.int32, device=DEVICE), torch.zeros(1, device=DEVICE)
        target = Target(rgb_target.to(number), background.to(number), kept, cells, seen, step, least)
        target = replace(target, close_range=close_range, charbonnier=charbonnier)
        if emptiness:
            clear = uniform(len(background), seed=8).to(number)
            target = replace(target, clear=clear, emptiness=torch.full((1,), emptiness, device=DEVICE))
        if distortion:
            target = replace(target, place=place.to(number), width=0.05, distortion=distortion)
        if number == torch.float32:
            d_target = torch.zeros_like(target.rgb)
            of_file = importlib.import_module(f"nerf_pl.ops.hash_field.{FILES[fused]}").pixel_loss
            loss, listed = of_file(*(value.detach() for value in given), samples, target, d_target)
            grads = torch.zeros(n, device=DEVICE), torch.zeros(n, 3, device=DEVICE)
            rows = listed.order[: int(listed.count)].long()
            assert len(set(rows.tolist())) == len(rows)
            grads[0][rows], grads[1][rows] = listed.d_sigma[: len(rows)], listed.d_rgb[: len(rows)]
        else:
            wanted = target.rgb.detach().requires_grad_()
            loss = reference.pixel_loss(*given, samples, replace(target, rgb=wanted))
            loss.backward()
            grads, d_target = [value.grad for value in given], wanted.grad
        last = int(offsets[int(kept) // per_pixel * per_pixel])
        results.append([loss.detach().double(), d_target.double(), *(g[:last].double() for g in grads)])
        depths = [x.cumsum(0) - x for x in (sigma * dt).split(counts)]  # in front of each sample
        front = torch.exp(-torch.cat(depths))
        reached = set(cells[(front > reference.SEEN) & (torch.arange(n, device=DEVICE) < last)].tolist())
        assert reached <= set((seen == 7).nonzero().flatten().tolist())
        if last == n:
            assert (seen == 7).sum() == len(reached)
    for own, truth in zip(*results, strict=True):
        assert torch.allclose(own, truth, atol=1e-6 if not distortion else 1e-5, rtol=1e-4)


@pytest.mark.parametrize("c", [0.05, 0.2])
def test_charbonnier(c):
    """The value stays the squared error; a small error has its gradient, and that of a large one ends at c."""
    n, number = 3, torch.float64
    offsets, ray_ids = torch.arange(n + 1, device=DEVICE), torch.arange(n, device=DEVICE)
    opaque = torch.full((n,), 1e9, device=DEVICE, dtype=number)
    samples = Samples(torch.ones_like(opaque), torch.ones_like(opaque), ray_ids, offsets)
    error = torch.tensor([[1e-4, 0.05, 0.2], [0.9, -0.9, 0.0], [-0.05, 0.3, -1e-4]], device=DEVICE, dtype=number)
    wanted = torch.full((n, 3), 0.05, device=DEVICE, dtype=number)
    rgb = (wanted + error).requires_grad_()
    cells, seen = torch.zeros(n, dtype=torch.int32, device=DEVICE), torch.zeros(1, dtype=torch.int32, device=DEVICE)
    target = Target(wanted, wanted, integer(n), cells, seen, integer(7), torch.zeros(1, device=DEVICE), charbonnier=c)
    loss = reference.pixel_loss(opaque, rgb, samples, target)
    assert float(loss.detach()) == pytest.approx(float((error**2).mean()))
    (gradient,) = torch.autograd.grad(loss, rgb)
    slope = gradient * error.numel() / 2
    assert torch.allclose(slope, error / (1 + (error / c) ** 2).sqrt())
    assert float(slope[0, 0]) == pytest.approx(1e-4, rel=1e-4)
    assert float(slope.abs().max()) == pytest.approx(c, rel=0.03)


def test_distortion():
    """Against all pairs of samples; and it is no part of the value."""
    counts, number = [0, 1, 7, 30], torch.float64
    n, offsets = sum(counts), torch.tensor([0, *counts]).cumsum(0).to(DEVICE)
    ray_ids = torch.repeat_interleave(torch.arange(4, device=DEVICE), offsets.diff())
    samples = Samples(uniform(n).to(number), uniform(n, seed=1).to(number) * 0.1, ray_ids, offsets)
    place = torch.cat([part.sort().values for part in uniform(n, seed=7).to(number).split(counts)])
    sigma = (uniform(n, seed=2) * 9).to(number).requires_grad_()
    rgb, rays = uniform(n, 3, seed=3).to(number), uniform(4, 3, seed=4).to(number)
    cells, seen = torch.zeros(n, dtype=torch.int32, device=DEVICE), torch.zeros(1, dtype=torch.int32, device=DEVICE)
    plain = Target(rays, rays, integer(4), cells, seen, integer(7), torch.zeros(1, device=DEVICE))
    target = replace(plain, place=place, width=0.2, distortion=0.3)
    without, loss = (reference.pixel_loss(sigma, rgb, samples, each) for each in (plain, target))
    assert torch.allclose(loss, without, rtol=1e-12)  # sums on a GPU have no fixed order
    (more,) = torch.autograd.grad(loss - without, sigma)
    w = composite(sigma, rgb, samples, backend=TWINS).weights
    same = ray_ids[:, None] == ray_ids
    pairs = (w[:, None] * w * (place[:, None] - place).abs())[same].sum()
    term = 0.3 * (pairs + 0.2 / 3 * (w * w).sum()) / 4
    assert torch.isclose(losses.distortion(w, samples, target), term)
    assert torch.allclose(more, torch.autograd.grad(term, sigma)[0], atol=1e-12)


def test_smoothness():
    """Over all pairs of a cell's entries; entries that are all alike have none."""
    layout = GridLayout(levels=1, features=2, log2_size=9, base=2, finest=2)
    table = uniform(layout.total, 2).double()
    corners = [x + 3 * y + 9 * z for x in (1, 2) for y in (0, 1) for z in (1, 2)]  # of the cell of this point
    entries, _ = reference.vertices(torch.tensor([[0.8, 0.1, 0.6]], device=DEVICE).double(), layout)
    pairs = sum(((table[a] - table[b]) ** 2).sum() for a in corners for b in corners) / 2
    assert float(losses.smoothness(entries, table, 3.0)) == pytest.approx(3 * float(pairs / 8 / 2))
    assert losses.smoothness(entries, torch.ones_like(table), 1.0) == 0
    assert losses.smoothness(entries[:, :0], table, 1.0) == 0


def test_pixels_are_means_of_light():
    """A pixel half black and half white is as bright as one of half the light; and what is empty weighs nothing."""
    rgb = torch.tensor([[[0.0] * 3, [1.0] * 3], [[0.2] * 3, [0.0] * 3], [[0.3] * 3, [0.3] * 3], [[0.0] * 3, [0.0] * 3]])
    opacity = torch.tensor([[1.0, 1.0], [0.5, 0.0], [0.5, 1.0], [0.0, 0.0]])
    mean, share = mean_of_rays(rgb.double(), opacity.double())
    assert torch.allclose(share, torch.tensor([1.0, 0.25, 0.75, 0.0]).double())
    assert torch.allclose(mean[0], torch.tensor(0.735358).double(), atol=1e-5)  # 188 of 255
    assert torch.allclose(mean[1], torch.tensor(0.1).double())
    light = (0.5 * linear(torch.tensor(0.6)) + linear(torch.tensor(0.3))) / 1.5
    assert torch.allclose(mean[2], 0.75 * srgb(light).double(), atol=1e-6)
    assert not mean[3].any()
    values = torch.linspace(0, 1, 200).double()
    assert torch.allclose(srgb(linear(values)), values, atol=1e-6)
    assert torch.equal(mean_of_rays(rgb[:, :1], opacity[:, :1])[0], rgb[:, 0])
