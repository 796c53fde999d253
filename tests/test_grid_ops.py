"""The kernels of the hash-grid method against their twins, the truth being the twin in float64.

On a CPU the kernels run in Triton's interpreter, on a GPU natively.
"""

from itertools import pairwise

import pytest
import torch
from torch.autograd import gradcheck

from nerf_pl.cameras import Cameras
from nerf_pl.data import PixelBatches
from nerf_pl.ops import FieldLayout, GridLayout, pack_bits, reference
from nerf_pl.scenes import Scene
from nerf_pl.types import Samples

pytest.importorskip("triton")

from nerf_pl.ops import field_kernels, grid_kernels, march_kernels, step_kernels

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NATIVE = DEVICE.type == "cuda"
SMALL = GridLayout(levels=3, features=4, log2_size=9, base=4, finest=30)


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


# ---- hash grid -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 64, 129, 512])
@pytest.mark.parametrize("layout", [SMALL, GridLayout(4, 2, 10, 8, 8), GridLayout(2, 8, 8, 3, 100)])
def test_hash_grid(n, layout):
    xyz = uniform(n, 3)
    xyz[: n // 16] = xyz[: n // 16].mul(4).round().div(4)  # vertices and faces, the cube's own too
    table = uniform(layout.total, layout.features, seed=1) - 0.5
    weight = uniform(n, layout.width, seed=2)
    truth_table = table.double().requires_grad_()
    truth = reference.hash_grid(xyz, truth_table, layout)
    (truth * weight).sum().backward()
    table.requires_grad_()
    features = grid_kernels.hash_grid(xyz, table, table.detach(), layout, None)
    assert torch.allclose(features.double(), truth, atol=1e-5)
    (features * weight).sum().backward()
    assert torch.allclose(table.grad.double(), truth_table.grad, atol=1e-5)


def test_hash_grid_reads_the_copy_and_stops_at_the_count():
    xyz, table = uniform(200, 3), uniform(SMALL.total, 4).requires_grad_()
    half, count = table.detach().half(), torch.tensor([130], device=DEVICE)
    features = grid_kernels.hash_grid(xyz, table, half, SMALL, count)
    assert features.dtype == torch.float16
    truth = reference.hash_grid(xyz.double(), half.double(), SMALL)
    assert torch.allclose(features[:130].double(), truth[:130], atol=1e-3)
    features.backward(torch.full_like(features, torch.nan).index_fill(0, torch.arange(130, device=DEVICE), 1.0))
    truth_table = half.double().requires_grad_()
    reference.hash_grid(xyz[:130], truth_table, SMALL).sum().backward()
    assert torch.allclose(table.grad.double(), truth_table.grad, atol=1e-4)


def test_a_linear_function_is_interpolated_exactly():
    layout = GridLayout(levels=2, features=2, log2_size=12, base=5, finest=9)
    table = torch.zeros(layout.total, 2, dtype=torch.float64)
    for level, n in enumerate(r + 1 for r in layout.resolutions):
        entry = torch.arange(n**3)
        x, y, z = entry % n / (n - 1), entry // n % n / (n - 1), entry // n**2 / (n - 1)
        at = layout.offsets[level]
        table[at : at + n**3] = torch.stack([x + 2 * y - z, x - 3 * z], 1).double()
    xyz = torch.rand(100, 3, dtype=torch.float64)
    x, y, z = xyz.unbind(-1)
    expected = torch.stack([x + 2 * y - z, x - 3 * z] * 2, 1)
    assert torch.allclose(reference.hash_grid(xyz, table, layout), expected, atol=1e-6)


def test_grid_layout():
    layout = GridLayout(levels=16, features=2, log2_size=19, base=16, finest=2048)
    assert layout.resolutions[0] == 16
    assert layout.resolutions[-1] == 2048
    ratios = [b / a for a, b in pairwise(layout.resolutions)]
    assert max(ratios) < 1.46
    assert min(ratios) > 1.32
    assert all(size % 8 == 0 and size <= 2**19 for size in layout.sizes)
    assert [layout.is_dense(level) for level in (0, 4, 5, 15)] == [True, True, False, False]
    assert layout.total == sum(layout.sizes) == layout.offsets[-1] + layout.sizes[-1]


def test_twin_gradient():
    layout = GridLayout(levels=2, features=2, log2_size=6, base=2, finest=5)
    table = torch.rand(layout.total, 2, dtype=torch.float64, requires_grad=True)
    xyz = torch.rand(7, 3, dtype=torch.float64)
    assert gradcheck(lambda t: reference.hash_grid(xyz, t, layout), (table,))


# ---- networks --------------------------------------------------------------------------------------------------------

NETWORKS = [FieldLayout(32, 64, 16, 16, 64), FieldLayout(24, 16, 16, 16, 32), FieldLayout(12, 32, 32, 16, 16)]


def field_inputs(layout: FieldLayout, n: int) -> list[torch.Tensor]:
    features, view = uniform(n, layout.inputs) - 0.5, uniform(9, layout.view, seed=1) - 0.5
    ray_ids = (uniform(n, seed=2) * 9).int()
    weights = [
        (uniform(*s, seed=3 + i) - 0.5) * 4 / s[-1] ** 0.5 for i, s in enumerate(layout.shapes.values())
    ]
    return [features, view, ray_ids, torch.cat([w.flatten() for w in weights])]


@pytest.mark.parametrize("n", [1, 128, 300])
@pytest.mark.parametrize("layout", NETWORKS)
def test_field(n, layout):
    features, view, ray_ids, params = field_inputs(layout, n)
    half = torch.float16 if NATIVE else torch.float32  # the interpreter has no bfloat16 product
    features, view = features.to(half), view.to(half)
    d_sigma, d_rgb = uniform(n, seed=8) - 0.5, uniform(n, 3, seed=9) - 0.5
    truth_in = [features.double().requires_grad_(), params.double().requires_grad_()]
    sigma_0, rgb_0 = reference.field(truth_in[0], view.double(), ray_ids.long(), truth_in[1], layout)
    ((sigma_0 * d_sigma).sum() + (rgb_0 * d_rgb).sum()).backward()
    features.requires_grad_()
    params.requires_grad_()
    sigma, rgb = field_kernels.field(features, view, ray_ids, params, layout, None)
    close = {"rtol": 2e-2, "atol": 4e-3} if NATIVE else {"rtol": 1e-4, "atol": 1e-5}
    assert torch.allclose(sigma.double(), sigma_0, **close)
    assert torch.allclose(rgb.double(), rgb_0, **close)
    ((sigma * d_sigma).sum() + (rgb * d_rgb).sum()).backward()
    for own, truth in zip((features.grad, params.grad), (t.grad for t in truth_in), strict=True):
        error = (own.double() - truth).norm() / truth.norm()
        assert error < (2e-2 if NATIVE else 1e-5)
    density, nothing = field_kernels.field(features.detach(), None, None, params.detach(), layout, None)
    assert nothing is None
    assert torch.equal(density, sigma.detach())


def test_field_stops_at_the_count():
    layout = NETWORKS[0]
    features, view, ray_ids, params = field_inputs(layout, 400)
    half = torch.float16 if NATIVE else torch.float32
    whole = features[:250].to(half).requires_grad_(), params.clone().requires_grad_()
    part = features.to(half).requires_grad_(), params.clone().requires_grad_()
    grads = uniform(400), uniform(400, 3)
    grads[0][250:], grads[1][250:] = torch.nan, torch.nan
    count = torch.tensor([250], device=DEVICE)
    for (x, p), number, n in ((whole, None, 250), (part, count, 400)):
        outputs = field_kernels.field(x, view, ray_ids[:n], p, layout, number)
        torch.autograd.backward(outputs, [g[:n] for g in grads])
    assert torch.equal(whole[0].grad, part[0].grad[:250])
    assert torch.allclose(whole[1].grad, part[1].grad, rtol=1e-4, atol=1e-5)


def test_density_is_bounded():
    layout = NETWORKS[1]
    features, _, _, params = field_inputs(layout, 10)
    sigma, _ = reference.field(features * 1e4, None, None, params, layout)
    assert sigma.isfinite().all()
    assert sigma.max() <= torch.tensor(reference.MAX_RAW).exp() * 1.0001


# ---- directions ------------------------------------------------------------------------------------------------------


def test_spherical_harmonics():
    dirs = torch.nn.functional.normalize(uniform(300, 3) - 0.5, dim=1)
    assert torch.allclose(step_kernels.spherical_harmonics(dirs), reference.spherical_harmonics(dirs), atol=1e-5)


def test_spherical_harmonics_are_orthonormal():
    n = 200
    z = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 2 - 1
    phi = (torch.arange(2 * n, dtype=torch.float64) + 0.5) / (2 * n) * 2 * torch.pi
    z, phi = torch.meshgrid(z, phi, indexing="ij")
    r = (1 - z * z).sqrt()
    y = reference.spherical_harmonics(torch.stack([r * phi.cos(), r * phi.sin(), z], -1).view(-1, 3))
    gram = y.T @ y * 4 * torch.pi / len(y)
    assert torch.allclose(gram, torch.eye(16, dtype=torch.float64), atol=1e-3)


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
    t, ray_ids, offsets, xyz = march_kernels.march(origins, directions, near, far, bits, BOX, jitter, 0.011, 32)
    double = [value.double() for value in (origins, directions, near, far)]
    t0, ids0, offsets0, xyz0 = reference.march(*double, bits, BOX.double(), jitter.double(), 0.011, 32)
    # a step on the border of a cell may fall to either side, and hardly any does
    own = set(zip(ray_ids.tolist(), ((t - 0.3) / 0.011 * 4).round().long().tolist(), strict=True))
    truth = set(zip(ids0.tolist(), ((t0 - 0.3) / 0.011 * 4).round().long().tolist(), strict=True))
    assert len(own ^ truth) <= 0.01 * len(truth)
    if share in (0.0, 1.0):
        assert abs(len(t) - len(t0)) <= 2
    assert offsets[-1] == len(t)
    assert torch.equal(torch.bincount(ray_ids.long(), minlength=70), offsets.diff().long())
    assert torch.allclose(xyz, origins[ray_ids.long()] + t[:, None] * directions[ray_ids.long()], atol=1e-5)


def test_march_of_nothing():
    empty = torch.zeros(0, device=DEVICE)
    given = empty.view(0, 3), empty.view(0, 3), empty, empty, occupied(32, 1.0), BOX, empty, 0.1, 32
    for of in (march_kernels.march, reference.march):
        t, ids, offsets, xyz = of(*given)
        assert len(t) == len(ids) == len(xyz) == 0
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


@pytest.mark.parametrize("of", [march_kernels.march, None])
def test_budget(of, monkeypatch):
    from nerf_pl import ops

    if of is None:
        monkeypatch.setenv("NERF_PL_OPS", "reference")
        of = ops.march
    origins, directions, near, far = rays(500)
    given = origins, directions, near, far, occupied(32, 0.5), BOX, uniform(500, seed=5), 0.02, 32
    counts = reference.march(*given)[2].diff()
    active, kept = (torch.tensor([value], dtype=torch.int32, device=DEVICE) for value in (200, 0))
    budget = int(counts[:150].sum()) + 1  # room for 150 of the 200 rays that are asked for
    _, ids, offsets, _ = of(*given, budget, active, kept)
    n = int(offsets[-1])
    assert 148 <= int(kept) <= 152
    assert n <= budget
    assert offsets.shape == (501,)
    assert (offsets[int(kept) :] == n).all()
    assert abs(int(active) - int(200 * 0.98 * budget / int(counts[:200].sum()))) <= 2
    assert int(ids[:n].max()) < int(kept)
    for _ in range(5):  # and with the number that it set the next batch fits
        before = int(active)
        of(*given, budget, active, kept)
    assert int(kept) == before
    assert int(offsets[int(kept)]) > 0.9 * budget


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
    results = []
    for of, number in ((step_kernels.photometric, torch.float32), (reference.photometric, torch.float64)):
        samples = Samples(t.to(number), dt.to(number), ray_ids, offsets)
        given = sigma.detach().to(number).requires_grad_(), rgb.detach().to(number).requires_grad_()
        loss = of(*given, samples, background.to(number), target.to(number), kept)
        loss.backward()
        last = int(offsets[int(kept)])
        results.append([loss.double(), given[0].grad[:last].double(), given[1].grad[:last].double()])
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
        reference.adam(own, p.grad, m.detach(), v.detach(), torch.tensor(1.0), 0.02, 0.3, (0.9, 0.99), step, 1e-15, False)
    # PyTorch decays before the step and we after the moments: the same up to lr^2
    assert torch.allclose(own, p.detach(), atol=1e-3)
