"""nerf bench"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from nerf_pl.cli.flags import RUNS
from nerf_pl.errors import UserError
from nerf_pl.methods import CLASSIC, DEFAULT, METHODS, method_of

MOST = {"steps": 10**7, "view": 2**14}
LEAST_SECONDS, MOST_SECONDS = 0.1, 1e6  # of a training


@dataclass(frozen=True)
class Bench:
    """Measure speed, GPU memory and quality for training time."""

    method: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar=f"{{{','.join(METHODS)}}}")] = DEFAULT
    """ngp: measures a training for each of `seconds`, the kernels of a step, and frames per second. nerf: measures a
    step, memory, and the time to render a view, in each of `precisions`."""
    scene: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder of a Blender scene; the built-in one by default."""
    out: Path = RUNS / "bench"
    """Where the table and its figures are written."""
    seconds: tuple[float, ...] = (5.0, 15.0, 60.0)
    """ngp: training times."""
    split: Literal["val", "test"] = "test"
    """ngp: views to score; tune on val."""
    precisions: tuple[Literal["fp32", "tf32", "bf16"], ...] = ("fp32", "tf32", "bf16")
    """nerf: precisions to measure."""
    steps: int = 2000
    """nerf: training steps for each precision. The first 10 % are not counted."""
    view: int = 800
    """nerf: width and height of the view that is rendered."""

    def run(self) -> None:
        from nerf_pl.bench.budgets import bench_budgets
        from nerf_pl.bench.classic import bench_classic
        from nerf_pl.scenes.demo import make_demo

        method_of(self.method)
        for option in ("steps", "view"):
            if not 1 <= getattr(self, option) <= MOST[option]:
                told = f"--{option} {getattr(self, option)} cannot work"
                raise UserError(f"{told}: give 1 or more, up to {MOST[option]}")
        if not all(LEAST_SECONDS <= seconds <= MOST_SECONDS for seconds in self.seconds):
            told = f"--seconds {' '.join(f'{seconds:g}' for seconds in self.seconds)} cannot work"
            raise UserError(f"{told}: give {LEAST_SECONDS:g} to {MOST_SECONDS:g}, each")
        scene = self.scene or make_demo(Path("data/demo-400"), size=400)
        if self.method == CLASSIC.method:
            bench_classic(scene, self.out, self.precisions, self.steps, self.view)
        else:
            bench_budgets(METHODS[self.method].preset, scene, self.out, self.seconds, self.split)
