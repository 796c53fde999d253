"""The processes that train together on one machine. The first one starts the others, and none outlives it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from nerf_pl.console import errors
from nerf_pl.errors import Interrupted, UserError
from nerf_pl.signals import ENDING, described
from nerf_pl.training.machines import FIRST, process, started_elsewhere

GLANCE = 0.5  # seconds between two looks at the other processes
PATIENCE = 10.0  # seconds in which a process that lost another one may end by itself
GOODBYE = 10.0  # seconds in which the others may end after the first one's work is done


@contextmanager
def together(devices: int, interrupted: Callable[[int], Interrupted]) -> Iterator[None]:
    """Train in as many processes as there are devices while the block runs.

    The others run the same command line. If one of them ends before its time, the training ends: with UserError, or
    with interrupted(signal) if a signal ended that process, even if this one waits for it in a library. Others end
    with this one. Processes that somebody else started, as torchrun does, are left to that.
    """
    if devices == 1 or "LOCAL_RANK" in os.environ:
        try:
            yield
        except (Interrupted, UserError):
            raise
        except Exception:
            if process() > 0 and not started_elsewhere():
                time.sleep(GOODBYE)  # another one may be gone, of which the first one tells; it ends this one
            raise
        return
    with _environment(devices):
        with _ctrl_c_blocked():
            helpers = [
                subprocess.Popen(_command(), env={**os.environ, "LOCAL_RANK": str(rank), FIRST: str(os.getpid())})
                for rank in range(1, devices)
            ]
        over = threading.Event()
        threading.Thread(target=_watch, args=(helpers, over, interrupted), daemon=True).start()
        try:
            yield
            over.set()
            _wait(helpers, GOODBYE)
        except (Interrupted, UserError, KeyboardInterrupt):
            over.set()
            raise
        except Exception as error:  # a library that exchanges gradients says in its own words that a process is gone
            over.set()
            _wait(helpers, PATIENCE / 2, enough=lambda: _lost(helpers) is not None)
            if (lost := _lost(helpers)) is not None:
                raise _end(lost, len(helpers), interrupted) from error
            raise
        finally:
            over.set()
            _kill(helpers)


def follow_first(saved: Callable[[], str]) -> None:
    """Let this process end soon after the first one, if that started it. The main thread may wait for it in a
    library, so that no exception would reach it. saved: what there is to go on from."""
    first = os.environ.get(FIRST)
    if process() > 0 and first is not None:
        threading.Thread(target=_follow, args=(int(first), saved), daemon=True).start()


def _follow(first: int, saved: Callable[[], str]) -> None:
    while os.getppid() == first:
        time.sleep(GLANCE)
    if process() == 1:  # one says it
        errors.print(f"nerf: the first process of the training is gone, so the others end; {saved()}")
    os._exit(1)


def _watch(helpers: Sequence[subprocess.Popen], over: threading.Event, interrupted: Callable[[int], Interrupted]):
    """End this process if another one was lost, and the main thread does not notice."""
    while not over.wait(GLANCE):
        if (lost := _lost(helpers)) is None or over.wait(PATIENCE):
            continue
        _kill(helpers)
        stop = _end(lost, len(helpers), interrupted)
        number = stop.number if isinstance(stop, Interrupted) else 0
        if lost[1] != 2:  # else that process has said why
            errors.print(f"nerf: {f'{described(number)}; ' if number else ''}{stop}")
        os._exit(128 + number if number else 2)


def _lost(helpers: Sequence[subprocess.Popen]) -> tuple[int, int] | None:
    """The number of a process that has failed, and how it ended; None if all go on or have done their work."""
    found = ((rank, helper.poll()) for rank, helper in enumerate(helpers, 1))
    return next(((rank, code) for rank, code in found if code), None)


def _end(lost: tuple[int, int], others: int, interrupted: Callable[[int], Interrupted]) -> Interrupted | UserError:
    """What ends the training after a process was lost."""
    rank, code = lost
    if code > 128:
        return interrupted(code - 128)
    if -code in ENDING:  # before that process could answer it
        return interrupted(-code)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else "failed"
    left = interrupted(signal.SIGTERM)
    remedy = ": the same command with --resume goes on" if left.resumable else ""
    return UserError(f"process {rank + 1} of {others + 1} {how}, so the training ends; {left}{remedy}")


def _wait(helpers: Sequence[subprocess.Popen], seconds: float, enough: Callable[[], bool] = lambda: False) -> None:
    """Until all have ended, or it is enough, but no longer than some seconds."""
    end = time.monotonic() + seconds
    while any(helper.poll() is None for helper in helpers) and not enough() and time.monotonic() < end:
        time.sleep(GLANCE / 10)


def _kill(helpers: Sequence[subprocess.Popen]) -> None:
    for helper in helpers:
        helper.kill()  # which does nothing to one that has ended
        helper.wait()


def _command() -> list[str]:
    """The command line of this process: a script, or a module after -m."""
    import __main__

    spec = __main__.__spec__
    start = [os.path.abspath(sys.argv[0])] if spec is None else ["-m", spec.name]
    return [sys.executable, *start, *sys.argv[1:]]


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Processes that the block starts never see Ctrl-C, which a terminal sends to all of them: the first one answers it
    for all. They could not while they start, and would end with a traceback. This process sees it after the block."""
    if hasattr(signal, "pthread_sigmask"):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    else:  # on Windows
        yield


@contextmanager
def _environment(devices: int) -> Iterator[None]:
    """The variables by which Lightning and torch.distributed know the processes."""
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment

    port = str(LightningEnvironment().main_port)  # a free one, unless the user gives one
    values = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0", "LOCAL_RANK": "0"}
    values["WORLD_SIZE"] = str(devices)
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
