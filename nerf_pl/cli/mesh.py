"""nerf mesh"""

from dataclasses import dataclass, field

from nerf_pl.cli.flags import Flags
from nerf_pl.cli.reporting import Added
from nerf_pl.cli.trained import Trained, named
from nerf_pl.errors import UserError
from nerf_pl.export.options import MeshOptions
from nerf_pl.options.ranges import check_options
from nerf_pl.text import counted


@dataclass(frozen=True)
class Mesh:
    """Write a run's scene as a mesh with colours and normals, in the coordinates of the scene's own file."""

    trained: Flags[Trained]
    mesh: Flags[MeshOptions] = field(default_factory=MeshOptions)

    @property
    def added(self) -> Added | None:
        home = self.trained.results
        is_beside = self.mesh.out is None or self.mesh.out.resolve().parent == home.resolve()
        return self.trained.added if is_beside else None

    def run(self) -> None:
        from nerf_pl.console import console
        from nerf_pl.export.exact import agreement
        from nerf_pl.export.files import in_file, up_axis, write_geometry
        from nerf_pl.export.mesh import mesh_of
        from nerf_pl.export.region import box_in_file
        from nerf_pl.extras import EXTRAS, extra
        from nerf_pl.scenes.demo import is_demo
        from nerf_pl.text import box_text

        check_options(self.mesh)
        for package in (name for name, of in EXTRAS.items() if of == "mesh"):
            if package != "xatlas" or self.mesh.texture is not None:
                extra(package, "nerf mesh")  # before any work
        run = self.trained.open()
        scene = self.trained.views(run, "train", pictures=False)
        if self.mesh.crop is None and (scene.unbounded or scene.ndc is not None):
            middle = f"its middle, {box_text(box_in_file(scene))} in the coordinates of its file"
            part = middle if scene.unbounded else "what is not far behind the nearest things"
            console.print(f"the scene goes on to the horizon: this meshes {part}; --crop chooses another part")
        try:
            found = mesh_of(run.model, scene, self.mesh, run.config.train.chunk)
        except MemoryError as error:
            raise UserError("memory ran out: give a lower --resolution, or --crop a part of the scene") from error
        geometry, up = in_file(found.geometry, scene), up_axis(scene)
        kind = "ply" if self.mesh.texture is None else "glb"
        out = self.mesh.out or self.trained.results / f"{named('mesh', run)}.{kind}"
        write_geometry(out, geometry, up)
        parts = f"{counted(found.smaller, 'small part')} and {found.unseen:.0%} that no view sees left out"
        where = (
            "where the views lose a third of their light"
            if found.threshold is None
            else f"at density {found.threshold:.4g}"
        )
        console.print(f"surface {where}, cells of {found.cell:.4g}; {parts}")
        if is_demo(run.root):
            a = agreement(geometry)
            told = f"{a.accuracy:.2%} of its size from the mesh, {a.completeness:.2%} to the mesh"
            console.print(
                f"mean distance from the exact surface of the demo: {told}; cosine of normals {a.normals:.3f}"
            )
        megabytes = out.stat().st_size / 1e6
        size = f"{len(geometry.vertices)} vertices, {len(geometry.faces)} triangles, {megabytes:.1f} MB"
        console.print(f"mesh {out} ({size}), in the coordinates and units of the scene's file, where {up} is up")
