"""Photos as pinhole cameras would have taken them: one view of most photos, several of those that see more than one
pinhole camera can."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from nerf_pl.cameras import Cameras
from nerf_pl.console import warn
from nerf_pl.scenes.undistort import Project, Size, resampled, sampling_grid, undistort
from nerf_pl.text import counted

# where a photo shows directions (right, down, ahead): (N, 3) -> pixels (N, 2) at its own size, the first centre at 0.5;
# nan where it shows nothing, or nothing that counts
Look = Callable[[Float[np.ndarray, "N 3"]], Float[np.ndarray, "N 2"]]

FLIP = np.diag([1.0, -1.0, -1.0])  # from axes right, down, ahead to right, up, back
FACES = {"front": (0, 0), "right": (90, 0), "back": (180, 0), "left": (-90, 0), "up": (0, 90), "down": (0, -90)}
"""The faces of a cube around a camera: yaw to the right and pitch upwards of each, in degrees."""
LEAST_SEEN = 0.1  # share of a view's pixels; one that shows less is left out
LOOKS = 65  # along each side of a view, by which that is judged
NARROWEST = 0.25  # of a face: views that show a narrower strip keep this much
MARGIN = 2  # pixels that are repeated around a panorama, for the filter that resamples it
ROWS = 64  # of a view at once, so that float64 coordinates stay in the cache
_lock = Lock()  # several threads would compute the same grids


@dataclass(frozen=True, eq=False)
class Piece:
    """A view of a photo at its own size. K, size: of the pinhole camera. turn: columns are its axes right, down and
    ahead, in those of the photo."""

    K: Float[np.ndarray, "3 3"]
    size: Size
    name: str = ""
    turn: Float[np.ndarray, "3 3"] = field(default_factory=lambda: np.eye(3))


@dataclass(frozen=True, eq=False)
class Cut:
    """How a photo of the size `native` becomes views.

    project: the lens of a photo with one view, which is straightened; None leaves it as it is. look: where the photo
    shows what its views see. masked: not all pixels of the views count, as look says. wraps: the left side of the photo
    goes on at its right one. kind: what to call such photos where several views are made of each. facts: what else to
    say of them.
    """

    native: Size
    pieces: tuple[Piece, ...]
    project: Project | None = None
    look: Look | None = None
    masked: bool = False
    wraps: bool = False
    kind: str = ""
    facts: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether the photo has one view, with its axes and of its size."""
        return not self.kind

    def sizes(self, size: Size) -> list[Size]:
        """The sizes of the views of a photo that was resized."""
        if self.is_whole:
            return [size]
        x, y = size[0] / self.native[0], size[1] / self.native[1]
        return [(max(round(w * x), 1), max(round(h * y), 1)) for w, h in (piece.size for piece in self.pieces)]

    def intrinsics(self, size: Size) -> Float[np.ndarray, "P 3 3"]:
        """K of the views of a photo that was resized."""
        found = np.stack([piece.K for piece in self.pieces])
        for K, piece, (width, height) in zip(found, self.pieces, self.sizes(size), strict=True):
            K[0] *= width / piece.size[0]
            K[1] *= height / piece.size[1]
        return found

    def poses(self, c2w: Float[np.ndarray, "3 4"]) -> Float[np.ndarray, "P 3 4"]:
        """Camera to world of the views; c2w: that of the photo. OpenGL axes."""
        turns = np.stack([FLIP @ piece.turn @ FLIP for piece in self.pieces])
        centres = np.repeat(c2w[None, :, 3:], len(turns), 0)
        return np.concatenate([c2w[:, :3] @ turns, centres], -1)

    def pictures(
        self, picture: UInt8[np.ndarray, "H W ch"], *, nearest: bool = False
    ) -> list[UInt8[np.ndarray, "h w ch"]]:
        """The views' pictures (bicubic, or the nearest pixel). What the photo does not show is black."""
        if self.is_whole:
            (piece,) = self.pieces
            if self.project is None:
                return [picture]
            return [undistort(picture, self.project, piece.K, self.native, nearest=nearest)]
        grids = self._grids((picture.shape[1], picture.shape[0]))
        picture = _wrapped(picture) if self.wraps else picture
        found = [resampled(picture, grid, nearest=nearest) for grid, _ in grids]
        for view, (_, seen) in zip(found, grids, strict=True):
            view[~seen] = [0, 0, 0, 255][: view.shape[2]]
        return found

    def seen(self, size: Size) -> list[Bool[np.ndarray, "h w"] | None]:
        """The pixels of the views that count; None for all of them."""
        if not self.masked:
            return [None] * len(self.pieces)
        return [seen for _, seen in self._grids(size)]

    def _grids(self, size: Size) -> list[tuple[Float[Tensor, "1 h w 2"], Bool[np.ndarray, "h w"]]]:
        with _lock:
            return _view_grids(self, size)


