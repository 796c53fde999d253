"""nerf eval"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nerf_pl.cli.flags import Plain, Position
from nerf_pl.cli.trained import folder_of, open_trained


@dataclass(frozen=True)
class Eval:
    """Render a split of the run's scene, score it, and write pictures, films, metrics.json and a page."""

    folder: Position
    """Folder of the run, runs/NAME."""
    split: Literal["train", "val", "test"] = "test"
    """Which views."""
    checkpoint: Literal["last", "best"] = "last"
    """Which weights; best is by PSNR on the validation split."""
    rays_per_pixel: int | None = None
    """Rays whose mean is a pixel with an edge; one is fastest. By default the value of the run."""
    chunk: int | None = None
    """Rays rendered at once. Lower it if memory runs out. By default as in training."""
    scene: Path | None = None
    """Folder of the scene, if it has moved."""
    save_depth: Plain[bool] = False
    """Write depth in full precision too."""
    depth_format: Literal["pfm", "bytes"] = "pfm"
    """pfm, or raw float32."""
    num_gpus: Literal[0, 1] = 1
    """0 means the CPU."""

    def run(self) -> None:
        from nerf_pl.console import console
        from nerf_pl.evaluation import Output, evaluate
        from nerf_pl.media import DepthFiles

        run = open_trained(
            self.folder,
            self.checkpoint,
            self.scene,
            self.num_gpus,
            rays_per_pixel=self.rays_per_pixel,
            chunk=self.chunk,
        )
        folder = folder_of(self.folder)
        metrics = folder / ("metrics.json" if self.split == "test" else f"metrics_{self.split}.json")
        scene, out = run.scene(self.split), folder / "renders" / self.split
        name = scene.root.name if scene.root else ""
        facts = {"split": self.split, "checkpoint": self.checkpoint, "scene": name, "method": run.config.method}
        depth = DepthFiles(out, self.depth_format == "bytes") if self.save_depth else None
        evaluate(run.model, scene, Output(out, metrics, self.split, depth), run.config.train.chunk, facts)
        console.print(f"scores {metrics}, pictures {out}, page {out / 'index.html'}", markup=False)
