"""What each command does, put together from the parts. The options are those of `arguments`."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from nerf_pl import arguments
from nerf_pl.bench import bench
from nerf_pl.bench_ngp import bench_ngp
from nerf_pl.checkpoint import find_checkpoint, load_model, save_model
from nerf_pl.checks import check, check_rays
from nerf_pl.config import CLASSIC, PRESETS, SECTIONS, Config, ModelOptions, RunFolders
from nerf_pl.errors import UserError
from nerf_pl.evaluation import console, evaluate
from nerf_pl.films import check_film, film_classic, film_run
from nerf_pl.models import Model
from nerf_pl.scenes.demo import make_demo
from nerf_pl.scenes.photos import prepare
from nerf_pl.training import load_split, train


def run(arguments: Any) -> None:
    """Run the command that these options belong to."""
    commands: dict[str, Callable[[Any], None]] = {
        "Train": _train, "Eval": _eval, "Render": _render, "Demo": _demo, "Import": _import, "Bench": _bench,
        "Prepare": _prepare, "ClassicTrain": _classic_train, "ClassicEval": _classic_eval,
    }  # fmt: skip
    commands[type(arguments).__name__](arguments)


def _config(arguments: Any, method: str) -> Config:
    return Config(method=method, **{name: getattr(arguments, name) for name in SECTIONS if hasattr(arguments, name)})  # pyright: ignore


def _train(a: Any) -> None:
    config = _config(a, a.method)
    config = replace(config, train=replace(config.train, exp_name=a.name))
    last = train(config, a.scene, a.folders, a.resume, a.overwrite)
    folder = a.folders.settings.parent
    console.print(f"checkpoints in {last.parent}; next: nerf eval {folder}, nerf render {folder}")


def _classic_train(a: Any) -> None:
    config = _config(a, "nerf")
    last = train(config, a.root_dir, a.folders, a.resume, a.overwrite)
    console.print(f"checkpoints in {last.parent}")


def _open(a: Any) -> tuple[Model, Config, Path, torch.device]:
    """The model of the run that a command names, its options, its scene's folder, and where it runs."""
    device = _device(a.num_gpus)
    model, config, root = load_model(find_checkpoint(a.run, a.checkpoint), device)
    if a.scene is None and not (root and Path(root).is_dir()):
        told = f"the scene of run {a.run}, {root}, is gone" if root else f"run {a.run} does not know its scene"
        raise UserError(f"{told}: add --scene FOLDER")
    check_rays(a.rays_per_pixel)
    model.rays_per_pixel = a.rays_per_pixel or model.rays_per_pixel
    return model, config, a.scene or Path(root), device


def _device(num_gpus: int) -> torch.device:
    return torch.device("cuda" if num_gpus > 0 and torch.cuda.is_available() else "cpu")


def _folder(run: Path) -> Path:
    """Where the results of a run go, also when one of its checkpoints was named."""
    return run if run.is_dir() else run.parent.parent if run.parent.name == "checkpoints" else run.parent


def _eval(a: Any) -> None:
    model, config, root, device = _open(a)
    folder = _folder(a.run)
    metrics = folder / ("metrics.json" if a.split == "test" else f"metrics_{a.split}.json")
    facts = {"split": a.split, "checkpoint": a.checkpoint, "scene": root.name, "method": config.method}
    out = folder / "renders" / a.split
    scene = load_split(config, root, a.split)
    evaluate(model, scene, out, metrics, a.split, config.train.chunk, device, a.save_depth, a.depth_format, facts)
    console.print(f"scores {metrics}, pictures {out}, page {out / 'index.html'}")


def _classic_eval(a: Any) -> None:
    device = _device(a.num_gpus)
    model = ModelOptions(a.N_samples, a.N_importance, a.use_disp, perturb=0.0, noise_std=0.0)
    data = replace(CLASSIC.data, dataset_name=a.dataset_name, img_wh=a.img_wh, spheric=a.spheric)
    asked = replace(CLASSIC, data=data, model=model, train=replace(CLASSIC.train, chunk=a.chunk))
    check(asked)
    net, config, _ = load_model(a.ckpt_path, device, asked)
    folder = Path("results") / a.dataset_name / a.scene_name
    if a.dataset_name == "llff" and a.split == "test":  # it has no such views; the classic tool films new ones
        film_classic(net, config, a, folder, _stamp(a.ckpt_path), device)
        return
    scene = load_split(config, a.root_dir, "train" if a.split == "test_train" else a.split)
    facts = {"split": a.split, "checkpoint": str(a.ckpt_path)}
    metrics = folder / "metrics.json"
    evaluate(net, scene, folder, metrics, a.scene_name, a.chunk, device, a.save_depth, a.depth_format, facts)
    console.print(f"scores {metrics}, pictures {folder}, page {folder / 'index.html'}")


