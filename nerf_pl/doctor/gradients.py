"""Whether trainings of the hash field would get right gradients on this GPU; see `ops.hash_field.comparison`."""

import time
from collections.abc import Iterator

import torch

from nerf_pl.doctor.kernels import Compared
from nerf_pl.ops import Backend, FieldLayout, GridLayout
from nerf_pl.ops.hash_field.comparison import LIMIT, gradient_error, half_of

NAME = "gradients"
GRID = GridLayout(levels=8, features=4, log2_size=12, base=4, finest=64)  # as wide as that of a training on a GPU
WIDTHS = (128, 64)  # of the colour network; not all GPUs have room for the first one, and train with the second


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
            networks = FieldLayout(GRID.width, 64, 16, view, width)
            try:
                yield gradient_error(backend, GRID, networks, device, smoothness)
            except Exception as problem:
                if type(problem).__name__ != "OutOfResources" or width == WIDTHS[-1]:
                    raise
