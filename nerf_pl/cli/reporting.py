"""The report that a command leaves, if it adds to a run."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from nerf_pl.writing import replacing


@dataclass(frozen=True)
class Added:
    """What a command adds to. folder: where the report of the run is written. num_gpus: of the command; 0 is the CPU.
    trains: whether the command changes the weights. anew: whether it begins the run."""

    folder: Path
    num_gpus: int = 1
    trains: bool = False
    anew: bool = False

    @property
    def report(self) -> Path:
        from nerf_pl.report.page import FILE

        return self.folder / FILE


@runtime_checkable
class AddsToRun(Protocol):
    """A command that adds to a run. `added` is None if these options let it write elsewhere."""

    @property
    def added(self) -> Added | None: ...


class Clock:
    """When a command began, and how long it takes."""

    def __init__(self) -> None:
        self.date, self._start = datetime.now(UTC), time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start


def report(added: Added, words: Sequence[str], clock: Clock) -> None:
    """Note what a command did, and write the report of its run anew. words: of the command line, with the program.
    Raises UserError if a file cannot be written."""
    from nerf_pl.report import write_report
    from nerf_pl.report.history import FILE, Entry, add_to_history, machine, versions

    date = clock.date.isoformat(timespec="seconds")
    entry = Entry(shlex.join(words), date, round(clock.seconds, 1), added.trains, machine(added.num_gpus), versions())
    with replacing(added.folder / FILE, added.report):
        add_to_history(added.folder, entry, added.anew)
        write_report(added.folder)