def _render(a: Any) -> None:
    check_film(a)
    model, config, root, device = _open(a)
    stamp = f"{_stamp(find_checkpoint(a.run, a.checkpoint))} {model.rays_per_pixel}"
    film_run(a, model, config, root, _folder(a.run) / "renders", stamp, device)


def _stamp(checkpoint: Path) -> str:
    """What tells the weights in a file from those that lay there before."""
    found = checkpoint.stat()
    return f"{checkpoint.name} {found.st_size} {found.st_mtime_ns}"


DEMO_SECONDS = {"cpu": 89.5, "cuda": 15.0}


def _demo(a: Any) -> None:
    """The built-in scene from nothing to pictures."""
    root = make_demo(a.scene)
    config, kind = PRESETS["ngp"], _device(a.num_gpus).type
    seconds = DEMO_SECONDS[kind] if a.seconds is None else a.seconds
    settings = {"seconds": seconds, "num_gpus": a.num_gpus, "exp_name": a.out.name, "val_views": 2}
    config = replace(config, train=replace(config.train, **settings))
    console.print(f"scene {root}")
    train(config, root, RunFolders.modern(a.out), overwrite=True)
    _eval(arguments.Eval(a.out, num_gpus=a.num_gpus))
    _render(arguments.Render(a.out, frames=36, fps=18, num_gpus=a.num_gpus))


def _prepare(a: Any) -> None:
    source = a.source.resolve()
    out = a.out or Path("data") / (source.stem if source.is_file() else source.name)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as bar:

        def step(title: str, done: int, total: int) -> None:
            if not bar.tasks or bar.tasks[-1].description != title:
                for task in bar.tasks:  # those before are through
                    bar.update(task.id, completed=task.total)
                bar.add_task(title, total=total)
            bar.update(bar.tasks[-1].id, completed=done)

        found = prepare(a.source, out, a.max_size, a.frames, a.matcher, a.overwrite, step)
    n = len(found.placed) + len(found.missing)
    console.print(f"{len(found.placed)} of {n} photos placed, mean reprojection error {found.error:.2f} pixels")
    if found.missing:
        console.print(f"not placed: {', '.join(found.missing)}", markup=False)
    console.print(f"scene {out}, a map of the cameras {out / 'cameras.png'}; next: nerf train {out}")


def _import(a: Any) -> None:
    out = a.out or arguments.RUNS / a.file.stem
    target = out / "checkpoints" / "last.ckpt"
    if target.exists():
        raise UserError(f"{target} exists: give another --out")
    model = ModelOptions(a.N_samples, a.N_importance, noise_std=0.0)
    data = replace(PRESETS["nerf"].data, img_wh=a.img_wh)
    asked = replace(PRESETS["nerf"], model=model, data=data)
    check(asked)
    net, config, _ = load_model(a.file, torch.device("cpu"), asked)
    save_model(target, net, config, str(a.scene.resolve()) if a.scene else "")
    console.print(f"{target}; next: nerf eval {out}{'' if a.scene else ' --scene SCENE_DIR'}")


def _bench(a: Any) -> None:
    for option in ("steps", "view"):
        if getattr(a, option) < 1:
            raise UserError(f"--{option} {getattr(a, option)} cannot work: give 1 or more")
    if not all(0 < seconds < math.inf for seconds in a.seconds):
        raise UserError(f"--seconds {' '.join(map(str, a.seconds))} cannot work: give positive numbers")
    scene = a.scene or make_demo(Path("data/demo-400"), size=400)
    if a.method == "ngp":
        bench_ngp(scene, a.out, a.seconds, a.split)
    else:
        bench(scene, a.out, a.precisions, a.steps, a.view)
