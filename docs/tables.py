"""Write the tables of results.md and history.md from results.json.

`python docs/tables.py` rewrites what stands between `<!-- table: METHOD -->` and `<!-- end -->`; `--check` writes
nothing, and exits with 1 if a table differs from the figures. results.md shows the current measurements of a method,
history.md the earlier ones, both in the order of the file.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PAGES = {"results.md": True, "history.md": False}  # page, and whether it shows the current measurements
BLOCK = re.compile(r"(?<=<!-- table: )(\w+)( -->\n).*?(?=<!-- end -->)", re.S)
UNITS = {  # how a number is written, and whether a higher one is better
    "dB": (".2f", True),
    "views/s": ("g", True),
    "steps/s": (",g", True),
    "million/s": ("g", True),
    "of 50": ("g", True),
    "ms": ("g", False),
    "s": ("g", False),
    "MiB": ("g", False),
    "MB": ("g", False),
    "GB": ("g", False),
    "pixels": ("g", False),
    "degrees": ("g", False),
    "%": ("g", False),
}
PROGRAMS = ("nerf ", "python ", "make ")  # what a command starts with that can be typed; others are described


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One figure and where it comes from.

    ssim: of the same pictures. peers: what other implementations reach. recorded: the commit is the one that wrote the
    figure down, since the one that was measured is not known.
    """

    method: str
    scene: str
    what: str
    value: float
    unit: str
    target: float | None
    ssim: float | None
    gpu: str
    commit: str
    command: str
    date: str
    current: bool
    note: str = ""
    peers: str = ""
    recorded: bool = False


def read(path: Path) -> list[Measurement]:
    return [Measurement(**values) for values in json.loads(path.read_text(encoding="utf-8"))]


def passes(m: Measurement) -> bool | None:
    """Whether the value is as good as its target, or better; None without a target."""
    if m.target is None:
        return None
    return m.value >= m.target if UNITS[m.unit][1] else m.value <= m.target


def table(measurements: Sequence[Measurement]) -> str:
    """A row for each measurement, then the commands that the rows name by number."""
    commands = list(dict.fromkeys(m.command for m in measurements))
    rows = [
        "| scene | what | value | target | SSIM | GPU, commit, date | command | remarks |",
        "|---|---|---|---|---|---|---|---|",
        *(row(m, commands.index(m.command) + 1) for m in measurements),
        "",
        "Commands:",
        "",
        *(f"{i}. {f'`{c}`' if c.startswith(PROGRAMS) else c}" for i, c in enumerate(commands, 1)),
    ]
    return "\n".join(rows) + "\n"


def row(m: Measurement, command: int) -> str:
    form = UNITS[m.unit][0]
    verdict = {None: "", True: "pass", False: "**fail**"}[passes(m)]
    target = "" if m.target is None else f"{m.target:{form}}: {verdict}"
    ssim = "" if m.ssim is None else f"{m.ssim:g}"
    source = f"{m.gpu}, {m.commit}{' (recorded)' if m.recorded else ''}, {m.date}"
    remarks = "; ".join(filter(None, [m.note, m.peers and f"others: {m.peers}"]))
    cells = [m.scene, m.what, f"{m.value:{form}} {m.unit}", target, ssim, source, str(command), remarks]
    return "| " + " | ".join(cells) + " |"


def filled(page: str, measurements: Sequence[Measurement]) -> str:
    """The page with its tables as these measurements have them. Raises ValueError if a method has no table there."""
    missing = {m.method for m in measurements} - {match[1] for match in BLOCK.finditer(page)}
    if missing:
        raise ValueError(f"no `<!-- table: METHOD -->` for {', '.join(sorted(missing))}")
    of = {match[1]: table([m for m in measurements if m.method == match[1]]) for match in BLOCK.finditer(page)}
    return BLOCK.sub(lambda match: f"{match[1]}{match[2]}{of[match[1]]}", page)


def main(arguments: Sequence[str], docs: Path = DOCS) -> int:
    """Write the tables, or with --check say which pages differ; the exit code."""
    measurements, differ = read(docs / "results.json"), []
    for name, current in PAGES.items():
        page = (docs / name).read_text(encoding="utf-8")
        new = filled(page, [m for m in measurements if m.current == current])
        if new != page:
            differ.append(name)
            if "--check" not in arguments:
                (docs / name).write_text(new, encoding="utf-8")
    done = "differ from results.json: run python docs/tables.py" if "--check" in arguments else "written"
    print(f"{', '.join(differ)} {done}" if differ else "all tables are as results.json has them")
    return int(bool(differ) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
