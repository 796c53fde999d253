"""Time and memory of training steps and views."""

import time
from collections.abc import Callable, Iterator, Sequence

import torch

from nerf_pl.cameras import View
from nerf_pl.methods.model import Model
from nerf_pl.options import Config
from nerf_pl.rendering import groups_of, render_together
from nerf_pl.scenes import Scene
from nerf_pl.training.batches import PixelBatches
from nerf_pl.training.gradients import Gradients, take_steps


class Trainer:
    """A model in training without Lightning, on a device, ready for its first step."""

    def __init__(self, model: Model, config: Config, scene: Scene, device: torch.device):
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        self.model, self.device = model.to(device).train(), device
        model.fit(scene)
        model.go_on(0)
        draw = {"precrop_steps": model.precrop_steps, "random_until": model.random_until}
        limits = {"backend": model.backend, "limit": model.batch_limit}
        batches = PixelBatches(scene, config.train.batch_size, model.seed, **draw, **limits).to(device)
        self.optimizer, self.gradients = model.make_optimizer(config.optim), Gradients(model, batches)
        model.before_step(0)
        self.gradients.capture()
        self.step = 0

    def seconds(self, n_steps: int) -> float:
        """Take n_steps steps. Returns the seconds of one."""
        steps = range(self.step, self.step + n_steps)
        self.step = steps.stop
        return timed(lambda: take_steps(self.gradients, self.optimizer, steps), self.device) / n_steps

    def peak_mib(self) -> float | None:
        """The most memory that PyTorch allocated on the GPU, images included. None on a CPU."""
        return torch.cuda.max_memory_allocated() / 2**20 if self.device.type == "cuda" else None


def view_seconds(model: Model, views: Sequence[View], chunk: int) -> Iterator[float]:
    """Seconds that each of the views takes. They are rendered as for a film; of views that are rendered together each
    takes as long."""
    for group in groups_of(model, views, chunk):
        seconds = timed(lambda group=group: render_together(model, group, chunk), model.step.device)
        yield from [seconds / len(group)] * len(group)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that a call takes, until the device has done all of it."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def device_and_name() -> tuple[torch.device, str]:
    """Where to measure: the GPU if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.cuda.get_device_name()
    return torch.device("cpu"), "CPU"


def kernel_times(work: Callable[[], object], n_steps: int) -> dict[str, float]:
    """Microseconds per step of each kernel on the GPU, in work of n_steps steps. PyTorch's kernels are summed up."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as measured:
        work()
    times: dict[str, float] = {}
    for event in measured.key_averages():
        fills = "fills" if "Fill" in event.key or "Memset" in event.key else "small PyTorch kernels"
        label = event.key if event.key.endswith("_kernel") else fills
        times[label] = times.get(label, 0.0) + event.self_device_time_total / n_steps
    return dict(sorted(times.items(), key=lambda item: -item[1]))
