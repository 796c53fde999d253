"""The sections of a run's report, but for its views: each a piece of HTML, or "" if nothing is known of it."""

import itertools
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from html import escape
from pathlib import Path

from nerf_pl.console import short_number
from nerf_pl.methods import METHODS
from nerf_pl.methods.method import kind_of
from nerf_pl.options import SceneKind, to_dict
from nerf_pl.report.charts import Line, histogram, line_chart
from nerf_pl.report.curves import Curve, thinned
from nerf_pl.report.history import Entry
from nerf_pl.report.pictures import as_uri, depth_legend, megabytes
from nerf_pl.report.record import Record, Scores
from nerf_pl.report.turn import turn_of, up_of
from nerf_pl.report.views import image

MOST_POINTS = 240  # of a line
FEW_VIEWS = 12  # a film of no more test views only flickers
UNNAMED = ("exp_name",)  # options that say nothing of the result
SCORED = (
    ("PSNR", "psnr", "{:.2f}", "dB"),
    ("SSIM", "ssim", "{:.4f}", ""),
    ("PSNR, colours fitted", "psnr_fitted", "{:.2f}", "dB"),
    ("PSNR, cameras aligned", "psnr_aligned", "{:.2f}", "dB"),
    ("floaters", "floaters", "{:.1%}", ""),
)


@dataclass
class Room:
    """The bytes that films may still take in a page."""

    left: int

    def takes(self, size: int, most: int) -> bool:
        """Whether a file of that size fits, as text that is a third longer. If so, its room is taken."""
        fits = size <= most and size * 4 / 3 <= self.left
        self.left -= round(size * 4 / 3) if fits else 0
        return fits


def section(anchor: str, title: str, content: str) -> str:
    return f'<section id="{anchor}"><h2>{title}</h2>{content}</section>' if content else ""


def tiles(pairs: Sequence[tuple[str, str, str]]) -> str:
    """Figures at a glance: what, the value, its unit."""
    shown = "".join(
        f"<div><dt>{escape(what)}</dt><dd>{escape(value)}{f' <small>{unit}</small>' if unit else ''}</dd></div>"
        for what, value, unit in pairs
    )
    return f'<dl class="tiles">{shown}</dl>' if shown else ""


def means_of(scores: Scores) -> list[tuple[str, str, str]]:
    return [
        (name, form.format(value), unit) for name, key, form, unit in SCORED if (value := scores.means[key]) is not None
    ]


def length_of(seconds: float) -> str:
    """Such as 42 s, 3 min 20 s, or 2 h 5 min."""
    if seconds < 99.5:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = False) -> str:
    """Rows of HTML. numbers: all columns but the first are aligned to the right."""
    mark = ' class="number"' if numbers else ""
    cells = [[f"<td{mark if i else ''}>{cell}</td>" for i, cell in enumerate(row)] for row in rows]
    top = "".join(f"<th{mark if i else ''}>{cell}</th>" for i, cell in enumerate(head))
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def scores_section(record: Record) -> str:
    """The scores of other splits, how those of the views are spread, and all of them."""
    lead = record.best
    if lead is None:
        return ""
    parts = []
    if len(record.scores) > 1:
        shown = [entry for entry in SCORED if any(s.means[entry[1]] is not None for s in record.scores)]
        rows = [
            [escape(s.split), str(len(s.views)), *(_cell(s.means[key], form) for _, key, form, _ in shown)]
            for s in record.scores
        ]
        parts.append(table(["split", "views", *_heads(shown)], rows, numbers=True))
    known = [view for view in lead.views if view.scores["psnr"] is not None]
    charts = [
        histogram(f"{name} of the {lead.split} views", values, names, unit)
        for name, key, unit in (("PSNR", "psnr", "dB"), ("SSIM", "ssim", ""))
        if (values := [value for view in known if (value := view.scores[key]) is not None])
        and len(names := [view.name for view in known if view.scores[key] is not None]) > 1
    ]
    parts.append(f'<div class="charts">{"".join(charts)}</div>' if charts else "")
    shown = [entry for entry in SCORED if any(view.scores[entry[1]] is not None for view in lead.views)]
    rows = [[escape(v.name), *(_cell(v.scores[key], form) for _, key, form, _ in shown)] for v in lead.views]
    if rows:
        inner = table(["view", *_heads(shown)], rows, numbers=True)
        parts.append(f"<details><summary>Scores of each view</summary>{inner}</details>")
    return "".join(parts)


