"""The encoding and the fused network against their twins, and the drawing of the samples that a backward pass visits.

On a CPU the kernels run in Triton's interpreter, in fp32. On a GPU they multiply in bf16, and the truth is the twin in
float64 on the same rounded weights and inputs.
"""

import pytest
import torch

from nerf_pl.ops import MLPLayout, encoded_width, frequency, nerf_mlp
from nerf_pl.ops.mlp import visiting

pytest.importorskip("triton")

from inputs import DEVICE, EXACT, KERNELS, NATIVE, TWINS, normal

from nerf_pl.ops.mlp import triton as kernels

# ---- the frequency encoding ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_freqs", "n"), [(10, 130), (10, 4096), (4, 1), (4, 0), (1, 65)])
def test_frequency(n_freqs, n):
    x = 2 * normal(n, 3)
    encoded = frequency(x, n_freqs, backend=KERNELS)
    truth = frequency(x.double(), n_freqs, backend=EXACT)
    assert encoded.shape == (n, encoded_width(n_freqs))
    # sin and cos of x 2^9 carry 2^9 times the rounding of x
    assert (encoded.double() - truth).abs().max() < 2e-6 if n else True
    assert (encoded[:, 3 + 6 * n_freqs :] == 0).all()


def test_frequency_is_the_papers():
    x = torch.tensor([[0.3, -0.7, 1.1]], dtype=torch.float64)
    columns = [x]
    for k in range(4):
        columns += [torch.sin(2**k * x), torch.cos(2**k * x)]
    assert torch.allclose(frequency(x, 4, backend=EXACT)[:, :27], torch.cat(columns, 1))


def test_the_kernel_of_the_encoding_has_no_gradient():
    x = normal(3, 3).requires_grad_()
    with pytest.raises(ValueError, match="no gradient"):
        frequency(x, 2, backend=KERNELS)
    frequency(x, 2, backend=TWINS).sum().backward()
    assert x.grad.isfinite().all()


# ---- the network -----------------------------------------------------------------------------------------------------


def relative(value: torch.Tensor, truth: torch.Tensor) -> float:
    value, truth = value.detach().double(), truth.detach().double()
    assert value.shape == truth.shape
    assert torch.isfinite(value).all()
    return float((value - truth).norm() / truth.norm().clamp(min=1e-30))


def network(layout: MLPLayout, n: int) -> tuple[torch.Tensor, ...]:
    """Parameters and inputs that both precisions represent exactly, so that only the arithmetic differs."""
    parts = []
    for (name, shape), size in zip(layout.shapes.items(), layout.sizes, strict=True):
        fan = 4.0 if name.startswith("b_") else shape[-1]
        parts.append(normal(size, seed=len(parts)) * (1.5 / fan) ** 0.5)
    params = torch.cat(parts).bfloat16().float()
    xyz = frequency(normal(n, 3, seed=100), layout.xyz_freqs, backend=TWINS).bfloat16().float()
    dirs = torch.nn.functional.normalize(normal(n, 3, seed=101), dim=1)
    return params, xyz, frequency(dirs, layout.dir_freqs, backend=TWINS).bfloat16().float()


