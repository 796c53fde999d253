"""The public ops. Each runs as a Triton kernel on a GPU and as its plain-PyTorch twin (`reference`) elsewhere.

NERF_PL_OPS=reference forces the twins, NERF_PL_OPS=kernel the kernels (on a CPU that needs Triton's interpreter,
TRITON_INTERPRET=1, and is for tests).
"""

import functools
import importlib.util
import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nerf_pl.ops import grid_reference, march_reference, reference, visiting
from nerf_pl.ops.grid_reference import Target
from nerf_pl.ops.layout import FieldLayout, GridLayout, MLPLayout, encoded_width
from nerf_pl.ops.march_reference import Batch, Stride, contract, pack_bits
from nerf_pl.types import Pixels, Samples

if TYPE_CHECKING:
    from nerf_pl.ops import render_kernels

__all__ = [
    "Batch",
    "FieldLayout",
    "GridLayout",
    "MLPLayout",
    "Stride",
    "Target",
    "adam",
    "advance",
    "composite",
    "contract",
    "draw_pixels",
    "encoded_width",
    "field_loss",
    "frequency",
    "hash_density",
    "hash_field",
    "march",
    "nerf_mlp",
    "pack_bits",
    "path",
    "random_bits",
    "resample",
    "spherical_harmonics",
]


LARGE_SHARED_MEMORY = ((9, 0), (10, 0), (10, 3))  # compute capabilities: Hopper, data-centre Blackwell


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def use_kernels(device: torch.device) -> bool:
    """Whether the kernels run for tensors on this device."""
    forced = os.environ.get("NERF_PL_OPS", "")
    if forced not in ("", "reference", "kernel"):
        raise ValueError(f"NERF_PL_OPS={forced!r}: choose reference or kernel, or unset it")
    return forced == "kernel" or (forced == "" and device.type == "cuda" and _has_triton())


def fuses_mlp(device: torch.device, layout: MLPLayout) -> bool:
    """Whether the fused network serves this device: its tiles need the 227 KB of shared memory of Hopper and
    data-centre Blackwell GPUs; others run the twin, on tensor cores all the same."""
    if not use_kernels(device) or layout.width not in (32, 64, 128, 256):
        return False
    return device.type != "cuda" or torch.cuda.get_device_capability(device) in LARGE_SHARED_MEMORY


def path(device: torch.device) -> str:
    """One line that says what runs, for the start of a run."""
    if use_kernels(device):
        return "Triton kernels"
    missing = device.type == "cuda" and not _has_triton()
    return "plain PyTorch (Triton is not installed: pip install triton)" if missing else "plain PyTorch"


def random_bits(seed: int, step: Tensor, stream: int, n: int) -> Tensor:
    """n integers in [0, 2^32), a function of (seed, step, stream, position) alone; see `reference.random_bits`."""
    if use_kernels(step.device):
        from nerf_pl.ops import ray_kernels

        return ray_kernels.random_bits(seed, step, stream, n)
    return reference.random_bits(seed, step, stream, n)


