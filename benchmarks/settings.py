"""Choose settings: train many variants on many scenes, several at once on each GPU, and print one table.

    python benchmarks/settings.py JOBS.json RESULTS.jsonl --workers 4

JOBS.json is a list of trainings, one for each row and scene of the table:

    [{"scene": "data/fox", "name": "usual", "steps": 24000},
     {"scene": "data/fox", "name": "c 0.03", "steps": 24000, "options": {"charbonnier": 0.03}}]

scene: a folder, or a file that `pack` made. name: of its row. steps or seconds: its length; several trainings at once
share a GPU, so give seconds with `--workers 1` alone. options, optim, train: options of `nerf train`, those of the
method first; colours are fitted if train has fit_colours. method: ngp by default. seed: trainings that differ in
nothing else are averaged. constants: values for attributes of modules, as
{"nerf_pl.methods.ngp.optimizer.EPS": 1e-8}. pictures: a folder for what is rendered.

Views are held out of the training split alone, so that the test views stay unseen until everything is chosen: every
8th of them, from the one with the number `hold` on. few: trains on every third of the rest. test: judges by the test
views instead, and trains on all others.

RESULTS.jsonl gets a line for each training as it ends. On a CPU --workers is the number of trainings in all.
"""

import argparse
import importlib
import io
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from nerf_pl import media, metrics
from nerf_pl.methods import METHODS
from nerf_pl.methods.method import kind_of
from nerf_pl.methods.model import Model
from nerf_pl.options import EPOCHS, Config
from nerf_pl.rendering import render_view
from nerf_pl.scenes import Request, Scene, load_scene, some_views
from nerf_pl.training.batches import PixelBatches
from nerf_pl.training.gradients import Gradients, take_steps
from nerf_pl.training.schedule import lr_factor
from nerf_pl.training.system import LATE_STEPS, is_late

EVERY = 8  # of the views are held out
HOLD = 3  # the first of them
FEW = 3  # of the views that are left, one is trained on, if there are to be few
KEYS = {
    "scene", "name", "steps", "seconds", "options", "optim", "train", "method", "seed", "constants", "pictures", "hold",
    "few", "test",
}  # fmt: skip
CHUNK = 200  # steps between two looks at the clock


def fault(job: Mapping[str, Any]) -> str | None:
    """What is wrong with a training, if something is."""
    if unknown := sorted(set(job) - KEYS):
        return f"a training has {unknown[0]!r}, which is not known: {', '.join(sorted(KEYS))} are"
    if "scene" not in job or "name" not in job or ("steps" in job) == ("seconds" in job):
        return f"give a scene, a name, and either steps or seconds: {json.dumps(job):.100}"
    return None


def pack(scene: Scene, path: Path, quality: int = 95) -> None:
    """Write a scene into one small file, its pictures as JPEG."""
    from PIL import Image

    pictures = []
    for image in scene.images[..., :3]:
        buffer = io.BytesIO()
        Image.fromarray(image.numpy()).save(buffer, "jpeg", quality=quality, subsampling=0)
        pictures.append(buffer.getvalue())
    held = {"scene": replace(scene, images=scene.images[:0].clone()), "pictures": pictures}
    torch.save(held, path, pickle_protocol=4)  # the usual 2 writes bytes as text, which takes half as much again


def unpack(path: Path) -> Scene:
    """The inverse of `pack`. The file must be of one's own making: unpickling runs what is in it."""
    import numpy as np
    from PIL import Image

    held = torch.load(path, weights_only=False)
    images = [torch.from_numpy(np.array(Image.open(io.BytesIO(data)))) for data in held["pictures"]]
    return replace(held["scene"], images=torch.stack(images))


def loaded(path: str, part: str = "train") -> Scene:
    """A split of a scene. That of NAME.pt with the test views is NAME_test.pt."""
    if not path.endswith(".pt"):
        return load_scene(path, Request(part))
    file = Path(path)
    return unpack(file if part == "train" else file.with_name(f"{file.stem}_test.pt"))