@pytest.mark.parametrize(
    ("layout", "n"),
    [
        (MLPLayout(2, 32, 1), 0),
        (MLPLayout(2, 32, 1), 1),
        (MLPLayout(3, 64, 2), 129),
        (MLPLayout(3, 128, 1), 257),
        (MLPLayout(3, 256, 2), 129),
    ],
)
def test_fused_network_and_its_gradient(layout, n, monkeypatch):
    monkeypatch.setattr(kernels, "CHUNK", 128)
    limit = 2e-2 if NATIVE else 2e-6  # bf16 there, fp32 in the interpreter
    params, xyz, dirs = network(layout, n)
    fused, twin = params.clone().requires_grad_(), params.double().requires_grad_()
    # a third of the samples has no gradient, as in a scene, among them whole tiles
    some = (torch.arange(n, device=DEVICE) % 3 > 0) & (torch.arange(n, device=DEVICE) // 64 != 1)
    g_sigma, g_rgb = normal(n, seed=7) * some, normal(n, 3, seed=8) * some[:, None]
    sigma, rgb = nerf_mlp(xyz, dirs, fused, layout, backend=KERNELS)
    true_sigma, true_rgb = nerf_mlp(xyz.double(), dirs.double(), twin, layout, backend=TWINS)
    ((sigma * g_sigma).sum() + (rgb * g_rgb).sum()).backward()
    ((true_sigma * g_sigma).sum() + (true_rgb * g_rgb).sum()).backward()
    assert relative(sigma, true_sigma) < limit
    assert relative(rgb, true_rgb) < limit
    with torch.no_grad():
        assert relative(nerf_mlp(xyz, None, fused, layout, backend=KERNELS)[0], true_sigma) < limit
    # through rectifiers, bf16 gradients are coarse whoever computes them: they are judged by the twin's own in bf16
    rounded = params.to(torch.bfloat16 if NATIVE else torch.float32).requires_grad_()
    s, c = nerf_mlp(xyz.to(rounded.dtype), dirs.to(rounded.dtype), rounded, layout, backend=TWINS)
    ((s * g_sigma).sum() + (c * g_rgb).sum()).backward()
    parts = (p.grad.split(layout.sizes) for p in (fused, rounded, twin))
    for name, part, comparison, truth in zip(layout.shapes, *parts, strict=True):
        assert relative(part, truth) < limit + 2 * relative(comparison, truth), name


def test_fused_network_is_deterministic():
    layout = MLPLayout(3, 64, 2)
    params, xyz, dirs = network(layout, 300)
    grads = []
    for _ in range(2):
        p = params.clone().requires_grad_()
        sigma, rgb = nerf_mlp(xyz, dirs, p, layout, backend=KERNELS)
        (sigma.sum() + rgb.sum()).backward()
        grads.append(p.grad)
    assert torch.equal(*grads)


def test_drawn_samples_give_an_unbiased_gradient():
    """Over many draws, the weighted sum of what was drawn is the sum of all; and never more are drawn than asked."""
    n, share, draws = 400, 0.25, 600
    some = torch.arange(n, device=DEVICE) % 3 > 0
    size = normal(n, seed=2).exp() ** 2  # gradients of very different size
    d_sigma, d_rgb = normal(n) * size * some, normal(n, 3, seed=1) * some[:, None]
    estimates, seen = [], torch.zeros(n, dtype=torch.bool, device=DEVICE)
    for i in range(draws):
        shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(i)).to(DEVICE)
        order, count, s, c = visiting.drawn(d_sigma[shuffled], d_rgb[shuffled], share)
        assert 0 < count.item() <= share * n
        rows = order[: count.item()].long()
        assert (rows.diff() > 0).all()
        assert some[shuffled[rows]].all()
        seen[shuffled[rows]] = True
        estimates.append(torch.cat([s[rows].sum()[None], c[rows].sum(0)]).double())
    mean, deviation = torch.stack(estimates).mean(0), torch.stack(estimates).std(0)
    truth = torch.cat([d_sigma.sum()[None], d_rgb.sum(0)]).double()
    assert ((mean - truth).abs() < 5 * deviation / draws**0.5).all()
    assert seen.sum() > 0.9 * some.sum()


@pytest.mark.parametrize("dead", [True, False])
def test_drawing_where_there_is_little_or_nothing(dead):
    d_sigma, d_rgb = torch.zeros(50, device=DEVICE), torch.zeros(50, 3, device=DEVICE)
    if not dead:
        d_sigma[[3, 9]] = torch.tensor([1.0, -2.0], device=DEVICE)
    order, count, s, c = visiting.drawn(d_sigma, d_rgb, 0.5)
    assert order[: count.item()].tolist() == ([] if dead else [3, 9])
    assert torch.equal(s, d_sigma)
    assert torch.equal(c, d_rgb)


