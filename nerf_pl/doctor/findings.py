"""What is installed, on which machine, and one line of advice where something could be better."""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from nerf_pl.extras import EXTRAS
from nerf_pl.ops import choose, describe, precision_of
from nerf_pl.report.history import machine, versions
from nerf_pl.scenes.memory import GB, free_memory, in_gb
from nerf_pl.version import VERSION

VARIABLES = ("NERF_PL_OPS", "NERF_PL_DATA", "CUDA_VISIBLE_DEVICES", "TRITON_INTERPRET", "OMP_NUM_THREADS", "CC")
DRIVERS = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")  # of NVIDIA GPUs, on Linux and in WSL
COMPILERS = ("cc", "gcc", "clang", "cl")
LITTLE_MEMORY, LITTLE_GPU_MEMORY, LITTLE_DISK = 4 * GB, 2 * GB, 2 * GB
PROGRAM = "nerf"
DISTRIBUTIONS = {"skimage": "scikit-image", "fast_simplification": "fast-simplification", "pillow_heif": "pillow-heif"}


@dataclass(frozen=True)
class Finding:
    """advice: what to do about it; "" if nothing is to be done. is_wrong: whether something does not work."""

    name: str
    value: str
    advice: str = ""
    is_wrong: bool = False


def findings(device: torch.device) -> Iterator[Finding]:
    """All there is to tell about this machine, one by one. device: where a training would run by default."""
    yield Finding("nerf_pl", f"{VERSION}, in {Path(__file__).parents[1]}")
    yield command()
    yield Finding("system", f"{platform.platform()}; Python {platform.python_version()} in {sys.prefix}")
    yield Finding("machine", machine(torch.cuda.device_count()))
    yield Finding("versions", ", ".join(f"{name} {number}" for name, number in versions().items() if name != "nerf_pl"))
    yield gpu(device)
    yield arithmetic(device)
    yield compiler(device)
    yield memory()
    yield disk(Path.cwd())
    yield extras()
    found = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
    yield Finding("environment", ", ".join(found) or "no variable that matters is set")


def command() -> Finding:
    """Where the command is, and what to do if the shell does not find it."""
    beside = Path(sys.executable).with_name(PROGRAM)
    if found := shutil.which(PROGRAM):
        return Finding("command", found)
    if beside.is_file():
        advice = f"type {beside}, or first: source {beside.with_name('activate')}"
        return Finding("command", f"{beside}, not on the PATH", advice)
    return Finding("command", "not installed", "pip install . beside pyproject.toml; python -m nerf_pl works, too")


def gpu(device: torch.device) -> Finding:
    """The GPU that a training would use."""
    if device.type == "cuda":
        name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
        free, total = torch.cuda.mem_get_info(device)
        told = f"{name}, compute capability {capability[0]}.{capability[1]}, {in_gb(free)} of {in_gb(total)} free"
        advice = "end what else uses it, or train with --log2_size 19 --samples 131072"
        return Finding("GPU", told, advice if free < LITTLE_GPU_MEMORY else "")
    if any(Path(file).exists() for file in DRIVERS) or shutil.which("nvidia-smi"):
        built = f"torch {torch.__version__}, {'CUDA ' + torch.version.cuda if torch.version.cuda else 'a CPU build'}"
        remedy = "check nvidia-smi and the driver" if torch.version.cuda else "install a CUDA build, see pytorch.org"
        return Finding("GPU", f"an NVIDIA driver is here, but PyTorch sees no GPU ({built})", remedy, is_wrong=True)
    if device.type == "mps":
        return Finding("GPU", "Apple's, through plain PyTorch (--accelerator mps)")
    return Finding("GPU", "none", "trainings run on the CPU: a minute or two by default")


def arithmetic(device: torch.device) -> Finding:
    """Which kernels run, in which precision."""
    backend = choose(device)
    told = f"{describe(backend, device)}, products in {precision_of('auto', device)}"
    if importlib.util.find_spec("triton") is None:
        advice = "pip install triton, or triton-windows on Windows" if device.type == "cuda" else ""
        return Finding("kernels", f"{told}; Triton is not installed", advice, is_wrong=bool(advice))
    advice = ""
    if os.environ.get("NERF_PL_OPS") == "reference" and device.type != "mps":
        advice = "unset NERF_PL_OPS for the speed of the kernels"
    elif device.type == "cpu" and not backend.uses_kernels:
        advice = 'pip install "nerf_pl[cpu]": Numba halves the time of a training of ngp'
    return Finding("kernels", told, advice)


def compiler(device: torch.device) -> Finding:
    """The C compiler with which Triton builds what starts its kernels."""
    names = [os.environ["CC"]] if os.environ.get("CC") else COMPILERS
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found:
        return Finding("C compiler", found)
    if device.type == "cuda":
        told = f"none: no {', '.join(names)} on the PATH"
        return Finding("C compiler", told, "Triton needs one: sudo apt install gcc, or set CC", is_wrong=True)
    return Finding("C compiler", "none, and none is needed without a GPU")


def memory() -> Finding:
    """Free main memory, which holds the pictures on a CPU."""
    free = free_memory()
    if free is None:
        return Finding("memory", "this system does not say how much is free")
    little = "close other programs, or train with --downscale 2" if free < LITTLE_MEMORY else ""
    return Finding("memory", f"{in_gb(free)} free", little)


def disk(folder: Path) -> Finding:
    """Space for runs, which go to the folder where a command is started."""
    free = shutil.disk_usage(folder).free
    little = "a run takes up to a gigabyte: free some space" if free < LITTLE_DISK else ""
    written = "" if os.access(folder, os.W_OK) else "; it is not writable"
    advice = little or ("go to another folder" if written else "")
    return Finding("disk", f"{in_gb(free)} free in {folder}{written}", advice)


def extras() -> Finding:
    """The packages of the extras."""
    there, missing = [], set()
    for package, name in EXTRAS.items():
        try:
            there.append(f"{package} {version(DISTRIBUTIONS.get(package, package))}")
        except PackageNotFoundError:
            missing.add(name)
    advice = f'what needs {" or ".join(sorted(missing))}: pip install "nerf_pl[{",".join(sorted(missing))}]"'
    return Finding("extras", ", ".join(there) or "none", advice if missing else "")
