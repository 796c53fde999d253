"""Trainings on a GPU that repeat themselves bit for bit. The model then runs in plain PyTorch, see `ops.choose`."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from nerf_pl.console import warn

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
ORDERED = (":4096:8", ":16:8")  # with which cuBLAS adds in one order, as PyTorch's notes on reproducibility say
UNORDERED = "does not have a deterministic implementation"  # PyTorch's words


@contextmanager
def deterministic() -> Iterator[None]:
    """Have PyTorch and cuBLAS add in one order; afterwards all is as it was before.

    It must begin before the process multiplies matrices on the GPU, for cuBLAS reads its variable then. An operation
    that PyTorch cannot order is told in one line, once, and the training goes on.
    """
    is_on = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    before = os.environ.get(CUBLAS)
    with _unordered_told():
        if before not in ORDERED:
            os.environ[CUBLAS] = ORDERED[0]
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(is_on, warn_only=only_warns)
            os.environ.pop(CUBLAS, None)
            if before is not None:
                os.environ[CUBLAS] = before


@contextmanager
def _unordered_told() -> Iterator[None]:
    """Tell PyTorch's warnings of operations without an order as the program tells its own."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def tell(message: Warning | str, *where: Any) -> None:
            if UNORDERED in str(message):
                operation = str(message).partition(" ")[0]
                warn(f"PyTorch has no deterministic {operation}: another training may differ in the last bits")
            else:
                show(message, *where)

        warnings.filterwarnings("always", message=f".*{UNORDERED}")
        warnings.showwarning = tell
        yield
