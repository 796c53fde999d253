"""Where a viewer's page is served, and its life."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from nerf_pl.options.purposes import RUN, Help
from nerf_pl.options.ranges import between, check_options


@dataclass(frozen=True)
class Served:
    """Where a viewer's page is served."""

    host: Annotated[str, Help(RUN, "0.0.0.0")] = "127.0.0.1"
    """The address that the viewer's page is served at. 0.0.0.0 shows it to other machines, too."""
    port: Annotated[int, between(1, 2**16 - 1), Help(RUN, "8090")] = 8080
    """The port of the viewer's page. If it is taken, the next free one."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from ()

    @contextmanager
    def server(self, wanted_by: str, title: str) -> Iterator[tuple[Any, str]]:
        """A server, and the address of its page. Raises UserError."""
        from nerf_pl.viewer.serve import address, close_server, open_server

        check_options(self)
        server = open_server(self.host, self.port, title, wanted_by)
        try:
            yield server, address(self.host, server.get_port())
        finally:
            close_server(server)
