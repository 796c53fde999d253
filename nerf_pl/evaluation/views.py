"""Rendering the views of a split, with their scores."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from nerf_pl import media, metrics
from nerf_pl.alignment import align
from nerf_pl.console import console, progress, warn
from nerf_pl.errors import UserError
from nerf_pl.evaluation.floaters import floater_shares
from nerf_pl.methods.model import Model
from nerf_pl.rendering import Image, evaluating, render_view, render_views
from nerf_pl.scenes import LOADERS, Scene, detect, frame_of, views_of_photos
from nerf_pl.scenes.demo import is_demo
from nerf_pl.scenes.pictures import list_some
from nerf_pl.text import counted
from nerf_pl.writing import atomic_write, in_threads, locked, remove_leftovers, remove_leftovers_in, writing_threads

WINDOW = 11  # pixels, of SSIM
ALIGNING_STEPS = 5
FOGGY = 0.3  # share of floaters from which on pictures are mostly fog; trainings that are good have less than 0.05
RENDERED = "blender"  # the layout whose pictures mostly were rendered, not photographed


@dataclass(frozen=True)
class ViewScore:
    """PSNR in dB and SSIM of the picture of a view, against the picture of the scene.

    psnr_fitted: PSNR after an affine fit of the picture's colours, see `metrics.fitted`; views of one photo share the
    fit. floaters: the share of light from where there is nothing, see `floaters.floater_shares`. psnr_aligned: PSNR
    after the camera was moved to where the picture fits that of the scene, see `alignment.align`. None if it was not
    measured.
    """

    name: str
    psnr: float
    ssim: float
    psnr_fitted: float
    floaters: float | None = None
    psnr_aligned: float | None = None


SCORES = [field.name for field in fields(ViewScore) if field.name != "name"]


@dataclass(frozen=True)
class Output:
    """Where an evaluation writes, and what. folder: pictures and films. metrics: the file of scores. title: names the
    films. training: the views of the training, by which floaters are measured, too, if the scene has no box; their
    pictures are not needed. aligned: measure PSNR with aligned cameras, too.
    """

    folder: Path
    metrics: Path
    title: str
    depth: media.DepthFiles | None = None
    training: Scene | None = None
    aligned: bool = False


def evaluate(
    model: Model,
    scene: Scene,
    out: Output,
    chunk: int,
    facts: Mapping[str, object],
    others: Sequence[Model] = (),
) -> dict[str, object]:
    """Render every view of a scene, write the pictures, and score them against those of the scene.

    Scores are computed from the 8-bit pictures that are written. If there are masks, only the pixels in them count.
    Files: NNN.png, NNN_depth.png, NNN_target.png, with masks NNN_mask.png, TITLE.gif, TITLE.mp4, and the metrics. The
    metrics have the means as psnr, ssim, psnr_fitted, floaters and psnr_aligned, then the scores of each view, see
    `ViewScore`, and the depths at both ends of the colours of its NNN_depth.png, in the unit of the scene's own file.
    floaters_by names their measure.
    facts: further entries of the metrics. others: the model on further devices, which share the work. Returns the
    metrics. Raises UserError if another process writes there.
    """
    with locked(out.folder):
        remove_leftovers_in(out.folder)
        remove_leftovers(out.metrics)
        return _evaluate([model, *others], scene, out, chunk, facts)


def _evaluate(
    models: Sequence[Model], scene: Scene, out: Output, chunk: int, facts: Mapping[str, object]
) -> dict[str, object]:
    model = models[0]
    sizes = {scene.cameras.size(i) for i in range(len(scene))}
    if small := [size for size in sorted(sizes) if min(size) < WINDOW]:
        told = f"views of {small[0][0]}x{small[0][1]} pixels"
        raise UserError(f"{scene.root}: {told} are too small for SSIM, whose window has 11x11")
    views, frames, spans = [], [], []
    shown: dict[int, Float[Tensor, "H W 3"]] = {}  # pictures of photos some views of which are still to come
    last = {members[-1]: members for members in views_of_photos(scene)}
    fitted: dict[int, float] = {}
    threads = writing_threads(model.step.is_cuda, scene.cameras.width * scene.cameras.height)
    # closed at once: what goes on in threads would outlive an interrupt. The model stays in evaluation mode, since a
    # thread renders the next views while cameras are aligned here
    with (
        evaluating(model),
        closing(render_views(models, map(scene.view, range(len(scene))), chunk)) as rendered,
        closing(in_threads(partial(_write_pictures, out, scene), enumerate(rendered), threads)) as written,
        closing(progress(written, len(scene), f"rendering {out.title}")) as pictures,
    ):
        for i, (rgb, span) in enumerate(pictures):
            spans.append(span)
            stored, name = torch.from_numpy(rgb).float() / 255, scene.names[i] if scene.names else f"{i:03d}"
            scores = _psnr_and_ssim(stored, scene.image(i), scene.mask(i), model.step.device)
            aligned = _aligned_psnr(model, scene, i, chunk) if out.aligned else None
            views.append(ViewScore(name, *scores, math.nan, psnr_aligned=aligned))
            shown[i] = stored
            if members := last.get(i):
                fitted |= _fitted_psnr(scene, {member: shown.pop(member) for member in members})
            frames.append(out.folder / f"{i:03d}.png")
            console.print(f"{name:>12}  {_scores(*scores)}")
    views = [replace(view, psnr_fitted=fitted[i]) for i, view in enumerate(views)]
    if out.training is not None and scene.unbounded:
        shares = floater_shares(model, scene, out.training, chunk)
        views = [replace(view, floaters=share) for view, share in zip(views, shares, strict=True)]
    means = {name: _mean([getattr(view, name) for view in views]) for name in SCORES}
    told = {name: mean for name, mean in means.items() if mean is not None or name in ("psnr", "ssim")}
    told |= ({"floaters_by": metrics.FLOATERS_BY} if "floaters" in told else {}) | dict(facts)
    for told_of, why in ((math.isnan, "nothing in them counts"), (math.isinf, "they equal their photographs")):
        if left_out := [view.name for view in views if told_of(view.psnr)]:
            warn(f"left out of the mean PSNR, as {why}: {list_some(left_out)}")
    rows = [{**asdict(view), "depth": span} for view, span in zip(views, spans, strict=True)]
    result = {**told, "views": [{key: _in_json(value) for key, value in row.items()} for row in rows]}
    with atomic_write(out.metrics) as path:
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _tell(means, len(views))
    media.write_films(out.folder / out.title, [frames], fps=10)  # last: a film that fails takes no score with it
    return result


def kind_of_pictures(root: Path | None, layout: str = "auto") -> str:
    """What the pictures of a scene are called: ray-traced if this program made them, reference if others may have
    rendered them, as those of the synthetic scenes in the Blender layout, else photo."""
    if is_demo(root):
        return "ray-traced"
    layout = detect(root) if root is not None and layout == "auto" else layout
    return "photo" if layout in LOADERS and layout != RENDERED else "reference"


def _psnr_and_ssim(
    picture: Float[Tensor, "H W 3"],
    target: Float[Tensor, "H W 3"],
    mask: Bool[Tensor, "H W"] | None,
    device: torch.device,
) -> tuple[float, float]:
    """device: where to score. SSIM of 800x800 pixels takes a quarter of a second on a CPU, which scores pictures for
    which a GPU has no room left."""
    there = picture.to(device), target.to(device), None if mask is None else mask.to(device)
    try:
        return float(metrics.psnr(*there)), float(metrics.ssim(*there))
    except torch.OutOfMemoryError:
        return float(metrics.psnr(picture, target, mask)), float(metrics.ssim(picture, target, mask))


def _fitted_psnr(scene: Scene, shown: Mapping[int, Float[Tensor, "H W 3"]]) -> dict[int, float]:
    """PSNR of the views of one photo after a fit of its colours. shown: what was rendered of each."""
    targets, masks = [scene.image(i) for i in shown], [scene.mask(i) for i in shown]
    changed = metrics.fitted_together(list(shown.values()), targets, masks)
    scores = map(metrics.psnr, changed, targets, masks)
    return {i: float(score) for i, score in zip(shown, scores, strict=True)}


def _aligned_psnr(model: Model, scene: Scene, i: int, chunk: int) -> float:
    """PSNR of a view after its camera was moved to where the picture fits that of the scene: a training that refines
    poses may have moved the scene a little, too."""
    target, mask = scene.image(i), scene.mask(i)
    view = align(model, scene.view(i), target, mask, steps=ALIGNING_STEPS, chunk=chunk)
    stored = torch.from_numpy(media.to_uint8(render_view(model, view, chunk).cpu().rgb)).float() / 255
    return float(metrics.psnr(stored, target, mask))


def _mean(values: Sequence[float | None]) -> float | None:
    """Of those that are numbers: a mask may leave no pixel to score, and a picture may equal that of the scene."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return float(np.mean(known)) if known else None


