"""nerf import"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from nerf_pl.cli.flags import RUNS, Plain, Position
from nerf_pl.cli.trained import split_to_score
from nerf_pl.errors import UserError
from nerf_pl.methods import CLASSIC
from nerf_pl.options import RunFolders
from nerf_pl.writing import locked

Format = Literal[
    "auto", "metashape", "realitycapture", "polycam", "record3d", "nsvf", "nerfplusplus", "mvsnet", "nerfies",
    "scannet", "replica", "neus", "bundler", "openmvg", "opensfm", "sdfstudio", "gaussians",
]  # fmt: skip


@dataclass(frozen=True)
class Import:
    """Turn a scene of another program into one to train on, or a checkpoint of nerf_pl (.ckpt) or nerf-pytorch (.tar)
    into a run. docs/importing.md lists the programs."""

    file: Position
    """Folder of the scene, or the program's file in it; or the checkpoint."""
    format: Format = "auto"
    """Of a scene: the program that made it. By default it is recognised by its files."""
    images: Path | None = None
    """Of a scene: the folder of the pictures, if they are not in the folder of the scene."""
    masks: bool = True
    """Of a scene: use the masks that are found. Black in a mask does not count."""
    overwrite: Plain[bool] = False
    """Of a scene: replace its transforms.json."""
    out: Path | None = None
    """Of a checkpoint: folder of the new run. By default runs/NAME-OF-FILE."""
    scene: Path | None = None
    """Of a checkpoint: folder of the scene it was trained on."""
    img_wh: tuple[int, int] | None = None
    """Of a checkpoint: width and height it was trained at."""
    N_samples: int = 64
    """Of a checkpoint: coarse samples per ray."""
    N_importance: int = 64
    """Of a checkpoint: fine samples per ray."""

    def run(self) -> None:
        from nerf_pl.scenes.importers import ARCHIVES, PROJECTS, SUFFIXES

        if self.file.suffix.lower() in ARCHIVES and self.file.is_file():
            raise UserError(f"{self.file} is an archive: unpack it, then give the folder to `nerf import`")
        if self.file.suffix.lower() in PROJECTS and self.file.is_file():
            raise UserError(f"{self.file} is a project: export its cameras as docs/importing.md says, and import those")
        if self.file.is_dir() or self.file.suffix.lower() in SUFFIXES:
            _refuse("is a scene", self.file, self._given("out", "scene", "img_wh"))
            self._import_scene()
        else:
            if self.file.exists():
                _refuse("is a checkpoint", self.file, self._given("images", "overwrite"))
            self._import_weights()

    def _given(self, *names: str) -> Iterator[str]:
        return (name for name in names if getattr(self, name))

    def _import_scene(self) -> None:
        from nerf_pl.console import console
        from nerf_pl.scenes import available_splits, detect
        from nerf_pl.scenes.importers import Source, import_scene, recognised

        for path in (self.file, self.images):
            if path is not None and not path.exists():
                raise UserError(f"{path} does not exist: give the folder of a scene that another program made")
        folder = self.file.is_dir()
        root = self.file if folder else self.file.parent
        source = Source(root, None if folder else self.file, self.images, self.masks)
        if self.format == "auto" and not recognised(source) and available_splits(root):
            raise UserError(
                f"{root} needs no import, its layout is {detect(root)}: nerf train {shlex.quote(str(root))}"
            )
        imported = import_scene(source, self.format, overwrite=self.overwrite)
        for line in imported.lines:
            console.print(line)
        layout = detect(root)
        more = [] if layout == "transforms" else ["--dataset_name", "transforms"]
        console.print(f"{imported.target}; next: nerf train {shlex.join([str(root), *more])}")

    def _import_weights(self) -> None:
        from nerf_pl.checkpoints import is_portable

        if is_portable(self.file):
            raise UserError(f"{self.file} needs no import, commands take it as a run: nerf render {self.file}")
        out = self.out or RUNS / self.file.stem
        with locked(out, "wait for it, or give another --out"):
            self._import_into(out)

    def _import_into(self, out: Path) -> None:
        import torch

        from nerf_pl.checkpoints import load_cameras, load_model, save_model
        from nerf_pl.console import console
        from nerf_pl.methods import METHODS

        folders = RunFolders.modern(out)
        if (there := folders.trained) is not None:
            raise UserError(f"{there} exists: give another --out")
        preset = METHODS[CLASSIC.method].preset
        sampling = {"N_samples": self.N_samples, "N_importance": self.N_importance, "noise_std": 0.0}
        asked = replace(preset, model=replace(CLASSIC.model, **sampling), data=replace(preset.data, img_wh=self.img_wh))
        asked.check()
        run = load_model(self.file, torch.device("cpu"), asked)
        views = load_cameras(run.config, self.scene, "train", "test") if self.scene else {}
        save_model(folders.last, run.model, run.config, str(self.scene.resolve()) if self.scene else "", views)
        more = split_to_score(self.scene, run.config.data) if self.scene else ["--scene", "SCENE_DIR"]
        console.print(f"{folders.last}; next: nerf eval {shlex.join([str(out), *more])}")


def _refuse(what: str, file: Path, options: Iterator[str]) -> None:
    """Raises UserError if an option of the other kind of import is given."""
    for option in options:
        raise UserError(f"--{option}: {file} {what}, which has no such option; leave it out")
