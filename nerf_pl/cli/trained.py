"""Functions that the commands for a trained run share."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nerf_pl.cli.flags import device_of
from nerf_pl.errors import UserError
from nerf_pl.options import MOST_RAYS
from nerf_pl.options.ranges import check_options

if TYPE_CHECKING:
    from nerf_pl.checkpoints import Run


def open_trained(
    path: Path, which: str, scene: Path | None, num_gpus: int, *, rays_per_pixel: int | None, chunk: int | None
) -> "Run":
    """The run that a command names, with the folder of its scene. Raises UserError if there is none."""
    from nerf_pl.checkpoints import open_run

    run = open_run(path, device_of(num_gpus), which)
    if scene is None and not (run.root and run.root.is_dir()):
        told = f"the scene of run {path}, {run.root}, is gone" if run.root else f"run {path} does not know its scene"
        raise UserError(f"{told}: add --scene FOLDER")
    if rays_per_pixel is not None:
        if not 1 <= rays_per_pixel <= MOST_RAYS:
            raise UserError(f"--rays_per_pixel {rays_per_pixel} cannot work: give 1 to {MOST_RAYS}")
        run.model.rays_per_pixel = rays_per_pixel
    config = run.config
    if chunk is not None:
        config = replace(config, train=replace(config.train, chunk=chunk))
        check_options(config.train)
    return replace(run, root=scene or run.root, config=config)


def folder_of(run: Path) -> Path:
    """The folder for the results of a run. run: its folder or one of its checkpoints."""
    return run if run.is_dir() else run.parent.parent if run.parent.name == "checkpoints" else run.parent


def stamp_of(checkpoint: Path) -> str:
    """A text that identifies the weights in a file. It changes when the file is written."""
    found = checkpoint.stat()
    return f"{checkpoint.name} {found.st_size} {found.st_mtime_ns}"
