"""Rendering a trained model: test views with their scores, films, and a page that shows them."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from nerf_pl import media, metrics
from nerf_pl.models import Model
from nerf_pl.rendering import render_view
from nerf_pl.report import write_report
from nerf_pl.scenes import Scene
from nerf_pl.types import UserError

console = Console(highlight=False, soft_wrap=True)


def evaluate(
    model: Model,
    scene: Scene,
    folder: Path,
    metrics_path: Path,
    title: str,
    chunk: int,
    device: torch.device,
    save_depth: bool = False,
    depth_format: str = "pfm",
    facts: dict[str, object] | None = None,
) -> dict:
    """Render every view of a scene, write what it looks like into `folder`, and score it against the photographs.

    Scores are those of the 8-bit pictures that are written. Files: NNN.png, with save_depth depth_NNN, TITLE.gif,
    TITLE.mp4, index.html, and the metrics: the means as psnr and ssim, the views below them. Returns the metrics.
    """
    if min(scene.cameras.width, scene.cameras.height) < 11:
        size = f"{scene.cameras.width}x{scene.cameras.height}"
        raise UserError(f"{scene.root}: views of {size} pixels are too small for SSIM, whose window has 11x11")
    views, frames = [], []
    for i in _track(len(scene), title):
        images = render_view(model, scene, i, chunk, device)
        rgb = media.to_uint8(images["rgb"].cpu())
        media.write_png(folder / f"{i:03d}.png", rgb)
        depth = media.depth_colours(images["depth"].cpu(), scene.near, scene.far, images["opacity"].cpu())
        media.write_png(folder / f"{i:03d}_depth.png", depth)
        if save_depth:
            _write_depth(folder, i, images["depth"].cpu(), depth_format)
        stored, target = torch.from_numpy(rgb).float() / 255, scene.image(i)
        media.write_png(folder / f"{i:03d}_target.png", target)
        view = {
            "name": scene.names[i] if scene.names else f"{i:03d}",
            "psnr": float(metrics.psnr(stored, target)),
            "ssim": float(metrics.ssim(stored, target)),
        }
        views.append(view)
        frames.append(rgb)
        console.print(f"{view['name']:>12}  PSNR {view['psnr']:6.2f} dB  SSIM {view['ssim']:.4f}")
    result = {
        "psnr": float(np.mean([v["psnr"] for v in views])),
        "ssim": float(np.mean([v["ssim"] for v in views])),
        **(facts or {}),
        "views": views,
    }
    with media.atomic_write(metrics_path) as path:
        path.write_text(json.dumps(result, indent=2) + "\n")
    write_report(folder / "index.html", title, result)
    console.print(f"{'mean':>12}  PSNR {result['psnr']:6.2f} dB  SSIM {result['ssim']:.4f}  ({len(views)} views)")
    write_films(folder / title, frames, fps=10)  # last: a film that fails takes no score with it
    return result


def render_path(model: Model, path: Scene, film: Path, fps: float, chunk: int, device: torch.device) -> None:
    """Film a camera path: FILM.mp4 and FILM.gif, and FILM_depth.mp4."""
    frames, depths = [], []
    for i in _track(len(path), film.name):
        images = render_view(model, path, i, chunk, device)
        frames.append(media.to_uint8(images["rgb"].cpu()))
        depths.append(media.depth_colours(images["depth"].cpu(), path.near, path.far, images["opacity"].cpu()))
    write_films(film, frames, fps)
    media.write_mp4(film.with_name(f"{film.name}_depth.mp4"), depths, fps)


def write_films(film: Path, frames: list[np.ndarray], fps: float) -> None:
    media.write_gif(film.with_name(f"{film.name}.gif"), frames, fps)
    media.write_mp4(film.with_name(f"{film.name}.mp4"), frames, fps)


def _track(n: int, title: str) -> Iterable[int]:
    """0 ... n - 1, with a bar on a terminal."""
    views = range(n)
    if not console.is_terminal:
        return views
    return track(views, description=f"rendering {title}", console=console, transient=True)


def _write_depth(folder: Path, i: int, depth: Tensor, depth_format: str) -> None:
    if depth_format == "pfm":
        media.write_pfm(folder / f"depth_{i:03d}.pfm", depth)
    else:
        media.write_depth_bytes(folder / f"depth_{i:03d}", depth)