def whole(native: Size, K: Float[np.ndarray, "3 3"], project: Project | None = None, look: Look | None = None) -> Cut:
    """A photo as one view. K: of the pinhole camera, once the lens `project` is undone. look: where the photo shows
    directions, if not all of it counts."""
    return Cut(native, (Piece(K, native),), project, look, masked=look is not None)


def ahead(project: Project) -> Look:
    """Where a lens that sees only what is ahead of it puts directions."""

    def look(directions: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 2"]:
        is_ahead = directions[:, 2] > 0
        place = project(directions[:, :2] / np.where(is_ahead, directions[:, 2], 1.0)[:, None])
        return np.where(is_ahead[:, None], place, np.nan)

    return look


def within(look: Look, native: Size, circle: float | None = None) -> Look:
    """The same without what lies outside the photo, or farther from its middle than a number of pixels."""
    middle = np.array(native) / 2

    def limited(directions: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 2"]:
        place = look(directions)
        away = np.abs(place - middle)
        inside = np.all(away <= middle, axis=1)  # false for nan, too
        if circle is not None:
            inside &= (away**2).sum(1) <= circle**2
        return np.where(inside[:, None], place, np.nan)

    return limited


@lru_cache(maxsize=2)  # large; see `forget`
def _view_grids(cut: Cut, size: Size) -> list[tuple[Float[Tensor, "1 h w 2"], Bool[np.ndarray, "h w"]]]:
    """For each pixel of the views of a photo that was resized: where the photo shows it, in [-1, 1] as torch's
    grid_sample takes it, and whether it does."""
    assert cut.look is not None
    margin = MARGIN if cut.wraps else 0
    scale, extent = np.array(size) / cut.native, np.array(size) + 2 * margin
    found = []
    for piece, (width, height) in zip(cut.pieces, cut.sizes(size), strict=True):
        grid, seen = torch.empty(1, height, width, 2), np.empty((height, width), np.bool_)
        for row in range(0, height, ROWS):
            across, down = np.meshgrid(np.arange(width) + 0.5, np.arange(row, min(row + ROWS, height)) + 0.5)
            pixels = np.stack([across.ravel() * piece.size[0] / width, down.ravel() * piece.size[1] / height], -1)
            place = cut.look(_directions(piece, pixels)) * scale + margin
            known = ~np.any(np.isnan(place), axis=1)
            place = np.where(known[:, None], place * (2 / extent) - 1, 0.0)
            grid[0, row : row + ROWS] = torch.from_numpy(place.reshape(-1, width, 2))
            seen[row : row + ROWS] = known.reshape(-1, width)
        found.append((grid, seen))
    return found


def forget() -> None:
    """Free the memory that pictures of one camera share, once all are read."""
    _view_grids.cache_clear()
    sampling_grid.cache_clear()


def _directions(piece: Piece, pixels: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 3"]:
    """The directions that pixels of a view see, in the axes of the photo. Not of unit length."""
    x, y = (pixels[:, i] / piece.K[i, i] - piece.K[i, 2] / piece.K[i, i] for i in range(2))
    return np.stack([x, y, np.ones(len(pixels))], -1) @ piece.turn.T


def _wrapped(picture: UInt8[np.ndarray, "H W ch"]) -> UInt8[np.ndarray, "h w ch"]:
    """A panorama with what lies beyond its borders: its other side, and beyond a pole the opposite meridian."""
    over = np.roll(picture, picture.shape[1] // 2, 1)
    tall = np.concatenate([over[:MARGIN][::-1], picture, over[-MARGIN:][::-1]])
    return np.concatenate([tall[:, -MARGIN:], tall, tall[:, :MARGIN]], 1)


def turned(yaw: float, pitch: float) -> Float[np.ndarray, "3 3"]:
    """Axes right, down, ahead (columns) of a camera that was turned to the right and then upwards, in degrees."""
    a, b = math.radians(yaw), math.radians(pitch)
    about_down = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    about_right = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    return about_down @ about_right


def all_around(c2w: Float[Tensor, "3 4"]) -> Float[Tensor, "6 3 4"]:
    """The poses of the faces of a cube around a camera."""
    turns = torch.from_numpy(np.stack([FLIP @ turned(*angles) @ FLIP for angles in FACES.values()])).to(c2w.dtype)
    return torch.cat([c2w[:, :3] @ turns, c2w[:, 3:].expand(len(turns), 3, 1)], -1)


@dataclass(frozen=True)
class Window:
    """A view that a photo may have. turn: see `Piece`. low, high: tangents of the angles at which it ends, to the right
    and down. half: an angle to either side over which it has as many pixels as a photo whose pixels are angles."""

    name: str
    turn: Float[np.ndarray, "3 3"]
    low: tuple[float, float] = (-1.0, -1.0)
    high: tuple[float, float] = (1.0, 1.0)
    half: float = math.pi / 4


def cube() -> list[Window]:
    """A view of each face of a cube."""
    return [Window(name, turned(*angles)) for name, angles in FACES.items()]


def piece_of(window: Window, look: Look, density: float, *, trim: bool) -> Piece | None:
    """A view of a photo that has `density` pixels for a radian. None if the photo shows next to nothing of it. trim:
    without the rows and columns that the photo does not show."""
    focal = density * window.half / math.tan(window.half)
    low, high = np.array(window.low), np.array(window.high)
    ticks = low + (high - low) * (np.arange(LOOKS) / (LOOKS - 1))[:, None]  # (LOOKS, 2)
    across, down = np.meshgrid(ticks[:, 0], ticks[:, 1])
    directions = np.stack([across, down, np.ones_like(across)], -1).reshape(-1, 3) @ window.turn.T
    seen = ~np.any(np.isnan(look(directions)), axis=1).reshape(LOOKS, LOOKS)
    if seen.mean() < LEAST_SEEN:
        return None
    if trim:
        for axis in range(2):
            there = np.flatnonzero(seen.any(axis))
            first, last = ticks[max(there[0] - 1, 0), axis], ticks[min(there[-1] + 1, LOOKS - 1), axis]
            if (lacks := NARROWEST * (high[axis] - low[axis]) - (last - first)) > 0:
                first = max(first - lacks, low[axis])
                last = min(first + NARROWEST * (high[axis] - low[axis]), high[axis])
            low[axis], high[axis] = first, last
    width, height = (max(round(focal * length), 1) for length in (high - low))
    fx, fy = width / (high[0] - low[0]), height / (high[1] - low[1])  # whole pixels
    K = np.array([[fx, 0, -fx * low[0]], [0, fy, -fy * low[1]], [0, 0, 1]])
    return Piece(K, (width, height), window.name, window.turn)


def cut_cameras(cuts: Sequence[Cut], sizes: Sequence[Size], c2w: Float[Tensor, "C 3 4"]) -> Cameras:
    """The cameras of all views of photos that are read at these sizes."""
    pairs = list(zip(cuts, sizes, strict=True))
    K = np.concatenate([cut.intrinsics(size) for cut, size in pairs])
    poses = np.concatenate([cut.poses(pose) for cut, pose in zip(cuts, c2w.double().numpy(), strict=True)])
    found = torch.tensor([view for cut, size in pairs for view in cut.sizes(size)])
    width, height = found.amax(0).tolist()
    several = bool((found != found[0]).any())
    poses, K = torch.from_numpy(poses).float(), torch.from_numpy(K).float()
    return Cameras(poses, K, width, height, sizes=found if several else None)


def photos_of(cuts: Sequence[Cut]) -> tuple[int, ...]:
    """`Scene.photos` of these photos."""
    if all(cut.is_whole for cut in cuts):
        return ()
    return tuple(i for i, cut in enumerate(cuts) for _ in cut.pieces)


def cut_names(cuts: Sequence[Cut], names: Sequence[str]) -> tuple[str, ...]:
    """The names of the views of photos that have these names."""
    pieces = [(name, piece.name) for cut, name in zip(cuts, names, strict=True) for piece in cut.pieces]
    return tuple(f"{name}/{face}" if face else name for name, face in pieces)


def originals_of(cuts: Sequence[Cut], files: Sequence[str]) -> tuple[tuple[str, int, int], ...]:
    """`Scene.originals` of photos with these paths."""
    pairs = zip(cuts, files, strict=True)
    return tuple((file if cut.is_whole else "", *size) for cut, file in pairs for size in cut.sizes(cut.native))


def tell_cuts(source: object, cuts: Iterable[Cut]) -> None:
    """Say once which photos are cut. source: the file or folder that tells their cameras."""
    cuts = [cut for cut in cuts if cut.kind]
    for kind in dict.fromkeys(cut.kind for cut in cuts):
        of_kind = [cut for cut in cuts if cut.kind == kind]
        views = sum(len(cut.pieces) for cut in of_kind)
        facts = dict.fromkeys(fact for cut in of_kind for fact in cut.facts)
        named = kind if len(of_kind) > 1 else kind.removesuffix("s")
        told = f"{len(of_kind)} {named} {'are' if len(of_kind) > 1 else 'is'} cut into {counted(views, 'view')}"
        warn(f"{source}: {'; '.join([told, *facts])}")
