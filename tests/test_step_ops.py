"""The kernels around the hash-grid field against their twins: marching, pixels, the loss, the optimizer.

On a CPU the kernels run in Triton's interpreter, on a GPU natively.
"""

import pytest
import torch

from nerf_pl.cameras import Cameras
from nerf_pl.data import PixelBatches
from nerf_pl.ops import Batch, Target, pack_bits
from nerf_pl.ops import grid_reference as reference
from nerf_pl.scenes import Scene
from nerf_pl.types import Samples

pytest.importorskip("triton")

from nerf_pl.ops import march_kernels, step_kernels

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


# ---- marching --------------------------------------------------------------------------------------------------------


def rays(n: int) -> tuple[torch.Tensor, ...]:
    directions = torch.nn.functional.normalize(uniform(n, 3, seed=1) - 0.5, dim=1)
    aim = uniform(n, 3, seed=2) * torch.tensor([2.4, 1.2, 1.2], device=DEVICE) - torch.tensor(
        [1.2, 0.6, 0.6], device=DEVICE
    )
    near, far = torch.full((n,), 0.3, device=DEVICE), torch.full((n,), 6.0, device=DEVICE)
    return aim - 3 * directions, directions, near, far


def occupied(size: int, share: float) -> torch.Tensor:
    return pack_bits(uniform(size**3, seed=3) < share)


BOX = torch.tensor([[-1.0, -0.5, -0.5], [1.0, 0.5, 0.6]], device=DEVICE)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_march(share):
    origins, directions, near, far = rays(70)
    jitter, bits = uniform(70, seed=5), occupied(32, share)
    t, ray_ids, offsets, xyz, cells = march_kernels.march(
        origins, directions, near, far, bits, BOX, jitter, 0.011, 32, None
    )
    double = [value.double() for value in (origins, directions, near, far)]
    t0, ids0, *_ = reference.march(*double, bits, BOX.double(), jitter.double(), 0.011, 32)
    # a step on the border of a cell may fall to either side, and hardly any does
    own = set(zip(ray_ids.tolist(), ((t - 0.3) / 0.011 * 4).round().long().tolist(), strict=True))
    truth = set(zip(ids0.tolist(), ((t0 - 0.3) / 0.011 * 4).round().long().tolist(), strict=True))
    assert len(own ^ truth) <= 0.01 * len(truth)
    if share in (0.0, 1.0):
        assert abs(len(t) - len(t0)) <= 2
    assert offsets[-1] == len(t)
    assert torch.equal(torch.bincount(ray_ids.long(), minlength=70), offsets.diff().long())
    away = (reference.cell_of(xyz, BOX, 32) != cells).float().mean() if len(t) else 0
    assert away <= 0.01
    assert torch.allclose(xyz, origins[ray_ids.long()] + t[:, None] * directions[ray_ids.long()], atol=1e-5)


def test_march_of_nothing():
    empty = torch.zeros(0, device=DEVICE)
    given = empty.view(0, 3), empty.view(0, 3), empty, empty, occupied(32, 1.0), BOX, empty, 0.1, 32, None
    for of in (march_kernels.march, reference.march):
        t, ids, offsets, xyz, cells = of(*given)
        assert len(t) == len(ids) == len(xyz) == len(cells) == 0
        assert offsets.tolist() == [0]


def test_march_steps_through_occupied_cells_only():
    """Against a walk over the same steps, one at a time."""
    size, step = 32, 0.02
    bits = occupied(size, 0.4)
    flags = (bits[:, None] >> torch.arange(32, device=DEVICE) & 1).bool().flatten()
    origins, directions, near, far = (value[:8] for value in rays(70))
    jitter = uniform(8, seed=5)
    t, ids, *_ = reference.march(origins, directions, near, far, bits, BOX, jitter, step, size)
    for r in range(8):
        start, end = reference.clip(origins, directions, near, far, BOX)
        expected, k = [], 0
        while (at := float(start[r] + (k + jitter[r]) * step)) < float(end[r]):
            point = origins[r] + at * directions[r]
            cell = ((point - BOX[0]) / (BOX[1] - BOX[0]) * size).floor().clamp(0, size - 1).long().tolist()
            if flags[cell[0] + size * (cell[1] + size * cell[2])]:
                expected.append(at)
            k += 1
        assert t[ids == r].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("of", [march_kernels.march, reference.march])
def test_batch(of):
    origins, directions, near, far = rays(500)
    given = origins, directions, near, far, occupied(32, 0.5), BOX, uniform(500, seed=5), 0.02, 32
    counts = reference.march(*given)[2].diff()
    active, kept = (torch.tensor([value], dtype=torch.int32, device=DEVICE) for value in (200, 0))
    budget = int(counts[:150].sum()) + 1  # room for 150 of the 200 rays that are asked for
    batch = Batch(budget, active, kept, given[4])
    _, ids, offsets, *_ = of(*given, batch)
    n = int(offsets[-1])
    assert 148 <= int(kept) <= 152
    assert n <= budget
    assert offsets.shape == (501,)
    assert (offsets[int(kept) :] == n).all()
    assert abs(int(active) - int(200 * 0.98 * budget / int(counts[:200].sum()))) <= 2
    assert int(ids[:n].max()) < int(kept)
    for _ in range(5):  # and with the number that it set the next batch fits
        before = int(active)
        of(*given, batch)
    assert int(kept) == before
    assert int(offsets[int(kept)]) > 0.9 * budget


