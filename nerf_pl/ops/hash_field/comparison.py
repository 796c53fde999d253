"""The gradients that a training of the hash field takes from kernels, against those of the twin in float64.

A forward pass that is wrong shows in the pictures. A wrong gradient trains all the same, only worse: on a GPU that its
compiler gets wrong, nobody would know.
"""

import torch
from torch import Tensor

from nerf_pl.ops.backend import Backend
from nerf_pl.ops.hash_field import field_loss
from nerf_pl.ops.hash_field.types import HashWeights, Target
from nerf_pl.ops.layout import FieldLayout, GridLayout
from nerf_pl.types import Samples

TWINS = Backend()
RAYS, PER_RAY = 40, 100  # thirty blocks of the kernel, and a part of one
# of the norm of the gradient in the table, and in all networks: half precision makes 0.03 on an H200
LIMIT = {torch.float16: 4.5e-2, torch.float32: 1e-3}
OF_A_PART = 5  # times as much in one matrix of them, which may be small


def half_of(device: torch.device) -> torch.dtype:
    """What the kernels read entries in; in the interpreter, single precision."""
    return torch.float16 if device.type == "cuda" else torch.float32


def gradient_error(
    backend: Backend, grid: GridLayout, networks: FieldLayout, device: torch.device, smoothness: float = 0.0
) -> float:
    """The largest difference of the kernels' gradients from those of the twin in float64; see `error_of` and LIMIT."""
    own = gradients(backend, grid, networks, torch.float32, device, smoothness)
    return error_of(own, gradients(TWINS, grid, networks, torch.float64, device, smoothness), networks)


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
    backend: Backend,
    grid: GridLayout,
    networks: FieldLayout,
    number: torch.dtype,
    device: torch.device,
    smoothness: float,
) -> tuple[Tensor, Tensor]:
    """Of the loss, in the table and in the networks. number: what the weights are kept in."""
    draw = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draw).to(device, number)

    n = RAYS * PER_RAY
    table = uniform(grid.total, grid.features) - 0.5
    shapes = networks.shapes.values()
    params = torch.cat([((uniform(*shape) - 0.5) * 4 / shape[-1] ** 0.5).flatten() for shape in shapes])
    values = table.detach().to(half_of(device))
    weights = HashWeights(table.requires_grad_(), params.requires_grad_(), grid, networks, values)
    ray_ids = torch.arange(RAYS, device=device, dtype=torch.int32).repeat_interleave(PER_RAY)
    offsets = torch.arange(RAYS + 1, device=device) * PER_RAY
    samples = Samples(uniform(n), uniform(n) * 0.1, ray_ids, offsets)
    cells, seen = (torch.zeros(size, dtype=torch.int32, device=device) for size in (n, 1))
    kept, step = (torch.tensor([value], dtype=torch.int32, device=device) for value in (RAYS, 1))
    least = torch.full((1,), 1e-9, device=device)
    target = Target(uniform(RAYS, 3), uniform(RAYS, 3), kept, cells, seen, step, least, smoothness=smoothness)
    of_samples = networks.view > 16  # as with mirrored directions
    unit, view = uniform(n, 3), uniform(n if of_samples else RAYS, networks.view) - 0.5
    loss = field_loss(unit, view, samples, weights, target, of_samples, backend=backend)
    return torch.autograd.grad(loss, (weights.table, weights.params))  # pyright: ignore[reportReturnType]
