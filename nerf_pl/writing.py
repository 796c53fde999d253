"""Files that appear whole or not at all, one writer of each at a time, and several files at once."""

import errno
import os
import re
import secrets
import shutil
import socket
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from nerf_pl.console import warn
from nerf_pl.errors import OF_THE_SYSTEM, UserError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

REMEDIES = {
    errno.ENOSPC: "free some space or write elsewhere",
    errno.EDQUOT: "free some space or write elsewhere",
    errno.EFBIG: "allow larger files (ulimit -f) or write elsewhere",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENOTDIR: "a file is in the way of a folder",
    errno.EEXIST: "a file is in the way of a folder",
    errno.EISDIR: "a folder of that name is in the way",
    errno.EMFILE: OF_THE_SYSTEM[errno.EMFILE],
    errno.ENFILE: OF_THE_SYSTEM[errno.ENFILE],
    errno.ESTALE: OF_THE_SYSTEM[errno.ESTALE],
}
OF_A_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # which no file that is read can cause
TAKEN = {errno.EAGAIN, errno.EACCES, errno.EDEADLK}  # what a lock that somebody holds is answered with
FAR = 2**30  # the byte that Windows locks, beyond what the file holds, so that others can read it
PATIENCE = 60.0  # seconds to wait for files that are written at once
LOOK = 0.1  # seconds between two tries to get a lock
MOST_THREADS = 8  # that write files
MOST_PIXELS = 2**24  # of the pictures that are written at once; each takes some 90 bytes (docs/log.md)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turns an OSError, such as a full disk, into a UserError of one line that names `path` and the reason. If what
    failed is another file, as one that was read meanwhile, the line names that file instead."""
    try:
        yield
    except OSError as error:
        reason = " ".join((error.strerror or str(error) or type(error).__name__).split())
        if (other := other_file(error, path)) is not None:
            raise UserError(f"{other} cannot be used ({reason}): mend that, and start again") from error
        remedy = REMEDIES.get(error.errno or 0, "write elsewhere")
        raise UserError(f"cannot write {path}: {reason}; {remedy}") from error


def other_file(error: OSError, path: Path) -> str | None:
    """The file that an error is about, if it is neither `path`, nor in it, nor a folder that holds it, nor one of the
    hidden files that are made beside it."""
    name = error.filename  # of a copy that fails it is the original, also where the disk is full
    if not isinstance(name, str | bytes | os.PathLike) or error.errno in OF_A_WRITE:
        return None
    file, place = (os.path.abspath(os.fsdecode(each)) for each in (name, path))
    try:
        is_on_the_way = os.path.commonpath([file, place]) in (file, place)
    except ValueError:  # they lie on two drives of Windows
        is_on_the_way = False
    is_temporary = os.path.basename(file).startswith(".") and os.path.dirname(file) == os.path.dirname(place)
    return None if is_on_the_way or is_temporary else os.fsdecode(name)


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Write to the temporary path that this yields; it becomes `path` when the block ends without an error.

    The temporary file lies in the same folder and has the same suffix. An error or an interrupt removes it and leaves
    an older `path` as it was. If the process is killed it stays, see `remove_leftovers`. Missing folders are made. An
    OSError becomes a UserError.
    """
    path = Path(path)
    temporary = temporary_name(path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """A hidden name beside `path`, which no other file has."""
    return path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")


def remove_leftovers(*paths: Path) -> None:
    """Remove what commands that were killed left of writing these files or folders. Only who holds the lock of a path
    may do so."""
    for path in paths:
        pattern = re.compile(rf"\.{re.escape(path.stem)}-[0-9a-f]{{8}}{re.escape(path.suffix)}")
        _remove(path.parent, pattern)


def remove_leftovers_in(folder: Path) -> None:
    """The same of all files in a folder, which holds nothing but what the lock is for."""
    _remove(folder, re.compile(r"\..+-[0-9a-f]{8}(\.\w+)?"))


def _remove(folder: Path, pattern: re.Pattern[str]) -> None:
    found = [file for file in folder.iterdir() if pattern.fullmatch(file.name)] if folder.is_dir() else []
    for file in found:
        with suppress(OSError):  # what cannot be removed does no harm
            shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()


@contextmanager
def locked(path: Path, remedy: str = "wait for it, or end it", patience: float = 0.0) -> Iterator[None]:
    """Be the only one to write a file or a folder while the block runs.

    The system frees the lock of a process that is killed. Its file, .NAME.lock beside `path`, names the process that
    holds it. Missing folders are made, and removed in the end if they are empty. patience: seconds to wait for the
    lock. Raises UserError if another process holds it, with the remedy.
    """
    try:
        path = path.resolve()
    except RuntimeError as error:
        raise UserError(f"{path} is a link that leads to itself: give another path") from error
    if not path.name:
        raise UserError(f"{path} holds everything: give a folder of its own")
    file = path.with_name(f".{path.name}.lock")
    new = [folder for folder in file.parents if not folder.exists()]  # the deepest first
    end = time.monotonic() + patience
    if _is_in_the_way(file):
        raise UserError(f"{file} is in the way, it says who writes {_shown(path)} and is no file: remove it")
    with write_errors(path):
        file.parent.mkdir(parents=True, exist_ok=True)
        while (handle := _lock(file)) is None:
            if time.monotonic() >= end:
                raise UserError(f"{_shown(path)} is in use by {_holder(file)}: {remedy}")
            time.sleep(LOOK)
    try:
        yield
    finally:
        _unlock(handle, file)
        for folder in new:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def replacing(*paths: Path) -> Iterator[None]:
    """Wait until no other process writes the first of these files, which belong together, and remove what killed ones
    left of them. See `locked`."""
    with locked(paths[0], patience=PATIENCE):
        remove_leftovers(*paths)
        yield


def _shown(path: Path) -> Path:
    """As the user may have typed it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) and path != here else path


def _is_in_the_way(file: Path) -> bool:
    """Whether there is something else than a file. It is looked at once: who holds the lock may remove it meanwhile."""
    try:
        return not stat.S_ISREG(file.stat().st_mode)
    except OSError:
        return file.is_symlink()


def _lock(file: Path) -> int | None:
    """The handle of the lock's file, with the lock; None if another process holds it."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(handle)
    except OSError as error:
        os.close(handle)
        if error.errno not in TAKEN:
            raise
        return None
    except BaseException:
        os.close(handle)
        raise
    # who held the lock before may have removed the file after it was opened here: then it is no lock any more
    try:
        is_same = os.path.samestat(os.fstat(handle), os.stat(file))
    except FileNotFoundError:
        is_same = False
    if not is_same:
        os.close(handle)
        return _lock(file)
    os.ftruncate(handle, 0)
    told = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%H:%M:%S on %Y-%m-%d')}"
    os.write(handle, told.encode())
    return handle


def _take(handle: int) -> None:
    """Raises OSError."""
    if sys.platform == "win32":
        os.lseek(handle, FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            raise
        warn(f"this file system has no locks ({error.strerror}): do not write the same run or film twice at once")


def _unlock(handle: int, file: Path) -> None:
    """The file goes first: who opened it before notices, see `_lock`. Windows can only remove it after it is closed."""
    steps: list[Callable[[], None]] = [lambda: file.unlink(missing_ok=True), lambda: os.close(handle)]
    for step in reversed(steps) if sys.platform == "win32" else steps:
        with suppress(OSError):
            step()


def _holder(file: Path) -> str:
    try:
        told = file.read_text(encoding="utf-8", errors="replace").strip()[:200]
    except OSError:
        told = ""
    return "".join(c for c in told if c.isprintable()) or "another process"


Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Generator[Result, None, None]:
    """What `work` makes of each item, in order, as of pictures that are written while a GPU renders the next ones.

    threads: how many work at once, a few items ahead of who asks. 0: each item is worked on when it is asked for. An
    error of the work comes in its turn, one of the items at once. Then, as when the generator is closed, what was begun
    is finished, and no thread is left.
    """
    if not threads:
        yield from map(work, items)
        return
    pool, begun = ThreadPoolExecutor(threads), deque[Future[Result]]()
    try:
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) > threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown()


def writing_threads(on_gpu: bool, pixels: int) -> int:
    """How many threads may write pictures of so many pixels while the next ones are rendered. None where a CPU renders:
    it is busy."""
    return max(min(cores() - 1, MOST_THREADS, MOST_PIXELS // pixels), 1) if on_gpu else 0


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