def frequency(x: Tensor, n_freqs: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Frequency encoding (N, encoded_width(n_freqs)); see `reference.frequency`. The kernel has no gradient in x."""
    if use_kernels(x.device) and not x.requires_grad:
        from nerf_pl.ops import ray_kernels

        return ray_kernels.frequency(x, n_freqs, dtype)
    return reference.frequency(x, n_freqs).to(dtype)


def nerf_mlp(
    xyz: Tensor, dirs: Tensor | None, params: Tensor, layout: MLPLayout, visited: float = 1.0
) -> tuple[Tensor, Tensor | None]:
    """The 2020 network in the precision of its inputs: raw density (N,) and colour (N, 3); see `reference.nerf_mlp`.

    bf16 inputs mean bf16 products with fp32 sums and outputs, fused where `fuses_mlp`. visited: the share of the
    samples that the backward pass visits at most, see `visiting`, where the network is fused or runs on a CPU;
    elsewhere it visits all.
    """
    if xyz.dtype == torch.bfloat16:
        if fuses_mlp(xyz.device, layout):
            from nerf_pl.ops import fused_mlp

            return fused_mlp.nerf_mlp(xyz, dirs, params, layout, visited)
        sigma, rgb = reference.nerf_mlp(xyz, dirs, params.to(torch.bfloat16), layout)
        return sigma.float(), None if rgb is None else rgb.float()
    if visited < 1 and dirs is not None and xyz.device.type == "cpu" and not xyz.requires_grad and xyz.shape[0]:
        return visiting.nerf_mlp(xyz, dirs, params, layout, visited)
    return reference.nerf_mlp(xyz, dirs, params, layout)


def composite(sigmas: Tensor, rgbs: Tensor | None, samples: Samples) -> Pixels:
    """Blend the samples of each ray, front to back (NeRF 2020, eq. 3); see `reference.composite`."""
    if use_kernels(sigmas.device) and sigmas.dtype == torch.float32:
        from nerf_pl.ops import ray_kernels

        return ray_kernels.composite(sigmas, rgbs, samples)
    return reference.composite(sigmas, rgbs, samples)


def resample(t: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Hierarchical sampling (R, S) and (R, M) -> (R, S + M), sorted; see `reference.resample`."""
    if use_kernels(t.device) and t.dtype == torch.float32:
        from nerf_pl.ops import ray_kernels

        return ray_kernels.resample(t, weights, u)
    return reference.resample(t, weights, u)


def hash_field(
    unit: Tensor,
    view: Tensor,
    ray_ids: Tensor,
    table: Tensor,
    params: Tensor,
    grid: GridLayout,
    networks: FieldLayout,
    values: Tensor | None = None,
    count: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Points (N, 3) in the unit cube and directions -> density (N,) and colour (N, 3); see `grid_reference.hash_field`.

    values: a float16 copy of the table, to be read in its place, which runs the kernels; they have no gradient, see
    `field_loss`. count: only the first so many points matter (an integer on the device).
    """
    if values is not None:
        from nerf_pl.ops import field_kernels, grid_kernels

        features = grid_kernels.encode(unit.contiguous(), values, grid, count)
        sigma, rgb = field_kernels.forward(features, view.to(values.dtype), ray_ids, params, networks, count)
        assert rgb is not None
        return sigma, rgb
    return grid_reference.hash_field(unit, view, ray_ids, table, params, grid, networks)


def field_loss(
    unit: Tensor,
    view: Tensor,
    samples: Samples,
    table: Tensor,
    params: Tensor,
    grid: GridLayout,
    networks: FieldLayout,
    aim: Target,
    values: Tensor | None = None,
) -> Tensor:
    """Mean squared error of what the field says of the samples; see `grid_reference.field_loss` and `Target`.

    For the end of a graph: the gradient that comes from above is taken for 1. values: as in `hash_field`.
    """
    given = unit, view, samples, table, params, grid, networks
    if values is not None:
        from nerf_pl.ops import field_op

        return field_op.field_loss(*given, values, aim)
    if aim.share < 1 and len(samples):
        return visiting.field_loss(*given, aim)
    return grid_reference.field_loss(*given, aim)


def hash_density(
    unit: Tensor,
    table: Tensor,
    params: Tensor,
    grid: GridLayout,
    networks: FieldLayout,
    values: Tensor | None = None,
) -> Tensor:
    """Density (N,) alone, without a gradient; see `hash_field`."""
    if values is not None:
        from nerf_pl.ops import field_kernels, grid_kernels

        features = grid_kernels.encode(unit.contiguous(), values, grid, None)
        return field_kernels.forward(features, None, None, params, networks, None)[0]
    return grid_reference.field(grid_reference.hash_grid(unit, table, grid), None, None, params, networks)[0]


def spherical_harmonics(dirs: Tensor, count: Tensor | None = None) -> Tensor:
    """Unit directions (N, 3) -> real spherical harmonics (N, 16), in float16 from a kernel; see
    `grid_reference.spherical_harmonics`. count: as in `hash_field`."""
    if use_kernels(dirs.device):
        from nerf_pl.ops import step_kernels

        return step_kernels.spherical_harmonics(dirs, count)
    return grid_reference.spherical_harmonics(dirs)


def march(
    origins: Tensor,
    directions: Tensor,
    near: Tensor,
    far: Tensor,
    bits: Tensor,
    aabb: Tensor,
    jitter: Tensor,
    stride: Stride,
    batch: Batch | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """t (N,), dt (N,), ray_ids (N,), offsets (R + 1,), points in the unit cube (N, 3) and cells (N,) of the steps in
    occupied cells of a grid.

    See `march_reference.march`. In a training batch no more than a budget of samples come, and rays past it have none;
    see `Batch`. Kernels then return arrays as long as the budget, of which the first offsets[-1] are samples.
    """
    if use_kernels(near.device):
        from nerf_pl.ops import march_kernels as kernels

        return kernels.march(origins, directions, near, far, bits, aabb, jitter, stride, batch)
    return march_reference.march(origins, directions, near, far, bits, aabb, jitter, stride, batch)


def adam(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    half: Tensor | None,
    ok: Tensor,
    lr: float,
    decay: float,
    betas: tuple[float, float],
    step: int,
    eps: float,
    sparse: bool,
) -> None:
    """One step of Adam, in place; see `grid_reference.adam`. half: a copy of p in half precision, written too."""
    if use_kernels(p.device):
        from nerf_pl.ops import step_kernels

        step_kernels.adam(p, g, m, v, half, ok, lr, decay, betas, step, eps, sparse)
    else:
        grid_reference.adam(p, g, m, v, ok, lr, decay, betas, step, eps, sparse)


def draw_pixels(
    images: Tensor,
    c2w: Tensor,
    K: Tensor,
    sizes: Tensor | None,
    allowed: Tensor | None,
    offset: float,
    background: Tensor,
    seed: int,
    step: Tensor,
    stream: int,
    precrop: int,
    within: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Origins, unit directions and colours of random pixels, on a GPU; the twin is in `data.PixelBatches`."""
    from nerf_pl.ops import step_kernels

    given = images, c2w, K, sizes, allowed, offset, background, seed, step, stream, precrop, within
    return step_kernels.draw_pixels(*given)


def advance(
    origins: Tensor,
    directions: Tensor,
    near: Tensor,
    far: Tensor,
    bits: Tensor,
    aabb: Tensor,
    stride: Stride,
    room: int,
) -> "render_kernels.Advance":
    """Rays on their way through a grid on a GPU, for rendering with early stop; see `render_kernels.Advance`."""
    from nerf_pl.ops import render_kernels

    return render_kernels.Advance(origins, directions, near, far, bits, aabb, stride, room)
