"""One batch and its gradients, computed or replayed as a CUDA graph; and the loop of every training."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from nerf_pl.errors import UserError
from nerf_pl.methods.model import Model
from nerf_pl.training.batches import PixelBatches
from nerf_pl.training.colours import ColourFit


@dataclass(frozen=True)
class Recorded:
    """A step as a CUDA graph, and the gradients that it writes."""

    graph: torch.cuda.CUDAGraph
    gradients: list[Tensor | None]


class Gradients:
    """A call computes one batch, its loss and its gradients, and advances the number of the step.

    On a GPU a call replays a CUDA graph, with no synchronisation and no memory allocation. `capture` records one graph
    for each part of the model and number of rays per pixel. `error` sums the mean squared errors of the steps until it
    is zeroed.
    """

    def __init__(self, model: Model, batches: PixelBatches):
        self.model, self.batches = model, batches
        self.error = torch.zeros((), device=model.step.device)
        self._graphs: dict[tuple[int, int], Recorded] = {}  # by the seed of the part and the rays per pixel

    def __call__(self, rays_per_pixel: int = 1, part: Model | None = None) -> None:
        """A batch for a part of the model, by default the one whose turn it is. The other parts have no gradients
        then."""
        part = part or self.model.in_turn
        if (recorded := self._graphs.get((part.seed, rays_per_pixel))) is not None:
            self._replay(part, recorded)
            return
        loss, error = part.loss(self.batches(part.step, rays_per_pixel, part.seed))
        self._forget()
        loss.backward()
        if self.batches.colours is not None:
            self.batches.colours.adapt()
        self.error += error
        part.step += 1
        if part is not self.model:
            self.model.step += 1

    def _replay(self, part: Model, recorded: Recorded) -> None:
        self._forget()
        recorded.graph.replay()
        # Lightning removes gradients around a validation; without this, no weight would move after it
        for p, grad in zip(part.parameters(), recorded.gradients, strict=True):
            p.grad = grad

    def _forget(self) -> None:
        for p in self.model.parameters():
            p.grad = None

    def is_captured(self, rays_per_pixel: int) -> bool:
        """Whether there is a graph for pixels of so many rays."""
        return all((part.seed, rays_per_pixel) in self._graphs for part in self.model.parts)

    def capture(self, rays_per_pixel: int = 1) -> float:
        """Compile the kernels and, on a GPU, record the graph. Returns the seconds of a call. No weight moves."""
        with untouched(self.model, self.batches.colours):
            for part in self.model.parts:
                self(rays_per_pixel, part)
                if self.error.is_cuda and self.model.can_be_captured:
                    self._record(part, rays_per_pixel)
            start = time.perf_counter()
            self(rays_per_pixel)
            self.error.item()
            seconds = time.perf_counter() - start
        self.error.zero_()
        return seconds

    def _record(self, part: Model, rays_per_pixel: int) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # once more: a first call on another stream may still set things up
            self(rays_per_pixel, part)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # graphs that never run at the same time can share their memory
        pool = next((other.graph.pool() for other in self._graphs.values()), None)
        with torch.cuda.graph(graph, pool=pool):
            self(rays_per_pixel, part)
        self._graphs[part.seed, rays_per_pixel] = Recorded(graph, [p.grad for p in part.parameters()])
        graph.replay()
        torch.cuda.synchronize()


def take_steps(
    gradients: Gradients,
    optimizer: torch.optim.Optimizer,
    steps: range,
    *,
    begin: Callable[[int], int] = lambda step: 1,
    exchange: Callable[[], None] = lambda: None,
    end: Callable[[int], None] = lambda steps: None,
) -> None:
    """The loop of every training.

    begin: called before each step with its number; returns the rays per pixel. exchange: called after the gradients are
    computed and before the optimizer uses them. end: called after each step with the number of steps taken so far.
    """
    for step in steps:
        rays_per_pixel = begin(step)
        gradients.model.before_step(step)
        gradients(rays_per_pixel)
        exchange()
        optimizer.step()
        end(step + 1)


@contextmanager
def untouched(model: Model, colours: ColourFit | None = None) -> Iterator[None]:
    """Restores buffers at the end, so that a call that only compiles kernels leaves no trace."""
    buffers = [value for _, value in model.named_buffers()]
    buffers += [] if colours is None else [*colours.parameters(), *colours.buffers()]
    before = [value.detach().clone() for value in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for value, old in zip(buffers, before, strict=True):
                value.copy_(old)


@contextmanager
def memory_advice(model: Model) -> Iterator[None]:
    """Tells which options to lower if the memory of a GPU, or its on-chip memory, does not suffice."""
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