@pytest.mark.parametrize("of", [march_kernels.march, reference.march])
def test_explorers_alone_go_where_nobody_saw(of):
    active, kept = (torch.tensor([100], dtype=torch.int32, device=DEVICE) for _ in range(2))
    batch = Batch(10**5, active, kept, torch.zeros_like(occupied(32, 1.0)))
    _, ids, offsets, *_ = of(*rays(100), occupied(32, 1.0), BOX, uniform(100, seed=5), 0.02, 32, batch)
    assert set(ids[: int(offsets[-1])].tolist()) == {0, 32, 64, 96}


# ---- a training step -------------------------------------------------------------------------------------------------


def scene(channels: int) -> Scene:
    images = (uniform(3, 10, 14, channels) * 256).to(torch.uint8)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(1)))
    c2w = torch.cat([turn, torch.tensor([[1.0], [-2.0], [3.0]]).expand(3, 3, 1)], 2)
    K = torch.tensor([[20.0, 0, 7.5], [0, 21.0, 4.5], [0, 0, 1]]) * torch.tensor([1, 2, 3.0])[:, None, None]
    return Scene(Cameras(c2w, K, 14, 10), images.cpu(), 2.0, 6.0, torch.tensor([[-1.0] * 3, [1.0] * 3]))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("step", [0, 1, 30])
@pytest.mark.parametrize("random_background", [False, True])
def test_draw_pixels(channels, step, random_background, monkeypatch):
    batches = PixelBatches(scene(channels), 200, seed=7, precrop_steps=10, random_background=random_background)
    at = torch.tensor([step], device=DEVICE)
    batches.to(DEVICE)
    monkeypatch.setenv("NERF_PL_OPS", "reference")
    truth, rgb_0, behind_0 = batches(at)
    monkeypatch.setenv("NERF_PL_OPS", "kernel")
    drawn, rgb, behind = batches(at)
    assert torch.equal(behind, behind_0)
    assert torch.allclose(rgb, rgb_0, atol=1e-6)
    assert torch.allclose(drawn.origins, truth.origins)
    assert torch.allclose(drawn.directions, truth.directions, atol=1e-5)
    assert torch.allclose(drawn.near, truth.near)


@pytest.mark.parametrize("counts", [[0], [1], [0, 1, 31, 32, 33, 0, 100, 5], [300] * 3])
def test_photometric(counts):
    n, n_rays = sum(counts), len(counts)
    offsets = torch.tensor([0, *counts], device=DEVICE).cumsum(0)
    ray_ids = torch.repeat_interleave(torch.arange(n_rays, device=DEVICE), offsets.diff())
    t, dt = uniform(n), uniform(n, seed=1) * 0.1
    sigma, rgb = uniform(n, seed=2) * 9, uniform(n, 3, seed=3)
    background, target = uniform(n_rays, 3, seed=4), uniform(n_rays, 3, seed=5)
    kept = torch.tensor([max(n_rays - 1, 1)], dtype=torch.int32, device=DEVICE)
    cells = (uniform(n, seed=6) * 40).int()
    step = torch.tensor([7], device=DEVICE)
    results = []
    for number in (torch.float32, torch.float64):
        samples = Samples(t.to(number), dt.to(number), ray_ids, offsets)
        given = sigma.detach().to(number).requires_grad_(), rgb.detach().to(number).requires_grad_()
        seen = torch.zeros(40, dtype=torch.int32, device=DEVICE)
        aim = Target(target.to(number), background.to(number), kept, cells, seen, step, torch.zeros(1, device=DEVICE))
        if number == torch.float32:
            values = [value.detach() for value in given]
            loss, order, count, d_sigma, d_rgb = step_kernels.photometric(*values, samples, aim)
            grads = torch.zeros(n, device=DEVICE), torch.zeros(n, 3, device=DEVICE)
            rows = order[: int(count)].long()
            assert len(set(rows.tolist())) == len(rows)
            grads[0][rows], grads[1][rows] = d_sigma[: len(rows)], d_rgb[: len(rows)]
        else:
            loss = reference.photometric(*given, samples, aim)
            loss.backward()
            grads = [value.grad for value in given]
        last = int(offsets[int(kept)])
        results.append([loss.detach().double(), *(g[:last].double() for g in grads)])
        depths = [x.cumsum(0) - x for x in (sigma * dt).split(counts)]  # in front of each sample
        front = torch.exp(-torch.cat(depths))
        reached = set(cells[(front > reference.SEEN) & (torch.arange(n, device=DEVICE) < last)].tolist())
        assert reached <= set((seen == 7).nonzero().flatten().tolist())
        if last == n:
            assert (seen == 7).sum() == len(reached)
    for own, truth in zip(*results, strict=True):
        assert torch.allclose(own, truth, atol=1e-6, rtol=1e-4)


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
