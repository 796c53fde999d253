"""nerf render"""

from dataclasses import dataclass, field, replace

from nerf_pl.cli.flags import Flags
from nerf_pl.cli.reporting import Added
from nerf_pl.cli.trained import Trained, named
from nerf_pl.errors import UserError
from nerf_pl.films.options import FilmOptions
from nerf_pl.methods import method_of
from nerf_pl.options.ranges import check_options


@dataclass(frozen=True)
class Render:
    """Film a run's scene from new views: MP4, GIF and a film of depth. After an interrupt the same command goes on."""

    trained: Flags[Trained]
    film: Flags[FilmOptions] = field(default_factory=FilmOptions)

    @property
    def added(self) -> Added:
        return self.trained.added

    def run(self) -> None:
        from nerf_pl.films.film import film, film_scene, tell

        check_options(self.film)
        run = self.trained.open(shares=True)
        if self.film.crop is not None and method_of(run.config.method).tight:
            told = "its last sample on a ray stands for all that is beyond, so the box would be closed behind"
            raise UserError(f"--crop cannot be used with a run of {run.config.method}: {told}; leave it out")
        stamp = f"{run.stamp} {run.model.rays_per_pixel}"
        scene = self.trained.views(run, "test" if self.film.path == "test" else "train", pictures=False)
        scene = scene if scene.root else replace(scene, root=run.root)  # where a file of cameras may lie, too
        name, take = film_scene(self.film, scene, stamp)
        self.trained.require_room(run, *max(view.size for view in take.views))
        out = self.trained.results / "renders" / named(name, run)
        tell(film(run.model, take, out, run.config.train.chunk, run.others), take)
