"""The views of a report: which ones are shown, and each with its divider, its errors and its depth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float, UInt8

from nerf_pl.report.pictures import (
    data_uri,
    depth_legend,
    error_colours,
    error_legend,
    errors_of,
    read_picture,
    shrunk,
    top_of,
)
from nerf_pl.report.record import Scores, ViewRow

EACH = 3  # worst views, and as many best ones
DEPTH = {False: "depth, in units of the scene's file", True: "depth"}  # by whether its numbers are not known
WHAT = {"photo": "the photo", "ray-traced": "the ray-traced picture", "reference": "the reference picture"}


@dataclass(frozen=True)
class ViewPictures:
    """A view with its pictures. target, depth: None if the file is not there. errors: in the size of the pictures;
    None without a target."""

    row: ViewRow
    picture: UInt8[np.ndarray, "H W 3"]
    target: UInt8[np.ndarray, "H W 3"] | None
    depth: UInt8[np.ndarray, "_ _ 3"] | None
    errors: Float[np.ndarray, "H W"] | None
    mask: UInt8[np.ndarray, "_ _ 3"] | None


def worst_and_best(views: Sequence[ViewRow], each: int = EACH) -> tuple[list[ViewRow], list[ViewRow]]:
    """The views with the lowest PSNR, the lowest first, and those with the highest, the highest first. If there are no
    more than both, all are among the first. A view without a score is in neither."""
    ranked = sorted((view for view in views if not math.isnan(view.psnr)), key=lambda view: view.psnr)
    if len(ranked) <= 2 * each:
        return ranked, []
    return ranked[:each], ranked[: -each - 1 : -1]


def read_view(row: ViewRow, side: int) -> ViewPictures | None:
    """A view's pictures, with at most so many pixels on the longer side. None without a rendered picture."""
    picture = read_picture(row.picture)
    if picture is None:
        return None
    target, depth, mask = (read_picture(row.beside(what)) for what in ("target", "depth", "mask"))
    if target is not None and target.shape != picture.shape:
        target = None
    picture = shrunk(picture, side)
    target, depth, mask = (None if each is None else shrunk(each, side) for each in (target, depth, mask))
    errors = None if target is None else errors_of(picture, target)
    return ViewPictures(row, picture, target, depth, errors, mask)


def views_section(scores: Scores, side: int) -> str:
    """The worst and the best views of a split; "" if there are none, a note if their pictures are missing."""
    worst, best = worst_and_best(scores.views)
    if not worst:
        return ""
    groups = [("Worst views", worst), ("Best views", best)] if best else [("Views, the worst first", worst)]
    shown = [(title, [view for row in rows if (view := read_view(row, side))]) for title, rows in groups]
    if not any(views for _, views in shown):
        folder = escape(str(worst[0].picture.parent))
        return f'<p class="notice">The pictures of these views are not in {folder} any more.</p>'
    top = top_of([view.errors for _, views in shown for view in views if view.errors is not None])
    what = WHAT[scores.pictures]
    told = (
        f"Left of the divider is the rendered picture, right of it {what}. Drag it, or move it with the arrow keys. "
        f"The map of errors shows the mean absolute difference of red, green and blue."
    )
    masked = any(view.mask is not None for _, views in shown for view in views)
    told += " Grey pixels are masked, and not scored." if masked else ""
    parts = [f'<p class="note">{told}</p><div class="legendary">{error_legend(top)}</div>']
    for title, views in shown:
        cards = "".join(_card(view, top, scores.pictures) for view in views)
        parts.append(f'<h3 class="group">{title}</h3><div class="views">{cards}</div>' if cards else "")
    return "".join(parts)


def _card(view: ViewPictures, top: int, kind: str) -> str:
    row = view.row
    told = [f"PSNR {row.psnr:.2f} dB"]
    told += [f"{name} {form.format(value)}" for name, key, form in SCORES if (value := row.scores[key]) is not None]
    figures = [_pair(view, kind)]
    if view.errors is not None:
        figures.append(_figure(error_colours(view.errors, top, view.mask), f"errors of {row.name}", "errors"))
    if view.depth is not None:
        figures.append(_figure(view.depth, f"depth of {row.name}", DEPTH[row.depth is None], depth_legend(row.depth)))
    spans = "".join(f"<span>{each}</span>" for each in told)
    head = f"<header><h3>{escape(row.name)}</h3>{spans}</header>"
    return f'<article class="view">{head}<div class="row">{"".join(figures)}</div></article>'


SCORES = (
    ("SSIM", "ssim", "{:.4f}"),
    ("colours fitted", "psnr_fitted", "{:.2f} dB"),
    ("camera aligned", "psnr_aligned", "{:.2f} dB"),
    ("floaters", "floaters", "{:.1%}"),
)  # beside PSNR: what it is called, its key, and how it is written


def _pair(view: ViewPictures, kind: str) -> str:
    """The rendered picture under the scene's own, with a divider."""
    name = escape(view.row.name)
    first = image(view.picture, f"{view.row.name}, rendered")
    if view.target is None:
        return f"<figure>{first}<figcaption>rendered</figcaption></figure>"
    second = image(view.target, f"{view.row.name}, {kind}", "over-it")
    sides = f'<span class="side left">rendered</span><span class="side right">{escape(kind)}</span>'
    control = f'<input type="range" min="0" max="100" step="2" value="50" aria-label="divider of {name}">'
    return f'<figure><div class="pair">{first}{second}{sides}{control}</div></figure>'


def _figure(pixels: UInt8[np.ndarray, "_ _ 3"], alt: str, caption: str, legend: str = "") -> str:
    return f"<figure>{image(pixels, alt)}{legend}<figcaption>{caption}</figcaption></figure>"


def image(pixels: UInt8[np.ndarray, "H W 3"], alt: str, kind: str = "") -> str:
    """The picture as an <img> that holds it."""
    height, width = pixels.shape[:2]
    style = f' class="{kind}"' if kind else ""
    return f'<img{style} src="{data_uri(pixels)}" width="{width}" height="{height}" alt="{escape(alt)}">'
