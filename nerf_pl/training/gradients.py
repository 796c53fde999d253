"""One batch and its gradients, computed or replayed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from nerf_pl.errors import UserError
from nerf_pl.methods.model import Model
from nerf_pl.training.batches import PixelBatches


class Gradients:
    """One batch: its rays, the pixels that the model sees, the loss and its gradients; then the next step number.

    On a GPU a call is the replay of a CUDA graph, with no synchronisation and no memory allocation. `capture` records
    it, one for each number of rays that a pixel can be made of. `error` sums the mean squared error of each step until
    it is zeroed.
    """

    def __init__(self, model: Model, batches: PixelBatches):
        self.model, self.batches = model, batches
        self.error = torch.zeros((), device=model.step.device)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, list[Tensor | None]]] = {}  # and the gradients it writes

    def __call__(self, rays_per_pixel: int = 1) -> None:
        if rays_per_pixel in self._graphs:
            graph, grads = self._graphs[rays_per_pixel]
            graph.replay()
            # Lightning takes gradients off the parameters around a validation; without this, training would end there
            for p, grad in zip(self.model.parameters(), grads, strict=True):
                p.grad = grad
            return
        loss, error = self.model.loss(self.batches(self.model.step, rays_per_pixel))
        for p in self.model.parameters():
            p.grad = None
        loss.backward()
        self.error += error
        self.model.step += 1

    def capture(self, rays_per_pixel: int = 1) -> float:
        """Compile the kernels and, on a GPU, record the graph. The model stays as it was.

        Returns the seconds that a call takes.
        """
        with untouched(self.model):
            self(rays_per_pixel)
            if self.error.is_cuda and self.model.can_be_captured:
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
            self(rays_per_pixel)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # graphs that never run at the same time can share their memory
        pool = next((other.pool() for other, _ in self._graphs.values()), None)
        with torch.cuda.graph(graph, pool=pool):
            self(rays_per_pixel)
        self._graphs[rays_per_pixel] = graph, [p.grad for p in self.model.parameters()]
        self(rays_per_pixel)
        torch.cuda.synchronize()


def take_steps(
    gradients: Gradients,
    optimizer: torch.optim.Optimizer,
    steps: range,
    *,
    begin: Callable[[int], int] = lambda step: 1,
    exchange: Callable[[], None] = lambda: None,
) -> None:
    """The loop of every training.

    begin: called with the number of each step, before it; returns how many rays make up a pixel. exchange: called when
    the gradients are there, before the optimizer takes them.
    """
    for step in steps:
        rays_per_pixel = begin(step)
        gradients.model.before_step(step)
        gradients(rays_per_pixel)
        exchange()
        optimizer.step()


@contextmanager
def untouched(model: Model) -> Iterator[None]:
    """Puts the model's buffers back to what they were, so that what is called to compile kernels leaves no trace."""
    before = {name: value.clone() for name, value in model.named_buffers()}
    try:
        yield
    finally:
        for name, value in model.named_buffers():
            value.copy_(before[name])


@contextmanager
def memory_advice(model: Model) -> Iterator[None]:
    """Says which options to lower where the memory of a GPU, or that on its chip, does not suffice."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        told = f"out of GPU memory in training: lower {model.memory_options}"
        raise torch.OutOfMemoryError(f"{told} ({_first_line(error)})") from error
    except Exception as error:
        if type(error).__name__ != "OutOfResources":  # Triton's, which need not be installed
            raise
        remedy = f"lower {model.chip_options}, or give --precision fp32 for plain PyTorch"
        told = f"the networks do not fit into this GPU's on-chip memory: {remedy}"
        raise UserError(f"{told} ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else "no details"
