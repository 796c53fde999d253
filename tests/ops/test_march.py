"""Marching through an occupancy grid: the kernel against its twin, the twin against a walk and against integrals.

On a CPU the kernels run in Triton's interpreter, on a GPU natively.
"""

import math
from dataclasses import replace

import pytest
import torch

from nerf_pl.ops import (
    Backend,
    Budget,
    FieldLayout,
    GridLayout,
    HashWeights,
    Light,
    Stride,
    contract,
    hash_density,
    march,
)
from nerf_pl.ops.march.reference import clip
from nerf_pl.types import Rays

pytest.importorskip("triton")

import inputs
from inputs import BOTH, BOX, CUBE, DEVICE, FUSED, HALF, TWINS, integer, occupied, outward, through_the_box, uniform

STRIDE = Stride(0.021, 32, 2.0)
OPEN = Stride(0.1, 32, 4.0, linear=3.0)


def cell_of(xyz: torch.Tensor, aabb: torch.Tensor, size: int) -> torch.Tensor:
    """Number (N,) of the cell of a grid of size^3 over the box, x fastest."""
    cell = ((xyz - aabb[0]) * (size / (aabb[1] - aabb[0]))).floor().clamp(0, size - 1).long()
    return cell[:, 0] + size * (cell[:, 1] + size * cell[:, 2])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("fused", FUSED)
def test_march(fused, share):
    n = 25
    rays, jitter, bits = through_the_box(n), uniform(n, seed=5), occupied(32, share)
    (t, dt, ray_ids, offsets), unit, cells = parts(march(rays, bits, BOX, jitter, STRIDE, backend=FUSED[fused]))
    (t0, _, ids0, _), *_ = parts(
        march(inputs.in_double(rays), bits, BOX.double(), jitter.double(), STRIDE, backend=TWINS)
    )
    # a step on the border of a cell may fall to either side, and hardly any does
    own = set(zip(ray_ids.tolist(), ((t - 0.3) / STRIDE.step * 4).round().long().tolist(), strict=True))
    truth = set(zip(ids0.tolist(), ((t0 - 0.3) / STRIDE.step * 4).round().long().tolist(), strict=True))
    assert len(own ^ truth) <= 0.01 * len(truth)
    if share in (0.0, 1.0):
        assert abs(len(t) - len(t0)) <= 2
    assert offsets[-1] == len(t)
    assert torch.equal(torch.bincount(ray_ids.long(), minlength=n), offsets.diff().long())
    xyz = rays.origins[ray_ids.long()] + t[:, None] * rays.directions[ray_ids.long()]
    away = (cell_of(xyz, BOX, 32) != cells).float().mean() if len(t) else 0
    assert away <= 0.01
    assert torch.allclose(unit, (xyz - BOX[0]) / 2, atol=1e-5)
    assert torch.allclose(dt, torch.full_like(dt, STRIDE.step / 2))


def parts(found):
    """t, dt, ray_ids and offsets; points; cells."""
    samples, unit, cells, _ = found
    return (samples.t, samples.dt, samples.ray_ids, samples.offsets), unit, cells


@pytest.mark.parametrize("kind", BOTH)
def test_march_of_nothing(kind):
    empty = torch.zeros(0, device=DEVICE)
    rays = Rays(*(empty.view(0, 3),) * 3, empty, empty)
    samples, unit, cells, _ = march(rays, occupied(32, 1.0), BOX, empty, STRIDE, backend=BOTH[kind])
    assert len(samples) == len(unit) == len(cells) == 0
    assert samples.offsets.tolist() == [0]


def test_march_steps_through_occupied_cells_only():
    """Against a walk over the same steps, one at a time."""
    size, step = 32, 0.02
    bits = occupied(size, 0.4)
    flags = (bits[:, None] >> torch.arange(32, device=DEVICE) & 1).bool().flatten()
    rays, jitter = through_the_box(8), uniform(8, seed=5)
    samples = march(rays, bits, BOX, jitter, Stride(step, size, 2.0), backend=TWINS).samples
    start, end = clip(rays, BOX)
    for r in range(8):
        expected, k = [], 0
        while (at := float(start[r] + (k + jitter[r]) * step)) < float(end[r]):
            point = rays.origins[r] + at * rays.directions[r]
            if flags[cell_of(point[None], BOX, size)]:
                expected.append(at)
            k += 1
        assert samples.t[samples.ray_ids == r].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", BOTH)
