"""The part of the page that places keyframes. All clients share them."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nerf_pl.errors import UserError
from nerf_pl.text import counted
from nerf_pl.viewer.page import Page, go_to, pose_of
from nerf_pl.viewer.track import EMPTY, SECONDS, Key, Track, command, file_for, play

NONE = "none yet"
DIGITS = 3  # of seconds
FRAME = 1 / 30  # seconds between two pictures of a film that is played


class Panel:
    """Controls for the keyframes of a page. run: the folder of the run, for the command; folder: for files."""

    def __init__(self, page: Page, run: Path, folder: Path) -> None:
        self.page, self.run, self.folder, self.track = page, run, folder, Track(page.scene)
        gui = page.server.gui
        self.player: threading.Thread | None = None
        with gui.add_folder("keyframes", expand_by_default=False):
            self._button("add this view", self.add, "After the keyframe that is chosen.")
            self.chosen = gui.add_dropdown("keyframe", (NONE,), initial_value=NONE)
            self.seconds = gui.add_number("seconds", SECONDS, min=0.01, step=0.1, hint="Since the keyframe before.")
            self._button("go there", self.go)
            self._button("replace by this view", self.change)
            self._button("remove", self.remove)
            self.loop = gui.add_checkbox("loop", False, hint="Return to the first keyframe.")
            self.playing = gui.add_checkbox("play", False)
            self.name = gui.add_text("file", "keyframes")
            self._button("save", self.save)
            self._button("load", self.load, "In place of these keyframes.")
            self.told = gui.add_markdown("")
        self.chosen.on_update(lambda _: self._tell_seconds())
        self.seconds.on_update(lambda event: self._guard(self.wait, event))
        self.loop.on_update(lambda _: setattr(self.track, "loop", bool(self.loop.value)))
        self.playing.on_update(lambda event: self._guard(self.play, event))

    def _button(self, label: str, act: Callable[[Any], None], hint: str | None = None) -> None:
        self.page.server.gui.add_button(label, hint=hint).on_click(lambda event: self._guard(act, event))

    def _guard(self, act: Callable[[Any], None], event: Any) -> None:
        """Do what a client asks for. If it cannot be done, the page says why."""
        try:
            act(event.client)
        except UserError as error:
            self.told.content = f"**{error}**"

    @property
    def at(self) -> int | None:
        """The number of the chosen keyframe."""
        names = self._names()
        return names.index(self.chosen.value) if self.chosen.value in names else None

    def _needed(self) -> int:
        if self.at is None:
            raise UserError(EMPTY)
        return self.at

    def _names(self) -> list[str]:
        return (
            [f"{i + 1} at {seconds:.2f} s" for i, seconds in enumerate(self.track.times())] if self.track.keys else []
        )

    def _list(self, chosen: int) -> None:
        """Show the keyframes as they are now."""
        names = self._names()
        self.chosen.options = tuple(names) or (NONE,)
        self.chosen.value = names[min(chosen, len(names) - 1)] if names else NONE
        self.loop.value = self.track.loop
        self._tell_seconds()

    def _tell_seconds(self) -> None:
        if self.at is not None:
            self.seconds.value = round(self.track.keys[self.at].seconds, DIGITS)

    def add(self, client: Any) -> None:
        key = Key(pose_of(client.camera), float(client.camera.fov))
        self._list(self.track.add(key, self.at))

    def change(self, client: Any) -> None:
        self.track.change(self._needed(), pose_of(client.camera), float(client.camera.fov))

    def wait(self, client: Any) -> None:
        at, seconds = self.at, float(self.seconds.value)
        if at is not None and seconds != round(self.track.keys[at].seconds, DIGITS):  # else the panel wrote it
            self.track.wait(at, seconds)
            self._list(at)

    def remove(self, client: Any) -> None:
        at = self._needed()
        self.track.keys.pop(at)
        self._list(max(at - 1, 0))

    def go(self, client: Any) -> None:
        self._show(client, self.track.keys[self._needed()])

    def _show(self, client: Any, key: Key) -> None:
        with client.atomic():
            go_to(client.camera, self.page.scene, key.pose, key.fov)

    def play(self, client: Any) -> None:
        """Play the film to the client that asked, in a thread, so that the page can stop it. An earlier one ends."""
        if not self.playing.value:
            return
        if not self.track.keys:
            self.playing.value = False
            raise UserError(EMPTY)
        self.player = threading.Thread(target=self._play, args=(client,), daemon=True)
        self.player.start()

    def _play(self, client: Any) -> None:

        def show(key: Key) -> None:
            self._show(client, key)
            time.sleep(FRAME)

        def goes_on() -> bool:
            here = client.client_id in self.page.controls
            is_asked = bool(self.playing.value) and self.player is threading.current_thread()
            return is_asked and here and bool(self.track.keys) and not self.page.loop.is_over

        try:
            play(self.track, show, goes_on, time.monotonic)
        except UserError as error:  # the last keyframe was removed meanwhile
            self.told.content = f"**{error}**"
        finally:
            if self.player is threading.current_thread():
                self.playing.value = False

    def save(self, client: Any) -> None:
        file = file_for(self.folder, self.name.value)
        self.track.save(file)
        controls = self.page.controls.get(client.client_id)
        crop = controls.box() if controls else None
        self.told.content = f"saved; to film it:\n\n```\n{command(self.run, file, crop)}\n```"

    def load(self, client: Any) -> None:
        file = file_for(self.folder, self.name.value)
        self.track.load(file)
        self._list(0)
        self.told.content = f"{file}: {counted(len(self.track.keys), 'keyframe')}"
