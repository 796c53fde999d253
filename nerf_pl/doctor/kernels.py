"""Each family of kernels against its twin, on a few numbers: a self-test of seconds, not the tests of the project."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nerf_pl.ops import (
    AdamStep,
    Backend,
    Budget,
    Draw,
    FieldLayout,
    GridLayout,
    HashWeights,
    Light,
    Pictures,
    Stride,
    adam,
    composite,
    draw_pixels,
    frequency,
    hash_density,
    march,
    pack_bits,
)
from nerf_pl.ops.hash_field.comparison import half_of
from nerf_pl.types import Rays, Samples

TWINS = Backend()
N = 130  # of rays or points: more than a block of the kernels, and no multiple of one


@dataclass(frozen=True)
class Compared:
    """error: the largest difference between a kernel and its twin, as a part of the largest number. limit: what
    rounding explains. failed: what a kernel that did not run said."""

    family: str
    error: float
    limit: float
    seconds: float
    failed: str = ""

    @property
    def is_good(self) -> bool:
        return not self.failed and self.error <= self.limit


def compare_kernels(backend: Backend, device: torch.device) -> Iterator[Compared]:
    """The families that run as kernels, one after the other. A kernel that does not run ends nothing."""
    for family, (run, limit) in CHECKS.items():
        if getattr(backend, family) == "reference":
            continue
        start = time.perf_counter()
        try:
            pair = [[part.double().cpu() for part in run(each, device)] for each in (backend, TWINS)]
            error = max(_difference(own, truth) for own, truth in zip(*pair, strict=True))
            failed = ""
        except Exception as problem:  # a compiler that is missing, a driver that is too old: whatever it is, tell it
            error, failed = float("inf"), f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"
        yield Compared(family, error, limit, time.perf_counter() - start, failed)


def _difference(own: Tensor, truth: Tensor) -> float:
    if own.shape != truth.shape or not bool(own.isfinite().all()):
        return float("inf")
    return float((own - truth).abs().max() / truth.abs().max().clamp(min=1e-9)) if len(own) else 0.0


def _uniform(*shape: int, seed: int, device: torch.device) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(device)


def _rays(backend: Backend, device: torch.device) -> list[Tensor]:
    per_ray = 8
    t = torch.linspace(2, 6, per_ray, device=device).repeat(N)
    ids = torch.arange(N, device=device).repeat_interleave(per_ray)
    offsets = torch.arange(N + 1, device=device) * per_ray
    samples = Samples(t, torch.full_like(t, 0.5), ids, offsets, per_ray)
    sigmas, rgbs = (_uniform(N * per_ray, seed=1, device=device), _uniform(N * per_ray, 3, seed=2, device=device))
    found = composite(sigmas, rgbs, samples, backend=backend)
    return [found.rgb, found.depth, found.opacity, found.weights]


def _mlp(backend: Backend, device: torch.device) -> list[Tensor]:
    return [frequency(_uniform(N, 3, seed=1, device=device), 4, backend=backend)]


def _hash_field(backend: Backend, device: torch.device) -> list[Tensor]:
    return [hash_density(_uniform(N, 3, seed=3, device=device), _weights(device), backend=backend)]


def _weights(device: torch.device) -> HashWeights:
    grid = GridLayout(levels=3, features=4, log2_size=9, base=4, finest=30)
    networks = FieldLayout(grid.width, 32, 16, 16, 32)
    table = _uniform(grid.total, 4, seed=1, device=device) - 0.5
    params = (_uniform(sum(networks.sizes), seed=2, device=device) - 0.5) * 0.5
    return HashWeights(table, params, grid, networks, table.to(half_of(device)))


def _march(backend: Backend, device: torch.device) -> list[Tensor]:
    # along the axes of an empty half and a full one, so that no step is within rounding of a border
    size, n = 32, 16
    box = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]], device=device)
    full = (torch.arange(size**3, device=device) % size) >= size // 2
    directions = torch.tensor([[1.0, 0.0, 0.0]], device=device).expand(n, 3).contiguous()
    origins = torch.stack([torch.full((n,), -3.0), torch.linspace(-0.9, 0.87, n), torch.full((n,), 0.01)], 1).to(device)
    near, far = torch.full((n,), 0.3, device=device), torch.full((n,), 6.0, device=device)
    rays, jitter = Rays(origins, directions, directions, near, far), torch.full((n,), 0.37, device=device)
    given = rays, pack_bits(full), box, jitter, Stride(0.06, size, 2.0)
    found = march(*given, backend=backend)
    all_samples = [found.samples.t, found.samples.dt, found.samples.offsets, found.unit, found.cells]
    active = torch.full((1,), n, dtype=torch.int32, device=device)
    budget = Budget(2**12, active, active.clone(), pack_bits(full))
    lit = march(*given, budget, Light(_weights(device), 0.9), backend=backend).samples.offsets
    return [*all_samples, lit]


def _pixels(backend: Backend, device: torch.device) -> list[Tensor]:
    images = (_uniform(3, 10, 14, 3, seed=1, device=device) * 255).to(torch.uint8)
    c2w = torch.eye(3, 4, device=device).repeat(3, 1, 1)
    K = torch.tensor([[20.0, 0, 7], [0, 20.0, 5], [0, 0, 1]], device=device).repeat(3, 1, 1)
    draw = Draw(seed=7, step=torch.tensor([3], device=device), stream=0, precrop=0)
    behind = torch.zeros(N, 3, device=device)
    return list(draw_pixels(Pictures(images, c2w, K, None, None, 0.5), behind, draw, None, backend=backend))


def _adam(backend: Backend, device: torch.device) -> list[Tensor]:
    p, g = _uniform(N, seed=1, device=device), _uniform(N, seed=2, device=device) - 0.5
    m, v = torch.zeros_like(p), torch.zeros_like(p)
    for step in (1, 2):
        how = AdamStep(0.01, 0.1, (0.9, 0.99), step, 1e-15, False)
        adam(p, g, m, v, None, torch.tensor(1.0, device=device), how, backend=backend)
    return [p, m, v]


CHECKS: dict[str, tuple[Callable[[Backend, torch.device], list[Tensor]], float]] = {
    "rays": (_rays, 1e-4), "mlp": (_mlp, 1e-2), "hash_field": (_hash_field, 3e-2), "march": (_march, 1e-4),
    "pixels": (_pixels, 1e-4), "adam": (_adam, 1e-4),
}  # fmt: skip
"""What to run in each family, and the largest difference that rounding explains. Networks may run in half precision."""
