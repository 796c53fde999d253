"""nerf export"""

from dataclasses import dataclass, field

from nerf_pl.cli.flags import Flags
from nerf_pl.cli.trained import Trained
from nerf_pl.errors import UserError
from nerf_pl.export.options import WebOptions
from nerf_pl.options.ranges import check_options


@dataclass(frozen=True)
class Export:
    """Write a run's scene for elsewhere: --web for a page that shows it in any browser."""

    trained: Flags[Trained]
    web: Flags[WebOptions] = field(default_factory=WebOptions)

    def run(self) -> None:
        check_options(self.web)
        if self.web.web is None:
            raise UserError("nothing to export: give --web FILE.html")
        self._write_page()

    def _write_page(self) -> None:
        from nerf_pl.console import console
        from nerf_pl.export.web.bake import web_page
        from nerf_pl.export.web.page import write_page

        out = self.web.web
        assert out is not None
        run = self.trained.open()
        scene = self.trained.views(run, "train", pictures=False)
        made = web_page(run.model, scene, self.web, run.config.train.chunk, self.trained.results.resolve().name)
        write_page(out, made.html)
        points = f"{len(made.baked.grid.numbers)} points, {made.resolution} cells along the longest side"
        console.print(f"page {out} ({len(made.html) / 1e6:.1f} MB, {points}): open it in a browser")