def _heads(shown: Sequence[tuple[str, str, str, str]]) -> list[str]:
    return [f"{name}{f', {unit}' if unit else ''}" for name, _, _, unit in shown]


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def training_section(record: Record) -> str:
    """The curves of the training."""
    found = {name: thinned(curve, MOST_POINTS) for name, curve in record.curves.items()}
    axis = "training, s" if all(curve.seconds for curve in found.values()) else "step"
    if axis == "step":
        found = {name: Curve(curve.steps, curve.values) for name, curve in found.items()}

    def lines(*names: tuple[str, str]) -> list[Line]:
        return [
            Line(told, found[name].x, found[name].values, colour, dots=name.startswith("val"))
            for colour, (name, told) in enumerate(names)
            if name in found
        ]

    charts = [
        line_chart("PSNR", lines(("train/psnr", "training"), ("val/psnr", "validation")), axis, "dB"),
        line_chart("Loss (mean squared error)", lines(("train/mse", "training")), axis, is_log=True),
        line_chart("Rays a second", lines(("train/rays_per_second", "rays")), axis),
        line_chart("Learning rate", lines(("lr", "learning rate")), axis),
    ]
    charts = [chart for chart in charts if chart]
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def films_section(record: Record, room: Room, most: int) -> str:
    """The films of a run: inside the page if they are small, else as links."""
    films = list(record.films)
    lead = record.best
    if lead is not None and len(lead.views) > FEW_VIEWS:
        films += [f for f in (lead.views[0].picture.with_name(f"{lead.split}.mp4"),) if f.is_file() and f not in films]
    shown = "".join(_film(record, film, room, most) for film in films)
    return f'<div class="films">{shown}</div>' if shown else ""


def _film(record: Record, film: Path, room: Room, most: int) -> str:
    name = film.stem
    try:
        size = film.stat().st_size
        content = as_uri(film.read_bytes(), "video/mp4") if room.takes(size, most) else ""
    except OSError:
        return ""
    told = "depth" if name.endswith("_depth") else "colours"
    told = "test views, one after the other" if record.best and name == record.best.split else told
    told += ", of the first field alone" if name.removesuffix("_depth").endswith("_single") else ""
    told += ", of earlier weights" if record.is_old(film) else ""
    legend = depth_legend(None) if name.endswith("_depth") else ""
    caption = f"<b>{escape(name)}</b>: {told}, {megabytes(size)}"
    if content:
        video = f'<video src="{content}" controls loop muted playsinline preload="metadata"></video>'
        return f'<figure class="film">{video}{legend}<figcaption>{caption}</figcaption></figure>'
    link = (
        f'<p>The film is too large to be a part of this page: <a href="{record.link(film)}">{escape(film.name)}</a></p>'
    )
    return f'<figure class="film">{link}<figcaption>{caption}</figcaption></figure>'


def mesh_section(record: Record) -> str:
    """The mesh in a run's folder, to be turned."""
    if record.mesh is None:
        return ""
    size, old = (
        megabytes(record.mesh.stat().st_size),
        " It is of earlier weights." if record.is_old(record.mesh) else "",
    )
    link = f'<a href="{record.link(record.mesh)}">{escape(record.mesh.name)}</a>, {size}'
    turn = turn_of(record.mesh, up_of(list(record.views.values()), record.mesh))
    if turn is None:
        return f'<p class="note">{link}.{old}</p>'
    pictures = "".join(
        image(picture, f"mesh, turned by {360 * i // len(turn.pictures)} degrees").replace(
            "<img", "<img hidden" if i else "<img", 1
        )
        for i, picture in enumerate(turn.pictures)
    )
    control = f'<input type="range" min="0" max="{len(turn.pictures) - 1}" value="0" aria-label="turn the mesh">'
    told = f"{link}: {turn.vertices:,} vertices, {turn.faces:,} triangles.{old} The slider turns it."
    return f'<figure class="turn"><div class="stage">{pictures}</div>{control}<figcaption>{told}</figcaption></figure>'


