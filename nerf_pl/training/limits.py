"""What a training asks of a machine without a GPU, refused before any of it is taken."""

import os

from nerf_pl.errors import UserError
from nerf_pl.methods import method_of
from nerf_pl.options import Config
from nerf_pl.scenes.memory import GB, free_memory, in_gb

LEAST_PROCESSES = 4  # that may train together even on fewer cores
PROCESS = 0.3 * GB  # bytes of a process at the very least: those of PyTorch
PIXEL = 32  # bytes of a ray at the very least, whatever becomes of it: where it starts and goes to, and its colour


def require_processes(count: int) -> None:
    """Raises UserError for more processes on the CPU than can be of use, or than memory has room for."""
    most, free = max(os.cpu_count() or 1, LEAST_PROCESSES), free_memory()
    if count > most:
        raise UserError(f"--num_gpus {count} on the CPU starts as many processes: give up to {most}")
    if count > 1 and free is not None and count * PROCESS > free:
        told = f"--num_gpus {count} on the CPU needs {in_gb(count * PROCESS)} of memory, and {in_gb(free)} are free"
        raise UserError(f"{told}: give fewer")


def require_memory(config: Config, pixels: int) -> None:
    """Raises UserError if the memory of a CPU has no room for a step, or for rendering; see `require_chunk`."""
    _require_rays(config, "batch_size", config.train.batch_size)
    require_chunk(config, pixels)


def require_chunk(config: Config, pixels: int) -> None:
    """Raises UserError if the memory of a CPU has no room for rendering `chunk` of the `pixels` of a view at once.
    What is asked for is the least that they take, so that nothing is refused that might do."""
    _require_rays(config, "chunk", config.train.chunk, min(config.train.chunk, pixels))


def _require_rays(config: Config, option: str, given: int, rays: int | None = None) -> None:
    """rays: as many as are there, if these may be fewer than were given."""
    of_ray, free = PIXEL + method_of(config.method).least_bytes(config.model), free_memory()
    needed = of_ray * (given if rays is None else rays)
    if free is not None and needed > free:
        told = f"--{option} {given}: so many rays at once need {in_gb(needed)} of memory or more"
        raise UserError(f"{told}, and {in_gb(free)} are free: give {max(int(free / of_ray / 8), 1)} or less")
