"""The one place where the program prints: results to stdout, warnings to stderr."""

from functools import cache

from rich.console import Console

console = Console(highlight=False, soft_wrap=True)


@cache
def warn(line: str) -> None:
    """Print one line to stderr. A line that was printed before is not repeated: each split of a scene would warn."""
    Console(stderr=True, soft_wrap=True).print(line, style="yellow", markup=False, highlight=False)