def test_budget(kind):
    n, marching, fit = 110, 90, 70
    rays, bits, jitter, stride = through_the_box(n), occupied(32, 0.5), uniform(n, seed=5), Stride(0.06, 32, 2.0)
    counts = march(rays, bits, BOX, jitter, stride, backend=TWINS).samples.offsets.diff()
    active, kept = integer(marching), integer(0)
    size = int(counts[:fit].sum()) + 1  # room for fewer rays than are asked for
    budget = Budget(size, active, kept, bits)
    samples, *_ = march(rays, bits, BOX, jitter, stride, budget, backend=BOTH[kind])
    total = int(samples.offsets[-1])
    assert fit - 2 <= int(kept) <= fit + 2
    assert total <= size
    assert samples.offsets.shape == (n + 1,)
    assert (samples.offsets[int(kept) :] == total).all()
    assert abs(int(active) - int(marching * 0.98 * size / int(counts[:marching].sum()))) <= 2
    assert int(samples.ray_ids[:total].max()) < int(kept)
    for _ in range(2):  # and with the number that it set the next batch fits
        before = int(active)
        samples, *_ = march(rays, bits, BOX, jitter, stride, budget, backend=BOTH[kind])
    assert int(kept) == before
    assert int(samples.offsets[int(kept)]) > 0.9 * size


def weights_of(grid: GridLayout) -> HashWeights:
    """Of a field with much and little density."""
    layout = FieldLayout(grid.width, 32, 16, 16, 16)
    table, params = 4 * uniform(grid.total, grid.features, seed=7) - 2, uniform(layout.total, seed=8) - 0.5
    return HashWeights(table, params, grid, layout, table.to(HALF))


@pytest.mark.parametrize(("unbounded", "grid"), [(False, GridLayout(1, 8, 9, 4, 4)), (True, inputs.SMALL)])
@pytest.mark.parametrize("fused", FUSED)
def test_rays_end_where_their_light_does(fused, unbounded, grid):
    """Explorers among them, rays that do not march, and cells that light did not reach of late."""
    n, active, bits, visible, weights = 34, 33, occupied(32, 0.6), occupied(32, 0.5), weights_of(grid)
    rays, box, stride = (outward(n), CUBE, OPEN) if unbounded else (through_the_box(n), BOX, STRIDE)
    stride = replace(stride, step=(60 if unbounded else 14) * stride.step)  # in the interpreter each takes long
    given, sizes = (rays, bits, box, uniform(n, seed=5), stride), []

    def budget() -> Budget:
        return Budget(10**4, integer(active), integer(0), visible & bits, detail=2)

    for least in (0.75, 1e-30):
        light, samples = Light(weights, least), []
        for kind in (FUSED[fused], TWINS):
            samples.append(march(*given, budget(), light, backend=kind))
        found, truth = samples
        own, true = found.samples.offsets.diff(), truth.samples.offsets.diff()
        same = own == true
        assert same.sum() >= n - 1  # by rounding, a ray may end a sample sooner or later
        assert found.ended is not None
        assert truth.ended is not None
        assert (found.ended == truth.ended).sum() >= n - 1
        assert truth.ended.any() == (least == 0.75)
        where, theirs = (same[part.samples.ray_ids[: part.samples.offsets[-1]].long()] for part in samples)
        assert torch.allclose(found.unit[: len(where)][where], truth.unit[theirs], atol=1e-4)
        sizes.append(int(truth.samples.offsets[-1]))
    assert 0 < sizes[0] < sizes[1]
    assert sizes[1] == int(march(*given, budget(), backend=TWINS).samples.offsets[-1])


