"""Do the kernels compile for a GPU that is not there, and do they fit on its chip?

    python -m nerf_pl.doctor.compiles sm_89 sm_120

Triton's compiler needs no GPU. Here it takes one for its driver's that does not exist, and compiles in place of every
launch; so types and sizes are those that this GPU would get, and no kernel can be missed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

from nerf_pl.children import paths, python
from nerf_pl.errors import UserError

KB = 1024


@dataclass(frozen=True)
class Chip:
    """A kind of GPU. capability: of CUDA; of another maker's GPU, the one whose choices it would get. shared: bytes of
    shared memory that a program may take. columns: of tensor memory. lanes: threads of a warp."""

    told: str
    capability: tuple[int, int]
    shared: int
    columns: int = 0
    lanes: int = 32


CHIPS = {
    "sm_75": Chip("Turing: T4, RTX 20", (7, 5), 64 * KB),
    "sm_80": Chip("Ampere: A100", (8, 0), 163 * KB),
    "sm_86": Chip("Ampere: A40, RTX 30", (8, 6), 99 * KB),
    "sm_89": Chip("Ada: L4, L40, RTX 40", (8, 9), 99 * KB),
    "sm_90": Chip("Hopper: H100, H200", (9, 0), 227 * KB),
    "sm_100": Chip("Blackwell: B200", (10, 0), 227 * KB, columns=512),
    "sm_120": Chip("Blackwell: RTX 50", (12, 0), 99 * KB),
    "gfx942": Chip("MI300", (8, 9), 64 * KB, lanes=64),
}
"""Shared memory as in table "Technical specifications per compute capability" of CUDA's programming guide, and local
memory of a work group in AMD's CDNA 3 instruction set."""


@dataclass(frozen=True)
class Compiled:
    """A kernel for a chip, at one set of sizes. shared: bytes of shared memory; registers: of a thread; stack: bytes of
    memory that a thread takes because registers did not suffice; columns: of tensor memory; failed: why there is no
    code."""

    chip: str
    kernel: str
    warps: int = 0
    shared: int = 0
    registers: int = 0
    stack: int = 0
    columns: int = 0
    seconds: float = 0.0
    failed: str = ""

    @property
    def wrong(self) -> str:
        """What keeps it from running on the chip; "" if nothing does."""
        chip = CHIPS[self.chip]
        if self.failed:
            return f"does not compile: {self.failed}"
        if self.shared > chip.shared:
            return f"takes {self.shared / KB:.0f} KB of shared memory, of {chip.shared / KB:.0f}"
        return (
            f"takes {self.columns} columns of tensor memory, of {chip.columns}" if self.columns > chip.columns else ""
        )


