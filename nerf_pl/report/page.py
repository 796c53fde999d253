"""The report of a run: one page that holds all it shows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from nerf_pl.errors import reading
from nerf_pl.report.pictures import SIDE
from nerf_pl.report.plan import plan
from nerf_pl.report.record import SPLITS, Record, Scores, read_record
from nerf_pl.report.sections import (
    Room,
    command,
    files_section,
    films_section,
    flat,
    history_section,
    length_of,
    means_of,
    mesh_section,
    scores_section,
    section,
    settings_section,
    steps_told,
    tiles,
    training_section,
)
from nerf_pl.report.views import views_section
from nerf_pl.text import counted
from nerf_pl.version import VERSION
from nerf_pl.writing import atomic_write

FILE = "report.html"
MOST_BYTES = 15_000_000  # of a page
MOST_FILM = 5_000_000  # of a film inside it


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of a run, and return its path: report.html in its folder, or `out`. What is missing or damaged
    is left out, with a warning. Raises UserError if it cannot be written.
    """
    path = out or folder / FILE
    with reading(folder, "restore the files of the run"):
        record = replace(read_record(folder), page=path.parent)
        return write_page(path, title=record.name, over="Radiance field", lede=_lede(record), main=_main(record))


def write_page(path: Path, *, title: str, over: str, lede: str, main: Sequence[tuple[str, str, str]]) -> Path:
    """Write a page, and return its path. title: plain text. lede: HTML. main: the sections, each with its anchor, its
    title and its content; one without a title has no heading, one without content is left out."""
    shown = [(anchor, name, content) for anchor, name, content in main if content]
    links = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name, _ in shown if name)
    parts = {
        "version": VERSION, "title": escape(title), "heading": escape(title), "over": escape(over),
        "lede": lede, "style": _own("style.css"), "script": _own("script.js"),
        "links": f'<nav aria-label="sections">{links}</nav>' if links else "",
        "main": "\n".join(section(anchor, name, content) if name else content for anchor, name, content in shown),
        "footer": f"Made by nerf_pl {VERSION}. This page holds all that it shows; it needs no network.",
    }  # fmt: skip
    page = Template(_own("page.html")).substitute(parts)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return path


def _own(name: str) -> str:
    """A file of this package."""
    return files("nerf_pl.report").joinpath(name).read_text(encoding="utf-8").strip()


def _main(record: Record) -> list[tuple[str, str, str]]:
    lead = record.best
    views = views_section(lead, SIDE) if lead is not None else ""
    mesh = mesh_section(record)
    room = Room(MOST_BYTES - len(views) - len(mesh) - 1_000_000)  # the rest of the page is text
    return [
        ("", "", _glance(record)),
        ("views", "Views", views),
        ("scores", "Scores", scores_section(record)),
        ("training", "Training", training_section(record)),
        ("films", "Films", films_section(record, room, MOST_FILM)),
        ("cameras", "Cameras from above", plan(record.views, _psnr_by_view(record))),
        ("mesh", "Mesh", mesh),
        ("files", "Files", files_section(record)),
        ("settings", "Settings", settings_section(record)),
        ("origin", "How it was made", history_section(record.history)),
    ]


def _psnr_by_view(record: Record) -> Mapping[tuple[str, str], float]:
    return {(scores.split, view.name): view.psnr for scores in record.scores for view in scores.views}


def _lede(record: Record) -> str:
    """What the run is, in a sentence or two."""
    of = f" of <b>{escape(record.scene)}</b>" if record.scene else ""
    by = f", learned by the method <b>{escape(record.method)}</b>" if record.method else ""
    parts = [f"A radiance field{of}{by}."]
    spent = [] if record.seconds is None or not record.steps else [f"for {length_of(record.seconds)}"]
    spent += [f"{steps_told(record)} step{'' if record.steps == 1 else 's'}"] if record.steps else []
    train = record.views.get("train")
    seen = ""
    if train is not None:
        size = f"{train.cameras.width} × {train.cameras.height}"
        most = "up to " if train.cameras.sizes is not None else ""
        seen = f" on {counted(len(train), 'view')} of {most}{size} pixels"
    if spent or seen:
        parts.append(f"Trained{' ' if spent else ''}{', '.join(spent)}{seen}.")
    fields = flat(record.settings).get("ensemble")  # see `Run.single`
    if isinstance(fields, int) and fields > 1:
        parts.append(f"Its {fields} fields trained in turn, and what is shown is their mean.")
    return " ".join(parts)


def _glance(record: Record) -> str:
    """The figures at a glance, and what is to be known of them."""
    lead, folder = record.best, record.folder
    known = (folder / "checkpoints").is_dir()  # to nerf eval; train.py and eval.py have other folders
    if lead is not None:
        shown = tiles([*means_of(lead), (f"{lead.split} views", str(len(lead.views)), "")])
        if lead.is_old:
            remedy = f": {command('eval', folder)} scores it anew" if known else ""
            shown += f'<p class="notice">The run was trained on since it was scored{remedy}.</p>'
        return shown + "".join(_lost_floaters(scores, folder if known else None) for scores in record.scores)
    last = record.curves.get("val/psnr")
    shown = tiles([("validation PSNR", f"{last.values[-1]:.2f}", "dB")]) if last is not None else ""
    remedy = f": {command('eval', folder)} adds scores and pictures" if known else ""
    return f'{shown}<p class="notice">This run was not scored yet{remedy}.</p>'


def _lost_floaters(scores: Scores, folder: Path | None) -> str:
    """That floaters are left out, if they are. folder: of the run, for the command that measures them anew."""
    if not scores.lost_floaters:
        return ""
    split = () if scores.split == SPLITS[0] else ("--split", scores.split)
    remedy = "" if folder is None else f": {command('eval', folder, *split)} measures them anew"
    told = f"Floaters of the {scores.split} views were measured in another way, and are left out{remedy}."
    return f'<p class="notice">{told}</p>'
