"""Options of meshes, of clouds of points and of pages."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from nerf_pl.options.ranges import BOX, POSITIVE, Corners, Range, between

MESH_FILES = (".ply", ".obj", ".glb")
MOST_RESOLUTION, MOST_FACES, MOST_TEXTURE = 1024, 10**8, 8192
SMALLEST = 0.01  # of the largest part's area
CLOUDS, MOST_POINTS = (".ply",), 2 * 10**7
PAGES, MOST_MEGABYTES = (".html", ".htm"), 200


@dataclass(frozen=True)
class MeshOptions:
    resolution: Annotated[int | None, between(8, MOST_RESOLUTION)] = None
    """Cells along the longest side of what is meshed. By default 512 on a GPU, 256 on a CPU."""
    threshold: Annotated[float | None, POSITIVE] = None
    """Take the surface at which the density, per unit of world length, passes this value. By default it is the one that
    the depths of training views agree on."""
    crop: Annotated[Corners | None, BOX] = None
    """Mesh only what is in this box, in the coordinates of the scene's own file."""
    smallest_part: Annotated[float, between(0, 1)] = SMALLEST
    """Leave out parts that hang together with nothing and have less than this share of the largest part's area."""
    keep_unseen: bool = False
    """Keep surfaces that no training view sees, such as those inside of things. The surface is then found by density;
    without --threshold at half of the median density where rays of the training views end."""
    faces: Annotated[int | None, between(4, MOST_FACES)] = None
    """Reduce the mesh to about this many triangles. By default a mesh with a texture has at most 100,000."""
    texture: Annotated[int | None, between(16, MOST_TEXTURE)] = None
    """Give the mesh a texture of this many texels along a side, such as 2048, in place of colours of vertices."""
    out: Annotated[Path | None, Range(lambda path: path.suffix.lower() in MESH_FILES, "name a .ply, .obj or .glb")] = (
        None
    )
    """File to write: .ply, .obj or .glb. By default mesh.ply in the run's folder or, with a texture, mesh.glb."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.texture is not None and self.out is not None and self.out.suffix.lower() == ".ply":
            yield "texture", f"--out {self.out}: a .ply has colours of vertices alone, name a .obj or .glb"


@dataclass(frozen=True)
class PointOptions:
    count: Annotated[int, between(1, MOST_POINTS)] = 1_000_000
    """How many points, at most."""
    crop: Annotated[Corners | None, BOX] = None
    """Only points in this box, in the coordinates of the scene's own file."""
    out: Annotated[Path | None, Range(lambda path: path.suffix.lower() in CLOUDS, "name a .ply")] = None
    """File to write: .ply. By default points.ply in the run's folder."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from ()


@dataclass(frozen=True)
class WebOptions:
    web: Annotated[Path | None, Range(lambda path: path.suffix.lower() in PAGES, "name a .html")] = None
    """Write one page that shows the scene in any browser, without a network: FILE.html."""
    megabytes: Annotated[float, between(0.1, MOST_MEGABYTES)] = 30.0
    """The page is at most so large. It has as fine a grid as fits."""
    resolution: Annotated[int | None, between(16, MOST_RESOLUTION)] = None
    """Cells along the longest side of the page's grid, if so many fit. By default up to 768 on a GPU, 512 on a CPU,
    and no finer than the training pictures."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from ()
