"""Tables of measurements, on the terminal and in Markdown."""

from collections.abc import Sequence

from rich.table import Table

from nerf_pl.console import console

Rows = Sequence[Sequence[str]]


def show(title: str, header: Sequence[str], rows: Rows) -> None:
    """Print a table."""
    table = Table(title=title)
    for name in header:
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def markdown(header: Sequence[str], rows: Rows) -> str:
    """A table in Markdown."""
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, ["---"] * len(header), *rows])


def number(value: object) -> str:
    """Three digits below 100, whole numbers from 100 on, and a dash for None."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
