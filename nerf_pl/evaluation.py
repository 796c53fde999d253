"""Rendering a trained model: test views with their scores, films, and a page that shows them."""

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from torch import Tensor

from nerf_pl import media, metrics
from nerf_pl.errors import UserError
from nerf_pl.models import Model
from nerf_pl.rendering import render_view
from nerf_pl.report import write_report
from nerf_pl.scenes import Scene

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

    Scores are those of the 8-bit pictures that are written, where masks say so of a part of them. Files: NNN.png, with
    save_depth depth_NNN, TITLE.gif, TITLE.mp4, index.html, and the metrics: the means as psnr and ssim, the views below
    them. Returns the metrics.
    """
    if min(scene.cameras.width, scene.cameras.height) < 11:
        size = f"{scene.cameras.width}x{scene.cameras.height}"
        raise UserError(f"{scene.root}: views of {size} pixels are too small for SSIM, whose window has 11x11")
    views, frames = [], []
    for i in progress(range(len(scene)), len(scene), f"rendering {title}"):
        images = render_view(model, scene, i, chunk, device)
        rgb = media.to_uint8(images["rgb"].cpu())
        media.write_png(folder / f"{i:03d}.png", rgb)
        depth, opacity = images["depth"].cpu(), images["opacity"].cpu()
        span = media.depth_span(depth, opacity, scene.near, scene.far)
        media.write_png(folder / f"{i:03d}_depth.png", media.depth_colours(depth, *span, opacity))
        if save_depth:
            write_depth(folder, i, depth, depth_format)
        stored, target = torch.from_numpy(rgb).float() / 255, scene.image(i)
        media.write_png(folder / f"{i:03d}_target.png", target)
        view = {
            "name": scene.names[i] if scene.names else f"{i:03d}",
            "psnr": float(metrics.psnr(stored, target, scene.mask(i))),
            "ssim": float(metrics.ssim(stored, target, scene.mask(i))),
        }
        views.append(view)
        frames.append(folder / f"{i:03d}.png")
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
    write_films(folder / title, [frames], fps=10)  # last: a film that fails takes no score with it
    return result


def write_films(film: Path, columns: Sequence[Sequence[Path]], fps: float, gif: bool = True) -> list[Path]:
    """FILM.mp4 and FILM.gif of pictures from their files, read as they are needed; returns the films.

    columns: the frames; two lists of them are shown side by side. Frames of another size than the first are fitted into
    that.
    """
    height, width = next(_joined(columns)).shape[:2]
    written = [film.with_name(f"{film.name}.{suffix}") for suffix in (("gif", "mp4") if gif else ("mp4",))]
    for path in written:
        frames = (media.fitted(picture, width, height) for picture in _joined(columns))
        if path.suffix == ".gif":
            media.write_gif(path, *media.lighter(frames, fps))
        else:
            media.write_mp4(path, frames, fps)
    return written


def _joined(columns: Sequence[Sequence[Path]]) -> Iterator[np.ndarray]:
    for pictures in zip(*map(media.read_pictures, columns), strict=True):
        yield media.side_by_side(*pictures)


def progress(items: Iterable[int], total: int, title: str, done: int = 0) -> Generator[int, None, None]:
    """The items, with a bar on a terminal that starts at `done` of `total`."""
    if not console.is_terminal:
        yield from items
        return
    columns = [*Progress.get_default_columns(), MofNCompleteColumn()]
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total, completed=done)
        for item in items:
            yield item
            bar.advance(task)


def write_depth(folder: Path, i: int, depth: Tensor, depth_format: str) -> None:
    """The depth map of one view in full precision: depth_NNN.pfm, or depth_NNN as bare float32."""
    if depth_format == "pfm":
        media.write_pfm(folder / f"depth_{i:03d}.pfm", depth)
    else:
        media.write_depth_bytes(folder / f"depth_{i:03d}", depth)
