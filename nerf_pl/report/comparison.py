"""Several runs side by side: what differs in their settings, their scores, and the same views of each."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from nerf_pl.errors import UserError, reading
from nerf_pl.report.charts import Line, line_chart
from nerf_pl.report.curves import thinned
from nerf_pl.report.page import MOST_BYTES, write_page
from nerf_pl.report.pictures import error_colours, error_legend, top_of
from nerf_pl.report.record import Record, Scores, ViewRow, read_record
from nerf_pl.report.sections import SCORED, UNNAMED, flat, history_section, length_of, steps_told, table, told
from nerf_pl.report.views import WHAT, ViewPictures, image, read_view

MOST_VIEWS = 6
MOST_RUNS = 16  # more columns are no comparison any more
LOWER_IS_BETTER = ("floaters",)
SIDES = (480, 320, 240)  # pixels of pictures; the first that keeps the page below its size
BYTES_PER_PIXEL = 0.55  # of a picture in the page, at most usually


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write a page that compares runs, and return its path. Raises UserError for a run that is named twice, and if the
    page cannot be written."""
    twice = [folder for folder, n in Counter(folder.resolve() for folder in folders).items() if n > 1]
    if twice:
        raise UserError(f"run {twice[0]} is given twice: name each run once")
    if len(folders) > MOST_RUNS:
        raise UserError(f"{len(folders)} runs are too many for one page: give up to {MOST_RUNS}")
    with reading(", ".join(map(str, folders)), "restore the files of the runs"):
        return _written([read_record(folder) for folder in folders], out)


def _written(records: Sequence[Record], out: Path) -> Path:
    names = names_of(records)
    scenes = list(dict.fromkeys(record.scene for record in records if record.scene))
    of = f" of {', '.join(f'<b>{escape(scene)}</b>' for scene in scenes)}" if scenes else ""
    shown = common_split(records)
    main = [
        ("", "", _glance(records, names, shown)),
        ("views", "The same views", _views(records, names, shown)),
        ("training", "Training", _curves(records, names)),
        ("settings", "Settings that differ", _settings(records, names)),
        ("origin", "How they were made", _origins(records, names)),
    ]
    title = " / ".join(names) if len(names) <= 3 else f"{len(names)} runs"
    return write_page(out, title=title, over="Comparison", lede=f"{len(records)} runs{of}.", main=main)


def names_of(records: Sequence[Record]) -> list[str]:
    """The names of the runs; where two are the same, the paths of their folders."""
    count = Counter(record.name for record in records)
    return [record.name if count[record.name] == 1 else str(record.folder) for record in records]


def common_split(records: Sequence[Record]) -> list[Scores] | None:
    """The scores of the first split that all runs have. None if there is no such split."""
    for split in dict.fromkeys(scores.split for record in records for scores in record.scores):
        found = [next((s for s in record.scores if s.split == split), None) for record in records]
        if all(scores is not None for scores in found):
            return [scores for scores in found if scores is not None]
    return None


def _glance(records: Sequence[Record], names: Sequence[str], shown: Sequence[Scores] | None) -> str:
    """The scores of all runs, the best of each kind marked."""
    scores = shown or [record.best for record in records]
    rows: list[list[str]] = []
    for name, key, form, unit in SCORED:
        values = [None if s is None else s.means[key] for s in scores]
        if any(value is not None for value in values):
            rows.append([f"{name}{f', {unit}' if unit else ''}", *_marked(values, form, key in LOWER_IS_BETTER)])
    rows.append(["views", *("–" if s is None else f"{len(s.views)} {escape(s.split)}" for s in scores)])
    rows.append(["method", *(escape(record.method) or "–" for record in records)])
    rows.append(["trained for", *("–" if r.seconds is None else length_of(r.seconds) for r in records)])
    rows.append(["steps", *(steps_told(record) or "–" for record in records)])
    notices = []
    if shown is None and any(record.scores for record in records):
        notices.append("There is no split on which all of these runs were scored, so their scores do not compare.")
    if len({record.scene for record in records if record.scene}) > 1:
        notices.append("The runs are of different scenes, so their scores do not compare.")
    if shown and len({tuple(view.name for view in s.views) for s in shown}) > 1:
        notices.append("The runs were scored on different views, so their means do not quite compare.")
    if lost := [name for name, s in zip(names, scores, strict=True) if s is not None and s.lost_floaters]:
        notices.append(f"Floaters were measured in another way, and are left out: {escape(', '.join(lost))}.")
    if old := [name for name, s in zip(names, scores, strict=True) if s is not None and s.is_old]:
        notices.append(f"Trained on since they were scored: {escape(', '.join(old))}.")
    told_of = "".join(f'<p class="notice">{notice}</p>' for notice in notices)
    return table(["", *map(escape, names)], rows, numbers=True) + told_of


def _marked(values: Sequence[float | None], form: str, lower: bool) -> list[str]:
    """Cells; the best one is marked if the runs differ in what is shown."""
    known = [value for value in values if value is not None]
    best = min(known) if lower else max(known)
    differ = len({form.format(value) for value in known}) > 1
    cells = ["–" if value is None else form.format(value) for value in values]
    return [f'<b class="best">{cell}</b>' if differ and value == best else cell
            for cell, value in zip(cells, values, strict=True)]  # fmt: skip


