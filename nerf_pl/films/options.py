"""Options of a film."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from nerf_pl.options.ranges import BOX, Corners, Range, at_least, between

PATHS = ("auto", "360", "spiral", "interpolate", "test")
FRAMES, FPS = 120, 30.0
MOST_FRAMES, MOST_SIDE = 10**6, 2**14
FPS_RANGE = between(0.01, 1000)
OF_ONE_PATH = {"elevation": "360", "radius": "360", "every": "interpolate", "loop": "interpolate"}


def _is_path(path: str) -> bool:
    return path in PATHS or path.endswith(".json") or Path(path).is_file()


def _is_size(size: tuple[int, int]) -> bool:
    return min(size) >= 1 and max(size) <= MOST_SIDE


SIZE_RANGE = Range(_is_size, f"give a width and a height in pixels, up to {MOST_SIDE}")


@dataclass(frozen=True)
class FilmOptions:
    path: Annotated[str, Range(_is_path, f"give {', '.join(PATHS)} or the path of a .json file")] = "auto"
    """360: a turn around the scene. spiral: a spiral among the training views. interpolate: a path through them. test:
    the test views. FILE.json: keyframes, a path of nerfstudio, or the poses of a transforms.json. auto: 360 if
    the views look at one thing from several sides, spiral if they look one way, else interpolate."""
    frames: Annotated[int | None, between(1, MOST_FRAMES)] = None
    """Frames of the film. By default 120, or as many as a file needs. The path test has a frame for each view."""
    fps: Annotated[float | None, FPS_RANGE] = None
    """Frames per second. By default 30, or the value in a file."""
    elevation: Annotated[float | None, Range(lambda v: -90 < v < 90, "give degrees between -90 and 90")] = None
    """360: degrees above the horizon. By default 30 for Blender scenes. On other scenes the turn follows the
    training views: at each place it has their height and distance, and where there are none it turns back."""
    radius: Annotated[float | None, between(1e-6, 1e6)] = None
    """360: distance from the centre of the turn, in world units. By default 4 for Blender scenes, see also
    --elevation."""
    every: Annotated[int | None, at_least(1)] = None
    """interpolate: pass every n-th training view. By default the path passes one view in ten frames."""
    loop: bool = False
    """interpolate: return to the first view."""
    panorama: bool = False
    """Show all around each camera: equirectangular frames, twice as wide as high."""
    crop: Annotated[Corners | None, BOX] = None
    """Show only what is in this box, in the coordinates of the scene's own file."""
    depth: Literal["separate", "side", "none"] = "separate"
    """Depth as a film of its own, side by side with the colours in one film, or not at all."""
    keep_frames: bool = False
    """Keep the frames as PNG files, too."""
    img_wh: Annotated[tuple[int, int] | None, SIZE_RANGE] = None
    """Width and height of the film, of any aspect ratio. By default those of the first training image."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.path == "test" and self.frames is not None:
            yield "frames", "--path test has a frame for each test view; leave it out"
        for name, path in OF_ONE_PATH.items():
            if self.path not in (path, "auto") and getattr(self, name) != getattr(FilmOptions, name):
                yield name, f"it is for --path {path}, and this film has the path {self.path}; leave it out"
