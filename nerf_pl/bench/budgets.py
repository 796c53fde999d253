"""Quality for training time, the kernels of a step, frames per second and memory."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from nerf_pl import media, metrics
from nerf_pl.bench.tables import markdown, show
from nerf_pl.bench.timing import Trainer, device_and_name, kernel_times, view_seconds
from nerf_pl.checkpoints import load_model, load_split, load_training, read_checkpoint
from nerf_pl.console import console, progress_lines
from nerf_pl.evaluation.views import WINDOW
from nerf_pl.methods import method_of
from nerf_pl.methods.method import kind_of
from nerf_pl.methods.model import Model
from nerf_pl.options import Config, RunFolders
from nerf_pl.rendering import render_view
from nerf_pl.scenes import Scene
from nerf_pl.training.run import train
from nerf_pl.writing import atomic_write

WARM_UP, STEPS, PROFILED = 1000, 500, 64  # steps before, in and after the timing of a step
PART = 50  # steps of the warm-up between two looks at the clock


@dataclass(frozen=True)
class Step:
    """One training step of a model that has trained for WARM_UP steps.

    kernels_us: the time of each kernel on the device. Work that is due every few steps is spread over all steps.
    """

    ms: float
    rays: int
    samples: int
    rays_per_s: float
    samples_per_s: float
    peak_mib: float | None
    kernels_us: dict[str, float]


@dataclass(frozen=True)
class Views:
    """Mean PSNR and SSIM of rendered views. fps: views a second. slowest_fps: the same for the
    slowest view, or for the slowest group where several are rendered together."""

    rays_per_pixel: int
    psnr: float
    ssim: float
    fps: float
    slowest_fps: float


@dataclass(frozen=True)
class Budget:
    """One training run of so many seconds, and views of a split with its last weights.

    views: rendered as by default. fast: rendered with one ray per pixel.
    """

    seconds: float
    steps: int
    views: Views
    fast: Views


def bench_budgets(
    config: Config, root: Path, out: Path, budgets: Sequence[float], split: str = "test"
) -> tuple[Step, list[Budget]]:
    """Measure a method with these options, and write results.json, table.md and curve.png into `out`."""
    device, name = device_and_name()
    config, scene = load_training(config, root)
    usual = method_of(config.method).complete(config, device.type, kind_of(scene))
    model = method_of(config.method).make(usual, device)
    console.print(f"{name}, torch {torch.__version__}, {model.describe()}; {root.name}")
    step = measure_step(model, usual, scene, device)
    console.print(f"  {step.ms:.3f} ms a step, {step.rays} rays, {step.samples} samples")
    held_out, results = load_split(config, root, split), []
    for seconds in budgets:
        budget = _measure_budget(config, root, held_out, out / f"run-{seconds:g}", seconds, device)
        results.append(budget)
        for v in (budget.views, budget.fast):
            told = f"{v.psnr:.2f} dB, {v.fps:.0f} views a second, rays {v.rays_per_pixel}"
            console.print(f"  {budget.seconds:g} s: {told}")
    _write(out, f"{config.method} on {name}", step, results)
    return step, results


def measure_step(model: Model, config: Config, scene: Scene, device: torch.device) -> Step:
    """Time a training step, with the optimizer and the work that is due between steps."""
    trainer = Trainer(model, config, scene, device)
    for start in progress_lines(range(0, WARM_UP, PART), WARM_UP // PART, f"  parts of the warm-up, {PART} steps each"):
        trainer.seconds(min(PART, WARM_UP - start))
    seconds = trainer.seconds(STEPS)
    peak = trainer.peak_mib()
    kernels = kernel_times(lambda: trainer.seconds(PROFILED), PROFILED) if device.type == "cuda" else {}
    counts = model.counts(trainer.optimizer)
    rays = config.train.batch_size if counts is None else int(counts[0])
    samples = model.samples_in(rays)
    return Step(seconds * 1e3, rays, samples, rays / seconds, samples / seconds, peak, kernels)


def _measure_budget(
    config: Config, root: Path, scene: Scene, folder: Path, seconds: float, device: torch.device
) -> Budget:
    settings = {"seconds": float(seconds), "max_steps": None, "exp_name": folder.name, "val_views": 1}
    last = train(
        replace(config, train=replace(config.train, **settings)), root, RunFolders.modern(folder), overwrite=True
    )
    run = load_model(last, device)
    views = _measure_views(run.model, scene, run.config.train.chunk)
    run.model.rays_per_pixel = 1
    fast = _measure_views(run.model, scene, run.config.train.chunk) if views.rays_per_pixel > 1 else views
    return Budget(seconds, int(read_checkpoint(last)["global_step"]), views, fast)


def _measure_views(model: Model, scene: Scene, chunk: int) -> Views:
    psnr, ssim = [], []
    n = len(scene)
    for i in progress_lines(range(n), n, "  views scored"):
        rgb = torch.from_numpy(media.to_uint8(render_view(model, scene.view(i), chunk).rgb)).float() / 255
        psnr.append(float(metrics.psnr(rgb, scene.image(i), scene.mask(i))))
        if min(rgb.shape[:2]) >= WINDOW:
            ssim.append(float(metrics.ssim(rgb, scene.image(i), scene.mask(i))))
    # once more, now that everything is compiled
    seconds = view_seconds(model, [scene.view(i) for i in range(n)], chunk)
    times = list(progress_lines(seconds, n, "  views timed"))
    mean_ssim = statistics.mean(ssim) if ssim else float("nan")
    speed = 1 / statistics.mean(times), 1 / max(times)
    return Views(model.rays_per_pixel, statistics.mean(psnr), mean_ssim, *speed)


def _write(out: Path, title: str, step: Step, results: list[Budget]) -> None:
    header = ["training, s", "steps", "rays/pixel", "PSNR, dB", "SSIM", "views/s", "slowest view/s"]
    rows = [
        [f"{b.seconds:g}", str(b.steps), str(v.rays_per_pixel), f"{v.psnr:.2f}", f"{v.ssim:.4f}", f"{v.fps:.0f}",
         f"{v.slowest_fps:.0f}"]
        for b in results for v in dict.fromkeys((b.views, b.fast))
    ]  # fmt: skip
    show(title, header, rows)
    facts = [
        ["ms a step", f"{step.ms:.3f}"],
        ["rays a step", str(step.rays)],
        ["samples a step", str(step.samples)],
        ["million rays/s", f"{step.rays_per_s / 1e6:.1f}"],
        ["million samples/s", f"{step.samples_per_s / 1e6:.1f}"],
        ["peak MiB", "-" if step.peak_mib is None else f"{step.peak_mib:.0f}"],
    ]
    parts = [markdown(header, rows), markdown(["training", title], facts)]
    if step.kernels_us:
        kernels = [[kernel, f"{us:.1f}"] for kernel, us in step.kernels_us.items()]
        parts.append(markdown(["kernel", "us a step"], kernels))
    with atomic_write(out / "table.md") as path:
        path.write_text("\n".join(parts), encoding="utf-8")
    with atomic_write(out / "results.json") as path:
        path.write_text(
            json.dumps({"step": asdict(step), "budgets": [asdict(b) for b in results]}, indent=2) + "\n",
            encoding="utf-8",
        )
    if results:
        _draw_curve(out / "curve.png", title, results)


def _draw_curve(file: Path, title: str, results: list[Budget]) -> None:
    try:
        import matplotlib
    except ImportError:
        console.print("no curve.png: pip install matplotlib")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    axes.semilogx([b.seconds for b in results], [b.views.psnr for b in results], "o-")
    axes.set(xlabel="training time, s (a run of its own for each point)", ylabel="PSNR, dB", title=title)
    axes.grid(True, which="both", alpha=0.3)
    with atomic_write(file) as path:
        figure.savefig(path, format="png", dpi=150)
    pyplot.close(figure)