def split(scene: Scene, job: Mapping[str, Any]) -> tuple[Scene, Scene]:
    """The views to train on, and those to judge by."""
    if job.get("test"):
        return scene, loaded(job["scene"], "test")
    first, n = job.get("hold", HOLD), len(scene)
    held = [i for i in range(n) if i % EVERY == first]
    left = [i for i in range(n) if i % EVERY != first]
    left = left[::FEW] if job.get("few") else left
    return some_views(scene, torch.tensor(left)), some_views(scene, torch.tensor(held))


def run(job: Mapping[str, Any], scene: Scene, device: torch.device) -> dict[str, Any]:
    """Train once. Returns the scores."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    train, held = split(scene, job)
    config = complete(job, train, device)
    epochs, seconds, steps = config.train.num_epochs or EPOCHS, job.get("seconds", math.inf), job.get("steps")
    model, gradients, optimizer = prepared(config, train, device)
    late = LATE_STEPS * len(model.parts)
    start, done, at, error = time.perf_counter(), 0.0, 0, math.nan

    def begin(step: int) -> int:
        share = step / steps if steps else done
        for group in optimizer.param_groups:
            group["lr"] = config.optim.lr * lr_factor(config.optim, share * epochs, epochs)
        gradients.batches.advance(share)
        return model.rays_per_pixel if is_late(share, step, late) else 1

    while done < 1:
        n = min(CHUNK, steps - at) if steps else CHUNK
        take_steps(gradients, optimizer, range(at, at + n), begin=begin)
        at, error = at + n, float(gradients.error) / n  # waits for the device, so the clock is right
        gradients.error.zero_()
        done = at / steps if steps else (time.perf_counter() - start) / seconds
    spent, counts = time.perf_counter() - start, model.counts(optimizer)
    return {
        **score(model, held, job.get("pictures")),
        "train": -10 * math.log10(max(error, 1e-12)),
        "steps": at,
        "ms": 1e3 * spent / at,
        "rays": None if counts is None else int(counts[0]),
        "memory": torch.cuda.max_memory_allocated() // 2**20 if device.type == "cuda" else None,
    }


def complete(job: Mapping[str, Any], train: Scene, device: torch.device) -> Config:
    """The options of a training."""
    method = METHODS[job.get("method", "ngp")]
    preset, seed = method.preset, job.get("seed", 0)
    length = {"seconds": job.get("seconds"), "max_steps": job.get("steps"), "seed": seed}
    config = replace(
        preset,
        model=replace(preset.model, **job.get("options", {})),
        optim=replace(preset.optim, **job.get("optim", {})),
        train=replace(preset.train, **length, **job.get("train", {})),
    )
    return method.complete(config, device.type, kind_of(train))


def prepared(config: Config, train: Scene, device: torch.device) -> tuple[Model, Gradients, torch.optim.Optimizer]:
    """All that a training needs before its clock starts."""
    torch.manual_seed(config.train.seed)
    model = METHODS[config.method].make(config, device).to(device)
    model.train()
    batches = PixelBatches(
        train, config.train.batch_size, model.seed, backend=model.backend, precrop_steps=model.precrop_steps,
        random_until=model.random_until, limit=model.batch_limit,
        fit_colours=bool(config.train.fit_colours),
    ).to(device)  # fmt: skip
    model.fit(train)
    model.go_on(0)
    optimizer, gradients = model.make_optimizer(config.optim), Gradients(model, batches)
    model.before_step(0)
    model.prepare_optimizer(optimizer)
    gradients.capture()
    if model.rays_per_pixel > 1 and device.type == "cuda":
        gradients.capture(model.rays_per_pixel)
    return model, gradients, optimizer


def score(model: Model, held: Scene, pictures: str | None = None) -> dict[str, Any]:
    """PSNR of the views, as they are and after a fit of their colours, and the least of them. pictures: a folder for
    what was rendered."""
    values = []
    for i in range(len(held)):
        rgb = torch.from_numpy(media.to_uint8(render_view(model, held.view(i), 2**20).cpu().rgb)).float() / 255
        target, mask = held.image(i), held.mask(i)
        if pictures:
            Path(pictures).mkdir(parents=True, exist_ok=True)
            media.write_png(Path(pictures) / f"{i:03d}.png", torch.cat([rgb, target], 1))
        fitted = metrics.fitted_together([rgb], [target], [mask])[0]
        values.append((float(metrics.psnr(rgb, target, mask)), float(metrics.psnr(fitted, target, mask))))
    psnr, fitted = (sum(v) / len(v) for v in zip(*values, strict=True))
    return {"psnr": psnr, "worst": min(v[0] for v in values), "fitted": fitted}


@contextmanager
def constants(values: Mapping[str, Any]) -> Iterator[None]:
    """Attributes of modules have these values meanwhile."""
    usual = {}
    for name, value in values.items():
        module, _, attribute = name.rpartition(".")
        usual[name] = getattr(importlib.import_module(module), attribute)
        setattr(importlib.import_module(module), attribute, value)
    try:
        yield
    finally:
        for name, value in usual.items():
            module, _, attribute = name.rpartition(".")
            setattr(importlib.import_module(module), attribute, value)


def worker(index: int, gpus: int, tasks: Any, results: Path, until: float) -> None:
    """Train what is in the queue, until None comes or the time is up."""
    if gpus:
        torch.cuda.set_device(index % gpus)
    device = torch.device("cuda", index % gpus) if gpus else torch.device("cpu")
    torch.set_num_threads(2)
    scenes: dict[str, Scene] = {}
    while (job := tasks.get()) is not None:
        if time.time() > until:
            continue
        path = job["scene"]
        try:
            if path not in scenes:
                scenes[path] = loaded(path)
            with constants(job.get("constants", {})):
                told = {"job": job, **run(job, scenes[path], device)}
        except Exception as error:  # the other trainings go on
            told = {"job": job, "failed": f"{type(error).__name__}: {error}"[:500]}
        with results.open("a") as file:
            file.write(json.dumps(told) + "\n")
        scores = {key: round(value, 2) for key, value in told.items() if isinstance(value, float)}
        print(column(job), row(job), scores, told.get("failed", ""), flush=True)


def column(job: Mapping[str, Any]) -> str:
    """The column of a training in the table."""
    return Path(job["scene"]).stem + (", few" if job.get("few") else "")


def row(job: Mapping[str, Any]) -> str:
    """Its row."""
    return str(job["name"])


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """PSNR of the held-out views, and of the training in brackets: a row for each name, a column for each scene. Seeds
    are averaged. The mean is given where a row has all scenes."""
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for result in results:
        if "failed" not in result:
            found.setdefault(row(result["job"]), {}).setdefault(column(result["job"]), []).append(result)
    columns = sorted({name for cells in found.values() for name in cells})
    lines = ["| | " + " | ".join([*columns, "mean"]) + " |", "|---" * (len(columns) + 2) + "|"]
    for name, cells in found.items():
        psnr, train = ({c: fmean(r[key] for r in runs) for c, runs in cells.items()} for key in ("psnr", "train"))
        shown = [f"{psnr[c]:.2f} ({train[c]:.1f})" if c in cells else "" for c in columns]
        mean = f"{fmean(psnr.values()):.2f}" if len(cells) == len(columns) else ""
        lines.append("| " + " | ".join([name, *shown, mean]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--workers", type=int, default=4, help="trainings at once on each GPU")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds after which no training begins")
    asked = parser.parse_args()
    if asked.results.exists():
        parser.error(f"{asked.results} is there already: remove it, or give another name")
    if wrong := next(filter(None, map(fault, json.loads(asked.jobs.read_text()))), None):
        parser.error(f"{asked.jobs}: {wrong}")
    jobs, gpus = json.loads(asked.jobs.read_text()), torch.cuda.device_count()
    context = multiprocessing.get_context("spawn")
    tasks: Any = context.Queue()
    workers = asked.workers * max(gpus, 1)
    for job in [*jobs, *[None] * workers]:
        tasks.put(job)
    until = time.time() + asked.limit
    started = [context.Process(target=worker, args=(i, gpus, tasks, asked.results, until)) for i in range(workers)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    found = [json.loads(line) for line in asked.results.read_text().splitlines()] if asked.results.exists() else []
    print(table(found))
    if len(found) < len(jobs) or any("failed" in each for each in found):
        sys.exit(f"of {len(jobs)} trainings {sum('failed' not in each for each in found)} have a score")


if __name__ == "__main__":
    main()
