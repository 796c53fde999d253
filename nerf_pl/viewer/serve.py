"""The server behind the page: the package that it needs, its port, and its life."""

import contextlib
import errno
import io
import socket
from typing import Any

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.extras import extra

MOST_TRIES = 20  # ports, if others are taken


def free_port(host: str, port: int) -> int:
    """The first port from `port` on that is free; one line says so if it is another. Raises UserError if none is, or if
    the host is not one of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, min(port + MOST_TRIES, 2**16)):
        try:
            with socket.create_server((host, candidate), family=family):
                pass
        except PermissionError as error:
            raise UserError(f"--port {candidate} is reserved to the system; give 1024 or more") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            remedy = "give 127.0.0.1, or 0.0.0.0 for all addresses of this machine"
            raise UserError(f"--host {host} cannot be used ({error.strerror}); {remedy}") from error
        if candidate != port:
            warn(f"port {port} is taken: the viewer uses {candidate}")
        return candidate
    raise UserError(f"--port {port} and those after it are taken; give another")


def open_server(host: str, port: int, title: str, wanted_by: str = "nerf view") -> Any:
    """A viser.ViserServer on one port, which serves the page and all that it needs. Raises UserError."""
    viser, port = extra("viser", wanted_by), free_port(host, port)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a table
        server = viser.ViserServer(host=host, port=port, label=title, verbose=False)
    server.gui.configure_theme(show_logo=False, show_share_button=False)  # sharing would send pictures to others
    return server


def close_server(server: Any) -> None:
    """End a server. Browsers that show its page wait for the next one."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


def address(host: str, port: int) -> str:
    """What to open in the browser."""
    shown = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"
