"""The table of a sweep: the scores of all its runs with their means, as papers print them, and how they came about."""

import json
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from nerf_pl.checkpoints import stamp_of
from nerf_pl.console import warn
from nerf_pl.errors import reason
from nerf_pl.metrics import FLOATERS_BY
from nerf_pl.options import RunFolders
from nerf_pl.report.history import Entry, read_history
from nerf_pl.report.record import SWEEP, read_record, read_values
from nerf_pl.sweep.jobs import Job
from nerf_pl.text import one_line
from nerf_pl.writing import atomic_write

TABLE, VALUES = SWEEP, "scores.json"
WAITING, DONE, FAILED, STOPPED = "waiting", "done", "failed", "stopped"
STATES = (WAITING, DONE, FAILED, STOPPED)
METRICS = (("PSNR, dB", "psnr", 2), ("SSIM", "ssim", 4))
THEN = ", then "  # between what a run began and what it went on with
MOST_COLUMNS = 10  # of scenes; more are rows


@dataclass(frozen=True)
class Row:
    """What is known of one run of a sweep.

    state: one of STATES. why: it failed. asked: the options that it was trained with, as words. weights: identifies
    those that were scored. replaces: no, those that the training is to replace. split, views, width, height: of the
    pictures that were scored. floaters_by: names the measure that floaters are of, if there are any; other text than
    that of today says that the floaters that were scored are of another one, and left out. seconds, steps: of the
    training. machine, versions: on and with which it was trained and scored; "" if that is not known.
    """

    run: str
    scene: str
    method: str
    seed: int | None = None
    state: str = WAITING
    why: str = ""
    asked: tuple[str, ...] = ()
    weights: str = ""
    replaces: bool = False
    split: str = ""
    views: int | None = None
    width: int | None = None
    height: int | None = None
    psnr: float | None = None
    ssim: float | None = None
    psnr_fitted: float | None = None
    floaters: float | None = None
    floaters_by: str = ""
    seconds: float | None = None
    steps: int | None = None
    machine: str = ""
    versions: str = ""

    def told(self) -> str:
        """The state in a few words."""
        if self.state == DONE and self.psnr is not None and self.ssim is not None:
            return f"PSNR {self.psnr:.2f} dB, SSIM {self.ssim:.4f}"
        return f"{self.state}{f': {self.why}' if self.why else ''}"


TYPES = {"run": str, "scene": str, "method": str, "state": str, "why": str, "weights": str, "split": str,
         "replaces": bool, "floaters_by": str, "machine": str, "versions": str}  # fmt: skip
NUMBERS = {"seed": int, "views": int, "width": int, "height": int, "steps": int, "psnr": float, "ssim": float,
           "psnr_fitted": float, "floaters": float, "seconds": float}  # fmt: skip


def row_of(job: Job, state: str = WAITING, why: str = "") -> Row:
    return Row(job.name, job.scene, job.method, job.seed, state, why, job.asked)


def weights_of(run: Path) -> str:
    """What identifies the weights of a run; "" if it has none."""
    last = RunFolders.modern(run).last
    return stamp_of(last) if last.is_file() else ""


def planned(jobs: Sequence[Job], before: Mapping[str, Row], overwrite: bool) -> dict[str, Row]:
    """What is known of each job before a sweep. Those that are done need not be done again: they were trained with the
    same options, and their weights are those that were scored. before: what an earlier sweep wrote. overwrite: nothing
    of it counts; of runs that it was to replace, and did not, neither. Floaters of another measure than that of today
    are left out, and one line says so."""
    rows, lost = {}, []
    for job in jobs:
        weights, old = weights_of(job.run), before.get(job.name, row_of(job))
        is_done = old.state == DONE and old.asked == job.asked and bool(weights) and old.weights == weights
        if is_done and not overwrite:
            rows[job.name] = replace(_measured_alike(old, job), scene=job.scene, **_origin(read_history(job.run)))
            if old.floaters is not None and rows[job.name].floaters is None:
                split = [] if old.split in ("", "test") else ["--split", old.split]
                lost.append(shlex.join([str(job.run), *split]))
        elif overwrite or (old.replaces and old.weights == weights):
            rows[job.name] = replace(row_of(job), replaces=bool(weights), weights=weights)
        else:
            rows[job.name] = row_of(job)
    if lost:
        told = f"floaters of {len(lost)} of {len(rows)} runs were measured in another way, and are left out"
        again = f"nerf eval {lost[0]}{' and so on' if len(lost) > 1 else ''}"
        warn(f"{told}: {again}, then the same sweep, adds those of today")
    return rows


