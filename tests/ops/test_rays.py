"""What happens along rays, each kernel against its twin, the truth being the twin in float64.

On a CPU the kernels run in Triton's interpreter, on a GPU natively.
"""

import pytest
import torch

from nerf_pl.ops import composite, random_bits, resample
from nerf_pl.types import Samples

pytest.importorskip("triton")

from inputs import DEVICE, KERNELS, TWINS, normal

# ---- random numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2**31 + 5, 2**32 - 1])
@pytest.mark.parametrize("step", [0, 7, 2**31 + 1])
def test_random_bits_are_the_same_everywhere(seed, step):
    at = torch.tensor([step], device=DEVICE)
    kernel = random_bits(seed, at, 3, 1500, backend=KERNELS)
    twin = random_bits(seed, at.cpu(), 3, 1500, backend=TWINS)
    assert torch.equal(kernel.cpu(), twin)


def test_random_bits_are_uniform_and_uncorrelated():
    n = 100_000
    draws = [
        random_bits(seed, torch.tensor([step]), stream, n, backend=TWINS).double() / 2**32
        for seed, step, stream in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    for u in draws:
        assert u.min() >= 0
        assert u.max() < 1
        counts = torch.histc(u, 64, 0, 1)
        chi2 = float(((counts - n / 64) ** 2 / (n / 64)).sum())
        assert chi2 < 63 + 5 * (2 * 63) ** 0.5
        assert abs(float(torch.corrcoef(torch.stack([u[1:], u[:-1]]))[0, 1])) < 5 / n**0.5
    table = torch.corrcoef(torch.stack(draws)) - torch.eye(4)
    assert table.abs().max() < 5 / n**0.5


# ---- compositing -----------------------------------------------------------------------------------------------------


def packed(counts: list[int], last_dt: float | None, dense: bool = False) -> tuple[Samples, torch.Tensor, torch.Tensor]:
    n, generator = sum(counts), torch.Generator().manual_seed(sum(counts))
    offsets = torch.tensor([0, *counts]).cumsum(0)
    ray_ids = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    t, dt = torch.rand(n, generator=generator) * 4 + 2, torch.rand(n, generator=generator) * 0.1
    if last_dt is not None:
        dt[(offsets[1:] - 1)[offsets.diff() > 0]] = last_dt
    sigmas, rgbs = (3 * torch.randn(n, generator=generator)).relu(), torch.rand(n, 3, generator=generator)
    tensors = (x.to(DEVICE) for x in (t, dt, ray_ids, offsets))
    return Samples(*tensors, counts[0] if dense else None), sigmas.to(DEVICE), rgbs.to(DEVICE)


RAGGED = [0, 1, 128, 129, 500]


@pytest.mark.parametrize(
    ("counts", "last_dt", "dense"),
    [
        (RAGGED, None, False),
        (RAGGED, 1e10, False),
        ([64] * 5, 1e10, True),
        ([5, 0, 3], 0.05, False),
        ([0, 0], None, False),
    ],
)
def test_composite_and_its_gradients(counts, last_dt, dense):
    samples, sigmas, rgbs = packed(counts, last_dt, dense)
    n_rays = len(counts)
    cotangents = (normal(n_rays, 3), normal(n_rays, seed=1), normal(n_rays, seed=2), normal(len(samples), seed=3))
    results = []
    for backend, dtype in ((KERNELS, torch.float32), (TWINS, torch.float64)):
        s, c = (x.to(dtype).clone().requires_grad_() for x in (sigmas, rgbs))
        cast = Samples(samples.t.to(dtype), samples.dt.to(dtype), samples.ray_ids, samples.offsets, samples.per_ray)
        pixels = composite(s, c, cast, backend=backend)
        outputs = (pixels.rgb, pixels.depth, pixels.opacity, pixels.weights)
        sum((o * g.to(dtype)).sum() for o, g in zip(outputs, cotangents, strict=True)).backward()
        # where the density is 0, its gradient counts for nothing behind a rectifier, and 1e10 times rounding is noise
        results.append((*outputs, torch.where(sigmas > 0, s.grad, 0), c.grad))
    for value, truth in zip(*results, strict=True):
        assert ((value.double() - truth).abs() <= 2e-6 * (1 + truth.abs())).all()


def test_composite_without_colour():
    samples, sigmas, _ = packed(RAGGED, 1e10)
    kernel, twin = (composite(sigmas, None, samples, backend=backend) for backend in (KERNELS, TWINS))
    assert (kernel.rgb == 0).all()
    assert (twin.rgb == 0).all()
    assert torch.allclose(kernel.depth, twin.depth, atol=1e-5)
    assert torch.allclose(kernel.opacity, twin.opacity, atol=1e-6)


def test_composite_gradcheck():
    samples, sigmas, rgbs = packed([3, 0, 5], None)
    samples = Samples(samples.t.double(), samples.dt.double(), samples.ray_ids, samples.offsets)

    def blend(s, c):
        p = composite(s, c, samples, backend=TWINS)
        return p.rgb, p.depth, p.opacity, p.weights

    torch.autograd.gradcheck(blend, ((sigmas.double() + 0.1).requires_grad_(), rgbs.double().requires_grad_()))


def test_a_slab_of_constant_density():
    """Opacity 1 - exp(-sigma L), and the expected depth of its exponential distribution."""
    n, length, sigma = 20_000, 2.0, 1.3
    edges = torch.linspace(1, 1 + length, n + 1, dtype=torch.float64)
    samples = Samples.dense((edges[:-1] + edges[1:])[None] / 2, edges.diff()[None])
    pixels = composite(torch.full((n,), sigma, dtype=torch.float64), None, samples, backend=TWINS)
    opaque = 1 - torch.tensor(-sigma * length, dtype=torch.float64).exp()
    assert torch.allclose(pixels.opacity, opaque)
    depth = (1 + 1 / sigma) * opaque - length * (1 - opaque)
    assert torch.allclose(pixels.depth, depth, atol=1e-6)


def test_composite_refuses_other_numbers():
    samples, sigmas, rgbs = packed([3, 2], None)
    with pytest.raises(ValueError, match="4 densities for 5 samples"):
        composite(sigmas[:4], rgbs[:4], samples, backend=TWINS)


# ---- hierarchical sampling -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("S", "M"), [(64, 64), (64, 128), (8, 17), (3, 1), (33, 5)])
def test_resample(S, M):
    generator = torch.Generator().manual_seed(S)
    t = (torch.rand(30, S, generator=generator) * 4 + 2).sort(1).values.to(DEVICE)
    weights = (torch.rand(30, S, generator=generator) ** 4).to(DEVICE)
    weights[3] = 0  # nothing was seen: evenly over the intervals
    u = torch.rand(30, M, generator=generator).to(DEVICE)
    u[5] = torch.linspace(0, 1, M)
    result = resample(t, weights, u, backend=KERNELS)
    truth = resample(t.double(), weights.double(), u.double(), backend=TWINS)
    assert (result[:, 1:] >= result[:, :-1]).all()
    assert (result.double() - truth).abs().max() < 2e-4  # the inverse is steep where the weights are small


def test_resample_follows_the_weights():
    """The histogram of many samples is the density that the inner weights spread between the midpoints."""
    t = torch.tensor([[0.0, 1.0, 2.0, 4.0, 6.0]], dtype=torch.float64)
    weights = torch.tensor([[9.0, 1.0, 3.0, 4.0, 9.0]], dtype=torch.float64)
    n = 40_000
    new = resample(t, weights, torch.linspace(0, 1, n, dtype=torch.float64)[None], backend=TWINS)[0]
    counts = torch.histogram(new, torch.tensor([0.5, 1.5, 3.0, 5.0], dtype=torch.float64)).hist
    assert torch.allclose(counts / n, torch.tensor([1 / 8, 3 / 8, 4 / 8], dtype=torch.float64), atol=1e-3)
