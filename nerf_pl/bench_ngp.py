"""What the hash-grid method reaches: quality for training time, the split of a step, frames per second, memory."""

import dataclasses
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from nerf_pl import media, metrics, ops
from nerf_pl.checkpoint import load_model, read_checkpoint
from nerf_pl.config import PRESETS, Config, RunFolders
from nerf_pl.data import PixelBatches
from nerf_pl.models import NGP, Model, make_model
from nerf_pl.scenes import Scene
from nerf_pl.sizes import sized
from nerf_pl.steps import Gradients, fit, make_optimizer
from nerf_pl.system import render_view
from nerf_pl.training import load_split, train

WARM_UP, STEPS, PROFILED = 1000, 500, 64  # steps before, in and after the timing of a step


@dataclass(frozen=True)
class Step:
    """One training step of a model that has trained for WARM_UP steps: milliseconds, what goes through, and the time on
    the device of each kernel, in microseconds; those of the grid's update are spread over the steps between two."""

    ms: float
    rays: int
    samples: int
    rays_per_s: float
    samples_per_s: float
    peak_mib: float | None
    kernels_us: dict[str, float]


@dataclass(frozen=True)
class Views:
    """Mean PSNR and SSIM of rendered views, and how many a second there are: on average, and of the slowest."""

    rays_per_pixel: int
    psnr: float
    ssim: float
    fps: float
    slowest_fps: float


@dataclass(frozen=True)
class Budget:
    """A training run of its own for each budget of seconds: views of a split with the last weights, as they are
    rendered by default and with one ray for each pixel."""

    seconds: float
    steps: int
    views: Views
    fast: Views


