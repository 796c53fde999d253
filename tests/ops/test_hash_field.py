"""The kernels of the hash-grid field against their twins, the truth being the twin in float64.

On a CPU the kernels run in Triton's interpreter, on a GPU natively.
"""

from itertools import pairwise

import pytest
import torch
from torch.autograd import gradcheck

from nerf_pl.ops import (
    FieldLayout,
    GridLayout,
    HashWeights,
    Normals,
    hash_density,
    hash_field,
    mirrored_harmonics,
    spherical_harmonics,
)
from nerf_pl.ops.hash_field import losses, reference
from nerf_pl.ops.hash_field.types import Listed

pytest.importorskip("triton")

from inputs import BOTH, DEVICE, FUSED, HALF, KERNELS, NATIVE, SMALL, TWINS, field_inputs, normal, uniform

from nerf_pl.ops.hash_field import triton_grid, triton_networks


def listed(n: int, most: int | None = None, seed: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """A list of samples, all of them or `most` in a random order, and its length."""
    order = torch.arange(n) if seed is None else torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order.int().to(DEVICE), torch.tensor([n if most is None else most], dtype=torch.int32, device=DEVICE)


# ---- hash grid -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 128, 129])
@pytest.mark.parametrize("layout", [SMALL, GridLayout(4, 2, 10, 8, 8), GridLayout(2, 8, 8, 3, 100)])
def test_hash_grid(n, layout):
    xyz = uniform(n, 3)
    xyz[: n // 16] = xyz[: n // 16].mul(4).round().div(4)  # vertices and faces, the cube's own too
    table = uniform(layout.total, layout.features, seed=1) - 0.5
    weight = uniform(n, layout.width, seed=2)
    truth_table = table.double().requires_grad_()
    truth = reference.hash_grid(xyz, truth_table, layout)
    (truth * weight).sum().backward()
    features = triton_grid.encode(xyz, table, layout, None)
    assert torch.allclose(features.double(), truth, atol=1e-5)
    order, count = listed(n)
    d_table = triton_grid.encode_backward(xyz, order, weight, layout, count, table, 0.0)
    assert torch.allclose(d_table.double(), truth_table.grad, atol=1e-5)
    losses.smoothness(reference.vertices(xyz, layout)[0], truth_table, 7.0).backward()
    d_table = triton_grid.encode_backward(xyz, order, weight, layout, count, table, 7.0)
    assert torch.allclose(d_table.double(), truth_table.grad, atol=1e-5)


def test_encoding_stops_at_the_count():
    xyz, half, count = uniform(200, 3), uniform(SMALL.total, 4).half(), torch.tensor([130], device=DEVICE)
    features = triton_grid.encode(xyz, half, SMALL, count)
    assert features.dtype == torch.float16
    truth = reference.hash_grid(xyz[:130].double(), half.double(), SMALL)
    assert torch.allclose(features[:130].double(), truth, atol=1e-3)


def test_the_gradient_of_listed_points():
    xyz, table = uniform(200, 3), uniform(SMALL.total, 4).double().requires_grad_()
    order, count = listed(200, 70, seed=0)
    reference.hash_grid(xyz[order[:70].long()].double(), table, SMALL).sum().backward()
    grad = torch.full((200, SMALL.width), torch.nan, device=DEVICE)
    grad[:70] = 1
    d_table = triton_grid.encode_backward(xyz, order, grad, SMALL, count, table.detach().float(), 0.0)
    assert torch.allclose(d_table.double(), table.grad, atol=1e-4)


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


@pytest.mark.parametrize("n", [1, 129])
@pytest.mark.parametrize("layout", NETWORKS)
def test_field(n, layout):
    features, view, ray_ids, params = field_inputs(layout, n)
    features, view = features.to(HALF), view.to(HALF)
    d_sigma, d_rgb = uniform(n, seed=8) - 0.5, uniform(n, 3, seed=9) - 0.5
    truth_in = [features.double().requires_grad_(), params.double().requires_grad_()]
    sigma_0, rgb_0 = reference.field(truth_in[0], view.double(), ray_ids.long(), truth_in[1], layout)
    ((sigma_0 * d_sigma).sum() + (rgb_0 * d_rgb).sum()).backward()
    sigma, rgb = triton_networks.forward(features, view, ray_ids, params, layout, None)
    close = {"rtol": 2e-2, "atol": 4e-3} if NATIVE else {"rtol": 1e-4, "atol": 1e-5}
    assert torch.allclose(sigma.double(), sigma_0, **close)
    assert torch.allclose(rgb.double(), rgb_0, **close)
    grads = triton_networks.backward(features, view, ray_ids, params, layout, Listed(*listed(n), d_sigma, d_rgb))
    for own, truth in zip(grads, (t.grad for t in truth_in), strict=True):
        error = (own.double() - truth).norm() / truth.norm()
        assert error < (2e-2 if NATIVE else 1e-5)
    density, nothing = triton_networks.forward(features, None, None, params, layout, None)
    assert nothing is None
    assert torch.equal(density, sigma)


def test_field_in_narrow_blocks(monkeypatch):
    """As on GPUs whose products accumulate in a memory of their own."""
    monkeypatch.setattr(triton_networks, "_tile", lambda usual: triton_networks.NARROW[usual])
    test_field(129, NETWORKS[1])


def test_field_goes_back_to_listed_samples():
    layout = NETWORKS[0]
    features, view, ray_ids, params = field_inputs(layout, 400)
    features, view = features.to(HALF), view.to(HALF)
    d_sigma, d_rgb = uniform(400), uniform(400, 3)
    order, count = listed(400, 250, seed=0)
    rows = order[:250].long()
    d_sigma[250:], d_rgb[250:] = torch.nan, torch.nan
    grads = d_sigma[:250].contiguous(), d_rgb[:250].contiguous()
    whole = triton_networks.backward(features[rows], view, ray_ids[rows], params, layout, Listed(*listed(250), *grads))
    part = triton_networks.backward(features, view, ray_ids, params, layout, Listed(order, count, d_sigma, d_rgb))
    assert torch.equal(whole[0], part[0][:250])
    assert torch.allclose(whole[1], part[1], rtol=1e-4, atol=1e-5)


def test_density_is_bounded():
    layout = NETWORKS[1]
    features, _, _, params = field_inputs(layout, 10)
    sigma, _ = reference.field(features * 1e4, None, None, params, layout)
    assert sigma.isfinite().all()
    assert sigma.max() <= torch.tensor(reference.MAX_RAW).exp() * 1.0001


# ---- the field -------------------------------------------------------------------------------------------------------


def field_weights(number: torch.dtype) -> tuple[HashWeights, torch.Tensor]:
    """A field, and encoded directions of nine rays."""
    layout = FieldLayout(SMALL.width, 32, 16, 16, 32)
    _, view, _, params = field_inputs(layout, 1)
    table = uniform(SMALL.total, 4, seed=1) - 0.5
    return HashWeights(table.to(number), params.to(number), SMALL, layout, table.to(HALF)), view.to(number)


@pytest.mark.parametrize("fused", FUSED)
@pytest.mark.parametrize("count", [None, 70])
def test_hash_field(count, fused):
    unit, ray_ids = uniform(150, 3) * 1.1 - 0.05, (uniform(150, seed=2) * 9).int()
    results = []
    for backend, number in ((FUSED[fused], torch.float32), (TWINS, torch.float64)):
        weights, view = field_weights(number)
        limit = None if count is None else torch.tensor([count], device=DEVICE)
        sigma, rgb = hash_field(unit.to(number), view, ray_ids, weights, limit, backend=backend)
        density = hash_density(unit.to(number), weights, backend=backend)
        results.append([sigma[:count].double(), rgb[:count].double(), density.double()])
    for own, truth in zip(*results, strict=True):
        assert torch.allclose(own, truth, **({"rtol": 2e-2, "atol": 1e-2} if NATIVE else {"rtol": 1e-3, "atol": 1e-5}))


def test_kernels_want_the_copy_that_they_read():
    weights, view = field_weights(torch.float32)
    weights = HashWeights(weights.table, weights.params, weights.grid, weights.networks)
    with pytest.raises(ValueError, match=r"HashWeights\.values"):
        hash_field(uniform(1, 3), view, torch.zeros(1, dtype=torch.int32), weights, backend=KERNELS)


@pytest.mark.parametrize("kind", BOTH)
def test_a_field_of_no_points(kind):
    weights, view = field_weights(torch.float32)
    nothing = torch.zeros(0, dtype=torch.int32, device=DEVICE)
    sigma, rgb = hash_field(uniform(0, 3), view, nothing, weights, backend=BOTH[kind])
    assert (sigma.shape, rgb.shape) == ((0,), (0, 3))


# ---- directions ------------------------------------------------------------------------------------------------------


def test_spherical_harmonics():
    dirs = torch.nn.functional.normalize(uniform(300, 3) - 0.5, dim=1)
    harmonics = spherical_harmonics(dirs, backend=KERNELS)
    assert torch.allclose(harmonics.float(), spherical_harmonics(dirs, backend=TWINS), atol=1e-3)
    some = spherical_harmonics(dirs, torch.tensor([130], device=DEVICE), backend=KERNELS)
    assert torch.equal(some[:130], harmonics[:130])


def normals_of(vector: torch.Tensor, size: int = 5) -> Normals:
    return Normals(vector.expand(size, size, size, 4).contiguous().to(DEVICE), torch.full((3,), 5.0, device=DEVICE))


@pytest.mark.parametrize("fused", FUSED)
@pytest.mark.parametrize("count", [None, 130])
def test_mirrored_harmonics(count, fused):
    """Between cells of a longer and of a shorter box, outside, and where no normal is known."""
    size, n = 33, 300
    values = normal(size, size, size, 4)
    values[..., 3], values[:9] = 0, 0
    normals = Normals(values.half(), torch.tensor([33.0, 50, 40], device=DEVICE))
    dirs, ray_ids = torch.nn.functional.normalize(normal(9, 3, seed=1), dim=1), (uniform(n, seed=2) * 9).int()
    unit, limit = uniform(n, 3, seed=3) * 1.2 - 0.1, None if count is None else torch.tensor([count], device=DEVICE)
    found = mirrored_harmonics(unit, dirs, ray_ids, normals, limit, backend=FUSED[fused])[:count]
    expected = mirrored_harmonics(unit.double(), dirs.double(), ray_ids, normals, backend=TWINS)[:count]
    assert torch.allclose(found.double(), expected, atol=2e-3)
    plain = spherical_harmonics(dirs, backend=TWINS)[ray_ids].double()
    assert torch.allclose(expected[:, :16], plain[:count], atol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in BOTH if NATIVE or kind != "kernel"])
def test_a_place_that_is_no_number_lies_at_0(kind):
    """Elsewhere there may be no memory to read. The interpreter of kernels has another rule for the larger number."""
    normals = Normals(normal(5, 5, 5, 4).half(), torch.full((3,), 5.0, device=DEVICE))
    dirs, ids = torch.eye(3, device=DEVICE), torch.arange(3, device=DEVICE).int()
    lost = torch.full((3, 3), torch.nan, device=DEVICE)
    places = lost, torch.zeros_like(lost)
    found, expected = (mirrored_harmonics(unit, dirs, ids, normals, backend=BOTH[kind]) for unit in places)
    assert torch.equal(found, expected)


def test_what_a_mirror_sends_on():
    """Of any length of its normal, and from both sides; and nothing where there is none."""
    dirs = torch.nn.functional.normalize(normal(20, 3), dim=1)
    unit, ids = uniform(20, 3, seed=1), torch.arange(20, device=DEVICE)
    for vector, factors in (([0.0, 0, 7, 0], [1, 1, -1]), ([-0.01, 0, 0, 0], [-1, 1, 1]), ([0.0] * 4, [1, 1, 1])):
        found = mirrored_harmonics(unit, dirs, ids, normals_of(torch.tensor(vector)), backend=TWINS)
        expected = spherical_harmonics(dirs * torch.tensor(factors, device=DEVICE), backend=TWINS)
        assert torch.allclose(found[:, 16:], expected, atol=1e-5)


@pytest.mark.parametrize("kind", BOTH)
def test_a_row_for_each_point(kind):
    """It is as if each point were on a ray of its own."""
    unit, ray_ids = uniform(9000, 3), (uniform(9000, seed=2) * 9).int()
    weights, view = field_weights(torch.float32)
    own = hash_field(unit, view[ray_ids], None, weights, backend=BOTH[kind])
    for found, expected in zip(own, hash_field(unit, view, ray_ids, weights, backend=BOTH[kind]), strict=True):
        assert torch.allclose(found, expected, atol=1e-5)


def test_spherical_harmonics_are_orthonormal():
    n = 200
    z = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 2 - 1
    phi = (torch.arange(2 * n, dtype=torch.float64) + 0.5) / (2 * n) * 2 * torch.pi
    z, phi = torch.meshgrid(z, phi, indexing="ij")
    r = (1 - z * z).sqrt()
    dirs = torch.stack([r * phi.cos(), r * phi.sin(), z], -1).view(-1, 3)
    y = spherical_harmonics(dirs, backend=TWINS)
    gram = y.T @ y * 4 * torch.pi / len(y)
    assert torch.allclose(gram, torch.eye(16, dtype=torch.float64), atol=1e-3)
