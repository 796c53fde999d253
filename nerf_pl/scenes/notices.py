"""What a loader has to say without stopping."""

from functools import cache

from rich.console import Console


@cache
def warn(line: str) -> None:
    """Print one line to stderr, once: the splits of a scene are loaded one after the other and would repeat it."""
    Console(stderr=True, soft_wrap=True).print(line, style="yellow", markup=False, highlight=False)
