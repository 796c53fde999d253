"""What makes the fuzzer quick without making its inputs weaker: no threads are started for a handful of tiny pictures,
and how much memory is free is looked up once."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import cache
from unittest.mock import patch

from nerf_pl.scenes import masks, memory, pictures


class AtOnce(Executor):
    """Does each job when it is submitted, in the thread that submits it."""

    def __init__(self, workers: int | None = None) -> None:
        pass

    def submit(self, job: Callable, /, *args: object, **named: object) -> Future:
        future: Future = Future()
        try:
            future.set_result(job(*args, **named))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def quick() -> Iterator[None]:
    """While the block runs, scenes are read so."""
    with (
        patch.object(masks, "ThreadPoolExecutor", AtOnce),
        patch.object(pictures, "ThreadPoolExecutor", AtOnce),
        patch.object(memory, "_of_machine", cache(memory._of_machine)),
        patch.object(memory, "_of_container", cache(memory._of_container)),
    ):
        yield
