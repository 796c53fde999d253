"""nerf doctor"""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from typing import TYPE_CHECKING

from nerf_pl.cli.flags import device_of

if TYPE_CHECKING:
    import torch

    from nerf_pl.doctor import Finding
    from nerf_pl.ops import Backend


@dataclass(frozen=True)
class Doctor:
    """Say what is installed and what could be better, and test the kernels. The output is what a bug report needs."""

    compile: tuple[str, ...] = ()
    """Compile the kernels for other GPUs instead, and say what they take of the chip: sm_89 for example, or all. This
    needs no GPU, and some minutes."""

    def run(self) -> None:
        """Prints what there is. Exits with code 1 if something does not work."""
        from nerf_pl.console import console

        if self.compile:
            _compile(self.compile)
            return
        from nerf_pl.doctor import findings

        device, wrong = device_of(1), 0
        for of_all in (findings(device), _self_test(device)):
            for finding in of_all:
                console.print(f"{finding.name:<11}  {finding.value}")
                if finding.advice:
                    console.print(f"{'':<11}  -> {finding.advice}", style="red" if finding.is_wrong else "yellow")
                wrong += finding.is_wrong
        told = "all of this belongs into a report of a bug"
        console.print(f"{wrong or 'nothing'} {'are' if wrong > 1 else 'is'} wrong; {told}")
        if wrong:
            sys.exit(1)


def _compile(names: Sequence[str]) -> None:
    from nerf_pl.console import console, errors
    from nerf_pl.doctor.compiles import CHIPS, compile_for, table

    found, wrong = [], 0
    for each in compile_for(list(CHIPS) if names == ("all",) else names):
        found.append(each)
        wrong += bool(each.wrong)
        told = each.wrong or f"{each.registers} registers, {each.shared} bytes of shared memory, {each.stack} of stack"
        console.print(f"{each.chip:>8}  {each.kernel:<26}  {told}", style="red" if each.wrong else None)
    console.print("\nregisters of a thread / KB of shared memory / bytes of stack, the most at any size:\n")
    console.print(table(found))
    if wrong:
        errors.print(f"nerf: {wrong} of {len(found)} kernels cannot run there", style="red")
        sys.exit(1)


def _self_test(device: "torch.device") -> Iterator["Finding"]:
    """The kernels against their twins: on the GPU, or what a CPU compiles and the others in Triton's interpreter, which
    takes some seconds."""
    import torch

    from nerf_pl.doctor import Finding
    from nerf_pl.ops import Backend, choose

    backend, where = choose(device), "on the GPU"
    if device.type != "cuda":
        yield from _compared(choose(torch.device("cpu")), "compiled by Numba", torch.device("cpu"))
        os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the first kernel is loaded
        backend, where = Backend("triton", "triton", "triton", "triton", "triton", "triton"), "in Triton's interpreter"
        device = torch.device("cpu")
    if find_spec("triton") is None or not backend.uses_kernels:
        yield Finding("self-test", "none: plain PyTorch runs here, without kernels")
        return
    yield from _compared(backend, where, device)
    if device.type != "cuda":
        yield Finding("gradients", "not compared: that takes a GPU, where trainings get theirs from kernels")


def _compared(backend: "Backend", where: str, device: "torch.device") -> Iterator["Finding"]:
    from nerf_pl.doctor import Finding, compare_gradients, compare_kernels

    found = compare_kernels(backend, device)
    if device.type == "cuda" and backend.hash_field != "reference":
        found = chain(found, compare_gradients(backend, device))
    for each in found:
        told = each.failed or f"largest difference {each.error:.0e}, allowed {each.limit:.0e}, {each.seconds:.1f} s"
        verdict = f"kernels {where} {'agree' if each.is_good else 'DISAGREE'} with their twins: {told}"
        advice = "" if each.is_good else "NERF_PL_OPS=reference computes without kernels; please report this output"
        yield Finding(each.family, verdict, advice, is_wrong=not each.is_good)
