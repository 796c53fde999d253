"""nerf export"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from nerf_pl.cli.flags import Flags, Plain, Position
from nerf_pl.cli.reporting import Added
from nerf_pl.cli.trained import Trained, scores_file
from nerf_pl.errors import UserError, content_of
from nerf_pl.export.options import WebOptions
from nerf_pl.options.ranges import Range, check_options
from nerf_pl.options.shared import SIZE
from nerf_pl.text import counted

if TYPE_CHECKING:
    from nerf_pl.checkpoints import Run
    from nerf_pl.scenes import Scene

KEPT = ("train", "test")  # splits whose cameras are exported
NAMES_SCENE = Range(lambda path: path.suffix.lower() == ".nerf", "name a .nerf file")


@dataclass(frozen=True)
class Export:
    """Write a run's scene for elsewhere: a page that shows it in any browser (--web), a small file that other commands
    take in place of the run (--scene), or its cameras for other programs (--cameras)."""

    folder: Position
    """Folder of the run, runs/NAME, or a file that this command wrote, NAME.nerf."""
    scene: Annotated[Path | None, NAMES_SCENE] = None
    """Write the scene to this .nerf file: what it takes to render it, in half precision."""
    cameras: Path | None = None
    """Write the cameras, in the coordinates of the scene's own file: transforms.json and a COLMAP model in text to this
    folder, or transforms.json alone to this .json file. They are of the photos at their own size."""
    trained_size: Plain[bool] = False
    """Write cameras of the size that the run was trained at, such as with --downscale."""
    overwrite: Plain[bool] = False
    """Replace files of cameras that are there."""
    web: Flags[WebOptions] = field(default_factory=WebOptions)
    single: Plain[bool] = False
    """Export the first field of an ensemble alone: a smaller file that renders sooner, a little less good."""
    photos: Path | None = None
    """Folder of the scene, if it has moved. Only runs of version 0.1.0 need it."""
    checkpoint: Literal["last", "best"] = "last"
    """Which weights; best is by PSNR on the validation split."""
    chunk: Annotated[int | None, SIZE] = None
    """Rays rendered at once. Lower it if memory runs out. By default as in training."""
    num_gpus: Literal[0, 1] = 1
    """0 means the CPU."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.scene is not None and self.scene.resolve() == self.folder.resolve():
            yield "scene", "name another file than the one that is read"

    @property
    def added(self) -> Added | None:
        home = Trained(self.folder).results
        written = [path for path in (self.web.web, self.scene) if path is not None]
        is_beside = any(path.resolve().parent == home.resolve() for path in written)
        return Added(home, self.num_gpus) if is_beside else None

    def run(self) -> None:
        check_options(self)
        check_options(self.web)
        if self.web.web is None and self.scene is None and self.cameras is None:
            raise UserError("nothing to export: give --web FILE.html, --scene FILE.nerf or --cameras FOLDER")
        trained = Trained(self.folder, self.checkpoint, single=self.single, chunk=self.chunk, num_gpus=self.num_gpus)
        run = trained.open(tell=False)
        views = dict(run.kept) if "train" in run.kept else self._views(trained, run)
        run.model.ndc = views["train"].ndc  # which a checkpoint of version 0.1.0 does not store
        if self.scene is not None:
            self._write_scene(self.scene, trained, run, views)
        if self.cameras is not None:
            self._write_cameras(self.cameras, run, views)
        if self.web.web is not None:
            self._write_page(self.web.web, trained, run, views["train"])

    def _views(self, trained: Trained, run: "Run") -> "dict[str, Scene]":
        """The cameras of a run that keeps none. Raises UserError if its scene is gone."""
        from nerf_pl.checkpoints import load_cameras

        root = self.photos or run.root
        if root is None or (self.photos is None and not root.is_dir()):
            told = "does not know its scene" if root is None else f"was trained on {root}, which is gone"
            raise UserError(f"run {self.folder} keeps no cameras and {told}: add --photos FOLDER")
        train = replace(trained, scene=root).views(run, "train", pictures=False)
        others = load_cameras(run.config, root, *KEPT[1:])
        return {"train": train, **others}

    def _write_scene(self, path: Path, trained: Trained, run: "Run", views: "Mapping[str, Scene]") -> None:
        from nerf_pl.checkpoints import find_checkpoint, save_portable
        from nerf_pl.console import console

        save_portable(path, run, views, self._told(trained, run))
        size, whole = (file.stat().st_size for file in (path, find_checkpoint(self.folder, self.checkpoint)))
        share = f", {size / whole:.0%} of {self.folder}" if size < whole else ""
        console.print(
            f"scene {path} ({size / 1e6:.1f} MB{share}): nerf eval, render, view, mesh and points take it as a run"
        )

    def _told(self, trained: Trained, run: "Run") -> dict[str, object]:
        """What is told of the run: what its page says, if these weights were scored."""
        if run.told:  # its scores are those of all fields
            return {name: value for name, value in run.told.items() if not (run.is_single and isinstance(value, float))}
        told: dict[str, object] = {
            "method": run.config.method,
            "scene": run.root.name if run.root else "",
            "checkpoint": self.checkpoint,
            "steps": int(run.model.step),
        }
        return told | scores_of(scores_file(trained.results, run), trained)

    def _write_cameras(self, path: Path, run: "Run", views: "Mapping[str, Scene]") -> None:
        from nerf_pl.console import console, warn
        from nerf_pl.export.cameras import pinholes, write_cameras

        views, data = {split: views[split] for split in KEPT if split in views}, run.config.data
        is_reduced = data.img_wh is not None or data.downscale != 1
        if is_reduced and not self.trained_size and not all(scene.originals for scene in views.values()):
            told = "an earlier version trained it, which kept no size of the photos"
            warn(f"run {self.folder}: {told}: its cameras are of the size that it was trained at")
        found = pinholes(views, self.trained_size)
        files = ", ".join(map(str, write_cameras(path, found, self.overwrite)))
        sizes = sorted({camera.size for camera in found})
        shown = "x".join(map(str, sizes[0])) if len(sizes) == 1 else f"{len(sizes)} sizes"
        told = f"in the coordinates of the scene's file, for pictures in images without lens distortion, of {shown}"
        console.print(f"{counted(len(found), 'camera')} {files}, {told}{' pixels' if len(sizes) == 1 else ''}")

    def _write_page(self, path: Path, trained: Trained, run: "Run", scene: "Scene") -> None:
        from nerf_pl.console import console
        from nerf_pl.export.web.bake import web_page
        from nerf_pl.export.web.page import write_page

        made = web_page(run.model, scene, self.web, run.config.train.chunk, trained.results.resolve().name)
        write_page(path, made.html)
        points = f"{len(made.baked.grid.numbers)} points, {made.resolution} cells along the longest side"
        console.print(f"page {path} ({path.stat().st_size / 1e6:.1f} MB, {points}): open it in a browser")


def scores_of(metrics: Path, trained: Trained) -> dict[str, object]:
    """The means in a file of scores, if `nerf eval` made it from these weights."""
    from nerf_pl.checkpoints import find_checkpoint

    weights = find_checkpoint(trained.folder, trained.checkpoint)
    try:
        if metrics.stat().st_mtime < weights.stat().st_mtime:
            return {}
        values = json.loads(content_of(metrics))
    except (OSError, ValueError, RecursionError):
        return {}  # not scored
    if not isinstance(values, dict) or values.get("checkpoint") != trained.checkpoint:
        return {}
    numbers = {name: value for name, value in values.items() if isinstance(value, float) and math.isfinite(value)}
    return {**numbers, "split": values.get("split")}
