"""The cameras of a run, seen from above, as SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float

from nerf_pl.report.charts import ticks
from nerf_pl.scenes import Scene, frame_of

SIDE = 380  # of the plan, in the units of its SVG
MARGIN = 22
ARROW = 11  # length of a viewing direction
LEAST, RULER = 90, 26  # height of a plan of cameras in a row, and of the ruler below it
SPOT = 1e-6  # world units; cameras no farther apart stand in one spot
MOST = 400  # cameras that are drawn
COLOUR = {"train": "c0", "val": "c2", "test": "c1"}
FRONT = np.array([[1.0, 0, 0], [0, 0, -1.0]])  # of photos from one side, which look along -z with y up
ABOVE = np.array([[1.0, 0, 0], [0, 1.0, 0]])  # of other worlds, where z is up


@dataclass(frozen=True)
class Mark:
    """A camera on the plan. xy, ahead: in world units, as the plan lies."""

    split: str
    name: str
    xy: Float[np.ndarray, "2"]
    ahead: Float[np.ndarray, "2"]


def plan(views: Mapping[str, Scene], scores: Mapping[tuple[str, str], float]) -> str:
    """A figure with the cameras of each split, how they look, and the box of the scene; "" without cameras.

    scores: PSNR by split and name, which shows when a camera is pointed at. The scale is in the unit of the scene's
    own file.
    """
    scenes = {split: scene for split, scene in views.items() if len(scene)}
    if not scenes:
        return ""
    first = next(iter(scenes.values()))
    down = FRONT if first.ndc is not None else ABOVE
    marks = [mark for split, scene in scenes.items() for mark in _marks(split, scene, down)]
    box = None if first.unbounded or first.ndc is not None else first.aabb.double().numpy() @ down.T
    low, high = _extent([mark.xy for mark in marks], box)
    size, middle = float((high - low).max()), (low + high) / 2
    scale = (SIDE - 2 * MARGIN) / (size if size > SPOT else 1.0)
    height = round(min(max(scale * float(high[1] - low[1]) + 2 * MARGIN, LEAST), SIDE))

    def at(xy: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2"]:
        return np.array([SIDE, height]) / 2 + (xy - middle) * np.array([scale, -scale])

    parts = [] if box is None else [_box(at(box[0]), at(box[1]))]
    parts += [_camera(mark, at(mark.xy), scores.get((mark.split, mark.name))) for mark in marks]
    parts.append(_ruler(scale * float(frame_of(first)[0, :3].norm()), height + RULER - 8))
    counts = [(split, f"{len(scene)} {split}") for split, scene in scenes.items()]
    legend = "".join(f'<li><i class="dot {COLOUR.get(split, "c3")}"></i>{escape(told)}</li>' for split, told in counts)
    told = f"cameras from above: {', '.join(told for _, told in counts)}"
    svg = f'<svg viewBox="0 0 {SIDE} {height + RULER}" role="img" aria-label="{escape(told)}">{"".join(parts)}</svg>'
    left_out = "; a part of them is drawn" if any(len(scene) > MOST for scene in scenes.values()) else ""
    boxed = "" if box is None else "; the dashed line is the box that holds the scene"
    told = f"A dot is a camera, its line the way it looks{boxed}{left_out}."
    return f'<figure class="plan">{svg}<ul class="legend">{legend}</ul><p class="note">{told}</p></figure>'


def _marks(split: str, scene: Scene, down: Float[np.ndarray, "2 3"]) -> list[Mark]:
    c2w = scene.cameras.c2w.double().cpu().numpy()
    every = math.ceil(len(c2w) / MOST)
    names = scene.names or [f"{i:03d}" for i in range(len(c2w))]
    return [Mark(split, names[i], down @ c2w[i, :, 3], -down @ c2w[i, :, 2]) for i in range(0, len(c2w), every)]


def _extent(
    points: Sequence[Float[np.ndarray, "2"]], box: Float[np.ndarray, "2 2"] | None
) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"]]:
    """The corners of what is drawn: the cameras, and the box unless it is very much larger."""
    all_of = np.stack(points)
    low, high = all_of.min(0), all_of.max(0)
    if box is not None and float(np.ptp(box, 0).max()) < 20 * max(float((high - low).max()), 1e-9):
        low, high = np.minimum(low, box.min(0)), np.maximum(high, box.max(0))
    return low, high


def _box(a: Float[np.ndarray, "2"], b: Float[np.ndarray, "2"]) -> str:
    (x, y), (width, height) = np.minimum(a, b), np.abs(b - a)
    return f'<rect class="box" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _camera(mark: Mark, at: Float[np.ndarray, "2"], psnr: float | None) -> str:
    kind = COLOUR.get(mark.split, "c3")
    end = at + mark.ahead * np.array([ARROW, -ARROW])
    told = f"{mark.split} {mark.name}" + ("" if psnr is None or math.isnan(psnr) else f": {psnr:.2f} dB")
    line = f'<line class="{kind}" x1="{at[0]:.1f}" y1="{at[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>'
    dot = f'<circle class="{kind}" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="2.8"/>'
    return f"<g><title>{escape(told)}</title>{line}{dot}</g>"


def _ruler(scale: float, y: float) -> str:
    """A bar of a round length in the unit of the scene's file. scale: of that unit on the plan."""
    length = ticks(0, 0.3 * SIDE / scale, 2)[-1]
    width = length * scale
    line = f'<path class="ruler" d="M{MARGIN} {y - 4}v4h{width:.1f}v-4"/>'
    told = f"{length:.3g} unit{'' if length == 1 else 's'} of the scene's file"
    return f'{line}<text x="{MARGIN + width + 8:.1f}" y="{y}">{told}</text>'