def chosen_views(rows: Sequence[Mapping[str, ViewRow]]) -> list[str]:
    """Names of views that all runs have, by what they tell: where the runs differ most, the worst ones, the best ones;
    in the order of the first run. rows: of each run, by name."""
    common = [name for name in rows[0] if all(name in row and not math.isnan(row[name].psnr) for row in rows)]
    values = {name: [row[name].psnr for row in rows] for name in common}
    apart = sorted(common, key=lambda name: min(values[name]) - max(values[name]))
    ranked = sorted(common, key=lambda name: sum(values[name]))
    third = MOST_VIEWS // 3
    chosen = [*apart[:third], *ranked[:third], *ranked[: -third - 1 : -1], *apart]
    kept = set(list(dict.fromkeys(chosen))[:MOST_VIEWS])
    return [name for name in common if name in kept]


def _views(records: Sequence[Record], names: Sequence[str], shown: Sequence[Scores] | None) -> str:
    if shown is None or len({record.scene for record in records if record.scene}) > 1:
        return ""
    rows = [{view.name: view for view in scores.views} for scores in shown]
    chosen = chosen_views(rows)
    count = len(chosen) * (2 * len(records) + 1)
    side = next((s for s in SIDES if count * s * s * BYTES_PER_PIXEL < 0.8 * MOST_BYTES), SIDES[-1])
    pictures = {name: [read_view(row[name], side) for row in rows] for name in chosen}
    pictures = {name: views for name, views in pictures.items() if any(views)}
    if not pictures:
        return ""
    errors = [v.errors for views in pictures.values() for v in views if v is not None and v.errors is not None]
    top = top_of(errors)
    what = WHAT[shown[0].pictures]
    note = f"First {what}, then what each run renders, and its errors: the mean absolute difference of the colours."
    cards = "".join(_card(name, views, names, top, shown[0].pictures) for name, views in pictures.items())
    return f'<p class="note">{note}</p><div class="legendary">{error_legend(top)}</div><div class="views">{cards}</div>'


def _card(name: str, views: Sequence[ViewPictures | None], names: Sequence[str], top: int, kind: str) -> str:
    target = next((view.target for view in views if view is not None and view.target is not None), None)
    cells = [] if target is None else [_cell([image(target, f"{name}, {kind}")], escape(kind))]
    for view, run in zip(views, names, strict=True):
        if view is None:
            cells.append(_cell([], f"<b>{escape(run)}</b>: its picture is missing"))
            continue
        parts = [image(view.picture, f"{name}, rendered by {run}")]
        if view.errors is not None:
            parts.append(image(error_colours(view.errors, top, view.mask), f"{name}, errors of {run}", "below"))
        cells.append(_cell(parts, f"<b>{escape(run)}</b> {view.row.psnr:.2f} dB"))
    head = f"<header><h3>{escape(name)}</h3></header>"
    grid = f'<div class="grid">{"".join(cells)}</div>'
    grid = f'<div class="scroll" tabindex="0" role="group" aria-label="the runs">{grid}</div>'
    return f'<article class="view">{head}{grid}</article>'


def _cell(pictures: Sequence[str], caption: str) -> str:
    return f"<figure><figcaption>{caption}</figcaption>{''.join(pictures)}</figure>"


def _curves(records: Sequence[Record], names: Sequence[str]) -> str:
    """The curves of all runs in the same charts; over seconds if all runs know them."""
    kinds = (
        ("val/psnr", "PSNR in validation", "dB", False),
        ("train/psnr", "PSNR in training", "dB", False),
        ("train/mse", "Loss (mean squared error)", "", True),
        ("train/rays_per_second", "Rays a second", "", False),
    )
    found = [curve for record in records for curve in record.curves.values()]
    by_time = bool(found) and all(curve.seconds is not None for curve in found)
    charts = []
    for key, title, unit, is_log in kinds:
        lines = []
        for i, (record, name) in enumerate(zip(records, names, strict=True)):
            if key in record.curves:
                curve = thinned(record.curves[key], 120)
                x = curve.seconds if by_time and curve.seconds is not None else curve.steps
                lines.append(Line(name, x, curve.values, i, dots=key.startswith("val")))
        charts.append(line_chart(title, lines, "training, s" if by_time else "step", unit, is_log))
    charts = [chart for chart in charts if chart]
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def _settings(records: Sequence[Record], names: Sequence[str]) -> str:
    """The options in which the runs differ."""
    options = [flat(record.settings) for record in records]
    rows = []
    for name in dict.fromkeys(name for each in options for name in each if name not in UNNAMED):
        values = [told(each[name]) if name in each else "" for each in options]
        if len(set(values)) > 1:
            rows.append([f"<code>{escape(name)}</code>", *map(escape, values)])
    if not any(options):
        return ""
    if not rows:
        return '<p class="note">All options are the same.</p>'
    return table(["option", *map(escape, names)], rows)


def _origins(records: Sequence[Record], names: Sequence[str]) -> str:
    parts = [
        f"<h3 class=group>{escape(name)}</h3>{history_section(record.history)}"
        for record, name in zip(records, names, strict=True)
    ]
    return "".join(parts)
