"""nerf prepare"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nerf_pl.cli.flags import Plain, Position
from nerf_pl.text import counted


@dataclass(frozen=True)
class Prepare:
    """Find where photos were taken, and write a scene. Needs pycolmap."""

    source: Position
    """Folder of photos, or a film."""
    out: Path | None = None
    """Folder of the scene to make; data/NAME by default."""
    max_size: int | None = None
    """Longer side of the pictures, in pixels. By default 1600, or 800 on a machine without a GPU."""
    frames: int = 100
    """Frames to take from a film. The film is cut into so many parts; the sharpest frame of each is taken."""
    matcher: Literal["auto", "exhaustive", "sequential"] = "auto"
    """Compare all pairs of photos, or those near in time."""
    overwrite: Plain[bool] = False
    """Replace an earlier scene."""

    def run(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

        from nerf_pl.console import console, description
        from nerf_pl.scenes.prepare import prepare

        source = self.source.resolve()
        out = self.out or Path("data") / (source.stem if source.is_file() else source.name)
        columns = description(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:

            def step(title: str, done: int, total: int) -> None:
                if not bar.tasks or bar.tasks[-1].description != title:
                    for task in bar.tasks:  # those before are through
                        bar.update(task.id, completed=task.total)
                    bar.add_task(title, total=total)
                    if not console.is_terminal:
                        console.print(title)
                bar.update(bar.tasks[-1].id, completed=done)

            how = {"max_size": self.max_size, "frames": self.frames, "matcher": self.matcher}
            found = prepare(self.source, out, overwrite=self.overwrite, step=step, **how)
        n = len(found.placed) + len(found.missing)
        console.print(f"{len(found.placed)} of {n} photos placed, mean reprojection error {found.error:.2f} pixels")
        if found.missing:
            console.print(f"{counted(len(found.missing), 'photo')} not placed: {', '.join(found.missing)}")
        told = f"scene {out}, a map of the cameras {out / 'cameras.png'}; next: nerf train {shlex.quote(str(out))}"
        console.print(told)
