"""The viewer with viser itself: the server, the command, and a browser if there is one. Skipped where viser is not
installed."""

import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from browser import BROWSER, WORDS
from test_viewer_page import psnr
from tiny import CPU, GRID, flags, nerf, start

from nerf_pl import media
from nerf_pl.checkpoints import open_run
from nerf_pl.console import console
from nerf_pl.rendering import render_view
from nerf_pl.viewer.loop import Loop
from nerf_pl.viewer.page import Page
from nerf_pl.viewer.panel import Panel
from nerf_pl.viewer.serve import close_server, open_server
from nerf_pl.viewer.stage import view_of

pytest.importorskip("viser", reason="needs viser: pip install 'nerf_pl[viewer]'")


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as some:
        return some.getsockname()[1]


def test_the_server_answers_until_ctrl_c(trained_ngp, tmp_path, port):
    process = start(tmp_path, "view", trained_ngp, "--port", port, "--num_gpus", 0)
    try:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=30) as answer:
            assert b"<html" in answer.read().lower()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")
    finally:
        process.kill()


def test_a_training_is_shown_until_ctrl_c(scene_dir, tmp_path, port, capsys, monkeypatch):
    """In this process, which Ctrl-C reaches once all is written and the page has answered."""
    monkeypatch.chdir(tmp_path)
    stays, answers = threading.Event(), []

    def told(text: str) -> None:
        whole(text)
        if "the viewer stays" in text:
            stays.set()

    def visit() -> None:
        try:
            assert stays.wait(120)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=30) as answer:
                answers.append((answer.read().lower(), list(tmp_path.glob("runs/*/report.html"))))
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    whole = console.print
    monkeypatch.setattr(console, "print", told)
    visitor = threading.Thread(target=visit)
    visitor.start()
    words = ("--max_steps", 20, "--batch_size", 64, "--num_gpus", 0, "--view", "--port", port, *flags(GRID))
    nerf("train", scene_dir, *words)  # ends as if it had not been stopped
    visitor.join(60)
    ((page, reports),) = answers
    assert b"<html" in page
    assert reports
    out, err = capsys.readouterr()
    assert f"the viewer is at http://127.0.0.1:{port}: open it" in out
    assert err == ""


class Viewer:
    """A viewer at work in a thread."""

    def __init__(self, run: Path, port: int) -> None:
        opened = open_run(run, CPU)
        self.server = open_server("127.0.0.1", port, "test")
        self.loop = Loop(opened.model, opened.scene("train", pictures=False))
        self.page = Page(self.server, self.loop)
        self.panel = Panel(self.page, run, run / "paths")
        self.page.open()
        self.thread = threading.Thread(target=self.loop.run)
        self.thread.start()

    def wait_for(self, clients: int) -> None:
        """Until that many browsers have their sharp picture."""
        end = time.monotonic() + 90
        while time.monotonic() < end:
            found = list(self.loop.clients.values())
            if len(found) == clients and all(c.is_sharp and c.got == c.wish for c in found):
                return
            time.sleep(0.1)
        raise AssertionError(f"{clients} browsers were to have their pictures, found {self.loop.clients}")

    def close(self) -> None:
        self.loop.stop()
        self.thread.join(60)
        close_server(self.server)


@pytest.mark.skipif(BROWSER is None, reason="needs a browser: apt install chromium")
@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_browsers_show_what_render_view_renders_move_and_come_back(trained_ngp, port, tmp_path, n):
    words = [BROWSER, *WORDS, "--window-size=360,300", f"http://127.0.0.1:{port}"]
    viewer, browsers = Viewer(trained_ngp, port), []
    try:
        browsers += [subprocess.Popen([*words, f"--user-data-dir={tmp_path / str(i)}"], stderr=-3) for i in range(n)]
        viewer.wait_for(n)
        clients = list(viewer.server.get_clients().values())
        first = clients[0]
        before = viewer.loop.clients[first.client_id].got
        first.camera.position = tuple(np.asarray(first.camera.position) * 0.8)
        end = time.monotonic() + 60
        while viewer.loop.clients[first.client_id].wish == before and time.monotonic() < end:
            time.sleep(0.05)
        assert viewer.loop.clients[first.client_id].wish != before
        viewer.wait_for(n)
        for client in clients:
            wish = viewer.loop.clients[client.client_id].got
            expected = media.to_uint8(render_view(viewer.loop.model, view_of(viewer.page.scene, wish, wish.size)).rgb)
            shown = client.get_render(height=wish.size[1], width=wish.size[0], timeout=60)
            assert psnr(shown[..., :3], expected) > 30
        viewer.close()
        viewer = Viewer(trained_ngp, port)  # the browsers notice
        viewer.wait_for(n)
    finally:
        for browser in browsers:
            browser.kill()
            browser.wait()
        viewer.close()