def bench_ngp(
    root: Path, out: Path, budgets: Sequence[float], split: str = "test", grid: dict[str, Any] | None = None
) -> tuple[Step, list[Budget]]:
    """Measure and write results.json, table.md and curve.png into `out`. grid: sizes other than the preset's."""
    console = Console(highlight=False, soft_wrap=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    config = PRESETS["ngp"]
    config = dataclasses.replace(config, grid=dataclasses.replace(config.grid, **(grid or {})))
    console.print(f"{name}, torch {torch.__version__}, {ops.path(device)}; {root.name}")
    train_scene = load_split(config, root, "train")
    usual = sized(config, device.type, train_scene.unbounded, train_scene.ndc is not None)
    step = measure_step(usual, train_scene, device)
    console.print(f"  {step.ms:.3f} ms a step, {step.rays} rays, {step.samples} samples")
    scene, results = load_split(config, root, split), []
    for seconds in budgets:
        results.append(_measure_budget(config, root, scene, out / f"run-{seconds:g}", seconds, device))
        b = results[-1]
        for v in (b.views, b.fast):
            console.print(f"  {b.seconds:g} s: {v.psnr:.2f} dB, {v.fps:.0f} views a second, rays {v.rays_per_pixel}")
    _write(out, name, step, results, console)
    return step, results


def measure_step(config: Config, scene: Scene, device: torch.device) -> Step:
    """Time everything of a training step, the optimizer and the grid's updates included."""
    model = make_model(config, device).to(device).train()
    assert isinstance(model, NGP)
    fit(model, scene, device)
    batches = PixelBatches(scene, config.train.batch_size, model.seed, 0, config.grid.random_background).to(device)
    optimizer, gradients = make_optimizer(model, config), Gradients(model, batches)
    model.before_step(0)
    gradients.capture()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()

    def run(first: int, n: int) -> float:
        _wait(device)
        start = time.perf_counter()
        for i in range(first, first + n):
            model.before_step(i)
            gradients()
            optimizer.step()
        _wait(device)
        return (time.perf_counter() - start) / n

    run(0, WARM_UP)
    seconds = run(WARM_UP, STEPS)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None
    kernels = _kernels(lambda: run(WARM_UP + STEPS, PROFILED), PROFILED) if device.type == "cuda" else {}
    rays, samples = int(model.kept), int(model.samples * min(int(model.kept) / max(int(model.active), 1), 1))
    return Step(seconds * 1e3, rays, samples, rays / seconds, samples / seconds, peak, kernels)


def _kernels(run, n: int) -> dict[str, float]:
    """Microseconds on the device for each kernel, per step; what is under half a microsecond is summed up."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as measured:
        run()
    times: dict[str, float] = {}
    for event in measured.key_averages():
        us = event.self_device_time_total / n
        ours = event.key.endswith("_kernel")
        label = (
            event.key if ours else "fills" if "Fill" in event.key or "Memset" in event.key else "small PyTorch kernels"
        )
        times[label] = times.get(label, 0.0) + us
    return dict(sorted(times.items(), key=lambda item: -item[1]))


def _measure_budget(
    config: Config, root: Path, scene: Scene, run: Path, seconds: float, device: torch.device
) -> Budget:
    settings = {"seconds": float(seconds), "exp_name": run.name, "val_views": 1}
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, **settings))
    last = train(config, root, RunFolders.modern(run), overwrite=True)
    model, config, _ = load_model(last, device)
    views = _measure_views(model, config, scene, device)
    model.rays_per_pixel = 1
    fast = _measure_views(model, config, scene, device) if views.rays_per_pixel > 1 else views
    return Budget(seconds, int(read_checkpoint(last)["global_step"]), views, fast)


def _measure_views(model: Model, config: Config, scene: Scene, device: torch.device) -> Views:
    psnr, ssim, times = [], [], []
    for view in range(len(scene)):
        images = render_view(model, scene, view, config.train.chunk, device)
        rgb = torch.from_numpy(media.to_uint8(images["rgb"].cpu())).float() / 255
        psnr.append(float(metrics.psnr(rgb, scene.image(view), scene.mask(view))))
        if min(rgb.shape[:2]) >= 11:  # the window of SSIM
            ssim.append(float(metrics.ssim(rgb, scene.image(view), scene.mask(view))))
    for view in range(len(scene)):  # once more, when everything is compiled
        _wait(device)
        start = time.perf_counter()
        render_view(model, scene, view, config.train.chunk, device)
        _wait(device)
        times.append(time.perf_counter() - start)
    mean_ssim = statistics.mean(ssim) if ssim else float("nan")
    speed = 1 / statistics.mean(times), 1 / max(times)
    return Views(model.rays_per_pixel, statistics.mean(psnr), mean_ssim, *speed)


def _write(out: Path, name: str, step: Step, results: list[Budget], console: Console) -> None:
    table = Table(title=f"ngp on {name}")
    header = ["training, s", "steps", "rays/pixel", "PSNR, dB", "SSIM", "views/s", "slowest view/s"]
    rows = [
        [f"{b.seconds:g}", str(b.steps), str(v.rays_per_pixel), f"{v.psnr:.2f}", f"{v.ssim:.4f}", f"{v.fps:.0f}",
         f"{v.slowest_fps:.0f}"]
        for b in results for v in dict.fromkeys((b.views, b.fast))
    ]  # fmt: skip
    for title in header:
        table.add_column(title)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    peak = "-" if step.peak_mib is None else f"{step.peak_mib:.0f}"
    facts = [
        ["ms a step", f"{step.ms:.3f}"],
        ["rays a step", str(step.rays)],
        ["samples a step", str(step.samples)],
        ["million rays/s", f"{step.rays_per_s / 1e6:.1f}"],
        ["million samples/s", f"{step.samples_per_s / 1e6:.1f}"],
        ["peak MiB", peak],
    ]
    kernels = [[kernel, f"{us:.1f}"] for kernel, us in step.kernels_us.items()]
    parts = [_markdown(header, rows), _markdown(["training", name], facts)]
    if kernels:
        parts.append(_markdown(["kernel", "us a step"], kernels))
    with media.atomic_write(out / "table.md") as path:
        path.write_text("\n".join(parts))
    with media.atomic_write(out / "results.json") as path:
        path.write_text(json.dumps({"step": asdict(step), "budgets": [asdict(b) for b in results]}, indent=2) + "\n")
    if not results:
        return
    try:
        import matplotlib
    except ImportError:
        console.print("no curve.png: pip install matplotlib")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    axes.semilogx([b.seconds for b in results], [b.views.psnr for b in results], "o-")
    axes.set(xlabel="training time, s (a run of its own for each point)", ylabel="PSNR, dB", title=f"ngp on {name}")
    axes.grid(True, which="both", alpha=0.3)
    with media.atomic_write(out / "curve.png") as path:
        figure.savefig(path, format="png", dpi=150)
    pyplot.close(figure)


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, ["---"] * len(header), *rows])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
