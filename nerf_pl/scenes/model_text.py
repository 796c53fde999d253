"""What is wrong with the text files of a COLMAP model, where COLMAP says nothing that helps: hands and scripts write
them, too."""

import codecs
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

LOOKS = 20  # photos of images.txt that are looked at
MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # what some editors put in front of a text
DECIMAL_COMMA = re.compile(r"-?\d+,\d+")  # of a spreadsheet
ID, MODEL, SIZE = 0, 1, 2  # words of a line of cameras.txt, before the parameters
CAMERA, NAME = 8, 9  # words of the line of a photo in images.txt


def wrong_pairs(images: Path | None) -> str:
    """What to say if images.txt lacks the line of points that follows each photo, which may be empty: COLMAP would take
    every second photo for points. An empty text if nothing is wrong, and of other files."""
    if images is None or images.suffix != ".txt":
        return ""
    for line, photo, (number, points) in islice(_photos(images), LOOKS):
        if len(photo) > NAME and len(photo) % 3 == 0 and all(map(_is_number, photo)):
            told = f"{images}: line {line} has points, where the line of a photo belongs"
            return f"{told}: write the points right after their photo, without a line between"
        if len(points) % 3 or not all(map(_is_number, points)):
            if any(map(DECIMAL_COMMA.fullmatch, points)):
                return f"{images}: line {number} has numbers like {points[0]}: write them with a point"
            told = f"{images}: line {number} is not the line of points of photo {' '.join(photo[NAME:])}"
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
        if not words or words[0].startswith("#"):
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
    for line, words, _ in _photos(images) if images and images.suffix == ".txt" else ():
        if len(words) > NAME and words[CAMERA] not in numbers:
            name = " ".join(words[NAME:])
            return f"{images}: line {line} has {name} taken by camera {words[CAMERA]}, which {cameras.name} lacks"
    return ""


def _photos(images: Path) -> Iterator[tuple[int, list[str], tuple[int, list[str]]]]:
    """The number and the words of each photo's line in images.txt, and those of the line after it, the photo's points.

    As COLMAP reads them: blank lines and comments in front of a photo do not count.
    """
    lines = _lines(images)
    for number, words in lines:
        if words and not words[0].startswith("#"):
            yield number, words, next(lines, (number + 1, []))


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The number and the words of each line."""
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            yield number, line.split()


def has_mark(file: Path) -> bool:
    """Whether a text begins with a byte order mark, of UTF-8 or UTF-16, which COLMAP takes for a word."""
    with file.open("rb") as lines:
        return lines.read(3).startswith(MARKS)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