@pytest.mark.parametrize("lost", ["table", "entries", "density_0", "density_1"])
@pytest.mark.parametrize("fused", FUSED)
def test_a_density_that_is_no_number_ends_no_ray(fused, lost):
    """If few entries are lost, rays meet densities that are known, too. The interpreter's `maximum` keeps NaN, and a
    GPU's does not: so what the kernel does at its rectifier only a native run can tell."""
    n, bits, weights = 12, occupied(32, 0.6), weights_of(GridLayout(1, 8, 9, 4, 4))
    if lost == "table":
        weights.table.fill_(math.nan)
    elif lost == "entries":
        weights.table[::25] = math.nan
    else:
        weights.networks.parts(weights.params)[lost].view(-1)[3::7] = math.nan
    weights = replace(weights, values=weights.table.to(HALF))
    given = through_the_box(n), bits, BOX, uniform(n, seed=5), replace(STRIDE, step=10 * STRIDE.step)

    def counts(light: Light | None, backend: Backend) -> torch.Tensor:
        budget = Budget(10**4, integer(n), integer(0), bits)
        return march(*given, budget, light, backend=backend).samples.offsets.diff().long().cpu()

    light, whole = Light(weights, 0.9), counts(None, TWINS)
    found, truth = counts(light, FUSED[fused]), counts(light, TWINS)
    assert (found == truth).sum() >= n - 1  # by rounding, a ray may end a sample sooner or later
    if lost == "entries":
        assert n < truth.sum() < whole.sum()
    else:
        assert torch.equal(truth, whole)


def test_light_reaches_what_is_kept_and_nothing_else():
    """The twin against the light of each ray, summed up one sample at a time."""
    n, bits, weights = 12, occupied(32, 0.5), weights_of(inputs.SMALL)
    given = through_the_box(n), bits, BOX, uniform(n, seed=5), STRIDE
    budget = Budget(10**4, integer(n), integer(0), bits)
    kept = march(*given, budget, Light(weights, 0.5), backend=TWINS).samples.offsets.diff().tolist()
    samples, unit, *_ = march(*given, backend=TWINS)
    sigma = hash_density(unit, weights, backend=TWINS)
    for ray in range(n):
        light, expected = 1.0, 0
        for i in range(int(samples.offsets[ray]), int(samples.offsets[ray + 1])):
            expected += light > 0.5
            light *= math.exp(-float(sigma[i] * samples.dt[i]))
        assert kept[ray] == expected
    with pytest.raises(ValueError, match="budget"):
        march(*given, light=Light(weights, 0.5), backend=TWINS)


