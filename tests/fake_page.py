"""Stands in for viser's server and its clients: handles with values, and what was shown."""

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np


class Handle:
    """A control, or something drawn. `set` is what the user does."""

    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)
        self.calls: list[Callable] = []
        self.is_removed = False

    def on_update(self, call: Callable) -> None:
        self.calls.append(call)

    on_click = on_update

    def set(self, value: object, client: object = None) -> None:
        self.value = value
        self.click(client)

    def click(self, client: object = None) -> None:
        for call in self.calls:
            call(SimpleNamespace(client=client, target=self))

    def remove(self) -> None:
        self.is_removed = True


class Gui:
    """Controls by their labels."""

    def __init__(self) -> None:
        self.handles: dict[str, Handle] = {}

    def _add(self, label: str, value: object = None, **values: object) -> Handle:
        self.handles[label] = Handle(value=value, **values)
        return self.handles[label]

    def add_dropdown(self, label, options, *, initial_value=None, **rest):
        return self._add(label, options[0] if initial_value is None else initial_value, options=options)

    def add_slider(self, label, low, high, step, value, **rest):
        return self._add(label, value)

    def add_rgb(self, label, value, **rest):
        return self._add(label, value)

    add_number = add_checkbox = add_vector3 = add_text = add_rgb

    def add_button(self, label, **rest):
        return self._add(label)

    def add_markdown(self, content, **rest):
        return self._add("markdown", content=content)

    def add_folder(self, label, **rest):
        return nullcontext()


class Client:
    """A browser: `pictures` are those that it was shown, with their quality."""

    def __init__(self, number: int, size: tuple[int, int]) -> None:
        self.client_id, self.gui, self.drawn = number, Gui(), []
        self.atomic = nullcontext
        self.pictures: list[tuple[np.ndarray, int]] = []
        show = lambda picture, format, jpeg_quality: self.pictures.append((picture, jpeg_quality))  # noqa: E731
        self.scene = SimpleNamespace(set_background_image=show, add_camera_frustum=self._draw)
        self.camera = Handle(
            position=np.array([4.0, 0, 0]), wxyz=np.array([1.0, 0, 0, 0]), fov=0.7, image_width=size[0],
            image_height=size[1], up_direction=np.array([0, 0, 1.0]), look_at=np.zeros(3),
        )  # fmt: skip

    def _draw(self, name, fov, aspect, **values):
        self.drawn.append(Handle(name=name, fov=fov, aspect=aspect, **values))
        return self.drawn[-1]

    def move(self, position, wxyz, fov: float) -> None:
        """What the user does with the mouse."""
        self.camera.position, self.camera.wxyz, self.camera.fov = np.asarray(position), np.asarray(wxyz), fov
        self.camera.click()


class Server:
    """A server without a network."""

    def __init__(self) -> None:
        self.gui, self.initial_camera = Gui(), SimpleNamespace()
        self.scene = SimpleNamespace(set_up_direction=lambda up: setattr(self, "up", up))
        self.connects: list[Callable] = []
        self.disconnects: list[Callable] = []

    def on_client_connect(self, call: Callable) -> None:
        self.connects.append(call)

    def on_client_disconnect(self, call: Callable) -> None:
        self.disconnects.append(call)

    def connect(self, number: int = 0, size: tuple[int, int] = (320, 320)) -> Client:
        client = Client(number, size)
        for call in self.connects:
            call(client)
        return client