def files_section(record: Record) -> str:
    """Links to files of the run that others can use."""
    rows = [
        [f'<a href="{record.link(file)}">{escape(file.name)}</a>', megabytes(file.stat().st_size)]
        for file in record.others
    ]
    return table(["file", "size"], rows) if rows else ""


def flat(settings: Mapping[str, object]) -> dict[str, object]:
    """The options of a run by their names, whatever section they are in."""
    found: dict[str, object] = {}
    for name, value in settings.items():
        found |= value if isinstance(value, Mapping) else {name: value}
    return found


def told(value: object) -> str:
    """An option's value, as it is typed."""
    if isinstance(value, list | tuple):
        return " ".join(map(told, value))
    return {True: "yes", False: "no", None: "–"}[value] if value is None or isinstance(value, bool) else str(value)


def settings_section(record: Record) -> str:
    """The options that are not the method's defaults, and all of them."""
    options = {name: value for name, value in flat(record.settings).items() if name not in UNNAMED}
    if not options:
        return ""
    usual = defaults_of(record)
    rows = [
        [f"<code>{escape(name)}</code>", escape(told(value)), escape(" or ".join(dict.fromkeys(map(told, known))))]
        for name, value in options.items()
        if (known := [each[name] for each in usual if name in each]) and value not in known
    ]
    parts = [table(["option", "value", f"default of {escape(record.method)}"], rows)] if rows else []
    if usual and not rows:
        parts.append(f'<p class="note">All options are the defaults of {escape(record.method)}.</p>')
    rows = [[f"<code>{escape(name)}</code>", escape(told(value))] for name, value in options.items()]
    inner = table(["option", "value"], rows)
    parts.append(f"<details><summary>All {len(rows)} options</summary>{inner}</details>")
    return "".join(parts)


def defaults_of(record: Record) -> list[dict[str, object]]:
    """The defaults of a run's method for such a scene: on a CPU and on a GPU, with and without sparse points, which a
    run does not keep. None for a method that is not known."""
    if record.method not in METHODS:
        return []
    method, train = METHODS[record.method], record.views.get("train")
    seconds = flat(record.settings).get("seconds")  # on which some sizes depend
    preset = method.preset
    if isinstance(seconds, int | float):
        preset = replace(preset, train=replace(preset.train, seconds=float(seconds)))
    kind, found = SceneKind() if train is None else kind_of(train), []
    for device, points in itertools.product(("cpu", "cuda"), (False, True)):
        kind = replace(kind, points=points)
        options = flat(to_dict(method.complete(preset, device, kind)))
        usual = flat(to_dict(method.complete(method.preset, device, kind)))
        found.append(json.loads(json.dumps({**options, "seconds": usual["seconds"]})))
    return found


def history_section(history: Sequence[Entry]) -> str:
    """The commands that made the run, on which machine and with which versions."""
    if not history:
        return '<p class="note">The commands that made this run were not recorded; an earlier version made it.</p>'
    rows = [
        [f'<span class="mono">{escape(entry.command)}</span>', _date(entry.date), length_of(entry.seconds)]
        for entry in history
    ]
    machines = dict.fromkeys((entry.machine, tuple(entry.versions.items())) for entry in history)
    parts = [table(["command", "began", "took"], rows)]
    for machine, versions in machines:
        numbers = ", ".join(f"{escape(name)} {escape(number)}" for name, number in versions)
        parts.append(f'<p class="note">{escape(machine)}.<br>{numbers}.</p>')
    return "".join(parts)


def _date(date: str) -> str:
    try:
        return f"{datetime.fromisoformat(date):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return escape(date)


def command(name: str, folder: Path, *options: str) -> str:
    """A command for the run, to be typed."""
    return f"<code>{escape(f'nerf {shlex.join([name, str(folder), *options])}')}</code>"


def steps_told(record: Record) -> str:
    return "" if record.steps is None else short_number(record.steps) if record.steps >= 1e5 else f"{record.steps:,}"