def compile_for(chips: Sequence[str], only: Sequence[str] | None = None) -> Iterator[Compiled]:
    """The kernels for these chips, as they are ready, compiled in a process of its own. only: the kernels to compile;
    it ends as soon as there is one of each. Raises UserError for an unknown chip, and without a Triton that works."""
    if unknown := [chip for chip in chips if chip not in CHIPS]:
        raise UserError(f"--compile {unknown[0]} is unknown: give {', '.join(CHIPS)} or all")
    if find_spec("triton") is None:
        raise UserError("--compile needs triton, which is not installed: pip install triton")
    apart = {"TRITON_INTERPRET", "NERF_PL_OPS"}  # which decide how kernels run where they are not compiled
    environment = {name: value for name, value in os.environ.items() if name not in apart}
    words = [*chips, "--json", *([] if only is None else ["--only", *only])]
    command = python("-m", "nerf_pl.doctor.compiles", *words)
    environment |= {**paths(), "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
    with (
        tempfile.TemporaryFile("w+") as told,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=told, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    yield Compiled(**json.loads(line))
        except BaseException:  # whoever asks wants no more
            process.kill()
            raise
        if process.wait():
            told.seek(0)
            last = (told.read().strip().splitlines() or ["no reason is told"])[-1]
            raise UserError(f"the kernels cannot be compiled ({last:.200}): pip install --upgrade triton")


def table(found: Sequence[Compiled]) -> str:
    """In Markdown: for each kernel the most that it takes at any of its sizes on each chip."""
    chips = list(dict.fromkeys(each.chip for each in found))
    rows = [["kernel", *(f"`{chip}`" for chip in chips)], ["---", *("---" for _ in chips)]]
    for kernel in dict.fromkeys(each.kernel for each in found):
        row = [f"`{kernel}`"]
        for chip in chips:
            of = [each for each in found if (each.kernel, each.chip) == (kernel, chip)]
            row.append(_cell(of) if of else "–")
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(of: Sequence[Compiled]) -> str:
    if any(each.failed for each in of):
        return "does not compile"
    most = [max(getattr(each, name) for each in of) for name in ("registers", "shared", "stack")]
    shared = "<1" if 0 < most[1] < KB else f"{most[1] / KB:.0f}"
    return f"{most[0]} / {shared}{f' / {most[2]}' if most[2] else ''}"


class _Driver:
    """What Triton asks of a driver before it compiles. number: of the chip, as if all were in one machine."""

    def __init__(self, target: Any, number: int) -> None:
        self.target, self.number = target, number

    def get_current_target(self) -> Any:
        return self.target

    def get_current_device(self) -> int:
        return self.number

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


def _compile_all(name: str, only: Sequence[str] | None, tell: Callable[[Compiled], None]) -> None:
    """Compile what is launched for a chip. This process has no GPU, and pretends to have that one."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    from nerf_pl.doctor.launches import launch_all, pretending

    arch: int | str = int(name.removeprefix("sm_")) if name.startswith("sm_") else name
    chip, told, compiled = CHIPS[name], set(), set()
    target = GPUTarget("cuda" if isinstance(arch, int) else "hip", arch, chip.lanes)
    pretended: Any = _Driver(target, list(CHIPS).index(name))
    driver.set_active(pretended)
    compile_one = JITFunction.run

    def compile_once(function: Any, given: Sequence[Any], options: dict[str, Any]) -> None:
        kernel = function.__name__
        if only is not None and kernel not in only:
            return
        start, made, why = time.perf_counter(), None, ""
        try:
            made = compile_one(function, *given, grid=None, warmup=True, **options)
        except Exception as error:  # of a compiler, which raises many types
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if (key := (kernel, why if made is None else made.hash)) not in told:
            told.add(key)
            sizes = {} if made is None else _sizes(made)
            tell(Compiled(name, kernel, **sizes, seconds=round(time.perf_counter() - start, 2), failed=why))
        compiled.add(kernel)
        if only is not None and compiled >= set(only):
            raise _EnoughError

    instead = mock.patch.object(
        JITFunction, "run", lambda self, *given, grid, warmup, **options: compile_once(self, given, options)
    )
    with instead, pretending(chip.capability), suppress(_EnoughError):
        launch_all()


class _EnoughError(Exception):
    """All kernels that were asked for are compiled."""


def _sizes(made: Any) -> dict[str, int]:
    """Of a compiled kernel."""
    known = {"warps": made.metadata.num_warps, "shared": made.metadata.shared}
    known["columns"] = getattr(made.metadata, "tmem_size", None) or 0
    if "amdgcn" in made.asm:
        found = dict(re.findall(r"\.(vgpr_count|private_segment_fixed_size): +(\d+)", made.asm["amdgcn"]))
        return {**known, "registers": int(found["vgpr_count"]), "stack": int(found["private_segment_fixed_size"])}
    registers, stack = _usage(made.asm["cubin"])
    return {**known, "registers": registers, "stack": stack}


def _usage(cubin: bytes) -> tuple[int, int]:
    """Registers and bytes of stack of a thread, as the tool beside Triton's compiler tells them."""
    import triton.backends.nvidia as home

    tool = Path(home.__file__).parent / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        (file := Path(folder) / "kernel.cubin").write_bytes(cubin)
        told = subprocess.run([tool, "-res-usage", file], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", told)
    if found is None:
        raise ValueError(f"cuobjdump tells no registers: {told[:200]}")
    return int(found[1]), int(found[2])


def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("chips", nargs="*", help=f"all of {', '.join(CHIPS)} by default")
    parser.add_argument("--only", nargs="*", help="kernels to compile, at the first sizes at which they are launched")
    parser.add_argument("--json", action="store_true", help="a line for each kernel, and compile in this process")
    asked = parser.parse_args()
    chips = asked.chips or list(CHIPS)
    if asked.json:
        for chip in chips:
            _compile_all(chip, asked.only, lambda each: print(json.dumps(asdict(each))))
        return
    found = []
    for each in compile_for(chips, asked.only):
        found.append(each)
        print(f"{each.chip}  {each.kernel}  {each.wrong or f'{each.seconds} s'}", file=sys.stderr)
    print(table(found))


if __name__ == "__main__":
    _main()
