"""Speed and memory at the classic setting: 1024 rays, 64 + 64 samples, Adam."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import Literal

import torch

from nerf_pl import metrics
from nerf_pl.bench.tables import markdown, number, show
from nerf_pl.bench.timing import Trainer, device_and_name, view_seconds
from nerf_pl.console import console, progress_lines
from nerf_pl.methods import CLASSIC, method_of
from nerf_pl.ops import choose, describe
from nerf_pl.rendering import render_view
from nerf_pl.scenes import Request, Scene, load_scene
from nerf_pl.writing import atomic_write

WINDOW = 20  # steps between two readings of the clock
RAYS = 1024  # per step
SIZE = 400  # width and height of the training images


@dataclass(frozen=True)
class Result:
    """Figures of one precision.

    first_ms: milliseconds per step in the first window, when every sample still has a gradient. median_ms, slowest_ms:
    of all windows after the first tenth. peak_mib: memory that PyTorch allocated on the GPU, images included. render_s:
    seconds to render a view. psnr: of the first validation view, to show that the fast result is right.
    """

    precision: str
    first_ms: float
    median_ms: float
    slowest_ms: float
    peak_mib: float | None
    render_s: float
    psnr: float


def bench_classic(
    root: Path, out: Path, precisions: Sequence[Literal["fp32", "tf32", "bf16"]], steps: int, view: int
) -> list[Result]:
    """Measure each precision and write table.md and results.json into `out`. view: size of the rendered view."""
    device, name = device_and_name()
    path = describe(choose(device), device, "rays", "mlp")
    console.print(f"{name}, torch {torch.__version__}, {path}; {root.name}, {steps} steps")
    offset = method_of(CLASSIC.method).pixel_offset("blender")
    requests = (Request(split, (SIZE, SIZE), pixel_offset=offset) for split in ("train", "val"))
    train, val = (load_scene(root, request) for request in requests)
    results = []
    for precision in precisions:
        results.append(_measure(precision, train, val, steps, view, device))
        console.print(f"  {precision}: {results[-1].median_ms:.2f} ms a step")
    header = [field.name for field in fields(Result)]
    rows = [[number(value) for value in astuple(result)] for result in results]
    show(f"classic setting on {name}", header, rows)
    with atomic_write(out / "table.md") as path:
        path.write_text(markdown(header, rows), encoding="utf-8")
    with atomic_write(out / "results.json") as path:
        path.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n", encoding="utf-8")
    return results


def _measure(
    precision: Literal["fp32", "tf32", "bf16"], train: Scene, val: Scene, steps: int, size: int, device: torch.device
) -> Result:
    options = replace(CLASSIC.train, precision=precision, batch_size=RAYS)
    config = replace(CLASSIC, model=replace(CLASSIC.model, N_importance=64, noise_std=0.0), train=options)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    trainer = Trainer(method_of(config.method).make(config, device), config, train, device)
    n = min(WINDOW, steps)
    parts = progress_lines(range(steps // n), steps // n, f"  {precision}, windows of {n} steps")
    windows = [trainer.seconds(n) * 1000 for _ in parts]
    peak, counted = trainer.peak_mib(), windows[len(windows) // 10 :]
    chunk = options.chunk
    picture = render_view(trainer.model, val.view(0), chunk).rgb
    psnr = float(metrics.psnr(picture.cpu(), val.image(0)))
    large = replace(val.view(0), camera=val.view(0).camera.resized(size, size))
    renderings = progress_lines(range(3), 3, f"  {precision}, renderings of a view of {size}x{size}")
    seconds = statistics.median(next(view_seconds(trainer.model, [large], chunk)) for _ in renderings)
    return Result(precision, windows[0], statistics.median(counted), max(counted), peak, seconds, psnr)
