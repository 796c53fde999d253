"""Speed and memory at the classic setting: 1024 rays, 64 + 64 samples, Adam."""

import dataclasses
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.table import Table

from nerf_pl import metrics, ops, optim
from nerf_pl.config import CLASSIC, Config, ModelOptions
from nerf_pl.data import PixelBatches
from nerf_pl.media import atomic_write
from nerf_pl.models import make_model
from nerf_pl.scenes import Scene, load_scene
from nerf_pl.steps import Gradients
from nerf_pl.system import render_view

WINDOW = 20  # steps between two readings of the clock
RAYS = 1024  # per step
SIZE = 400  # width and height of the training images


@dataclass(frozen=True)
class Result:
    """ms per step: the first window, when every sample still has a gradient, and the median and slowest of all windows
    after the first tenth. Memory in MiB as PyTorch allocated it on the GPU, images included. Seconds to render a view.
    PSNR on the first validation view, so that a fast result is seen to be a right one."""

    precision: str
    first_ms: float
    median_ms: float
    slowest_ms: float
    peak_mib: float | None
    render_s: float
    psnr: float


def bench(
    root: Path, out: Path, precisions: Sequence[Literal["fp32", "tf32", "bf16"]], steps: int, view: int
) -> list[Result]:
    """Measure each precision and write table.md and results.json into `out`. view: size of the rendered view."""
    console = Console(highlight=False, soft_wrap=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    console.print(f"{name}, torch {torch.__version__}, {ops.path(device)}; {root.name}, {steps} steps")
    train, val = (load_scene(root, img_wh=(SIZE, SIZE), split=split) for split in ("train", "val"))
    results = []
    for precision in precisions:
        results.append(_measure(precision, train, val, steps, view, device))
        console.print(f"  {precision}: {results[-1].median_ms:.2f} ms a step")
    table = Table(title=f"classic setting on {name}")
    header = [field.name for field in dataclasses.fields(Result)]
    rows = [[_text(value) for value in dataclasses.astuple(result)] for result in results]
    for title in header:
        table.add_column(title)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    lines = [header, ["---"] * len(header), *rows]
    with atomic_write(out / "table.md") as path:
        path.write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))
    with atomic_write(out / "results.json") as path:
        path.write_text(json.dumps([dataclasses.asdict(result) for result in results], indent=2) + "\n")
    return results


def _text(value: object) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _measure(precision: str, train: Scene, val: Scene, steps: int, size: int, device: torch.device) -> Result:
    options = {"precision": precision, "batch_size": RAYS}
    model_options = ModelOptions(N_samples=64, N_importance=64, noise_std=0.0)
    config: Config = dataclasses.replace(
        CLASSIC, model=model_options, train=dataclasses.replace(CLASSIC.train, **options)
    )
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    model = make_model(config, device).to(device).train()
    batches = PixelBatches(train, config.train.batch_size, model.seed, precrop_steps=500).to(device)
    optimizer = optim.make_optimizer(list(model.parameters()), "adam", config.optim.lr)
    gradients = Gradients(model, batches)
    gradients.capture()
    windows = []
    for _ in range(max(steps // WINDOW, 1)):
        start = time.perf_counter()
        for _ in range(min(WINDOW, steps)):
            gradients()
            optimizer.step()
        _wait(device)
        windows.append((time.perf_counter() - start) / min(WINDOW, steps) * 1000)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None
    counted = windows[len(windows) // 10 :]
    view = render_view(model, val, 0, config.train.chunk, device)["rgb"]
    psnr = float(metrics.psnr(view.cpu(), val.image(0)))
    large = dataclasses.replace(val, cameras=val.cameras.resized(size, size))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        render_view(model, large, 0, config.train.chunk, device)
        _wait(device)
        times.append(time.perf_counter() - start)
    return Result(precision, windows[0], statistics.median(counted), max(counted), peak, statistics.median(times), psnr)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
