"""nerf report"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nerf_pl.cli.trained import Trained
from nerf_pl.errors import UserError
from nerf_pl.options.ranges import Range, check_options

COMPARISON = "comparison.html"


@dataclass(frozen=True)
class Report:
    """Write the report of a run anew. Of several runs, write a page that compares them."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs, runs/NAME, or files of nerf export, NAME.nerf, whose results were written beside them."""
    out: Annotated[Path | None, Range(lambda path: path.suffix.lower() in (".html", ".htm"), "name a .html file")] = (
        None
    )
    """File to write. By default report.html in the folder of the run or, of several runs, comparison.html beside the
    first one."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from ()

    def run(self) -> None:
        from nerf_pl.console import console
        from nerf_pl.report import write_comparison, write_report
        from nerf_pl.report.record import require_run

        check_options(self)
        if not self.runs:
            raise UserError("no run is named: give the folder of a run, such as runs/NAME, or of several to compare")
        folders = [Trained(path).results if path.is_file() else path for path in self.runs]
        for folder in folders:
            require_run(folder)
        if len(folders) == 1:
            console.print(f"report {write_report(folders[0], self.out)}")
            return
        first = folders[0] if folders[0].name not in ("", "..") else folders[0].resolve()
        out = self.out or first.parent / COMPARISON
        console.print(f"comparison {write_comparison(folders, out)}")