def _measured_alike(old: Row, job: Job) -> Row:
    """A row that an earlier sweep wrote, with floaters of the measure of today. If its own are of another one, those
    count that the run was scored with since; without such there are none."""
    if old.floaters_by == FLOATERS_BY:
        return old
    new = scored(job)
    if (new.state, new.weights, new.split) != (DONE, old.weights, old.split):
        return replace(old, floaters=None)
    return replace(old, floaters=new.floaters, floaters_by=new.floaters_by)


def split_to_score(run: Path) -> list[str]:
    """What to add to a command that scores a run that has just been trained. Its checkpoint tells, so the scene is not
    read here: what ends the process that reads it ends no sweep."""
    kept = read_record(run).views
    if "test" in kept or not kept:
        return []
    return ["--split", "val" if (RunFolders.modern(run).checkpoints / "best.ckpt").is_file() else "train"]


def scored(job: Job) -> Row:
    """The scores of a run that has just been evaluated."""
    try:
        return _scored(job)
    except Exception as error:  # whatever a damaged file can raise: the other jobs go on
        return row_of(job, FAILED, f"its scores cannot be read ({reason(error)})")


def _scored(job: Job) -> Row:
    record = read_record(job.run)
    best = next((scores for scores in record.scores if not scores.is_old), None)  # an earlier sweep's may be there, too
    if best is None:
        return row_of(job, FAILED, f"{job.run} has no scores")
    cameras = record.views[best.split].cameras if best.split in record.views else None
    size = {} if cameras is None else {"width": cameras.width, "height": cameras.height}
    means = {name: best.means.get(name) for name in ("psnr", "ssim", "psnr_fitted", "floaters")}
    known = {"split": best.split, "views": len(best.views), "seconds": record.seconds, "steps": record.steps}
    known |= {"floaters_by": "" if best.lost_floaters else FLOATERS_BY}
    known |= _origin(record.history)
    return replace(row_of(job, DONE), weights=weights_of(job.run), **size, **means, **known)


def _origin(history: Sequence[Entry]) -> dict[str, str]:
    """On which machines and with which versions a run was trained and then scored, where it says so."""
    scoring = [entry for entry in history if "eval" in entry.command.split()[1:2]]
    entries = [*(entry for entry in history if entry.trains), *scoring[-1:]]
    machines = dict.fromkeys(entry.machine for entry in entries)
    versions = dict.fromkeys(versions_told(entry.versions) for entry in entries)
    return {"machine": THEN.join(machines), "versions": THEN.join(versions)} if entries else {}