@pytest.mark.parametrize("detail", [2, 4])
@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("unbounded", [False, True])
def test_parts_of_cells(kind, detail, unbounded):
    """Their numbers, put back to places, are where the samples are; rays that end at the box's corner among them."""
    n, size, bits = 5, 32, occupied(32, 0.5)
    rays, box, stride = (outward(n), CUBE, OPEN) if unbounded else (through_the_box(n), BOX, STRIDE)
    given = rays, bits, box, uniform(n, seed=5), stride
    samples, unit, fine, _ = march(*given, Budget(10**4, integer(n), integer(n), bits, detail), backend=BOTH[kind])
    number = int(samples.offsets[-1])
    assert number > 50
    fine, unit = fine[:number].long(), unit[:number]
    cells, part = fine // detail**3, fine % detail**3
    corner = torch.stack([cells % size, cells // size % size, cells // size**2], 1)
    inner = torch.stack([part % detail, part // detail % detail, part // detail**2], 1)
    place = corner * detail + inner
    assert 0 <= int(place.min()) <= int(place.max()) < size * detail
    sides = 1 if unbounded else (BOX[1] - BOX[0]) / 2  # of the unit cube, which the longest fills
    away = unit / sides * size * detail - place
    within = ((away > -1e-3) & (away < 1 + 1e-3)).all(1)
    assert within.float().mean() > 0.999
    plain = march(*given, Budget(10**4, integer(n), integer(n), bits), backend=BOTH[kind])
    assert torch.equal(plain.cells[:number].long(), cells)


@pytest.mark.parametrize("kind", BOTH)
def test_explorers_alone_go_where_nobody_saw(kind):
    n, bits = 40, occupied(32, 1.0)
    budget = Budget(10**4, integer(n), integer(n), torch.zeros_like(bits))
    rays, stride = through_the_box(n), Stride(0.1, 32, 2.0)
    samples, *_ = march(rays, bits, BOX, uniform(n, seed=5), stride, budget, backend=BOTH[kind])
    assert set(samples.ray_ids[: int(samples.offsets[-1])].tolist()) == {0, 32}


# ---- space without end -----------------------------------------------------------------------------------------------


def test_contract():
    points = inputs.normal(2000, 3) * 3 + CUBE.mean(0)
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
@pytest.mark.parametrize("fused", FUSED)
def test_march_without_end(fused, share):
    n = 10
    rays, jitter, bits = outward(n), uniform(n, seed=5), occupied(32, share)
    (t, dt, ids, offsets), unit, cells = parts(march(rays, bits, CUBE, jitter, OPEN, backend=FUSED[fused]))
    (t0, _, ids0, _), *_ = parts(
        march(inputs.in_double(rays), bits, CUBE.double(), jitter.double(), OPEN, backend=TWINS)
    )
    assert torch.equal(torch.bincount(ids.long(), minlength=n), offsets.diff().long())
    assert abs(len(t) - len(t0)) <= 0.01 * len(t0)
    assert float(t.max()) > 400
    xyz = rays.origins[ids.long()] + t[:, None] * rays.directions[ids.long()]
    expected, shrunk = contract(xyz, CUBE)
    assert torch.allclose(unit, expected, atol=1e-5)
    assert torch.allclose(dt, OPEN.step / 4 * (t / 3).clamp(min=1) / shrunk, rtol=1e-4)
    grid = torch.tensor([[0.0] * 3, [1.0] * 3], device=DEVICE)
    assert (cell_of(unit, grid, 32) != cells).float().mean() <= 0.01
    if share == 1.0:
        for ray in (0, 7):
            own, truth = t[ids == ray], t0[ids0 == ray].float()
            most = min(len(own), len(truth))
            assert torch.allclose(own[:most], truth[:most], rtol=1e-3)


def test_steps_without_end_leave_nothing_out():
    """The lengths of the steps add up to the way."""
    rays, box, stride = inputs.in_double(outward(40)), CUBE.double(), Stride(0.002, 32, 4.0, linear=3.0)
    samples = march(rays, occupied(32, 1.0), box, torch.full_like(rays.near, 0.5), stride, backend=TWINS).samples
    t, dt, ids = samples.t, samples.dt, samples.ray_ids
    _, shrunk = contract(rays.origins[ids] + t[:, None] * rays.directions[ids], box)
    length = torch.zeros(40, dtype=torch.float64, device=DEVICE).index_add_(0, ids, dt * shrunk * 4)
    assert torch.allclose(length, rays.far - rays.near, rtol=2e-3)
    for ray in range(3):  # each step ends where the next begins
        own = t[ids == ray]
        world = (dt * shrunk * 4)[ids == ray]
        assert torch.allclose(own[:-1] + world[:-1] / 2, own[1:] - world[1:] / 2, rtol=1e-4)
        assert float(world[-1] / own[-1]) == pytest.approx(0.002 / 3, rel=1e-6)
    assert math.isclose(float(t.min()), 0.301, abs_tol=1e-3)


def test_places_on_a_ray():
    """A step moves the place by as much everywhere."""
    rays, jitter = outward(1), torch.full((1,), 0.5, device=DEVICE)
    t = march(rays, occupied(32, 1.0), CUBE, jitter, OPEN, backend=TWINS).samples.t
    assert torch.allclose(OPEN.place(t).diff(), torch.full_like(t[1:], OPEN.step / 4), rtol=1e-2)
    assert torch.equal(STRIDE.place(t), t / 2)
