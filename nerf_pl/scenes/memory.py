"""How much memory there is, and who may use it: the system kills a program that takes more, without a word."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition

GB = 10**9
PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Bytes that this process can still take: the least of what the machine, its container and the shell's limits
    leave; None if the system does not tell."""
    found = [size for size in (_of_machine(), _of_container(), _of_process()) if size is not None]
    return max(min(found), 0) if found else None


def memory_of_process() -> int | None:
    """Bytes of main memory that this process holds; None if the system does not tell."""
    pages = _read(PROC / "self" / "statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else None


def in_gb(size: float) -> str:
    """A number of bytes, for messages."""
    if size < 0.1 * GB:
        return f"{1000 * size / GB:.0f} MB"
    return f"{size / GB:.1f} GB" if size < 9.95 * GB else f"{size / GB:.0f} GB"


class Budget:
    """Memory that threads share while they decode: each takes what it needs, and waits until there is as much."""

    def __init__(self, size: int):
        self.size, self.left, self.changed = size, size, Condition()

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        """Hold `size` bytes. Who needs more than all of it waits until nobody else has any."""
        size = min(size, self.size)
        with self.changed:
            self.changed.wait_for(lambda: self.left >= size)
            self.left -= size
        try:
            yield
        finally:
            with self.changed:
                self.left += size
                self.changed.notify_all()


def address_space() -> int | None:
    """Bytes that this process can still map, whether from memory or from files; None if nothing limits it."""
    return _of_process()


def _of_machine() -> int | None:
    lines = _read(PROC / "meminfo").splitlines()
    sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if rest.split()}
    if "MemAvailable" in sizes:
        return 1024 * sizes["MemAvailable"]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows and macOS
        return None


def _of_container() -> int | None:
    """What the groups that this process belongs to leave, in both versions of Linux's control groups."""
    left = []
    for line in _read(PROC / "self" / "cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "" or "memory" in controllers.split(","):
            base = CGROUP if controllers == "" else CGROUP / "memory"
            inner = base / group.strip("/")  # a container may see its own group as the root
            for folder in dict.fromkeys([inner, *inner.parents, base]):
                if folder == base or base in folder.parents:
                    left.append(_left_in(folder))
    return min((size for size in left if size is not None), default=None)


def _left_in(folder: Path) -> int | None:
    """The limit of a group less what it uses; file contents that the system can drop count as free."""
    names = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for limit, usage in names:
        told, used = _read(folder / limit).strip(), _read(folder / usage).strip()
        if told.isdigit() and used.isdigit():
            stat = dict(line.split(maxsplit=1) for line in _read(folder / "memory.stat").splitlines() if " " in line)
            droppable = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
            return int(told) - max(int(used) - droppable, 0)
    return None


def _of_process() -> int | None:
    """What `ulimit -v` leaves."""
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = _read(PROC / "self" / "statm").split()
    return limit - int(used[0]) * os.sysconf("SC_PAGE_SIZE") if limit != resource.RLIM_INFINITY and used else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
