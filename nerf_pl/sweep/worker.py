"""The processes that do a job, one after the other, and what they tell."""

import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from nerf_pl.children import paths, python
from nerf_pl.signals import PARENT, described
from nerf_pl.sweep.jobs import Job
from nerf_pl.sweep.slots import Slot
from nerf_pl.text import one_line
from nerf_pl.training.machines import NUMBERS
from nerf_pl.writing import write_errors

PROGRAM = ("-m", "nerf_pl")  # for Python, before the words of a command
STATES = ("training", "scoring")  # what the commands of a job do
TAIL = 4096  # bytes at the end of what a process tells that are looked at
LINE = re.compile(r"^ *(\d+)%  step .*  train (\S+) val (\S+) dB  .*?([\d:]+) left$", re.MULTILINE)
"""A line of a training's progress; see `training.callbacks.ProgressBar`."""
MEAN = re.compile(r"^ *mean  PSNR +(\S+) dB", re.MULTILINE)


class Worker:
    """Does a job in child processes. log: the file for all that they print.

    Children have sessions of their own: Ctrl-C reaches the sweep alone, which then asks them to stop, and waits while
    they save what they learned. They end by themselves if the sweep is killed.
    """

    def __init__(self, job: Job, slot: Slot, log: Path) -> None:
        self.job, self.slot, self.log = job, slot, log
        self.began, self.stopped, self.why = time.monotonic(), False, ""
        self._commands = list(job.commands)
        with write_errors(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_bytes(b"")
        self._process: subprocess.Popen | None = None
        self._next()

    @property
    def state(self) -> str:
        return STATES[len(self.job.commands) - len(self._commands) - 1]

    def is_over(self) -> bool:
        """Whether all is done, or one command failed; then `why` says why. Starts the next command when it is due."""
        if self._process is None:
            return True
        code = self._process.poll()
        if code is None:
            return False
        self._process = None
        if code or self.stopped:
            self.why = self._why(code)
        elif self._commands:
            self._next()
            return self._process is None
        return True

    def stop(self) -> None:
        """Ask the process to save what it has learned, and to end."""
        self.stopped = True
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def told(self) -> tuple[str, str]:
        """PSNR and the time that is left, as the process told them last; "" if it did not."""
        text = self._tail()
        if found := MEAN.findall(text):
            return found[-1], ""
        if not (found := LINE.findall(text)):
            return "", ""
        _, train, val, left = found[-1]
        return train if val == "-" else val, left

    def _next(self) -> None:
        """Start the next command. A mistake in it becomes the reason why the job failed."""
        try:
            words = self._commands.pop(0)()
        except Exception as error:  # whatever a bad scene can raise: the other jobs go on
            self.why = one_line(str(error) or type(error).__name__)
            return
        with write_errors(self.log), self.log.open("ab") as out:
            self._process = _started(words, self.slot, out)

    def _why(self, code: int) -> str:
        """What the process said last, and how it ended if that was not its own doing."""
        lines = [line for line in self._tail().splitlines() if line.strip()]
        ours = [line.removeprefix("nerf: ") for line in lines if line.startswith("nerf: ")]
        if code < 0:
            return f"{described(-code)}{'; is there enough memory?' if code == -9 else ''}"
        return one_line(ours[-1] if ours else lines[-1].strip() if lines else f"exit code {code}")

    def _tail(self) -> str:
        try:
            with self.log.open("rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - TAIL, 0))
                return file.read().decode("utf-8", errors="replace")
        except OSError:
            return ""


def _started(words: Sequence[str], slot: Slot, out: IO[bytes]) -> subprocess.Popen:
    own = {PARENT: str(os.getpid()), "PYTHONUNBUFFERED": "1", "TTY_COMPATIBLE": "0", "FORCE_COLOR": ""}  # plain lines
    # each is a training of its own, whoever started this process as one of several
    inherited = {name: value for name, value in os.environ.items() if name not in NUMBERS}
    return subprocess.Popen(
        python(*PROGRAM, *words),
        env={**inherited, **paths(), **own, **slot.environment},
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
