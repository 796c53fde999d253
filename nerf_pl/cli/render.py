"""nerf render"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nerf_pl.cli.flags import Flags, Position
from nerf_pl.cli.trained import folder_of, open_trained, stamp_of
from nerf_pl.films.options import FilmOptions
from nerf_pl.options.ranges import check_options


@dataclass(frozen=True)
class Render:
    """Film a run's scene from new views: MP4, GIF and a film of depth. After an interrupt the same command goes on."""

    folder: Position
    """Folder of the run, runs/NAME."""
    film: Flags[FilmOptions] = field(default_factory=FilmOptions)
    checkpoint: Literal["last", "best"] = "last"
    """Which weights."""
    rays_per_pixel: int | None = None
    """Rays whose mean is a pixel with an edge; one is fastest. By default the value of the run."""
    chunk: int | None = None
    """Rays rendered at once. Lower it if memory runs out. By default as in training."""
    scene: Path | None = None
    """Folder of the scene, if it has moved."""
    num_gpus: Literal[0, 1] = 1
    """0 means the CPU."""

    def run(self) -> None:
        from nerf_pl.checkpoints import find_checkpoint, load_split
        from nerf_pl.films.film import film, film_scene, tell

        check_options(self.film)
        run = open_trained(
            self.folder,
            self.checkpoint,
            self.scene,
            self.num_gpus,
            rays_per_pixel=self.rays_per_pixel,
            chunk=self.chunk,
        )
        assert run.root is not None
        stamp = f"{stamp_of(find_checkpoint(self.folder, self.checkpoint))} {run.model.rays_per_pixel}"
        # only the cameras matter
        scene = load_split(run.config, run.root, "test" if self.film.path == "test" else "train", pictures=False)
        name, take = film_scene(self.film, scene, stamp)
        tell(film(run.model, take, folder_of(self.folder) / "renders" / name, run.config.train.chunk), take)
