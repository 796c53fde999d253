"""Whether pictures are turned as EXIF says a camera was held.

COLMAP, Instant-NGP and nerfstudio take pictures as they are stored, whatever EXIF says, so their poses are those of
stored pictures. Other programs turn them first. The sizes that a scene's file tells are those that its program saw.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.pictures import Headers, Size

Fits = Callable[[Size], bool]
"""Whether a size may be the one that a scene's file tells of a picture; true of any if it tells none."""


@dataclass(frozen=True)
class Oriented:
    """upright: which pictures are turned as EXIF says; sizes: their sizes then."""

    upright: list[bool]
    sizes: list[Size]


def orient(
    source: Path,
    headers: Headers,
    fits: Sequence[Fits],
    misfit: Callable[[int, Size], str | None] = lambda index, size: None,
) -> Oriented:
    """Pictures are taken as stored if all sizes fit so, and turned only if they do not.

    If neither way fits all of them, each one is taken as it fits. source: the file that tells the sizes, for messages.
    misfit: what to say about a picture that fits in neither way; None takes it as stored. Raises UserError with that,
    and for a picture that fits both ways among pictures that fit in different ones.
    """
    stored, turns = headers.stored, headers.turns()
    turned = [(h, w) if turn >= 5 else (w, h) for (w, h), turn in zip(stored, turns, strict=True)]
    as_stored = [fit(size) for fit, size in zip(fits, stored, strict=True)]
    as_turned = [fit(size) for fit, size in zip(fits, turned, strict=True)]
    unsure = [i for i, turn in enumerate(turns) if turn > 1 and as_stored[i] and as_turned[i]]
    if all(as_stored):
        if unsure:
            told = (
                f"EXIF says that {len(unsure)} of {len(turns)} pictures are turned, such as {headers.files[unsure[0]]}"
            )
            warn(f"{source}: {told}; they are taken as stored, because no size speaks against it")
        return Oriented([False] * len(stored), list(stored))
    for i in range(len(stored)):
        if not (as_stored[i] or as_turned[i]) and (wrong := misfit(i, stored[i])):
            raise UserError(wrong)
    upright = [turns[i] > 1 if all(as_turned) else as_turned[i] and not as_stored[i] for i in range(len(stored))]
    if any(upright):
        if unsure and not all(as_turned):
            told = f"some pictures fit only as stored, others only as EXIF turns them, and {headers.files[unsure[0]]}"
            raise UserError(f"{source}: {told} both ways; turn the files themselves, and remove EXIF's orientation")
        example = headers.files[upright.index(True)]
        told = f"{sum(upright)} of {len(turns)} pictures are turned as EXIF says, such as {example}"
        warn(f"{source}: {told}: their sizes fit only so")
    return Oriented(upright, [turned[i] if upright[i] else stored[i] for i in range(len(stored))])
