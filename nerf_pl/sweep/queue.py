"""The queue of a sweep: as many jobs at a time as there are places, until all were tried or a signal ends it."""

import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from nerf_pl.signals import ENDING, handled
from nerf_pl.sweep.board import Board
from nerf_pl.sweep.jobs import Job
from nerf_pl.sweep.slots import Slot
from nerf_pl.sweep.worker import Worker

GLANCE = 0.2  # seconds between two looks at the processes


class _Asked:
    """What signals asked for. number: of the first one; 0 until there is one. at_once: whether a second Ctrl-C came."""

    def __init__(self) -> None:
        self.number, self.at_once = 0, False

    def __call__(self, number: int) -> None:
        self.at_once = self.at_once or (bool(self.number) and number == signal.SIGINT)
        self.number = self.number or number


def work_through(
    jobs: Sequence[Job], slots: Sequence[Slot], logs: Path, board: Board, ended: Callable[[Worker], None]
) -> int:
    """Do the jobs in their order, each in the first place that is free. ended: called after each of them, whether it
    failed, was stopped or is done. logs: the folder for what they print.

    A signal stops those that run, which save what they learned, and starts no more; a second Ctrl-C kills them. Returns
    the number of the signal; 0 if all jobs were tried.
    """
    waiting, free, running, asked = deque(jobs), list(slots), [], _Asked()
    try:
        with handled(asked, (signal.SIGINT, *ENDING)), board:
            while running or (waiting and not asked.number):
                while waiting and free and not asked.number:
                    job = waiting.popleft()
                    running.append(Worker(job, free.pop(0), logs / f"{job.name}.log"))
                    board.started(running[-1])
                if asked.number:
                    _stop(running, board, at_once=asked.at_once)
                for worker in [worker for worker in running if worker.is_over()]:
                    running.remove(worker)
                    free.append(worker.slot)
                    ended(worker)
                    board.ended(worker)
                board.show(running)
                time.sleep(GLANCE)
    finally:
        for worker in running:  # none, unless a file cannot be written
            worker.stop()
    return asked.number


def _stop(running: Sequence[Worker], board: Board, *, at_once: bool) -> None:
    asked = [worker for worker in running if not worker.stopped]
    for worker in asked:
        worker.stop()
    if asked:
        board.say("stopping: the trainings save what they learned; Ctrl-C once more ends at once")
    if at_once:
        for worker in running:
            worker.kill()
