"""What a training step is made of, whoever drives it: gradients on the device, the optimizer, the fit to a scene."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from nerf_pl import optim
from nerf_pl.config import Config
from nerf_pl.data import PixelBatches
from nerf_pl.errors import UserError
from nerf_pl.hull import possible_cells
from nerf_pl.models import NGP, Model
from nerf_pl.scenes import Scene

CPU_MASKS = 20  # views whose masks tell a CPU where the scene is


class Gradients:
    """One batch: its rays, the pixels that the model sees, the loss and its gradients; then the next step number.

    On a GPU a call is the replay of a CUDA graph, with no synchronisation and no memory allocation; `capture` records
    it, one for each number of rays that a pixel can be made of. `error` sums the squared error of the finest level
    until it is zeroed.
    """

    def __init__(self, model: Model, batches: PixelBatches):
        self.model, self.batches = model, batches
        self.error = torch.zeros((), device=model.step.device)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, list[Tensor | None]]] = {}  # and the gradients it writes

    def __call__(self, rays_per_pixel: int = 1) -> None:
        if rays_per_pixel not in self._graphs:
            self._compute(rays_per_pixel)
            return
        graph, grads = self._graphs[rays_per_pixel]
        graph.replay()
        # Lightning takes gradients off the parameters around a validation; without this, training would end there
        for p, grad in zip(self.model.parameters(), grads, strict=True):
            p.grad = grad

    def capture(self, rays_per_pixel: int = 1) -> float:
        """Compile the kernels and, on a GPU, record the graph; returns the seconds of one call. The model stays as it
        was."""
        with untouched(self.model):
            self._compute(rays_per_pixel)
            if self.error.is_cuda and not is_plain(self.model):
                self._record(rays_per_pixel)
            start = time.perf_counter()
            self(rays_per_pixel)
            self.error.item()
            seconds = time.perf_counter() - start
        self.error.zero_()
        return seconds

    def _record(self, rays_per_pixel: int) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # once more, since a first call on another stream may still set things up
            self._compute(rays_per_pixel)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # graphs that never run at the same time can share their memory
        pool = next((other.pool() for other, _ in self._graphs.values()), None)
        with torch.cuda.graph(graph, pool=pool):
            self._compute(rays_per_pixel)
        self._graphs[rays_per_pixel] = graph, [p.grad for p in self.model.parameters()]
        self(rays_per_pixel)
        torch.cuda.synchronize()

    def _compute(self, rays_per_pixel: int) -> None:
        loss, error = self.model.loss(*self.batches(self.model.step, rays_per_pixel))
        for p in self.model.parameters():
            p.grad = None
        loss.backward()
        self.error += error
        self.model.step += 1


def is_plain(model: Model) -> bool:
    """Whether ngp runs in plain PyTorch. The sizes of its tensors then follow from values, so that no CUDA graph can
    record a step."""
    return isinstance(model, NGP) and model.is_plain


@contextmanager
def untouched(model: Model) -> Iterator[None]:
    """Puts the model's buffers back to what they were, so that what is called to compile kernels leaves no trace."""
    before = {name: value.clone() for name, value in model.named_buffers()}
    yield
    for name, value in model.named_buffers():
        value.copy_(before[name])


@contextmanager
def memory_advice(model: Model) -> Iterator[None]:
    """Says which options to lower where the memory of a GPU, or that on its chip, does not suffice."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        options = "--samples, --log2_size or --batch_size" if isinstance(model, NGP) else "--batch_size"
        raise torch.OutOfMemoryError(
            f"out of GPU memory in training: lower {options} ({_first_line(error)})"
        ) from error
    except Exception as error:
        if type(error).__name__ != "OutOfResources":  # Triton's, which need not be installed
            raise
        remedy = "lower --colour_hidden or --hidden, or give --precision fp32 for plain PyTorch"
        raise UserError(
            f"the networks do not fit into this GPU's on-chip memory: {remedy} ({_first_line(error)})"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else "no details"


def make_optimizer(model: Model, config: Config) -> torch.optim.Optimizer:
    """The optimizer that the options ask for; ngp has its own kind of Adam."""
    o = config.optim
    if isinstance(model, NGP):
        field = model.field
        copies: dict[Tensor, Tensor] = {} if field.values is None else {field.table: field.values}
        rate = 1.0 if config.grid.network_rate is None else config.grid.network_rate
        return optim.GridAdam([field.table], [field.params], o.lr, o.weight_decay, copies, network_rate=rate)
    return optim.make_optimizer(list(model.parameters()), o.optimizer, o.lr, o.momentum, o.weight_decay)


def fit(model: NGP, scene: Scene, device: torch.device, keep_box: bool = False) -> None:
    """Fit the model's box and grid to a scene: on a CPU by the masks of some views, for time's sake.

    keep_box: the model has weights already, which mean nothing in another box; only the cells are found anew.
    """
    every = 1 if device.type == "cuda" else max(len(scene) // CPU_MASKS, 1)
    masks = scene.images[::every, ..., 3].to(device) > 0 if scene.images.shape[-1] == 4 else None
    cameras, grid = scene.cameras[::every], model.occupancy
    if keep_box and scene.ndc is None:
        grid.restrict(possible_cells(cameras.to(device), masks, grid.aabb, grid.size, grid.unbounded))
    else:
        model.fit(replace(scene, cameras=cameras), masks)
