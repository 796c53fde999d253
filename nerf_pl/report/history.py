"""history.json: which commands made a run, when, on which machine and with which versions."""

import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from nerf_pl.errors import content_of
from nerf_pl.text import counted
from nerf_pl.version import VERSION
from nerf_pl.writing import atomic_write, cores

FILE = "history.json"
PACKAGES = {"PyTorch": "torch", "Lightning": "lightning", "Triton": "triton", "NumPy": "numpy"}
KINDS = {"command": str, "date": str, "seconds": (int, float), "trains": bool, "machine": str, "versions": dict}
CPU_NAMES = Path("/proc/cpuinfo")  # of Linux


@dataclass(frozen=True)
class Entry:
    """A command that added to a run. date: when it began, in ISO 8601 with UTC. seconds: how long it took. trains:
    whether it changed the weights, so that what was made before is of others."""

    command: str
    date: str
    seconds: float
    trains: bool
    machine: str
    versions: Mapping[str, str]


def read_history(folder: Path) -> list[Entry]:
    """The entries of a run, the oldest first. A file or an entry that is damaged counts as none."""
    try:
        stored = json.loads(content_of(folder / FILE))
    except (OSError, ValueError, RecursionError):
        return []
    return list(_entries(stored if isinstance(stored, list) else []))


def _entries(stored: list[Any]) -> Iterator[Entry]:
    for values in stored:
        if isinstance(values, dict) and all(isinstance(values.get(key), kind) for key, kind in KINDS.items()):
            numbers = {str(name): str(number) for name, number in values["versions"].items()}
            command, date, seconds, trains, machine_of = (values[key] for key in list(KINDS)[:-1])
            yield Entry(command, date, seconds, trains, machine_of, numbers)


def add_to_history(folder: Path, entry: Entry, anew: bool) -> None:
    """Write the entry after those that are there. anew: in place of them, as it begins a new run."""
    entries = [*([] if anew else read_history(folder)), entry]
    with atomic_write(folder / FILE) as path:
        text = json.dumps([asdict(each) for each in entries], indent=2) + "\n"
        path.write_text(text, encoding="utf-8", errors="replace")


def machine(gpus: int) -> str:
    """This machine in a line. gpus: how many a command uses, of those that there are."""
    parts = []
    count = min(gpus, torch.cuda.device_count()) if torch.cuda.is_available() else 0
    if count > 0:
        found = torch.cuda.get_device_properties(0)
        parts.append(f"{f'{count} x ' if count > 1 else ''}{found.name}, {found.total_memory / 2**30:.0f} GB")
    parts.append(f"{_cpu()}, {counted(cores(), 'core')}{_memory()}")
    return "; ".join([*parts, f"{platform.system()} {platform.machine()}"])


def _cpu() -> str:
    try:
        lines = CPU_NAMES.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2] for line in lines if line.startswith("model name"))
    return " ".join(next(named, platform.processor() or "CPU").split())


def _memory() -> str:
    try:
        return f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GB"
    except (AttributeError, ValueError, OSError):  # not on every system
        return ""


def versions() -> dict[str, str]:
    """Of this program, of Python and of the packages that decide what a training does."""
    found = {"nerf_pl": VERSION, "Python": platform.python_version()}
    for name, package in PACKAGES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            continue
    return found | ({"CUDA": str(torch.version.cuda)} if torch.cuda.is_available() else {})