def versions_told(numbers: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def _stated(rows: Sequence[Row], protocol: Mapping[str, object]) -> dict[str, object]:
    """The protocol with the machine and the versions of the runs that were scored, which may be those of an earlier
    sweep. Where runs differ, those of the most are said first, and then the others with their names."""
    stated = dict(protocol)
    for name in ("machine", "versions"):
        runs: dict[str, list[str]] = {}
        for row in rows:
            if row.state == DONE:
                runs.setdefault(getattr(row, name) or "not known", []).append(row.run)
        if runs:
            most, *others = sorted(runs, key=lambda value: -len(runs[value]))
            stated[name] = "; ".join([most, *(f"but of {', '.join(runs[value])}: {value}" for value in others)])
    return stated


def read_rows(folder: Path) -> dict[str, Row]:
    """What an earlier sweep wrote, by the names of the runs. What is damaged counts as nothing."""
    stored = read_values(folder / VALUES).get("runs")
    rows = {}
    for values in stored if isinstance(stored, list) else []:
        added = {"floaters_by": "", "machine": "", "versions": ""}  # which earlier versions do not say
        values = {**added, **values} if isinstance(values, dict) else {}
        if _is_row(values):
            known = {field.name: values[field.name] for field in fields(Row) if field.name in values}
            asked = known.get("asked")
            known["asked"] = tuple(map(str, asked)) if isinstance(asked, list) else ()
            rows[known["run"]] = Row(**known)
    return rows


def _is_row(values: Mapping[str, object]) -> bool:
    """Whether the values have the types of a row's."""
    texts = all(type(values.get(name)) is kind for name, kind in TYPES.items())
    return texts and all(_is_number_or_none(values.get(name), kind) for name, kind in NUMBERS.items())


def _is_number_or_none(value: object, kind: type) -> bool:
    if value is None or type(value) is int:
        return True
    return kind is float and isinstance(value, float) and math.isfinite(value)


def write_scores(folder: Path, rows: Sequence[Row], protocol: Mapping[str, object]) -> None:
    """Write both tables. protocol: what is said of all runs, by what it is about. Raises UserError if a
    file cannot be written."""
    protocol = _stated(rows, protocol)
    means = {"means": _means(rows), "protocol": protocol, "runs": [asdict(row) for row in rows]}
    with atomic_write(folder / VALUES) as path:
        path.write_text(json.dumps(means, indent=2) + "\n", encoding="utf-8", errors="replace")
    with atomic_write(folder / TABLE) as path:
        path.write_text(markdown(rows, protocol), encoding="utf-8", errors="replace")


def means_told(rows: Sequence[Row]) -> list[str]:
    """The means of each method in a line, for those that have any."""
    told = []
    for values in _means(rows):
        scores = [f"{title.partition(',')[0]} {values[key]:.{digits}f}{title[len(title.partition(',')[0]) + 1 :]}"
                  for title, key, digits in METRICS if values[key] is not None]  # fmt: skip
        if scores:
            of = f"{values['scenes']} of {values['scenes_in_all']} scenes"
            told.append(f"{values['method']:>12}  {'  '.join(scores)}  (mean of {of})")
    return told


def _means(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Of each method: over the scenes, of the means over the seeds."""
    scenes = list(dict.fromkeys(row.scene for row in rows))
    found = []
    for method in dict.fromkeys(row.method for row in rows):
        values: dict[str, object] = {"method": method, "scenes_in_all": len(scenes)}
        for _, key, _ in METRICS:
            each = [_mean(cell) for scene in scenes if (cell := _cell(rows, method, scene, key))]
            values |= {key: _mean(each) if each else None, "scenes": len(each)}
        found.append(values)
    return found


def _cell(rows: Sequence[Row], method: str, scene: str, key: str) -> list[float]:
    """A score of all seeds of a method on a scene."""
    found = (getattr(row, key) for row in rows if (row.method, row.scene, row.state) == (method, scene, DONE))
    return [value for value in found if value is not None]


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def markdown(rows: Sequence[Row], protocol: Mapping[str, object]) -> str:
    """The tables as text: each score by methods and scenes, every run, what failed, and the protocol."""
    parts = [f"# {protocol.get('title', 'Scores')}"]
    for title, key, digits in METRICS:
        parts += [f"## {title}", _grid(rows, key, digits)]
    if any(row.seed is not None for row in rows):
        parts.append("± is the standard deviation over the seeds.")
    parts += ["## Runs", _runs(rows)]
    if open_rows := [row for row in rows if row.state != DONE]:
        parts += ["## Without scores", "\n".join(f"- `{row.run}` {_text(row.told())}" for row in open_rows)]
    told = [f"- {name}: {_text(str(value))}" for name, value in protocol.items() if name != "title"]
    parts += ["## Protocol", "\n".join(told)]
    return "\n\n".join(parts) + "\n"


def _grid(rows: Sequence[Row], key: str, digits: int) -> str:
    """Methods below each other and scenes side by side, or the other way round if there are many scenes."""
    scenes = list(dict.fromkeys(row.scene for row in rows))
    head = ["method", *scenes, "mean"]
    lines = [head]
    for values in _means(rows):
        method = str(values["method"])
        cells = [_shown(_cell(rows, method, scene, key), digits) for scene in scenes]
        of = "" if values["scenes"] == len(scenes) else f" ({values['scenes']} of {len(scenes)})"
        mean = values[key]
        lines.append([method, *cells, "–" if mean is None else f"{mean:.{digits}f}{of}"])
    return _table([list(line) for line in zip(*lines, strict=True)] if len(scenes) > MOST_COLUMNS else lines)


def _shown(values: Sequence[float], digits: int) -> str:
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{_mean(values):.{digits}f}{spread}" if values else "–"


def _runs(rows: Sequence[Row]) -> str:
    lines = [["run", "PSNR, dB", "SSIM", "colours fitted, dB", "views", "pixels", "training, s", "steps"]]
    for row in rows:
        size = "–" if row.width is None else f"{row.width} x {row.height}"
        views = "–" if row.views is None else f"{row.views} {row.split}"
        numbers = ((row.psnr, 2), (row.ssim, 4), (row.psnr_fitted, 2))
        scores = ["–" if value is None else f"{value:.{digits}f}" for value, digits in numbers]
        time = ["–" if row.seconds is None else f"{row.seconds:.1f}", "–" if row.steps is None else str(row.steps)]
        lines.append([f"`{row.run}`", *scores, views, size, *time])
    return _table(lines)


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *rest = [[_text(cell) for cell in line] for line in lines]
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rest))


def _text(text: str) -> str:
    """In a cell of a table of Markdown."""
    return one_line(text).replace("|", "\\|")
