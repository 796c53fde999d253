"""THE choice between kernels and their twins, made once in `choose` and handed down as a `Backend`.

Each family of ops is a folder with a file for each way to run it: `reference.py`, the twin in plain PyTorch,
`triton.py`, the kernels for a GPU, and `numba.py`, what a CPU compiles. Another way would be a file beside them, a name
in `File`, and a line in `choose`.
"""

import functools
import importlib
import importlib.util
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import torch

File = Literal["reference", "triton", "numba"]
Precision = Literal["fp32", "tf32", "bf16"]
FAMILIES = ("rays", "mlp", "hash_field", "march", "pixels", "adam")

TENSOR_CORES = (8, 0)  # the first compute capability whose tensor cores multiply bf16: Ampere
LARGE_SHARED_MEMORY = ((9, 0), (10, 0), (10, 3))
"""Compute capabilities of Hopper and of Blackwell in data centres. The tiles of the fused 2020 network need the 227 KB
of shared memory that these have; other GPUs run its twin, on tensor cores all the same."""


@dataclass(frozen=True)
class Backend:
    """Which file of each family runs, and `dtype`, the type in which networks multiply: float32 or bfloat16.

    The default is plain PyTorch in float32. To change one family use `dataclasses.replace`.
    """

    rays: File = "reference"
    mlp: File = "reference"
    hash_field: File = "reference"
    march: File = "reference"
    pixels: File = "reference"
    adam: File = "reference"
    dtype: torch.dtype = torch.float32

    @property
    def uses_kernels(self) -> bool:
        """Whether any family runs as kernels, for a GPU or for a CPU."""
        return any(getattr(self, family) != "reference" for family in FAMILIES)

    def module(self, family: str) -> ModuleType:
        """The file of a family that runs; it is imported at the first call."""
        return _load(family, getattr(self, family))


@functools.cache
def _load(family: str, file: str) -> ModuleType:
    return importlib.import_module(f"nerf_pl.ops.{family}.{file}")


def choose(device: torch.device, precision: str = "auto", deterministic: bool = False) -> Backend:
    """The backend of a run: kernels where there are CUDA and Triton, what Numba compiles on a CPU where it works, the
    twins elsewhere.

    The kernels of the hash grid and its march read and write half precision, so they run with bf16 alone; the fused
    2020 network needs a large shared memory besides. precision: see `precision_of`. deterministic: on a GPU the twins,
    whose sums PyTorch can order; kernels add in an order that the GPU chooses.
    NERF_PL_OPS decides otherwise, see `forced`.
    """
    asked = "reference" if deterministic and device.type == "cuda" else forced()
    half = precision_of(precision, device) == "bf16"
    dtype = torch.bfloat16 if half else torch.float32
    if device.type == "cpu" and not asked and not _numba_fails():
        return Backend(hash_field="numba", march="numba", adam="numba", dtype=dtype)
    kernels = asked == "kernel" or (asked == "" and device.type == "cuda" and _has("triton"))
    fits = device.type != "cuda" or torch.cuda.get_device_capability(device) in LARGE_SHARED_MEMORY
    always: File = "triton" if kernels else "reference"
    in_half: File = "triton" if kernels and half else "reference"
    fused: File = in_half if fits else "reference"
    return Backend(always, fused, in_half, in_half, always, always, dtype)


def forced() -> str:
    """The environment variable NERF_PL_OPS: reference forces the twins, kernel the kernels of a GPU, "" nothing.

    On a CPU those need Triton's interpreter, TRITON_INTERPRET=1, for tests. Raises ValueError for other values.
    """
    asked = os.environ.get("NERF_PL_OPS", "")
    if asked not in ("", "reference", "kernel"):
        raise ValueError(f"NERF_PL_OPS={asked!r}: choose reference or kernel, or unset it")
    return asked


def precision_of(precision: str, device: torch.device) -> Precision:
    """What --precision means on this device. `auto` is bf16 where tensor cores multiply it, and fp32 elsewhere.

    Raises ValueError for an unknown precision.
    """
    if precision == "auto":
        has_cores = device.type == "cuda" and torch.cuda.get_device_capability(device) >= TENSOR_CORES
        return "bf16" if has_cores else "fp32"
    if precision not in ("fp32", "tf32", "bf16"):
        raise ValueError(f"precision={precision!r}: choose auto, fp32, tf32 or bf16")
    return precision


def describe(backend: Backend, device: torch.device, *families: str) -> str:
    """One line that says what runs in these families, or in any if none is given, for the start of a run."""
    files = {getattr(backend, family) for family in families or FAMILIES}
    if "triton" in files:
        return "Triton kernels"
    if "numba" in files:
        return "compiled by Numba"
    if device.type == "cuda" and not _has("triton"):
        return "plain PyTorch (Triton is not installed: pip install triton)"
    if device.type == "cpu" and not forced() and _has("numba") and (reason := _numba_fails()):
        return f"plain PyTorch (Numba does not work: {reason})"
    return "plain PyTorch"


@functools.cache
def _numba_fails() -> str:
    """Why Numba does not work, or "" if it does. It refuses versions of NumPy that it does not know."""
    try:
        importlib.import_module("numba")
    except Exception as error:  # of a package that is damaged or too old, besides ImportError
        return " ".join(str(error).split()) or type(error).__name__
    return ""


@functools.cache
def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
