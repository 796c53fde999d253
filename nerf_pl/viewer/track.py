"""Keyframes that are placed in the viewer: edited, played, and kept in the file that `nerf render --path` reads."""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.cameras import Cameras
from nerf_pl.errors import UserError
from nerf_pl.films.files import read_keyframes
from nerf_pl.films.keyframes import Keyframes, keyframes_in_file
from nerf_pl.films.options import FPS
from nerf_pl.films.paths import framed
from nerf_pl.scenes import Scene, frame_of
from nerf_pl.text import box_text
from nerf_pl.writing import atomic_write

SECONDS = 2.0  # from a keyframe to the next, until the user chooses
EMPTY = "there are no keyframes yet; add one"
LEAST_SECONDS = 0.01
NAME = re.compile(r"[\w\-]{1,80}")  # of a file; it comes from a browser, so it must not lead to other folders


@dataclass(frozen=True)
class Key:
    """A keyframe. pose: camera to world, 3x4, OpenGL axes. fov: vertical, in radians. seconds: since the one before, or
    for the first of a loop since the last."""

    pose: Float[Tensor, "3 4"]
    fov: float
    seconds: float = SECONDS


@dataclass
class Track:
    """Keyframes in their order, and whether the film returns to the first."""

    scene: Scene
    keys: list[Key] = field(default_factory=list)
    loop: bool = False

    def add(self, key: Key, after: int | None = None) -> int:
        """Insert a keyframe after another, or at the end. Returns its number."""
        at = len(self.keys) if after is None else after + 1
        self.keys.insert(at, key)
        return at

    def change(self, at: int, pose: Float[Tensor, "3 4"], fov: float) -> None:
        """Another view for a keyframe."""
        self.keys[at] = replace(self.keys[at], pose=pose, fov=fov)

    def wait(self, at: int, seconds: float) -> None:
        """Another time since the keyframe before."""
        self.keys[at] = replace(self.keys[at], seconds=max(seconds, LEAST_SECONDS))

    def times(self) -> list[float]:
        """Seconds since the start of the film."""
        return list(accumulate((key.seconds for key in self.keys[1:]), initial=0.0))

    @property
    def like(self) -> Cameras:
        """The camera whose size the film has: the scene's first, as for other films."""
        views = self.scene.cameras
        return framed(views[:1], *views.size(0))

    def keyframes(self) -> Keyframes:
        """The camera path. Raises UserError if there is none."""
        if not self.keys:
            raise UserError(EMPTY)
        like, times = self.like, self.times()
        focal = [like.height / 2 / math.tan(key.fov / 2) for key in self.keys]
        K = [[[f, 0, like.width / 2], [0, f, like.height / 2], [0, 0, 1]] for f in focal]
        c2w = torch.stack([key.pose.to(like.c2w) for key in self.keys])
        cameras = replace(like, c2w=c2w, K=torch.tensor(K).to(like.K))
        is_loop = self.loop and len(self.keys) > 1
        # a file gives a loop of n keyframes n / (n - 1) of their time, so that its last way takes as long as the mean
        period = times[-1] * len(times) / (len(times) - 1) if is_loop else None
        return Keyframes(cameras, torch.tensor(times).double(), period, FPS)

    def at(self, seconds: float) -> Key:
        """The view at a time of the film."""
        camera = self.keyframes().at(torch.tensor([seconds]))
        return Key(camera.c2w[0], 2 * math.atan(camera.height / 2 / float(camera.K[0, 1, 1])))

    def save(self, file: Path) -> None:
        """Write the file that `nerf render --path` reads, in the coordinates of the scene's file. Raises UserError."""
        keyframes = self.keyframes()
        content = keyframes_in_file(keyframes.cameras, FPS, frame_of(self.scene))
        entries = content["keyframes"]
        assert isinstance(entries, list)
        for entry, seconds in zip(entries, self.times(), strict=True):
            entry["time"] = seconds
        with atomic_write(file) as temporary:
            temporary.write_text(
                json.dumps({**content, "loop": keyframes.period is not None}, indent=2) + "\n", encoding="utf-8"
            )

    def load(self, file: Path) -> None:
        """Take the keyframes of a file in place of these. Raises UserError."""
        if not file.is_file():
            raise UserError(f"{file} does not exist; save it first, or give another name")
        found = read_keyframes(file, self.like, frame_of(self.scene))
        times = found.times.tolist()
        gaps = [SECONDS, *(b - a for a, b in pairwise(times))]
        fovs = [2 * math.atan(found.cameras.height / 2 / float(K[1, 1])) for K in found.cameras.K]
        self.keys = [Key(*key) for key in zip(found.cameras.c2w, fovs, gaps, strict=True)]
        self.loop = found.period is not None


def file_for(folder: Path, name: str) -> Path:
    """The file of keyframes of that name. Raises UserError for a name that is none."""
    name = name.strip().removesuffix(".json")
    if not NAME.fullmatch(name):
        raise UserError(f"{name!r:.60} cannot be the name of a file; give letters, digits, - and _")
    return folder / f"{name}.json"


def command(run: Path, file: Path, crop: Sequence[float] | None = None) -> str:
    """What to type to film these keyframes."""
    words = ["nerf render", _quoted(run), "--path", _quoted(file)]
    return " ".join(words + (["--crop", box_text(crop)] if crop else []))


def _quoted(path: Path) -> str:
    return str(path) if re.fullmatch(r"[\w\-./~:\\]+", str(path)) else f'"{path}"'


def play(track: Track, show: Callable[[Key], None], goes_on: Callable[[], bool], clock: Callable[[], float]) -> None:
    """Show the film in real time, until it ends or `goes_on` says no. A loop goes on from its start. show: must wait
    until the next picture is due."""
    start, length = clock(), track.keyframes().duration
    while goes_on():
        seconds = clock() - start
        if seconds >= length and not (track.loop and length > 0):
            show(track.at(track.times()[-1]))
            return
        show(track.at(track.times()[0] + (seconds % length if length else 0.0)))
