"""The public ops. Each runs as a Triton kernel on a GPU and as its plain-PyTorch twin (`reference`) elsewhere.

NERF_PL_OPS=reference forces the twins, NERF_PL_OPS=kernel the kernels (on a CPU that needs Triton's interpreter,
TRITON_INTERPRET=1, and is for tests).
"""

import functools
import importlib.util
import os

import torch
from torch import Tensor

from nerf_pl.ops import reference, visiting
from nerf_pl.ops.layout import MLPLayout, encoded_width
from nerf_pl.types import Pixels, Samples

__all__ = ["MLPLayout", "composite", "encoded_width", "frequency", "nerf_mlp", "path", "random_bits", "resample"]


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
