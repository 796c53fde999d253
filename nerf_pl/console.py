"""The one place where the program prints: results to stdout, warnings to stderr.

Text is shown as it is: brackets and colons in names are neither styles nor emoji.
"""

import io
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock, Timer
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nerf_pl.text import clock_time, one_line, visible


class Terminal(Console):
    """A console that shows text as it is, but for what a terminal would obey: that is shown as escapes.

    is_needed: whether what is printed is all that a command is for. If not, the command goes on where nobody can read
    it: a log on a full disk, or a terminal that was closed, ends no training.
    """

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)
        self.is_needed = not stderr

    def print(self, *objects: object, style: str | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().print(*(visible(each) if isinstance(each, str) else each for each in objects), style=style)

    def _write_buffer(self) -> None:
        """All of rich's writing passes here."""
        try:
            super()._write_buffer()
        except OSError as error:
            self.quiet = True
            drop_what_is_printed(self.file)
            if self.is_needed:
                raise
            if self is not errors:
                errors.print(f"what is printed is lost ({error.strerror}); the work goes on")


console, errors = Terminal(), Terminal(stderr=True)
QUIET_SECONDS = 10  # between two lines of progress if there is no terminal
LONGEST = 600  # characters of a warning
_warned: set[str] = set()
_doing: list[tuple[str, Callable[[str], None]]] = []  # each `doing` that runs, the inmost last, and what shows its text
_lock = Lock()

Item = TypeVar("Item")


def open_standard_streams() -> None:
    """Open those of the three that are closed, on nothing. A file that is opened later would otherwise take their
    number, and what a library prints would go into it."""
    with suppress(OSError):  # where no more files may be opened, none can take their numbers
        while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(handle)
    nowhere = Path(os.devnull)
    sys.stdout, sys.stderr = (each or nowhere.open("w", encoding="utf-8") for each in (sys.stdout, sys.stderr))


def drop_what_is_printed(stream: object) -> None:
    """From now on nothing comes out of a stream, also of what is still to be written, which would fail in the end."""
    with suppress(OSError, ValueError):  # a stream in memory has no number
        if isinstance(stream, io.TextIOBase):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def escape_what_is_not_encodable() -> None:
    """Let stdout and stderr write a character that their encoding lacks as an escape, such as \\u4f60. Otherwise the
    name of a file can end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def description() -> TextColumn:
    """The column of a progress bar that says what it is about."""
    return TextColumn("{task.description}", markup=False)


def short_number(number: float) -> str:
    """Three digits, and k or M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(number) >= 0.9995 * size:  # a number that rounds to 1000 takes the next unit
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def warn(line: str, subject: str | None = None) -> None:
    """Print one line to stderr, once. Every split of a scene would otherwise repeat the same warning.

    subject: what the line is about, where splits tell it with different numbers. Only the first line about it is
    printed.
    """
    line = one_line(line, LONGEST)
    known = line if subject is None else subject
    with _lock:
        if known in _warned:
            return
        _warned.add(known)
    errors.print(line, style="yellow")


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Say what goes on while the block runs: on a terminal with the seconds so far, elsewhere in one line if it takes
    long. What runs inside says with `far` how much of it is done."""
    if console.is_terminal:
        columns = SpinnerColumn(), description(), TimeElapsedColumn()
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=None)
            with _listening(what, lambda text: bar.update(task, description=text)):
                yield
        return
    told = [what]
    timer = Timer(QUIET_SECONDS, lambda: console.print(*told))
    timer.daemon = True
    timer.start()
    try:
        with _listening(what, lambda text: told.__setitem__(0, text)):
            yield
    finally:
        timer.cancel()


def far(done: int, total: int) -> None:
    """How much is done of what the inmost `doing` names. Does nothing where none says so."""
    if _doing:
        what, show = _doing[-1]
        show(f"{what}: {done} of {total}")


def now(what: str) -> None:
    """What the inmost `doing` has come to. Does nothing where none says so."""
    if _doing:
        _doing[-1][1](what)


@contextmanager
def _listening(what: str, show: Callable[[str], None]) -> Iterator[None]:
    _doing.append((what, show))
    try:
        yield
    finally:
        _doing.pop()


def progress(items: Iterable[Item], total: int, title: str, done: int = 0) -> Generator[Item, None, None]:
    """The items. A terminal shows a progress bar, which starts at `done` of `total`; elsewhere lines are printed."""
    if not console.is_terminal:
        yield from progress_lines(items, total, title, done)
        return
    columns = description(), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), MofNCompleteColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(visible(title), total=total, completed=done)
        for item in items:
            yield item
            bar.advance(task)


def progress_lines(items: Iterable[Item], total: int, title: str, done: int = 0) -> Generator[Item, None, None]:
    """The items. Now and then a line says how many of them are done, and how long the rest takes, also on a terminal. A
    bar would draw itself while the items are timed."""
    start = last = time.monotonic()
    for i, item in enumerate(items):
        moment = time.monotonic()
        if i and moment - last >= QUIET_SECONDS:
            left = (moment - start) / i * (total - done - i)
            console.print(f"{title}: {done + i} of {total}  {clock_time(left)} left")
            last = moment
        yield item
