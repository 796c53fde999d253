"""The kernels of the hash-grid field against their twins, the truth being the twin in float64.

On a CPU the kernels run in Triton's interpreter, on a GPU natively.
"""

from itertools import pairwise

import pytest
import torch
from torch.autograd import gradcheck

from nerf_pl.ops import FieldLayout, GridLayout
from nerf_pl.ops import grid_reference as reference

pytest.importorskip("triton")

from nerf_pl.ops import field_kernels, grid_kernels, step_kernels

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NATIVE = DEVICE.type == "cuda"
HALF = torch.float16 if NATIVE else torch.float32  # the interpreter has no bfloat16 product, which goes with it
SMALL = GridLayout(levels=3, features=4, log2_size=9, base=4, finest=30)


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def listed(n: int, most: int | None = None, seed: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """A list of samples, all of them or `most` in a random order, and its length."""
    order = torch.arange(n) if seed is None else torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order.int().to(DEVICE), torch.tensor([n if most is None else most], dtype=torch.int32, device=DEVICE)


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
    features = grid_kernels.encode(xyz, table, layout, None)
    assert torch.allclose(features.double(), truth, atol=1e-5)
    order, count = listed(n)
    d_table = grid_kernels.encode_backward(xyz, order, weight, layout, count, table, 0.0)
    assert torch.allclose(d_table.double(), truth_table.grad, atol=1e-5)
    (7.0 * reference.roughness(reference.vertices(xyz, layout)[0], truth_table)).backward()
    d_table = grid_kernels.encode_backward(xyz, order, weight, layout, count, table, 7.0)
    assert torch.allclose(d_table.double(), truth_table.grad, atol=1e-5)


def test_encoding_stops_at_the_count():
    xyz, half, count = uniform(200, 3), uniform(SMALL.total, 4).half(), torch.tensor([130], device=DEVICE)
    features = grid_kernels.encode(xyz, half, SMALL, count)
    assert features.dtype == torch.float16
    truth = reference.hash_grid(xyz[:130].double(), half.double(), SMALL)
    assert torch.allclose(features[:130].double(), truth, atol=1e-3)


def test_the_gradient_of_listed_points():
    xyz, table = uniform(200, 3), uniform(SMALL.total, 4).double().requires_grad_()
    order, count = listed(200, 70, seed=0)
    reference.hash_grid(xyz[order[:70].long()].double(), table, SMALL).sum().backward()
    grad = torch.full((200, SMALL.width), torch.nan, device=DEVICE)
    grad[:70] = 1
    d_table = grid_kernels.encode_backward(xyz, order, grad, SMALL, count, table.detach().float(), 0.0)
    assert torch.allclose(d_table.double(), table.grad, atol=1e-4)


def test_roughness():
    """By its definition, over all pairs of a cell's entries; entries that are all alike have none."""
    layout = GridLayout(levels=1, features=2, log2_size=9, base=2, finest=2)
    table = torch.rand(layout.total, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    corners = [x + 3 * y + 9 * z for x in (1, 2) for y in (0, 1) for z in (1, 2)]  # of the cell of this point
    entries, _ = reference.vertices(torch.tensor([[0.8, 0.1, 0.6]], dtype=torch.float64), layout)
    pairs = sum(((table[a] - table[b]) ** 2).sum() for a in corners for b in corners) / 2
    assert float(reference.roughness(entries, table)) == pytest.approx(float(pairs / 8 / 2))
    assert reference.roughness(entries, torch.ones_like(table)) == 0
    assert reference.roughness(entries[:, :0], table) == 0


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
    weights = [(uniform(*s, seed=3 + i) - 0.5) * 4 / s[-1] ** 0.5 for i, s in enumerate(layout.shapes.values())]
    return [features, view, ray_ids, torch.cat([w.flatten() for w in weights])]


@pytest.mark.parametrize("n", [1, 128, 300])
@pytest.mark.parametrize("layout", NETWORKS)
def test_field(n, layout):
    features, view, ray_ids, params = field_inputs(layout, n)
    features, view = features.to(HALF), view.to(HALF)
    d_sigma, d_rgb = uniform(n, seed=8) - 0.5, uniform(n, 3, seed=9) - 0.5
    truth_in = [features.double().requires_grad_(), params.double().requires_grad_()]
    sigma_0, rgb_0 = reference.field(truth_in[0], view.double(), ray_ids.long(), truth_in[1], layout)
    ((sigma_0 * d_sigma).sum() + (rgb_0 * d_rgb).sum()).backward()
    sigma, rgb = field_kernels.forward(features, view, ray_ids, params, layout, None)
    close = {"rtol": 2e-2, "atol": 4e-3} if NATIVE else {"rtol": 1e-4, "atol": 1e-5}
    assert torch.allclose(sigma.double(), sigma_0, **close)
    assert torch.allclose(rgb.double(), rgb_0, **close)
    grads = field_kernels.backward(features, view, ray_ids, params, layout, *listed(n), d_sigma, d_rgb)
    for own, truth in zip(grads, (t.grad for t in truth_in), strict=True):
        error = (own.double() - truth).norm() / truth.norm()
        assert error < (2e-2 if NATIVE else 1e-5)
    density, nothing = field_kernels.forward(features, None, None, params, layout, None)
    assert nothing is None
    assert torch.equal(density, sigma)


def test_field_goes_back_to_listed_samples():
    layout = NETWORKS[0]
    features, view, ray_ids, params = field_inputs(layout, 400)
    features, view = features.to(HALF), view.to(HALF)
    d_sigma, d_rgb = uniform(400), uniform(400, 3)
    order, count = listed(400, 250, seed=0)
    rows = order[:250].long()
    d_sigma[250:], d_rgb[250:] = torch.nan, torch.nan
    given = features[rows], view, ray_ids[rows], params, layout, *listed(250)
    whole = field_kernels.backward(*given, d_sigma[:250].contiguous(), d_rgb[:250].contiguous())
    part = field_kernels.backward(features, view, ray_ids, params, layout, order, count, d_sigma, d_rgb)
    assert torch.equal(whole[0], part[0][:250])
    assert torch.allclose(whole[1], part[1], rtol=1e-4, atol=1e-5)


def test_density_is_bounded():
    layout = NETWORKS[1]
    features, _, _, params = field_inputs(layout, 10)
    sigma, _ = reference.field(features * 1e4, None, None, params, layout)
    assert sigma.isfinite().all()
    assert sigma.max() <= torch.tensor(reference.MAX_RAW).exp() * 1.0001


# ---- directions ------------------------------------------------------------------------------------------------------


def test_spherical_harmonics():
    dirs = torch.nn.functional.normalize(uniform(300, 3) - 0.5, dim=1)
    harmonics = step_kernels.spherical_harmonics(dirs, None)
    assert torch.allclose(harmonics.float(), reference.spherical_harmonics(dirs), atol=1e-3)
    some = step_kernels.spherical_harmonics(dirs, torch.tensor([130], device=DEVICE))
    assert torch.equal(some[:130], harmonics[:130])


def test_spherical_harmonics_are_orthonormal():
    n = 200
    z = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 2 - 1
    phi = (torch.arange(2 * n, dtype=torch.float64) + 0.5) / (2 * n) * 2 * torch.pi
    z, phi = torch.meshgrid(z, phi, indexing="ij")
    r = (1 - z * z).sqrt()
    y = reference.spherical_harmonics(torch.stack([r * phi.cos(), r * phi.sin(), z], -1).view(-1, 3))
    gram = y.T @ y * 4 * torch.pi / len(y)
    assert torch.allclose(gram, torch.eye(16, dtype=torch.float64), atol=1e-3)
