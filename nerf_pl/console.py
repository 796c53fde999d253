"""The one place where the program prints: results to stdout, warnings to stderr."""

from collections.abc import Generator, Iterable
from threading import Lock
from typing import TypeVar

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)
_warned: set[str] = set()
_lock = Lock()

Item = TypeVar("Item")


def warn(line: str) -> None:
    """Print one line to stderr, once. Every split of a scene would otherwise repeat the same warning."""
    with _lock:
        if line in _warned:
            return
        _warned.add(line)
    errors.print(line, style="yellow", markup=False)


def progress(items: Iterable[Item], total: int, title: str, done: int = 0) -> Generator[Item, None, None]:
    """The items. A terminal shows a progress bar, which starts at `done` of `total`."""
    if not console.is_terminal:
        yield from items
        return
    columns = [*Progress.get_default_columns(), MofNCompleteColumn()]
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total, completed=done)
        for item in items:
            yield item
            bar.advance(task)
