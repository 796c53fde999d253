"""What long steps say while they run. Where the time that passes matters, the test says when it has passed."""

import io
from collections.abc import Callable
from threading import Event
from typing import ClassVar

import pytest
from rich.console import Console

from nerf_pl import console
from nerf_pl.console import QUIET_SECONDS, doing, far, now


class Clock:
    """Stands in for `threading.Timer`, and remembers the last one that was made."""

    last: ClassVar["Clock"]

    def __init__(self, seconds: float, tell: Callable[[], None]) -> None:
        self.seconds, self.tell, self.daemon, self.runs = seconds, tell, False, False
        Clock.last = self

    def start(self) -> None:
        self.runs = True

    def cancel(self) -> None:
        self.runs = False

    def pass_by(self) -> None:
        assert self.runs
        assert self.daemon  # a command that ends does not wait for it
        assert self.seconds == QUIET_SECONDS
        self.tell()


class Told(io.StringIO):
    """Text that says when something was written into it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = Event()

    def flush(self) -> None:  # as a console does after each line
        super().flush()
        self.written.set()


def test_without_a_terminal_only_what_takes_long_is_said(monkeypatch, capsys):
    with doing("quick"):  # with a real timer
        pass
    monkeypatch.setattr(console, "Timer", Clock)
    with doing("quick"):
        assert Clock.last.runs
    assert not Clock.last.runs
    assert capsys.readouterr().out == ""
    with doing("long"):
        Clock.last.pass_by()
    assert capsys.readouterr().out == "long\n"
    with pytest.raises(ValueError, match="inside"), doing("wrong"):
        raise ValueError("inside")
    assert not Clock.last.runs


def test_it_is_said_by_itself(monkeypatch):
    """The real timer says it, and until then the block waits for it, however long that takes."""
    text = Told()
    monkeypatch.setattr(console, "console", Console(file=text))
    monkeypatch.setattr(console, "QUIET_SECONDS", 1e-3)
    with doing("long"):
        assert text.written.wait(60)
    assert text.getvalue() == "long\n"


def test_a_terminal_shows_it_while_it_runs(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=text, force_terminal=True, width=80))
    with pytest.raises(ValueError, match="inside"), doing("reading"):
        raise ValueError("inside")
    assert "reading" in text.getvalue()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_how_far_it_is_is_shown(monkeypatch, is_terminal):
    text = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=text, force_terminal=is_terminal, width=80))
    monkeypatch.setattr(console, "Timer", Clock)
    with doing("reading"):
        far(3, 8)
        if not is_terminal:  # which draws its last line in any case
            Clock.last.pass_by()
    far(4, 8)  # nobody says it
    assert "reading: 3 of 8" in text.getvalue()
    assert "4 of 8" not in text.getvalue()
    with doing("reading"):
        now("importing")
        if not is_terminal:
            Clock.last.pass_by()
    assert "importing" in text.getvalue()
