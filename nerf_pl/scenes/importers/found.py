"""What an importer gives: where another program has placed pictures, and what it left out."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerf_pl.scenes.lenses import PANORAMA
from nerf_pl.scenes.pictures import list_some
from nerf_pl.scenes.wide import is_whole_panorama
from nerf_pl.text import counted

Lens = dict[str, float | str]
"""Intrinsics by the keys of transforms.json: w, h, fl_x, fl_y, cx, cy, and camera_model, k1 to k4, p1, p2 if they are
needed."""


@dataclass(frozen=True)
class Source:
    """Where an import looks. root: the folder that the file is written to; file: the program's own file, if the user
    named it; images: the folder of the pictures, if they are not below the root; masks: whether to use masks."""

    root: Path
    file: Path | None = None
    images: Path | None = None
    masks: bool = True

    @property
    def pictures(self) -> Path:
        """The folder with the pictures, at any depth."""
        return self.images or self.root


@dataclass(frozen=True)
class Photo:
    """One placed picture. c2w: OpenGL axes, in the coordinates of the program."""

    file: Path
    c2w: Float[np.ndarray, "3 4"]
    lens: Lens
    mask: Path | None = None
    depth: Path | None = None


@dataclass(frozen=True)
class Found:
    """A scene of another program. source: the file or folder that was read. left_out: names by reason. box: the lowest
    and the highest corner of what the scene holds. splits: the pictures of train, val and test; empty if the program
    has no such lists. depth_scale: metres per unit of integer depth. notes: what else the user should know."""

    source: Path
    photos: list[Photo]
    left_out: dict[str, list[str]] = field(default_factory=dict)
    box: Float[np.ndarray, "2 3"] | None = None
    splits: dict[str, list[Path]] = field(default_factory=dict)
    depth_scale: float | None = None
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What was found, for the user."""
        missing = sum(map(len, self.left_out.values()))
        told = [f"{self.source}: {counted(len(self.photos) + missing, 'picture')}, {len(self.photos)} placed"]
        told += [f"left out: {len(names)} {why} ({list_some(names)})" for why, names in self.left_out.items()]
        told.append(f"cameras: {describe([photo.lens for photo in self.photos])}")
        kept = {
            "masks": sum(photo.mask is not None for photo in self.photos),
            "depth maps": sum(photo.depth is not None for photo in self.photos),
        }
        told += [f"{what}: {n}" for what, n in kept.items() if n]
        if kept["masks"]:
            told.append(
                "black in a mask does not count; nerf train --masks alpha takes it for empty: an object on nothing"
            )
        if self.splits:
            told.append("splits: " + ", ".join(f"{name} {len(files)}" for name, files in self.splits.items()))
        if self.box is not None:
            corners = " to ".join("({:.4g}, {:.4g}, {:.4g})".format(*corner) for corner in self.box.tolist())
            told.append(f"box: {corners}")
        return told + self.notes


def panorama_lens(width: float, height: float) -> Lens | None:
    """The lens of equirectangular pictures of this size. None if they do not show all around. Its focal lengths, which
    say nothing here, are those that nerfstudio wants."""
    if not is_whole_panorama((round(width), round(height))):
        return None
    lens: Lens = {"camera_model": PANORAMA[0], "w": width, "h": height, "fl_x": width / 2, "fl_y": height}
    return {**lens, "cx": width / 2, "cy": height / 2}


def describe(lenses: list[Lens]) -> str:
    """The cameras in a few words: the first, and how many others there are."""
    first = lenses[0]
    bends = [name for name in ("k1", "k2", "k3", "k4", "p1", "p2") if any(lens.get(name) for lens in lenses)]
    distortion = f"with distortion {', '.join(bends)}" if bends else "without distortion"
    around = first.get("camera_model") in PANORAMA
    focal = f", focal length {first['fl_x']:.6g} pixels" if "fl_x" in first else ""
    kinds = len({tuple(sorted(lens.items())) for lens in lenses})
    more = f"; {kinds} different ones" if kinds > 1 else ""
    lens = "" if around else f"{focal}, {distortion}"
    return f"{first.get('camera_model', 'OPENCV')}, {first['w']:g}x{first['h']:g}{lens}{more}"
