"""The loop of the viewer: which client gets the next picture, at which size, and when a picture is given up."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import UInt8
from numpy import ndarray

from nerf_pl.cameras import View
from nerf_pl.rendering import Averaged, Image, Renderer, hurried, render_view
from nerf_pl.scenes import Scene
from nerf_pl.types import Background, Pixels, Rays
from nerf_pl.viewer.pace import Pace, Size
from nerf_pl.viewer.paint import Span, paint, span_of
from nerf_pl.viewer.rows import Rows
from nerf_pl.viewer.stage import Wish, view_of

HASTE = 3.0  # see `rendering.Hasty`; of the pictures before the sharp one
ENOUGH = 1.25  # a picture whose sides are smaller by less than this factor is as sharp as one may be
PATIENCE = 0.2  # seconds between two looks at what happens elsewhere
ROWS_SECONDS = 0.5  # between two pictures of a sharp one that is not finished

Show = Callable[[UInt8[ndarray, "H W 3"], bool], None]
"""Takes a picture, and whether it is the sharp one."""


class GivenUp(Exception):  # noqa: N818 - no error
    """The camera has moved: nobody waits for this picture any more."""


class Interruptible:
    """A model that gives up a picture between two chunks of rays. is_sharp: whether pixels with an edge have all their
    rays, and rays all their samples. seen: called with the pixels of each chunk."""

    def __init__(
        self,
        model: Renderer,
        is_over: Callable[[], bool],
        is_sharp: bool,
        seen: Callable[[Pixels], None] = lambda pixels: None,
    ):
        self.model, self.is_over, self.is_sharp, self.seen = model, is_over, is_sharp, seen
        self.rays_per_pixel, self.haste = (model.rays_per_pixel, 1.0) if is_sharp else (1, HASTE)
        self.step, self.training = model.step, model.training

    def render(self, rays: Rays, background: Background) -> Pixels:
        if self.is_over():
            raise GivenUp
        with hurried(self.model, self.haste):
            pixels = self.model.render(rays, background)
        self.seen(pixels)
        return pixels

    @property
    def shown(self) -> Sequence[Renderer]:
        """See `rendering.Averaged`. Before the sharp picture, this is the model's own affair."""
        if not self.is_sharp or not isinstance(self.model, Averaged):
            return [self]
        return [Interruptible(part, self.is_over, self.is_sharp, self.seen) for part in self.model.shown]

    def train(self, mode: bool = True) -> object:
        return self.model.train(mode)


@dataclass
class Client:
    """A client and the last picture that it got. got: the wish of that picture, and size: its size. is_stale: the model
    has changed since. served: when. picture: the picture itself, perhaps with some rows of a sharper one."""

    show: Show
    wish: Wish | None = None
    got: Wish | None = None
    size: Size | None = None
    is_sharp: bool = False
    is_stale: bool = False
    span: Span | None = None
    served: int = 0
    picture: UInt8[ndarray, "H W 3"] | None = None


@dataclass(frozen=True)
class Job:
    """A picture to be rendered. is_sharp: it is the last one, with all rays of a pixel. is_first: the client has no
    picture of this wish yet, so it must not be given up."""

    client: int
    wish: Wish
    size: Size
    is_sharp: bool
    is_first: bool


