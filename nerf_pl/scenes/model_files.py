"""Whether the files of a COLMAP model are whole and make sense, where COLMAP takes garbage, reads for ever, or says
nothing that helps."""

import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

# where the entry that begins at a place of the data ends; struct.error or ValueError beyond its end
Entry = Callable[[bytes, int], int]
CAMERA = 24  # bytes of a camera without its parameters: id, model, width, height
PARAMETER = 8
POSE = {"images": 4, "frames": 8}  # where the quaternion of an entry begins
NUMBERS = {"cameras": (2, None), "images": (1, 9), "points3D": (1, 8)}  # words of an entry that are numbers
NAME = 9  # words of an entry in images.txt before the name
LEAST_LENGTH = 1e-6  # of a quaternion; any other length is that of 1


def is_whole(file: Path) -> bool:
    """Whether points3D.bin, images.bin, frames.bin or rigs.bin has all entries that it says it has. True of others."""
    if file.suffix != ".bin" or not (entry := ENTRIES.get(file.stem)):
        return True
    data = file.read_bytes()
    try:
        (count,), place = struct.unpack_from("<Q", data), 8
        for _ in range(count):
            place = entry(data, place)
    except (struct.error, ValueError):
        return False
    return place <= len(data)


def has_cameras(file: Path, parameters: list[int]) -> bool:
    """Whether cameras.bin is as long as cameras with so many parameters each make it."""
    return file.suffix != ".bin" or file.stat().st_size >= 8 + sum(CAMERA + PARAMETER * n for n in parameters)


def _point(data: bytes, place: int) -> int:
    """id, position, colour, error; then the length of the track, of 8 bytes each."""
    (length,) = struct.unpack_from("<Q", data, place + 43)
    return place + 51 + 8 * length


def _image(data: bytes, place: int) -> int:
    """id, rotation, translation, camera; a name that ends with 0; then the number of key points, of 24 bytes each."""
    end = data.index(0, place + 64)
    (count,) = struct.unpack_from("<Q", data, end + 1)
    return end + 9 + 24 * count


def _frame(data: bytes, place: int) -> int:
    """id, rig, rotation, translation; then the number of pictures, of 16 bytes each."""
    (count,) = struct.unpack_from("<I", data, place + 64)
    return place + 68 + 16 * count


def _rig(data: bytes, place: int) -> int:
    """id; the number of sensors, of 8 bytes each; after all but the first a byte says whether a pose follows, of
    56 bytes."""
    (count,) = struct.unpack_from("<I", data, place + 4)
    place += 8 + (8 if count else 0)
    for _ in range(1, count):
        (has_pose,) = struct.unpack_from("<B", data, place + 8)
        place += 9 + (56 if has_pose else 0)
    return place


ENTRIES: dict[str, Entry] = {"points3D": _point, "images": _image, "frames": _frame, "rigs": _rig}


def wrong_rotation(file: Path) -> str:
    """What to say of the first pose in images or frames, .bin or .txt, whose quaternion has no length; COLMAP takes it
    for no rotation at all. An empty text if there is none."""
    try:
        for name, quaternion in _quaternions(file):
            if math.hypot(*quaternion) <= LEAST_LENGTH:
                return f"{file}: the rotation of {name} is {' '.join(f'{x:g}' for x in quaternion)}, which is none"
    except (struct.error, ValueError, IndexError):  # COLMAP says what is wrong with it
        pass
    return ""


def _quaternions(file: Path) -> Iterator[tuple[str, tuple[float, ...]]]:
    """The name and the quaternion of each pose in images or frames."""
    if file.suffix == ".bin":
        data = file.read_bytes()
        (count,), place = struct.unpack_from("<Q", data), 8
        for _ in range(count):
            (number,) = struct.unpack_from("<I", data, place)
            yield f"{file.stem.rstrip('s')} {number}", struct.unpack_from("<4d", data, place + POSE[file.stem])
            place = ENTRIES[file.stem](data, place)
        return
    entries = (words for _, words in _entries(file))
    for words in entries:
        first = 1 if file.stem == "images" else 2
        yield f"{file.stem.rstrip('s')} {words[0]}", tuple(map(float, words[first : first + 4]))


def names_with_blanks(file: Path | None) -> Iterator[tuple[int, str]]:
    """The number and the name of each picture in images.txt whose name has blanks: COLMAP takes it to end there."""
    for _, words in _entries(file) if file and file.suffix == ".txt" else ():
        if len(words) > NAME + 1:
            yield int(words[0]), " ".join(words[NAME:])


def wrong_line(file: Path) -> str:
    """What to say of the first entry of a text file that has a word in the place of a number, or a number that is not
    finite, or that is there twice. An empty text if there is none."""
    first, last = NUMBERS.get(file.stem, (0, 0))
    known: dict[str, int] = {}
    try:
        for line, words in _entries(file) if file.suffix == ".txt" else ():
            before = known.setdefault(words[0], line)
            if before != line:
                return f"{file}: lines {before} and {line} are both of {file.stem.rstrip('s')} {words[0]}"
            if wrong := next((word for word in words[first:last] if not _is_finite(word)), ""):
                return f"{file}: line {line} has {wrong} where a finite number belongs"
    except UnicodeDecodeError:
        return f"{file} is not a text file"
    return ""


def _entries(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The number and the words of each line that begins an entry of a text file. Pictures have two lines each: as in
    COLMAP, the second one is the next line, whatever it holds."""
    is_points = False
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if is_points:
                is_points = False
            elif line.strip() and not line.lstrip().startswith("#"):
                yield number, line.split()
                is_points = file.stem == "images"


def _is_finite(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
