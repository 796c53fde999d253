"""nerf points"""

from dataclasses import dataclass, field

from nerf_pl.cli.flags import Flags
from nerf_pl.cli.trained import Trained, named
from nerf_pl.export.options import PointOptions
from nerf_pl.options.ranges import check_options
from nerf_pl.text import counted


@dataclass(frozen=True)
class Points:
    """Write a run's scene as a cloud of points with colours and normals, in the coordinates of the scene's own file."""

    trained: Flags[Trained]
    points: Flags[PointOptions] = field(default_factory=PointOptions)

    def run(self) -> None:
        from nerf_pl.console import console
        from nerf_pl.export.exact import accuracy
        from nerf_pl.export.files import in_file, up_axis, write_points
        from nerf_pl.export.points import points_of
        from nerf_pl.scenes.demo import is_demo

        check_options(self.points)
        run = self.trained.open()
        scene = self.trained.views(run, "train", pictures=False)
        if self.points.crop is None and (scene.unbounded or scene.ndc is not None):
            part = "in the middle of the scene" if scene.unbounded else "that are not far behind the nearest things"
            console.print(f"the scene goes on to the horizon: these are points {part}; --crop chooses another part")
        found = points_of(run.model, scene, self.points, run.config.train.chunk)
        cloud, up = in_file(found.geometry, scene), up_axis(scene)
        out = self.points.out or self.trained.results / f"{named('points', run)}.ply"
        write_points(out, cloud, up)
        count = len(cloud.vertices)
        fewer = "" if found.enough else f", fewer than --count {self.points.count}: the views have no more pixels"
        console.print(f"{counted(count, 'point')}{fewer}; {found.outliers:.0%} of those seen left out as outliers")
        if is_demo(run.root):
            console.print(
                f"mean distance from the exact surface of the demo: {accuracy(cloud.vertices):.2%} of its size"
            )
        size = f"{counted(count, 'point')}, {out.stat().st_size / 1e6:.1f} MB"
        console.print(f"points {out} ({size}), in the coordinates and units of the scene's file, where {up} is up")
