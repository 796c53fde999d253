"""The viewer of a model that trains: it renders between steps, in the thread that trains."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nerf_pl.methods.model import Model
from nerf_pl.scenes import Scene
from nerf_pl.viewer.loop import Loop
from nerf_pl.viewer.pace import TARGET
from nerf_pl.viewer.page import Page
from nerf_pl.viewer.panel import Panel
from nerf_pl.viewer.photos import reader
from nerf_pl.viewer.stage import wish_of

SHARE = 0.5  # of the time that the training gets while somebody moves, until the user chooses
REST_SHARE = 0.9  # that it gets at least while nobody does
RENEW_SECONDS = 1.0  # at least between two pictures of a camera that rests
PICTURE_SECONDS = 0.5  # of a picture, at most: the training waits for it
TELL_SECONDS = 0.5  # between two lines about the training
AHEAD = 8  # steps that a GPU may be behind while somebody looks


class Live:
    """A page that shows a model between the steps of its training; see `training.watching.Watcher`.

    folder: of the run. may_crop: see `Page`. While nobody looks, it takes no time. While somebody moves, it renders for
    as long as the slider leaves; a camera that rests gets a new picture now and then.
    """

    def __init__(
        self,
        server: Any,
        folder: Path,
        chunk: int,
        may_crop: bool,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.server, self.folder, self.chunk, self.may_crop, self.clock = server, folder, chunk, may_crop, clock
        self.loop: Loop | None = None
        self.is_paused = self.is_cuda = self.is_warm = False
        self.due = self.renewed = self.told_at = 0.0  # when: the next picture at the earliest; the last renewal; line
        self.calls = 0
        gui = server.gui
        self.told = gui.add_markdown("The training is being prepared.")
        about = "Of the time, while you move. While you rest, the training gets nine tenths or more."
        self.share = gui.add_slider("training's share", 0.05, 0.95, 0.05, SHARE, hint=about)
        self.button = gui.add_button("pause the training", hint="Pictures are sharp while it rests.")
        self.button.on_click(lambda _: self.pause(not self.is_paused))

    def begin(self, model: Model, scene: Scene) -> None:
        """Show the page."""
        self.is_cuda = model.step.is_cuda
        self.loop = Loop(model, scene, self.chunk, PICTURE_SECONDS, clock=self.clock)
        page = Page(self.server, self.loop, model.step.device.type, self.may_crop, reader(lambda: scene))
        Panel(page, self.folder, self.folder / "paths")
        self.pause(self.is_paused)
        page.open()

    def pause(self, is_paused: bool) -> None:
        """Pause the training, or let it go on."""
        self.is_paused = is_paused
        self.button.label = "go on with the training" if is_paused else "pause the training"
        if self.loop is not None:
            self.loop.most_seconds = None if is_paused else PICTURE_SECONDS
            self.loop.pace.target = TARGET
            self.loop.renew()

    def look(self) -> float:
        """Render a picture if somebody waits for one and it is its turn. Returns the seconds that it took."""
        loop = self.loop
        if loop is None or not loop.clients:
            return 0.0
        self.calls += 1
        start = self.clock()
        if loop.next_job() is None and start >= self.renewed:
            loop.renew()
        is_wanted = loop.next_job() is not None
        if self.is_cuda and (is_wanted or self.calls % AHEAD == 0):
            torch.cuda.synchronize()  # so that the time of steps is not taken for that of pictures
            start = self.clock()
        if not is_wanted or start < self.due:
            return 0.0
        share = float(self.share.value)
        loop.pace.target = TARGET * (1 - share)
        if not self.is_warm:
            loop.warm_up(wish_of(loop.scene.view(0)))
            self.is_warm, start = True, self.clock()
        loop.step()
        now = self.clock()
        self.due = now + (now - start) * share / (1 - share)
        self.renewed = now + max((now - start) * REST_SHARE / (1 - REST_SHARE), RENEW_SECONDS)
        return now - start

    def hold(self, is_over: Callable[[], bool]) -> None:
        """Render as long as the training is paused."""
        while self.is_paused and self.loop is not None and not is_over():
            self.loop.turn()

    def tell(self, line: str) -> None:
        """Show a line about the training, if somebody looks."""
        now = self.clock()
        if self.loop is not None and self.loop.clients and now - self.told_at >= TELL_SECONDS:
            self.told.content, self.told_at = " · ".join(line.split("  ")), now

    def end(self, model: Model) -> None:
        """Show the trained model, with the whole machine for it."""
        self.told.content = "The training has ended."
        if self.loop is not None:
            self.loop.model = model
        self.pause(True)
        for handle in (self.share, self.button):
            handle.remove()

    def run(self) -> None:
        """Show the trained model until the process is interrupted."""
        if self.loop is not None:
            self.loop.run()

    def stop(self) -> None:
        """Render nothing more."""
        if self.loop is not None:
            self.loop.stop()