@dataclass
class Loop:
    """Renders pictures for the clients, one at a time, in the thread that calls `run`.

    A client whose camera has moved gets a quick picture first. Then pictures get sharper, as long as no camera moves.
    The sharp one is shown row by row if it takes long.
    Other threads call `join`, `ask` and `leave`. chunk: rays at a time. most_seconds: that a picture of a resting
    camera may take, if others need the machine; then none takes all rays of a pixel.
    """

    model: Renderer
    scene: Scene
    chunk: int = 2**15
    most_seconds: float | None = None
    pace: Pace = field(default_factory=Pace)
    clock: Callable[[], float] = time.perf_counter
    clients: dict[int, Client] = field(default_factory=dict)
    pictures: int = 0
    changed: Any = field(default_factory=threading.Condition)
    is_over: bool = False

    def join(self, client: int, show: Show) -> None:
        with self.changed:
            self.clients[client] = Client(show)

    def leave(self, client: int) -> None:
        with self.changed:
            self.clients.pop(client, None)

    def ask(self, client: int, wish: Wish) -> None:
        """A client wants another picture from now on."""
        with self.changed:
            if client in self.clients:
                self.clients[client].wish = wish
                self.changed.notify_all()

    def stop(self) -> None:
        with self.changed:
            self.is_over = True
            self.changed.notify_all()

    def next_job(self) -> Job | None:
        """What to render next: for the client that waits longest for a first picture, else for the one that waits
        longest for a sharper one. None: all clients have what they want."""
        with self.changed:
            waiting = sorted(self.clients.items(), key=lambda item: item[1].served)
            for number, client in waiting:
                if client.wish is not None and client.wish != client.got:
                    return Job(number, client.wish, self.pace.moving(client.wish.size), is_sharp=False, is_first=True)
            for number, client in waiting:
                if client.wish is not None and client.size is not None and not client.is_sharp:
                    job = self._finer(number, client.wish, client)
                    if job is not None:
                        return job
        return None

    def _finer(self, number: int, wish: Wish, client: Client) -> Job | None:
        """A sharper picture of what a client sees; None if it is as sharp as it may be."""
        full, last = wish.size, client.size or wish.size
        if self.most_seconds is None:
            return Job(number, wish, self.pace.finer(last, full), is_sharp=last == full, is_first=False)
        most = self.pace.within(self.most_seconds, full)
        if not client.is_stale and max(last) * ENOUGH >= max(most):
            return None
        size = most if client.is_stale else min(self.pace.finer(last, full), most)
        return Job(number, wish, size, is_sharp=False, is_first=False)

    def renew(self) -> None:
        """The model has changed: all clients get their pictures again."""
        with self.changed:
            for client in self.clients.values():
                client.is_stale, client.is_sharp = True, False
            self.changed.notify_all()

    def is_given_up(self, job: Job) -> bool:
        """Whether a picture is not worth finishing: the client has gone, or some client waits for a first picture."""
        if self.is_over or job.client not in self.clients:
            return True
        return not job.is_first and any(c.wish is not None and c.wish != c.got for c in list(self.clients.values()))

    def step(self) -> bool:
        """Render one picture and show it. False: there is nothing to do."""
        job = self.next_job()
        if job is None:
            return False
        view, start = view_of(self.scene, job.wish, job.size), self.clock()
        seen = self._unveil(job, view)
        model = Interruptible(self.model, lambda: self.is_given_up(job), job.is_sharp, seen)
        try:
            image = render_view(model, view, self.chunk)
        except GivenUp:
            return True
        client = self.clients.get(job.client)
        if client is None:
            return True
        picture = self._painted(job, client, image, view)  # waits for the device
        if not job.is_sharp:
            self.pace.learn(job.size, self.clock() - start)
        with self.changed:
            self.pictures += 1
            client.got, client.size, client.is_sharp, client.is_stale = job.wish, job.size, job.is_sharp, False
            client.served, client.picture = self.pictures, picture
        client.show(picture, job.is_sharp)
        return True

    def _unveil(self, job: Job, view: View) -> Callable[[Pixels], None]:
        """Takes the pixels of a picture as they are rendered. Rows of a sharp one are shown now and then."""
        client = self.clients.get(job.client)
        if not job.is_sharp or client is None or client.picture is None:
            return lambda pixels: None
        passes = len(self.model.shown) if isinstance(self.model, Averaged) else 1
        rows, shown_at = Rows(client.picture, view, job.wish.mode, client.span, passes), self.clock()

        def seen(pixels: Pixels) -> None:
            nonlocal shown_at
            rows.add(pixels)
            if self.clock() - shown_at < ROWS_SECONDS or (picture := rows.picture()) is None:
                return
            client.picture, shown_at = picture, self.clock()
            client.show(picture, False)

        return seen

    @staticmethod
    def _painted(job: Job, client: Client, image: Image, view: View) -> UInt8[ndarray, "H W 3"]:
        """The colours of a picture. In motion the scale of depths stays, else they would flicker."""
        same = client.got is not None and client.got.mode == job.wish.mode
        if job.wish.mode == "depth" and (client.span is None or not job.is_first or not same):
            client.span = span_of(image, view)
        return paint(image, view, job.wish.mode, client.span)

    def run(self) -> None:
        """Render until `stop` is called."""
        while not self.is_over:
            self.turn()

    def turn(self) -> None:
        """Render a picture, or wait a little for somebody who wants one."""
        if not self.step():
            with self.changed:
                if self.next_job() is None and not self.is_over:
                    self.changed.wait(PATIENCE)

    def warm_up(self, wish: Wish) -> None:
        """Render a small picture that nobody sees: kernels are compiled at their first use, which tells nothing of the
        speed."""
        size = self.pace.moving(wish.size)
        with torch.no_grad():
            render_view(
                Interruptible(self.model, lambda: False, is_sharp=False), view_of(self.scene, wish, size), self.chunk
            ).cpu()
