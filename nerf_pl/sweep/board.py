"""What a sweep shows while it works: a table on a terminal, elsewhere a line whenever a job begins or ends."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.live import Live
from rich.table import Table

from nerf_pl.console import console
from nerf_pl.sweep.jobs import Job
from nerf_pl.sweep.scores import FAILED, STOPPED, WAITING, Row
from nerf_pl.sweep.worker import Worker
from nerf_pl.text import visible

EVERY = 1.0  # seconds between two tables
MARGIN = 6  # rows of a terminal that are left for what is not a job


class Board:
    """The jobs of a sweep in their order. rows: what is known of each, by the name of its run; others add to it."""

    def __init__(self, jobs: Sequence[Job], rows: Mapping[str, Row]) -> None:
        self.jobs, self.rows = jobs, rows
        self._live: Live | None = None
        self._shown = 0.0

    def __enter__(self) -> "Board":
        if console.is_terminal:
            self._live = Live(self._table([]), console=console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.update(self._table([]), refresh=True)
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        console.print(line)

    def started(self, worker: Worker) -> None:
        if self._live is None:
            console.print(f"{worker.job.name}: starts on {worker.slot.told}")

    def ended(self, worker: Worker) -> None:
        row = self.rows[worker.job.name]
        if self._live is None or row.state == FAILED:
            console.print(f"{worker.job.name}: {row.told()}")

    def show(self, running: Sequence[Worker]) -> None:
        """Draw the table again, if it is time."""
        if self._live is not None and time.monotonic() - self._shown >= EVERY:
            self._shown = time.monotonic()
            self._live.update(self._table(running), refresh=True)

    def _table(self, running: Sequence[Worker]) -> Table:
        active = {worker.job.name: worker for worker in running}
        table = Table(box=None, pad_edge=False)
        for name in ("run", "state", "PSNR", "time left"):
            table.add_column(name, justify="left" if name in ("run", "state") else "right", no_wrap=True)
        shown = self._fitting(active)
        for job in shown:
            cells = _of_worker(active[job.name]) if job.name in active else _of_row(self.rows[job.name])
            table.add_row(*map(visible, (job.name, *cells)))
        if left := len(self.jobs) - len(shown):
            table.add_row(f"and {left} more")
        return table

    def _fitting(self, active: Mapping[str, Worker]) -> list[Job]:
        """Those that fit on the terminal: those that run first, then those that failed, then the others."""
        room = max(console.height - MARGIN, 1)
        ranks = {FAILED: 1, STOPPED: 2, WAITING: 3}
        order = {job.name: 0 if job.name in active else ranks.get(self.rows[job.name].state, 4) for job in self.jobs}
        chosen = {job.name for job in sorted(self.jobs, key=lambda job: order[job.name])[:room]}
        return [job for job in self.jobs if job.name in chosen]


def _of_worker(worker: Worker) -> tuple[str, str, str]:
    psnr, left = worker.told()
    if not left and not psnr:
        left = f"{time.monotonic() - worker.began:.0f} s so far"
    state = "stopping" if worker.stopped else worker.state
    return f"{state} on {worker.slot.told}", psnr, left


def _of_row(row: Row) -> tuple[str, str, str]:
    psnr = "" if row.psnr is None else f"{row.psnr:.2f}"
    return f"{row.state}{f': {row.why}' if row.why else ''}", psnr, ""
