"""Marching through an occupancy grid: the kernel against its twin, the twin against a walk and against integrals.

On a CPU the kernels run in Triton's interpreter, on a GPU natively.
"""

import math

import pytest
import torch

from nerf_pl.ops import Batch, Stride, contract, pack_bits
from nerf_pl.ops import march_reference as marching

pytest.importorskip("triton")

from nerf_pl.ops import march_kernels

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


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
STRIDE = Stride(0.011, 32, 2.0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_march(share):
    origins, directions, near, far = rays(70)
    jitter, bits = uniform(70, seed=5), occupied(32, share)
    t, dt, ray_ids, offsets, unit, cells = march_kernels.march(
        origins, directions, near, far, bits, BOX, jitter, STRIDE, None
    )
    double = [value.double() for value in (origins, directions, near, far)]
    t0, _, ids0, *_ = marching.march(*double, bits, BOX.double(), jitter.double(), STRIDE)
    # a step on the border of a cell may fall to either side, and hardly any does
    own = set(zip(ray_ids.tolist(), ((t - 0.3) / 0.011 * 4).round().long().tolist(), strict=True))
    truth = set(zip(ids0.tolist(), ((t0 - 0.3) / 0.011 * 4).round().long().tolist(), strict=True))
    assert len(own ^ truth) <= 0.01 * len(truth)
    if share in (0.0, 1.0):
        assert abs(len(t) - len(t0)) <= 2
    assert offsets[-1] == len(t)
    assert torch.equal(torch.bincount(ray_ids.long(), minlength=70), offsets.diff().long())
    xyz = origins[ray_ids.long()] + t[:, None] * directions[ray_ids.long()]
    away = (marching.cell_of(xyz, BOX, 32) != cells).float().mean() if len(t) else 0
    assert away <= 0.01
    assert torch.allclose(unit, (xyz - BOX[0]) / 2, atol=1e-5)
    assert torch.allclose(dt, torch.full_like(dt, 0.011 / 2))


def test_march_of_nothing():
    empty = torch.zeros(0, device=DEVICE)
    given = empty.view(0, 3), empty.view(0, 3), empty, empty, occupied(32, 1.0), BOX, empty, STRIDE, None
    for of in (march_kernels.march, marching.march):
        t, dt, ids, offsets, unit, cells = of(*given)
        assert len(t) == len(dt) == len(ids) == len(unit) == len(cells) == 0
        assert offsets.tolist() == [0]


def test_march_steps_through_occupied_cells_only():
    """Against a walk over the same steps, one at a time."""
    size, step = 32, 0.02
    bits = occupied(size, 0.4)
    flags = (bits[:, None] >> torch.arange(32, device=DEVICE) & 1).bool().flatten()
    origins, directions, near, far = (value[:8] for value in rays(70))
    jitter = uniform(8, seed=5)
    t, _, ids, *_ = marching.march(origins, directions, near, far, bits, BOX, jitter, Stride(step, size, 2.0))
    for r in range(8):
        start, end = marching.clip(origins, directions, near, far, BOX)
        expected, k = [], 0
        while (at := float(start[r] + (k + jitter[r]) * step)) < float(end[r]):
            point = origins[r] + at * directions[r]
            cell = ((point - BOX[0]) / (BOX[1] - BOX[0]) * size).floor().clamp(0, size - 1).long().tolist()
            if flags[cell[0] + size * (cell[1] + size * cell[2])]:
                expected.append(at)
            k += 1
        assert t[ids == r].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("of", [march_kernels.march, marching.march])
def test_batch(of):
    origins, directions, near, far = rays(500)
    given = origins, directions, near, far, occupied(32, 0.5), BOX, uniform(500, seed=5), Stride(0.02, 32, 2.0)
    counts = marching.march(*given)[3].diff()
    active, kept = (torch.tensor([value], dtype=torch.int32, device=DEVICE) for value in (200, 0))
    budget = int(counts[:150].sum()) + 1  # room for 150 of the 200 rays that are asked for
    batch = Batch(budget, active, kept, given[4])
    _, _, ids, offsets, *_ = of(*given, batch)
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


@pytest.mark.parametrize("detail", [2, 4])
@pytest.mark.parametrize("of", [march_kernels.march, marching.march])
@pytest.mark.parametrize("unbounded", [False, True])
def test_parts_of_cells(of, detail, unbounded):
    """Their numbers, put back to places, are where the samples are; rays that end at the box's corner among them."""
    n, size = 6, 32
    active, kept = (torch.tensor([n], dtype=torch.int32, device=DEVICE) for _ in range(2))
    given = (*outward(n), occupied(size, 0.5), CUBE) if unbounded else (*rays(n), occupied(size, 0.5), BOX)
    stride = OPEN if unbounded else Stride(0.02, size, 2.0)
    batch = Batch(10**5, active, kept, given[4], detail)
    *_, offsets, unit, parts = of(*given, uniform(n, seed=5), stride, batch)
    number = int(offsets[-1])
    assert number > 100
    parts, unit = parts[:number].long(), unit[:number]
    cells, part = parts // detail**3, parts % detail**3
    corner = torch.stack([cells % size, cells // size % size, cells // size**2], 1)
    inner = torch.stack([part % detail, part // detail % detail, part // detail**2], 1)
    fine = corner * detail + inner
    assert 0 <= int(fine.min()) <= int(fine.max()) < size * detail
    sides = 1 if unbounded else (BOX[1] - BOX[0]) / 2  # of the unit cube, which the longest fills
    place = unit / sides * size * detail - fine
    within = ((place > -1e-3) & (place < 1 + 1e-3)).all(1)
    assert within.float().mean() > 0.999
    plain = of(*given, uniform(n, seed=5), stride, Batch(10**5, active, kept, given[4]))
    assert torch.equal(plain[5][:number].long(), cells)


@pytest.mark.parametrize("of", [march_kernels.march, marching.march])
def test_explorers_alone_go_where_nobody_saw(of):
    active, kept = (torch.tensor([100], dtype=torch.int32, device=DEVICE) for _ in range(2))
    batch = Batch(10**5, active, kept, torch.zeros_like(occupied(32, 1.0)))
    given = *rays(100), occupied(32, 1.0), BOX, uniform(100, seed=5), Stride(0.02, 32, 2.0)
    _, _, ids, offsets, *_ = of(*given, batch)
    assert set(ids[: int(offsets[-1])].tolist()) == {0, 32, 64, 96}


# ---- space without end -----------------------------------------------------------------------------------------------

CUBE = torch.tensor([[-1.0, -2.0, 0.0], [3.0, 2.0, 4.0]], device=DEVICE)  # half side 2
OPEN = Stride(0.05, 32, 4.0, linear=3.0)


def outward(n: int) -> tuple[torch.Tensor, ...]:
    """Rays that start in the cube and leave it."""
    directions = torch.nn.functional.normalize(uniform(n, 3, seed=1) - 0.5, dim=1)
    origins = CUBE[0] + uniform(n, 3, seed=2) * 4
    return origins, directions, torch.full((n,), 0.3, device=DEVICE), torch.full((n,), 500.0, device=DEVICE)


def test_contract():
    points = (torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)) * 3).to(DEVICE) + CUBE.mean(0)
    unit, shrunk = contract(points, CUBE)
    p = (points - CUBE.mean(0)) / 2
    inside = p.abs().amax(1) <= 1
    assert 10 < inside.sum() < 1900
    assert torch.allclose(unit[inside], 0.5 + p[inside] / 4, atol=1e-6)
    assert ((unit > 0) & (unit < 1)).all()
    assert (unit[~inside] - 0.5).abs().amax(1).min() >= 0.25
    far, _ = contract(CUBE.mean(0) + 1e6 * torch.eye(3, device=DEVICE), CUBE)
    assert torch.allclose(far, 0.5 + 0.5 * torch.eye(3, device=DEVICE), atol=1e-4)
    assert torch.equal(shrunk[inside], torch.ones_like(shrunk[inside]))
    # lengths across the way from the centre shrink by m / (2 - 1/m), those along it by m^2; between lies m
    double, eps = points[~inside].double(), 1e-6
    middle = CUBE.double().mean(0)
    away = double + eps * (double - middle)
    along = (contract(away, CUBE.double())[0] - contract(double, CUBE.double())[0]).norm(dim=1) * 8
    m = shrunk[~inside].double()
    assert torch.allclose(along * m**2, (away - double).norm(dim=1), rtol=1e-3)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_march_without_end(share):
    origins, directions, near, far = outward(60)
    jitter, bits = uniform(60, seed=5), occupied(32, share)
    t, dt, ids, offsets, unit, cells = march_kernels.march(
        origins, directions, near, far, bits, CUBE, jitter, OPEN, None
    )
    double = [value.double() for value in (origins, directions, near, far)]
    t0, _, ids0, *_ = marching.march(*double, bits, CUBE.double(), jitter.double(), OPEN)
    assert torch.equal(torch.bincount(ids.long(), minlength=60), offsets.diff().long())
    assert abs(len(t) - len(t0)) <= 0.01 * len(t0)
    assert float(t.max()) > 400
    xyz = origins[ids.long()] + t[:, None] * directions[ids.long()]
    expected, shrunk = contract(xyz, CUBE)
    assert torch.allclose(unit, expected, atol=1e-5)
    assert torch.allclose(dt, 0.05 / 4 * (t / 3).clamp(min=1) / shrunk, rtol=1e-4)
    grid = torch.tensor([[0.0] * 3, [1.0] * 3], device=DEVICE)
    assert (marching.cell_of(unit, grid, 32) != cells).float().mean() <= 0.01
    if share == 1.0:
        for ray in (0, 17):
            own, truth = t[ids == ray], t0[ids0 == ray].float()
            n = min(len(own), len(truth))
            assert torch.allclose(own[:n], truth[:n], rtol=1e-3)


def test_steps_without_end_leave_nothing_out():
    """The lengths of the steps add up to the way."""
    origins, directions, near, far = (value.double() for value in outward(40))
    given = origins, directions, near, far, occupied(32, 1.0), CUBE.double(), torch.full_like(near, 0.5)
    t, dt, ids, *_ = marching.march(*given, Stride(0.002, 32, 4.0, linear=3.0))
    _, shrunk = contract(origins[ids] + t[:, None] * directions[ids], CUBE.double())
    length = torch.zeros(40, dtype=torch.float64, device=DEVICE).index_add_(0, ids, dt * shrunk * 4)
    assert torch.allclose(length, far - near, rtol=2e-3)
    for ray in range(3):  # each step ends where the next begins
        own = t[ids == ray]
        world = (dt * shrunk * 4)[ids == ray]
        assert torch.allclose(own[:-1] + world[:-1] / 2, own[1:] - world[1:] / 2, rtol=1e-4)
        assert float(world[-1] / own[-1]) == pytest.approx(0.002 / 3, rel=1e-6)
    assert math.isclose(float(t.min()), 0.301, abs_tol=1e-3)
