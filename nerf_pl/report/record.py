"""What a run's folder tells: settings, scores, curves, cameras, films and the mesh. Everything may be missing."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from nerf_pl.checkpoints import read_checkpoint
from nerf_pl.checkpoints.portable import SUFFIX, read_portable
from nerf_pl.checkpoints.views import views_in
from nerf_pl.console import warn
from nerf_pl.errors import UserError, content_of
from nerf_pl.metrics import FLOATERS_BY
from nerf_pl.options import RunFolders
from nerf_pl.report.curves import Curve, read_curves
from nerf_pl.report.history import FILE, Entry, read_history
from nerf_pl.scenes import Scene
from nerf_pl.scenes.demo import is_demo

SPLITS = ("test", "val", "train")  # the first one that was scored is shown
METRICS = ("psnr", "ssim", "psnr_fitted", "psnr_aligned", "floaters")
KINDS = ("photo", "ray-traced", "reference")  # what the pictures of a scene are called
OF_A_SCENE = "_results"  # what the folder of a portable scene may have after the name of its file
MESHES = ("mesh.ply", "mesh.glb", "mesh.obj")
EXPORTS = (".ply", ".glb", ".obj", ".nerf", ".html")  # what commands write beside a report for use elsewhere
PAGES = ("report.html", "comparison.html")
SWEEP = "scores.md"  # the table in the folder of a sweep


@dataclass(frozen=True)
class ViewRow:
    """A view that was scored. picture: its rendered picture, NNN.png, beside NNN_target.png and so on. depth: at both
    ends of the colours of NNN_depth.png, in the unit of the scene's file; None if it is not known."""

    name: str
    scores: Mapping[str, float | None]
    picture: Path
    depth: tuple[float, float] | None

    @property
    def psnr(self) -> float:
        """nan if there is none."""
        value = self.scores["psnr"]
        return math.nan if value is None else value

    def beside(self, what: str) -> Path:
        """The view's picture of another kind: target, depth or mask."""
        return self.picture.with_name(f"{self.picture.stem}_{what}.png")


@dataclass(frozen=True)
class Scores:
    """The scores of a split. pictures: one of KINDS. is_old: whether the weights have changed since.
    lost_floaters: whether its floaters are of another measure than that of today, and left out."""

    split: str
    means: Mapping[str, float | None]
    views: Sequence[ViewRow]
    pictures: str
    is_old: bool
    lost_floaters: bool


@dataclass(frozen=True)
class Record:
    """What is known of a run. folder: where the report is written. views: by split, without their pictures. steps,
    seconds: of its training; None if they are not known. others: files for use elsewhere, the mesh among them.
    page: the folder of the report, if it is another one."""

    folder: Path
    name: str
    settings: Mapping[str, object]
    scores: Sequence[Scores]
    curves: Mapping[str, Curve]
    history: Sequence[Entry]
    views: Mapping[str, Scene] = field(default_factory=dict)
    steps: int | None = None
    seconds: float | None = None
    films: Sequence[Path] = ()
    mesh: Path | None = None
    others: Sequence[Path] = ()
    page: Path | None = None

    @property
    def best(self) -> Scores | None:
        """The scores that the report leads with."""
        return self.scores[0] if self.scores else None

    @property
    def method(self) -> str:
        return str(self.settings.get("method", "")) or ""

    @property
    def scene(self) -> str:
        """The name of the scene's folder; "" if it is not known."""
        return Path(str(self.settings.get("scene") or "")).name

    def link(self, file: Path) -> str:
        """The address of a file, as seen from the report."""
        place = os.path.relpath(file.resolve(), (self.page or self.folder).resolve())
        return quote(os.fsencode(place.replace(os.sep, "/")))

    def is_old(self, file: Path) -> bool:
        """Whether the weights have changed since a file was written."""
        return _is_older(file, self.history)


def read_record(folder: Path) -> Record:
    """All that a run's folder tells."""
    folders = folders_of(folder)
    checkpoint, views = _checkpoint(folders.checkpoints / "last.ckpt", folder)
    settings = read_values(folders.settings) or _settings_in(checkpoint)
    history = read_history(folder)
    return Record(
        folder,
        _name(folder),
        settings,
        [found for split in SPLITS if (found := _scores(folder, split, settings, history)) is not None],
        read_curves(folders.logs),
        history,
        views,
        _whole(checkpoint.get("global_step")),
        _number(checkpoint.get("train_seconds")),
        sorted(file for where in ("renders", ".") for file in (folder / where).glob("*.mp4")),
        next((folder / name for name in MESHES if (folder / name).is_file()), None),
        sorted(
            file for file in folder.glob("*") if file.suffix in EXPORTS and file.name not in PAGES and file.is_file()
        ),
    )


