"""Whether the binary files of a COLMAP model are whole: COLMAP takes garbage from parts of files, or reads for ever."""

import struct
from collections.abc import Callable
from pathlib import Path

# where the entry that begins at a place of the data ends; struct.error or ValueError beyond its end
Entry = Callable[[bytes, int], int]
CAMERA = 24  # bytes of a camera without its parameters: id, model, width, height
PARAMETER = 8


def is_whole(file: Path) -> bool:
    """Whether points3D.bin, images.bin or frames.bin has all entries that it says it has; true of other files."""
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


ENTRIES: dict[str, Entry] = {"points3D": _point, "images": _image, "frames": _frame}
