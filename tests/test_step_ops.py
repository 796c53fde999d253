"""The kernels around the hash-grid field against their twins: pixels, the loss, the optimizer.

On a CPU the kernels run in Triton's interpreter, on a GPU natively.
"""

from dataclasses import replace

import pytest
import torch

from nerf_pl.cameras import Cameras
from nerf_pl.data import PixelBatches
from nerf_pl.ops import Target
from nerf_pl.ops import grid_reference as reference
from nerf_pl.ops.reference import composite
from nerf_pl.scenes import Scene
from nerf_pl.types import Samples

pytest.importorskip("triton")

from nerf_pl.ops import loss_kernels, step_kernels

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


# ---- a training step -------------------------------------------------------------------------------------------------


def scene(channels: int) -> Scene:
    images = (uniform(3, 10, 14, channels) * 256).to(torch.uint8)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(1)))
    c2w = torch.cat([turn, torch.tensor([[1.0], [-2.0], [3.0]]).expand(3, 3, 1)], 2)
    K = torch.tensor([[20.0, 0, 7.5], [0, 21.0, 4.5], [0, 0, 1]]) * torch.tensor([1, 2, 3.0])[:, None, None]
    return Scene(Cameras(c2w, K, 14, 10), images.cpu(), 2.0, 6.0, torch.tensor([[-1.0] * 3, [1.0] * 3]))


def of_kind(kind: str) -> Scene:
    plain = scene(4 if kind == "alpha" else 3)
    if kind == "sizes":
        sizes = torch.tensor([[14, 10], [7, 10], [14, 5]])
        return replace(plain, cameras=replace(plain.cameras, sizes=sizes))
    if kind == "masks":
        return replace(plain, masks=uniform(3, 10, 14).cpu() < 0.3)
    return replace(plain, ndc=(1.5, 2.0)) if kind == "ndc" else plain


