"""Whether the kernels compute right gradients for networks whose sizes are not the usual ones.

The assembler of Triton 3.6 makes wrong code of some sizes on Hopper, which no error tells (docs/log.md). `nerf doctor`
compares the usual ones, and so do the tests on a GPU. A training of others compares its own before its first step.
"""

from collections.abc import Iterator

import torch

from nerf_pl.errors import UserError
from nerf_pl.ops import Backend, FieldLayout, GridLayout
from nerf_pl.ops.hash_field.comparison import gradient_error

USUAL = {"levels": (8,), "features": (4,), "hidden": (64,), "outputs": (16,), "colour_hidden": (64, 128)}
SMALL = 12  # the binary logarithm of the entries of a level, which no network depends on
LIMIT = 0.1  # half precision makes up to 0.06 at odd sizes, wrong code 0.17 and more (docs/log.md)


def require_right_gradients(grid: GridLayout, networks: FieldLayout, backend: Backend, device: torch.device) -> None:
    """Compare the gradients of a small batch with those of plain PyTorch in float64, if a size is not a usual one.

    Raises UserError if they are wrong. What the device has no room for is raised as it is.
    """
    given = " ".join(_unusual(grid, networks))
    if backend.hash_field != "triton" or not given:
        return
    few = GridLayout(grid.levels, grid.features, min(grid.log2_size, SMALL), grid.base, grid.finest)
    try:
        error = gradient_error(backend, few, networks, device)
    except RuntimeError as problem:
        if "illegal" not in str(problem):
            raise
        error = float("inf")
    if not error <= LIMIT:
        told = f"with {given} the GPU kernels compute wrong gradients on {_told(device)}"
        raise UserError(f"{told}: leave out {given}, or give --precision fp32 for plain PyTorch")


def _unusual(grid: GridLayout, networks: FieldLayout) -> Iterator[str]:
    """The options of sizes that are not usual ones."""
    sizes = {"levels": grid.levels, "features": grid.features, "hidden": networks.hidden, "outputs": networks.outputs}
    for name, value in {**sizes, "colour_hidden": networks.colour_hidden}.items():
        if value not in USUAL[name]:
            yield f"--{name} {value}"


def _told(device: torch.device) -> str:
    import triton

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this machine"
    return f"{name} with Triton {triton.__version__}"
