"""Signals that end a command: Ctrl-C, and those of batch systems, containers and terminals that are closed."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
ENDING = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
"""Besides SIGINT, which is Ctrl-C. Windows has SIGTERM alone. Batch systems send the last three before the end of
the time that a job may take."""
PARENT = "NERF_PL_PARENT"  # environment variable: the id of a process without which this one is to end
GLANCE = 1.0  # seconds between two looks at it
AGAIN = 5.0  # seconds; `timeout` and some batch systems send a signal twice at once, to a process and to its group


class Stopped(KeyboardInterrupt):
    """One of `ENDING` ended the command, as Ctrl-C would. The message, if there is any, says what was saved."""

    def __init__(self, message: str = "", number: int = signal.SIGTERM) -> None:
        super().__init__(*([message] if message else []))
        self.number = number


def number_of(stop: KeyboardInterrupt) -> int:
    """The signal that ended a command."""
    return stop.number if isinstance(stop, Stopped) else signal.SIGINT


def described(number: int) -> str:
    """What a signal did to a command."""
    return "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"


@contextmanager
def handled(handler: Callable[[int], None], numbers: Sequence[int]) -> Iterator[None]:
    """While the block runs, these signals call the handler, with their number.

    Signals that are ignored stay so, as SIGHUP after `nohup`. Outside the main thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        handler(number)

    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number, old in before.items():
            if old is not signal.SIG_IGN:
                signal.signal(number, on_signal)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


@contextmanager
def kept() -> Iterator[None]:
    """Signals are answered after the block as before it. Libraries may set handlers of their own, unseen by Python:
    that of COLMAP answers SIGTERM with a dump of its stack."""
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                if (handler := signal.getsignal(number)) is not None:
                    signal.signal(number, handler)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """While the block runs, the signals of `ENDING` raise Stopped in it."""
    last = float("-inf")

    def stop(number: int) -> None:
        nonlocal last
        if time.monotonic() - last >= AGAIN:  # else the command is ending already
            last = time.monotonic()
            raise Stopped(number=number)

    with handled(stop, ENDING):
        yield


@contextmanager
def until_ctrl_c() -> Iterator[None]:
    """Ctrl-C is the usual end of the block. Other signals end the command."""
    try:
        yield
    except Stopped:
        raise
    except KeyboardInterrupt:
        pass


def end_with_parent() -> None:
    """Let SIGTERM end this process soon after the one that started it is gone, if that asked for it."""
    parent = os.getppid()
    if os.environ.get(PARENT) != str(parent):  # nor is it for those that this process starts
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(GLANCE)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
