"""What long steps say while they run."""

import io
import time

import pytest
from rich.console import Console

from nerf_pl import console
from nerf_pl.console import doing, far, now


def test_without_a_terminal_only_what_takes_long_is_said(monkeypatch, capsys):
    with doing("quick"):
        pass
    monkeypatch.setattr(console, "QUIET_SECONDS", 0.01)
    with doing("long"):
        time.sleep(0.1)
    assert capsys.readouterr().out == "long\n"


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
    monkeypatch.setattr(console, "QUIET_SECONDS", 0.05)
    with doing("reading"):
        far(3, 8)
        time.sleep(0.2)
    far(4, 8)  # nobody says it
    assert "reading: 3 of 8" in text.getvalue()
    assert "4 of 8" not in text.getvalue()
    with doing("reading"):
        now("importing")
        time.sleep(0.2)
    assert "importing" in text.getvalue()
