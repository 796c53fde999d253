"""What the compiled forms of ops share: the decorator, and work in parts on as many threads as PyTorch uses.

Numba compiles each function when it is first called, in a second or less, and keeps the result in `__pycache__`, in the
folder of caches of the user if the package cannot be written, or where NUMBA_CACHE_DIR says.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numba  # pyright: ignore[reportMissingImports]
import torch
from numba.core.caching import FunctionCache  # pyright: ignore[reportMissingImports]

LEAST = 512  # rays or points that are worth a thread of their own


class _Kept(FunctionCache):
    """Numba's cache. A damaged file, or a disk without room for a new one, costs the time to compile, and nothing else:
    a file that a lost machine left half written would otherwise end every training from then on."""

    def load_overload(self, *given: Any) -> Any:
        with suppress(Exception):  # a damaged file raises nearly any type
            return super().load_overload(*given)
        with suppress(Exception):
            self.flush()  # so that the next process need not compile again

    def save_overload(self, *given: Any) -> None:
        with suppress(Exception):
            super().save_overload(*given)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of numbers and arrays. It runs without Python's lock, so threads run beside each other.

    A product and a sum may become one operation. Nothing else is reordered, so sums do not depend on the machine.
    """
    made = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})(function)
    with suppress(RuntimeError, OSError):  # no folder can be written, so each process compiles for itself
        made._cache = _Kept(function)  # pyright: ignore[reportAttributeAccessIssue] - as cache=True does
    return made


def in_parts(run: Callable[[int, int], object], n: int, least: int = LEAST) -> None:
    """Call run(begin, end) for parts that together are 0 to n. No part may write what another one reads or writes."""
    parts = min(torch.get_num_threads(), n // least)
    if parts <= 1:
        run(0, n)
        return
    bounds = [n * i // parts for i in range(parts + 1)]
    list(_threads(os.getpid(), parts).map(run, bounds[:-1], bounds[1:]))


@functools.cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """process: its number, since threads do not follow into a fork."""
    return ThreadPoolExecutor(count, thread_name_prefix="ops")