def test_only_samples_with_a_gradient_are_listed():
    d_sigma = torch.tensor([0.0, 1.0, 0.0, 0.0, -2.0, 0.0], device=DEVICE)
    d_rgb = torch.zeros(6, 3, device=DEVICE)
    d_rgb[3, 2] = 1e-30
    order, count = visiting.listed(d_sigma, d_rgb)
    assert count.item() == 3
    assert order[:3].tolist() == [1, 3, 4]
    assert (order[3:] == 0).all()


def test_fused_network_refuses_what_it_cannot_do():
    layout = MLPLayout(2, 32, 1)
    params, xyz, dirs = network(layout, 4)
    with pytest.raises(ValueError, match="no gradient of its inputs"):
        nerf_mlp(xyz.requires_grad_(), dirs, params, layout, backend=KERNELS)
    with pytest.raises(ValueError, match="width"):
        nerf_mlp(xyz.detach(), dirs, params, MLPLayout(2, 96, 1), backend=KERNELS)
    with pytest.raises(ValueError, match="no_grad"):
        nerf_mlp(xyz.detach(), None, params.requires_grad_(), layout, backend=KERNELS)


def test_layout_refuses_impossible_sizes():
    with pytest.raises(ValueError, match="skip"):
        MLPLayout(depth=4, skip=4)
    with pytest.raises(ValueError, match="width"):
        MLPLayout(width=100)


def test_the_twin_with_a_drawn_backward_pass():
    """Its outputs are the twin's; its gradient too where all that have one are visited, and else on average."""
    layout, n = MLPLayout(2, 32, 1), 90
    params, xyz, dirs = network(layout, n)
    few = torch.arange(n, device=DEVICE) % 30 == 0  # three samples, of the same size: each is drawn with certainty
    gradients = []
    for visited in (1.0, 0.5):
        p = params.clone().requires_grad_()
        call = (xyz, dirs, p, layout)
        sigma, rgb = nerf_mlp(*call, visited, backend=TWINS)
        (sigma * few).sum().add((rgb * few[:, None]).sum()).backward()
        gradients.append((sigma.detach(), rgb.detach(), p.grad))
    for value, truth in zip(*gradients, strict=True):
        assert torch.allclose(value, truth, rtol=1e-4, atol=1e-6)

    truth = params.clone().requires_grad_()
    nerf_mlp(xyz, dirs, truth, layout, backend=TWINS)[0].square().sum().backward()
    estimates = []
    for i in range(300):
        p, shuffled = params.clone().requires_grad_(), torch.randperm(n, generator=torch.Generator().manual_seed(i))
        nerf_mlp(xyz[shuffled], dirs[shuffled], p, layout, 0.1, backend=TWINS)[0].square().sum().backward()
        estimates.append(p.grad)
    errors = [relative(estimate, truth.grad) for estimate in estimates]
    assert relative(torch.stack(estimates).mean(0), truth.grad) < 2 * sum(errors) / len(errors) ** 1.5


def test_a_drawn_backward_pass_needs_constant_inputs():
    """Where the inputs have a gradient, all samples are visited."""
    layout = MLPLayout(2, 32, 1)
    params, xyz, dirs = network(layout, 20)
    grads = []
    for visited in (0.1, 1.0):
        leaves = params.clone().requires_grad_(), xyz.clone().requires_grad_()
        sigma, rgb = nerf_mlp(leaves[1], dirs, leaves[0], layout, visited, backend=TWINS)
        grads.append(torch.autograd.grad(sigma.sum() + rgb.sum(), leaves))
    for own, truth in zip(*grads, strict=True):
        assert torch.equal(own, truth)


def test_a_drawn_backward_pass_in_half_precision():
    """Its products have the type of the inputs, its gradient that of the weights."""
    layout = MLPLayout(2, 32, 1)
    params, xyz, dirs = network(layout, 60)
    grads = []
    for visited in (0.999, 1.0):
        p = params.clone().requires_grad_()
        sigma, rgb = nerf_mlp(xyz.bfloat16(), dirs.bfloat16(), p, layout, visited, backend=TWINS)
        assert sigma.dtype == rgb.dtype == torch.float32
        (sigma[:2].sum() + rgb[:2].sum()).backward()  # two samples of the same size, each drawn with certainty
        grads.append(p.grad)
    assert relative(*grads) < 2e-2