@pytest.mark.parametrize("kind", ["plain", "alpha", "sizes", "masks", "ndc"])
@pytest.mark.parametrize("step", [0, 30])
@pytest.mark.parametrize(
    ("random_background", "rays_per_pixel", "n"),
    [(False, 1, 200), (True, 1, 200), (True, 3, 200), (True, 6, 192)],  # the last one: divisible by 16, see docs/log.md
)
def test_draw_pixels(kind, step, random_background, rays_per_pixel, n, monkeypatch):
    batches = PixelBatches(of_kind(kind), n, seed=7, precrop_steps=10, random_background=random_background)
    at = torch.tensor([step], device=DEVICE)
    batches.to(DEVICE)
    monkeypatch.setenv("NERF_PL_OPS", "reference")
    truth, rgb_0, behind_0 = batches(at, rays_per_pixel)
    monkeypatch.setenv("NERF_PL_OPS", "kernel")
    drawn, rgb, behind = batches(at, rays_per_pixel)
    assert (len(rgb), len(drawn)) == (n // rays_per_pixel, n // rays_per_pixel * rays_per_pixel)
    assert torch.equal(behind, behind_0)
    assert torch.allclose(rgb, rgb_0, atol=1e-6)
    assert torch.allclose(drawn.origins, truth.origins, rtol=1e-4)
    assert torch.allclose(drawn.directions, truth.directions, atol=1e-4)
    assert torch.allclose(drawn.viewdirs, truth.viewdirs, atol=1e-5)
    assert torch.allclose(drawn.near, truth.near)
    assert torch.allclose(drawn.far, truth.far, rtol=1e-4)


@pytest.mark.parametrize("distortion", [0.0, 3.0])
@pytest.mark.parametrize(
    ("counts", "per_pixel"),
    [([0], 1), ([1], 1), ([0, 1, 31, 32, 33, 0, 100, 5], 1), ([300] * 3, 1), ([0, 7, 33, 0, 100, 1, 40, 5, 9], 3)],
)
def test_photometric(counts, per_pixel, distortion):
    n, n_rays = sum(counts), len(counts)
    offsets = torch.tensor([0, *counts], device=DEVICE).cumsum(0)
    ray_ids = torch.repeat_interleave(torch.arange(n_rays, device=DEVICE), offsets.diff())
    t, dt = uniform(n), uniform(n, seed=1) * 0.1
    sigma, rgb = uniform(n, seed=2) * 9, uniform(n, 3, seed=3)
    background, target = (uniform(n_rays // per_pixel, 3, seed=seed) for seed in (4, 5))
    kept = torch.tensor([max(n_rays - 1, 1)], dtype=torch.int32, device=DEVICE)
    cells = (uniform(n, seed=6) * 40).int()
    step = torch.tensor([7], device=DEVICE)
    place = torch.cat([part.sort().values for part in uniform(n, seed=7).split(counts)])
    results = []
    for number in (torch.float32, torch.float64):
        samples = Samples(t.to(number), dt.to(number), ray_ids, offsets)
        given = sigma.detach().to(number).requires_grad_(), rgb.detach().to(number).requires_grad_()
        seen = torch.zeros(40, dtype=torch.int32, device=DEVICE)
        aim = Target(target.to(number), background.to(number), kept, cells, seen, step, torch.zeros(1, device=DEVICE))
        if distortion:
            aim = replace(aim, place=place.to(number), width=0.05, distortion=distortion)
        if number == torch.float32:
            values = [value.detach() for value in given]
            loss, order, count, d_sigma, d_rgb = loss_kernels.photometric(*values, samples, aim)
            grads = torch.zeros(n, device=DEVICE), torch.zeros(n, 3, device=DEVICE)
            rows = order[: int(count)].long()
            assert len(set(rows.tolist())) == len(rows)
            grads[0][rows], grads[1][rows] = d_sigma[: len(rows)], d_rgb[: len(rows)]
        else:
            loss = reference.photometric(*given, samples, aim)
            loss.backward()
            grads = [value.grad for value in given]
        last = int(offsets[int(kept) // per_pixel * per_pixel])
        results.append([loss.detach().double(), *(g[:last].double() for g in grads)])
        depths = [x.cumsum(0) - x for x in (sigma * dt).split(counts)]  # in front of each sample
        front = torch.exp(-torch.cat(depths))
        reached = set(cells[(front > reference.SEEN) & (torch.arange(n, device=DEVICE) < last)].tolist())
        assert reached <= set((seen == 7).nonzero().flatten().tolist())
        if last == n:
            assert (seen == 7).sum() == len(reached)
    for own, truth in zip(*results, strict=True):
        assert torch.allclose(own, truth, atol=1e-6 if not distortion else 1e-5, rtol=1e-4)


def test_distortion():
    """Against all pairs of samples."""
    counts, number = [0, 1, 7, 30], torch.float64
    n, offsets = sum(counts), torch.tensor([0, *counts]).cumsum(0).to(DEVICE)
    ray_ids = torch.repeat_interleave(torch.arange(4, device=DEVICE), offsets.diff())
    samples = Samples(uniform(n).to(number), uniform(n, seed=1).to(number) * 0.1, ray_ids, offsets)
    place = torch.cat([part.sort().values for part in uniform(n, seed=7).to(number).split(counts)])
    sigma = (uniform(n, seed=2) * 9).to(number).requires_grad_()
    rgb, rays = uniform(n, 3, seed=3).to(number), uniform(4, 3, seed=4).to(number)
    ints = [torch.tensor([value], dtype=torch.int32, device=DEVICE) for value in (4, 7)]
    cells, seen = torch.zeros(n, dtype=torch.int32, device=DEVICE), torch.zeros(1, dtype=torch.int32, device=DEVICE)
    aim = Target(rays, rays, ints[0], cells, seen, ints[1], torch.zeros(1, device=DEVICE))
    plain = reference.photometric(sigma, rgb, samples, aim)
    (without,) = torch.autograd.grad(plain, sigma)
    loss = reference.photometric(sigma, rgb, samples, replace(aim, place=place, width=0.2, distortion=0.3))
    assert torch.equal(loss, plain)
    (with_it,) = torch.autograd.grad(loss, sigma)
    w = composite(sigma, rgb, samples).weights
    total = 0.2 / 3 * (w * w).sum()
    for i in range(n):
        for j in range(n):
            if ray_ids[i] == ray_ids[j]:
                total = total + w[i] * w[j] * (place[i] - place[j]).abs()
    (expected,) = torch.autograd.grad(0.3 * total / 4, sigma)
    assert torch.allclose(with_it - without, expected, atol=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
def test_adam(sparse):
    def run(of, number):
        p = (uniform(1500) - 0.5).to(number)
        half = p.half()
        m, v = torch.zeros_like(p), torch.zeros_like(p)
        for step in range(1, 5):
            g = ((uniform(1500, seed=step) - 0.5) * (uniform(1500, seed=10 + step) < 0.5)).to(number)
            ok = torch.tensor(0.0 if step == 3 else 1.0, device=DEVICE)
            before = p.clone()
            of(p, g, m, v, half, ok, 0.01, 0.1, (0.9, 0.99), step, 1e-15, sparse)
            assert torch.equal(before, p) == (step == 3)
            if sparse:
                assert torch.equal(before[g == 0], p[g == 0])
        return p.double(), m.double(), v.double(), half.double()

    def twin(p, g, m, v, half, *rest):
        reference.adam(p, g, m, v, *rest)
        half.copy_(p)

    for own, truth in zip(run(step_kernels.adam, torch.float32), run(twin, torch.float64), strict=True):
        assert torch.allclose(own, truth, atol=1e-5, rtol=1e-3)


def test_dense_adam_is_pytorchs():
    p = uniform(50).double().requires_grad_()
    own, m, v = p.detach().clone(), torch.zeros_like(p), torch.zeros_like(p)
    theirs = torch.optim.AdamW([p], lr=0.02, betas=(0.9, 0.99), eps=1e-15, weight_decay=0.3)
    for step in range(1, 6):
        p.grad = uniform(50, seed=step).double() - 0.5
        theirs.step()
        reference.adam(
            own, p.grad, m.detach(), v.detach(), torch.tensor(1.0), 0.02, 0.3, (0.9, 0.99), step, 1e-15, False
        )
    # PyTorch decays before the step and we after the moments: the same up to lr^2
    assert torch.allclose(own, p.detach(), atol=1e-3)


def test_pixels_are_means_of_light():
    """A pixel half black and half white is as bright as one of half the light; and what is empty weighs nothing."""
    rgb = torch.tensor([[[0.0] * 3, [1.0] * 3], [[0.2] * 3, [0.0] * 3], [[0.3] * 3, [0.3] * 3], [[0.0] * 3, [0.0] * 3]])
    opacity = torch.tensor([[1.0, 1.0], [0.5, 0.0], [0.5, 1.0], [0.0, 0.0]])
    mean, share = reference.mean_of_rays(rgb.double(), opacity.double())
    assert torch.allclose(share, torch.tensor([1.0, 0.25, 0.75, 0.0]).double())
    assert torch.allclose(mean[0], torch.tensor(0.735358).double(), atol=1e-5)  # 188 of 255
    assert torch.allclose(mean[1], torch.tensor(0.1).double())
    light = (0.5 * reference.linear(torch.tensor(0.6)) + reference.linear(torch.tensor(0.3))) / 1.5
    assert torch.allclose(mean[2], 0.75 * reference.srgb(light).double(), atol=1e-6)
    assert not mean[3].any()
    values = torch.linspace(0, 1, 200).double()
    assert torch.allclose(reference.srgb(reference.linear(values)), values, atol=1e-6)
    assert torch.equal(reference.mean_of_rays(rgb[:, :1], opacity[:, :1])[0], rgb[:, 0])
