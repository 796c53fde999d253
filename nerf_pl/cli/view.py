"""nerf view"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nerf_pl.cli.flags import Flags
from nerf_pl.cli.served import Served
from nerf_pl.cli.trained import Trained
from nerf_pl.methods import method_of
from nerf_pl.options.ranges import check_options
from nerf_pl.signals import until_ctrl_c

if TYPE_CHECKING:
    from nerf_pl.checkpoints import Run
    from nerf_pl.viewer.page import Photos


@dataclass(frozen=True)
class View:
    """See a run's scene in the browser, from anywhere: orbit, fly, pan. Ctrl-C ends it."""

    trained: Flags[Trained]
    served: Flags[Served] = field(default_factory=Served)

    def run(self) -> None:
        from nerf_pl.console import console
        from nerf_pl.extras import extra
        from nerf_pl.viewer.loop import Loop
        from nerf_pl.viewer.page import Page
        from nerf_pl.viewer.panel import Panel

        check_options(self.served)
        extra("viser", "nerf view")  # before any work
        run = self.trained.open()
        photos, cameras = self._photos(run), replace(self.trained, scene=None if run.kept else self.trained.scene)
        scene = cameras.views(run, "train", pictures=False)
        device = run.model.step.device.type
        loop = Loop(run.model, scene, run.config.train.chunk)
        with self.served.server("nerf view", f"nerf view {self.trained.folder}") as (server, address):
            page = Page(server, loop, device, not method_of(run.config.method).tight, photos)
            Panel(page, self.trained.folder, self.trained.results / "paths")
            loop.warm_up(page.home())
            page.open()
            console.print(f"{self.trained.folder}: open {address} in a browser; Ctrl-C ends")
            try:
                with until_ctrl_c():
                    loop.run()
            finally:
                loop.stop()

    def _photos(self, run: "Run") -> "Photos | None":
        """Reads the photos when they are first asked for. None if the scene is not there. Raises UserError for a
        --scene that is none."""
        from nerf_pl.scenes import detect
        from nerf_pl.viewer.photos import reader

        root = self.trained.scene or run.root
        if self.trained.scene is not None:
            detect(self.trained.scene)
        return None if root is None or not root.is_dir() else reader(lambda: run.scene("train", root))
