"""What is wrong with the text files of a COLMAP model, where COLMAP says nothing that helps: hands and scripts write
them, too."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

LOOKS = 20  # photos of images.txt that are looked at
MARK = "\ufeff"  # what some editors put in front of a text
ID, MODEL, SIZE = 0, 1, 2  # words of a line of cameras.txt, before the parameters
CAMERA, NAME = 8, 9  # words of the line of a photo in images.txt


def wrong_pairs(images: Path | None) -> str:
    """What to say if images.txt lacks the line of points that follows each photo, which may be empty: COLMAP would take
    every second photo for points. An empty text if nothing is wrong, and of other files."""
    if images is None or images.suffix != ".txt":
        return ""
    lines = _lines(images)
    for _ in range(LOOKS):
        photo, points = next(lines, None), next(lines, None)
        if photo is None or points is None:
            return ""
        if len(points[1]) % 3 or not all(map(_is_number, points[1])):
            told = f"{images}: line {points[0]} is not the line of points of photo {' '.join(photo[1][NAME:])}"
            return f"{told}, three numbers each: write it after each photo, be it empty"
    return ""


def wrong_camera(cameras: Path | None, images: Path | None, pycolmap: Any) -> str:
    """What to say of the first camera whose model is unknown or that has not as many parameters, or of a photo whose
    camera is not there. An empty text if there is none, and of files that are no text."""
    if cameras is None or cameras.suffix != ".txt":
        return ""
    known = [name for name in pycolmap.CameraModelId.__members__ if name != "INVALID"]
    numbers = set()
    for line, words in _lines(cameras):
        if not words:
            continue
        if len(words) <= SIZE + 1:
            return f"{cameras}: line {line} is no camera: CAMERA_ID MODEL WIDTH HEIGHT and its parameters"
        if words[MODEL] not in known:
            told = f"the model {words[MODEL]!r:.40}, which is none of COLMAP's, such as OPENCV"
            return f"{cameras}: line {line} has {told}"
        needed = len(pycolmap.Camera.create_from_model_name(1, words[MODEL], 1.0, 1, 1).params)
        if (found := len(words) - SIZE - 2) != needed:
            return f"{cameras}: line {line} has {found} parameters, but {words[MODEL]} has {needed}"
        numbers.add(words[ID])
    photos = islice(_lines(images), None, None, 2) if images and images.suffix == ".txt" else ()
    for line, words in photos:
        if len(words) > NAME and words[CAMERA] not in numbers:
            name = " ".join(words[NAME:])
            return f"{images}: line {line} has {name} taken by camera {words[CAMERA]}, which {cameras.name} lacks"
    return ""


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The number and the words of each line that is no comment, empty ones after the first entry, too."""
    begun = False
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.startswith("#") and (begun or line.strip()):
                begun = True
                yield number, line.split()


def has_mark(file: Path) -> bool:
    """Whether a text begins with a byte order mark, which COLMAP takes for a word."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        return lines.read(1) == MARK


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