def _in_json(value: object) -> object:
    """JSON has neither nan nor inf."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tell(means: Mapping[str, float | None], count: int) -> None:
    names = ("psnr", "ssim", "psnr_fitted", "floaters", "psnr_aligned")
    psnr, ssim, fitted, floaters, aligned = (means[name] for name in names)
    also = [counted(count, "view")]
    also += [] if fitted is None else [f"{fitted:.2f} dB after a fit of colours"]
    also += [] if aligned is None else [f"{aligned:.2f} dB with aligned cameras"]
    also += [] if floaters is None else [f"floaters {floaters:.1%}"]
    scores = _scores(math.nan if psnr is None else psnr, math.nan if ssim is None else ssim)
    console.print(f"{'mean':>12}  {scores}  ({'; '.join(also)})")
    if floaters is not None and floaters > FOGGY:
        told = f"{floaters:.0%} of the light comes from where other views say that there is nothing"
        warn(f"{told}: the scene is full of fog; train for longer, or take photos closer together")


def _scores(psnr: float, ssim: float) -> str:
    return f"PSNR {psnr:6.2f} dB  SSIM {ssim:.4f}"


def _write_pictures(
    out: Output, scene: Scene, rendered: tuple[int, Image]
) -> tuple[UInt8[np.ndarray, "H W 3"], list[float] | None]:
    """Returns the picture as it was written, and the depths at both ends of the colours, in the unit of the scene's own
    file; None in normalised device coordinates, which have no unit."""
    i, image = rendered
    rgb = media.to_uint8(image.rgb)
    media.write_png(out.folder / f"{i:03d}.png", rgb)
    span = media.depth_span(image.depth, image.opacity, scene.near, scene.far)
    media.write_png(out.folder / f"{i:03d}_depth.png", media.depth_colours(image.depth, *span, image.opacity))
    media.write_png(out.folder / f"{i:03d}_target.png", scene.image(i))
    mask = scene.mask(i)
    if mask is not None:
        media.write_png(out.folder / f"{i:03d}_mask.png", mask[..., None].expand(-1, -1, 3).float())
    if out.depth:
        out.depth.write(i, image.depth)
    scale = float(frame_of(scene)[0, :3].norm())
    return rgb, None if scene.ndc is not None else [end / scale for end in span]
