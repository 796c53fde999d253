"""The gradients that a training of the hash field takes from kernels, against those of the twin in float64.

A forward pass that is wrong shows in the pictures. A wrong gradient trains all the same, only worse: on a GPU that its
compiler gets wrong, nobody would know.
"""

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from nerf_pl.doctor.kernels import Compared, half_of
from nerf_pl.ops import Backend, FieldLayout, GridLayout, HashWeights, Target, field_loss
from nerf_pl.types import Samples

NAME = "gradients"
TWINS = Backend()
GRID = GridLayout(levels=8, features=4, log2_size=12, base=4, finest=64)  # as wide as that of a training on a GPU
WIDTHS = (128, 64)  # of the colour network; not all GPUs have room for the first one, and train with the second
RAYS, PER_RAY = 40, 100  # thirty blocks of the kernel, and a part of one
# of the norm of the gradient in the table, and in all networks: half precision makes 0.03 on an H200
LIMIT = {torch.float16: 4.5e-2, torch.float32: 1e-3}
OF_A_PART = 5  # times as much in one matrix of them, which may be small


def compare_gradients(backend: Backend, device: torch.device) -> Iterator[Compared]:
    """The gradients of the loss in the table and in each matrix of the networks, as in a box and for photos."""
    start = time.perf_counter()
    try:
        error, failed = max(_errors(backend, device)), ""
    except Exception as problem:  # as in `compare_kernels`
        error, failed = float("inf"), f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"
    yield Compared(NAME, error, LIMIT[half_of(device)], time.perf_counter() - start, failed)


def _errors(backend: Backend, device: torch.device) -> Iterator[float]:
    for smoothness, view in ((0.0, 32), (2.0, 16)):  # in a box, and for photos
        for width in WIDTHS:
            layout = FieldLayout(GRID.width, 64, 16, view, width)
            try:
                own = gradients(backend, layout, torch.float32, device, smoothness)
            except Exception as problem:
                if type(problem).__name__ != "OutOfResources" or width == WIDTHS[-1]:
                    raise
                continue
            yield error_of(own, gradients(TWINS, layout, torch.float64, device, smoothness), layout)


def error_of(own: tuple[Tensor, Tensor], truth: tuple[Tensor, Tensor], layout: FieldLayout) -> float:
    """The largest difference, as a part of the norm: of the table, the networks, and their matrices."""
    parts = zip(own[1].split(layout.sizes), truth[1].split(layout.sizes), strict=True)
    whole = max(_difference(a, b) for a, b in zip(own, truth, strict=True))
    return max(whole, *(_difference(a, b) / OF_A_PART for a, b in parts))


def _difference(own: Tensor, truth: Tensor) -> float:
    if not bool(own.isfinite().all()):
        return float("inf")
    return float((own.double() - truth).norm() / truth.norm().clamp(min=1e-30))


def gradients(
    backend: Backend, layout: FieldLayout, number: torch.dtype, device: torch.device, smoothness: float
) -> tuple[Tensor, Tensor]:
    """Of the loss, in the table and in the networks. number: what the weights are kept in."""
    draw = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draw).to(device, number)

    n = RAYS * PER_RAY
    table = uniform(GRID.total, GRID.features) - 0.5
    params = torch.cat([((uniform(*shape) - 0.5) * 4 / shape[-1] ** 0.5).flatten() for shape in layout.shapes.values()])
    values = table.detach().to(half_of(device))
    weights = HashWeights(table.requires_grad_(), params.requires_grad_(), GRID, layout, values)
    ray_ids = torch.arange(RAYS, device=device, dtype=torch.int32).repeat_interleave(PER_RAY)
    offsets = torch.arange(RAYS + 1, device=device) * PER_RAY
    samples = Samples(uniform(n), uniform(n) * 0.1, ray_ids, offsets)
    cells, seen = (torch.zeros(size, dtype=torch.int32, device=device) for size in (n, 1))
    kept, step = (torch.tensor([value], dtype=torch.int32, device=device) for value in (RAYS, 1))
    least = torch.full((1,), 1e-9, device=device)
    target = Target(uniform(RAYS, 3), uniform(RAYS, 3), kept, cells, seen, step, least, smoothness=smoothness)
    of_samples = layout.view > 16  # as with mirrored directions
    unit, view = uniform(n, 3), uniform(n if of_samples else RAYS, layout.view) - 0.5
    loss = field_loss(unit, view, samples, weights, target, of_samples, backend=backend)
    return torch.autograd.grad(loss, (weights.table, weights.params))  # pyright: ignore[reportReturnType]