def folders_of(folder: Path) -> RunFolders:
    """Where the checkpoints, logs and settings of a run are. The folder may also be that of the logs of train.py, or
    one of the results of eval.py, which names its checkpoint."""
    if any(folder.glob("events.out.tfevents.*")):
        return RunFolders(folder.parent.parent / "ckpts" / folder.name, folder, folder / "settings.json")
    checkpoint = read_values(folder / "metrics.json").get("checkpoint")
    if isinstance(checkpoint, str) and "/" in checkpoint and not (folder / "settings.json").is_file():
        path = Path(checkpoint)
        logs = path.parent.parent.parent / "logs" / path.parent.name
        return RunFolders(path.parent, logs, logs / "settings.json")
    return RunFolders.modern(folder)


def require_run(folder: Path) -> None:
    """Raises UserError if nothing in a folder is of a run."""
    scores = ("metrics.json", "metrics_val.json", "metrics_train.json")
    known = ("settings.json", FILE, "checkpoints/last.ckpt", *scores)
    if not any((folder / name).is_file() for name in known):
        if (folder / SWEEP).is_file():
            raise UserError(f"{folder} is of a sweep, and {folder / SWEEP} has its scores: give its runs, {folder}-*")
        what = "holds no run" if folder.is_dir() else "does not exist"
        raise UserError(f"{folder} {what}: give the folder of a training, such as runs/NAME")


def _name(folder: Path) -> str:
    return folder.resolve().name or str(folder)


def read_values(path: Path) -> dict[str, object]:
    """The object in a JSON file; an empty one, with a warning, if it cannot be read, and without one if there is no
    such file."""
    try:
        values = json.loads(content_of(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        warn(f"{path} cannot be read, and is left out of the report")
        return {}
    return values if isinstance(values, dict) else {}


def _settings_in(checkpoint: Mapping[str, object]) -> dict[str, object]:
    """Those of a run that has no settings.json, as one that was imported."""
    config = checkpoint.get("config")
    return {"scene": checkpoint.get("scene") or "", **config} if isinstance(config, dict) else {}


def _checkpoint(path: Path, folder: Path) -> tuple[Mapping[str, object], Mapping[str, Scene]]:
    """What a checkpoint holds, and its views, or those of the portable scene that the folder is named after; nothing if
    there is none, or if it is damaged."""
    home = folder.resolve()
    named = (home.with_name(f"{name}{SUFFIX}") for name in (home.name, home.name.removesuffix(OF_A_SCENE)) if name)
    path = next((file for file in (path, *named) if file.is_file()), path)
    if not path.is_file():
        return {}, {}
    try:
        if path.suffix == SUFFIX:
            stored = read_portable(path)
            stored |= {"global_step": stored["facts"].get("steps")}
        else:
            stored = read_checkpoint(path, lazily=True)  # of which the report needs little
        return stored, views_in(stored, path)
    except UserError as error:
        warn(f"the report does without the checkpoint: {error}")
        return {}, {}


def _scores(folder: Path, split: str, settings: Mapping[str, object], history: Sequence[Entry]) -> Scores | None:
    """The scores of a split; those in metrics.json are of the split that the file names. None without scores."""
    path = folder / ("metrics.json" if split == SPLITS[0] else f"metrics_{split}.json")
    values = read_values(path)
    rows = values.get("views")
    if not values:
        return None
    split = str(values.get("split") or split)
    pictures = folder / "renders" / split
    pictures = pictures if pictures.is_dir() else folder
    rows = rows if isinstance(rows, list) else []
    lost = values.get("floaters") is not None and values.get("floaters_by") != FLOATERS_BY
    known = [name for name in METRICS if not (lost and name == "floaters")]
    views = [_row(pictures, i, row, known) for i, row in enumerate(rows) if isinstance(row, dict)]
    means = _metrics(values, known)
    return Scores(split, means, views, _kind(values, settings), _is_older(path, history), lost)


def _metrics(values: Mapping[str, object], known: Sequence[str]) -> dict[str, float | None]:
    return {name: _number(values.get(name)) if name in known else None for name in METRICS}


def _row(pictures: Path, i: int, values: Mapping[str, object], known: Sequence[str]) -> ViewRow:
    ends = values.get("depth")
    near, far = map(_number, ends) if isinstance(ends, list) and len(ends) == 2 else (None, None)
    depth = (near, far) if near is not None and far is not None and near < far else None
    return ViewRow(str(values.get("name", f"{i:03d}")), _metrics(values, known), pictures / f"{i:03d}.png", depth)


def _kind(values: Mapping[str, object], settings: Mapping[str, object]) -> str:
    """What the pictures of the scene are called. Files of earlier versions do not say."""
    told = values.get("pictures")
    if told in KINDS:
        return str(told)
    scene = settings.get("scene")
    return "ray-traced" if isinstance(scene, str) and scene and is_demo(Path(scene)) else "reference"


def _is_older(file: Path, history: Sequence[Entry]) -> bool:
    """Whether a file was written before the last training of the run began."""
    trained = [entry.date for entry in history if entry.trains]
    try:
        return bool(trained) and file.stat().st_mtime < datetime.fromisoformat(trained[-1]).timestamp()
    except (OSError, ValueError):
        return False


def _number(value: object) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
