"""Rendering the views of a split, with their scores."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from nerf_pl import media, metrics
from nerf_pl.console import console, progress
from nerf_pl.errors import UserError
from nerf_pl.evaluation.page import ViewScore, write_page
from nerf_pl.methods.model import Model
from nerf_pl.rendering import Image, render_view
from nerf_pl.scenes import Scene

WINDOW = 11  # pixels, of SSIM


@dataclass(frozen=True)
class Output:
    """Where an evaluation writes. folder: pictures and page. metrics: the file of scores. title: names the films."""

    folder: Path
    metrics: Path
    title: str
    depth: media.DepthFiles | None = None


def evaluate(model: Model, scene: Scene, out: Output, chunk: int, facts: Mapping[str, object]) -> dict[str, object]:
    """Render every view of a scene, write the pictures, and score them against the photographs.

    Scores are computed from the 8-bit pictures that are written. If there are masks, only the pixels in them count.
    Files: NNN.png, NNN_depth.png, NNN_target.png, TITLE.gif, TITLE.mp4, index.html, and the metrics. The metrics have
    the means as psnr and ssim, then the scores of each view. facts: further entries of the metrics and the page.
    Returns the metrics.
    """
    if min(scene.cameras.width, scene.cameras.height) < WINDOW:
        size = f"{scene.cameras.width}x{scene.cameras.height}"
        raise UserError(f"{scene.root}: views of {size} pixels are too small for SSIM, whose window has 11x11")
    views, frames = [], []
    for i in progress(range(len(scene)), len(scene), f"rendering {out.title}"):
        image = render_view(model, scene.view(i), chunk).cpu()
        rgb = media.to_uint8(image.rgb)
        _write_pictures(out, i, scene, image, rgb)
        stored, target, mask = torch.from_numpy(rgb).float() / 255, scene.image(i), scene.mask(i)
        name = scene.names[i] if scene.names else f"{i:03d}"
        scores = float(metrics.psnr(stored, target, mask)), float(metrics.ssim(stored, target, mask))
        views.append(ViewScore(name, *scores))
        frames.append(out.folder / f"{i:03d}.png")
        console.print(f"{name:>12}  {_scores(*scores)}", markup=False)
    means = [float(np.mean([getattr(view, score) for view in views])) for score in ("psnr", "ssim")]
    told = {"psnr": means[0], "ssim": means[1], **facts}
    result = {**told, "views": [asdict(view) for view in views]}
    with media.atomic_write(out.metrics) as path:
        path.write_text(json.dumps(result, indent=2) + "\n")
    write_page(out.folder / "index.html", out.title, told, views)
    console.print(f"{'mean':>12}  {_scores(*means)}  ({len(views)} views)")
    media.write_films(out.folder / out.title, [frames], fps=10)  # last: a film that fails takes no score with it
    return result


def _scores(psnr: float, ssim: float) -> str:
    return f"PSNR {psnr:6.2f} dB  SSIM {ssim:.4f}"


def _write_pictures(out: Output, i: int, scene: Scene, image: Image, rgb: UInt8[np.ndarray, "H W 3"]) -> None:
    media.write_png(out.folder / f"{i:03d}.png", rgb)
    span = media.depth_span(image.depth, image.opacity, scene.near, scene.far)
    media.write_png(out.folder / f"{i:03d}_depth.png", media.depth_colours(image.depth, *span, image.opacity))
    media.write_png(out.folder / f"{i:03d}_target.png", scene.image(i))
    if out.depth:
        out.depth.write(i, image.depth)
