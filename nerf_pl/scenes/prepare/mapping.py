"""COLMAP in a process of its own, which runs `placing`. A full disk, a mistake in its code, or the system when memory
is short may end that process; the command then ends in one line."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import IO, Any

from nerf_pl.children import paths, python
from nerf_pl.errors import UserError
from nerf_pl.scenes.colmap import import_pycolmap, read_model
from nerf_pl.scenes.memory import in_gb
from nerf_pl.scenes.prepare import placing
from nerf_pl.scenes.prepare.placing import FEATURES, MODEL, Job, Photo, Step, pairs_by_tile
from nerf_pl.signals import ENDING, handled

EXHAUSTIVE_UP_TO = 150  # photos; their pairs take some minutes on two cores
# bytes of the database: 128 and 24 for each feature of a photo; of a pair of photos; and what is spared for the rest
FEATURES_SIZE, PAIR_SIZE, SPARE = 152 * FEATURES, 8_000, 50_000_000
PROGRAM = placing.__file__
OUTSIDE = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGXCPU")  # what others end a process with
GLANCE = 0.2  # seconds in which a signal is noticed, where it does not interrupt the waiting
LAST_LINES = 50  # of what COLMAP writes before it ends
SHORT = 20_000_000  # bytes that are free; with less, a full disk is what ended COLMAP


def reconstruct(folder: Path, photos: Sequence[Photo], matcher: str, step: Step) -> Any:
    """The pycolmap.Reconstruction that places most of the photos; None if no two of them fit together.

    See `placing.reconstruct`. Its process ends with this call, and with this process, however that ends. Raises
    UserError if pycolmap is missing or fails.
    """
    import_pycolmap("finding where photos were taken")
    lines: Queue[bytes | None] = Queue()
    last: deque[bytes] = deque(maxlen=LAST_LINES)
    with _process(folder, lines.put, last.append) as process:
        _send(process, json.dumps(vars(Job.of(folder, photos, matcher))))
        for line in iter(lambda: _next(lines), None):
            told = json.loads(line)
            if "step" in told:
                step(*told["step"])
            elif "failed" in told:
                raise UserError(f"COLMAP failed: {told['failed']:.200}{_short(folder)}")
            else:
                return _model(folder) if told["found"] else None
        code = process.wait()
    raise UserError(_end(code, [line.decode(errors="replace") for line in last], folder))


@contextmanager
def _process(
    folder: Path, on_line: Callable[[bytes | None], None], on_error: Callable[[bytes], None]
) -> Iterator[subprocess.Popen]:
    """The process that runs `placing`, with its temporary files in a folder. on_line: is given the lines that it tells,
    and None at the end; on_error: those that it writes to its stderr."""
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP", "SQLITE_TMPDIR"), str(folder))
    process = subprocess.Popen(
        python(PROGRAM),
        env={**os.environ, **places, **paths()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for this process
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
    readers = [
        Thread(target=_read, args=(process.stdout, on_line, lambda: on_line(None)), daemon=True),
        Thread(target=_read, args=(process.stderr, on_error, lambda: None), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        yield process
    finally:
        with handled(lambda _: None, (signal.SIGINT, *ENDING)):  # it takes no time
            process.kill()
            process.wait()
            for reader in readers:
                reader.join()
            with suppress(OSError):  # what could not be sent
                process.__exit__(None, None, None)


def require_space(folder: Path, photos: Sequence[Photo], matcher: str) -> None:
    """Raises UserError if the disk lacks room for what is made of photos in a folder: COLMAP ends the whole program
    when its database finds no room."""
    pictures = sum((folder / photo.name).stat().st_size for photo in photos)
    pairs = sum(map(len, pairs_by_tile(len(photos), matcher)))
    needed, free = FEATURES_SIZE * len(photos) + PAIR_SIZE * pairs + pictures + SPARE, shutil.disk_usage(folder).free
    if needed > free:
        told = (
            f"{len(photos)} photos need about {in_gb(needed)} of disk while they are placed, and {in_gb(free)} are free"
        )
        raise UserError(f"{told} in {folder.parent.parent}: free some space, or give --out on another disk")


def choose_matcher(matcher: str, n: int, is_film: bool) -> str:
    """What "auto" means for n photos: all pairs while there is time for that, then neighbours in a film."""
    if matcher != "auto":
        return matcher
    return "sequential" if is_film and n > EXHAUSTIVE_UP_TO else "exhaustive"


def _read(pipe: IO[bytes], take: Callable[[bytes], None], end: Callable[[], None]) -> None:
    for line in pipe:
        take(line)
    end()


def _next(lines: "Queue[bytes | None]") -> bytes | None:
    """The next line; None if there is no other."""
    while True:
        with suppress(Empty):
            return lines.get(timeout=GLANCE)


def _send(process: subprocess.Popen, line: str) -> None:
    """A process that has ended is noticed when its answer is read."""
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()


def _model(folder: Path) -> Any:
    try:
        return read_model(folder / MODEL, folder)
    except UserError as error:  # a full disk cuts files short
        raise UserError(f"COLMAP failed: its model is cut short{_short(folder)}") from error


def _end(code: int, last: Sequence[str], folder: Path) -> str:
    """Why the process ended before its work was done."""
    if short := _short(folder):
        return f"COLMAP was ended{short}"
    name = signal.Signals(-code).name if code < 0 else ""
    if name == "SIGKILL":
        told = "COLMAP was ended by SIGKILL, as the system does when memory runs out"
        return f"{told}: close other programs, or give a lower --max_size or fewer photos"
    if name in OUTSIDE:
        return f"COLMAP was ended by {name}: the same command starts again"
    # its own last words, if there are any, stand before the dump of its stack
    words = next((line for line in last if re.match(r"F\d{4,8} ", line) or "Error" in line), "")
    words = " ".join(words.rpartition("] ")[2].split())
    how = f"{name or f'code {code}'}{f': {words:.100}' if words else ''}"
    return f"COLMAP crashed ({how}): try --matcher sequential, a lower --max_size, or leave out odd photos"


def _short(folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    told = f", and {in_gb(free)} are free on the disk of {folder.parent.parent}"
    return f"{told}: free some space, or give --out on another disk" if free < SHORT else ""
