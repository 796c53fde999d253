"""The command line: `nerf ...`, and the classic train.py and eval.py."""

import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from nerf_pl.cli.parse import ONLY_TELL, TRAINS, Command, parse
from nerf_pl.cli.reporting import AddsToRun, Clock, report
from nerf_pl.console import (
    console,
    drop_what_is_printed,
    errors,
    escape_what_is_not_encodable,
    open_standard_streams,
)
from nerf_pl.errors import NO_THREADS, Interrupted, NothingToDo, UserError
from nerf_pl.signals import Stopped, described, end_with_parent, number_of, stopped_by_signals
from nerf_pl.text import one_line
from nerf_pl.training.machines import left_to_first, process

__all__ = ["main", "parse"]

PATIENCE = 5  # seconds
PIPE = 13  # the signal that ends programs whose output nobody reads; Windows has none


def main(argv: Sequence[str] | None = None, program: str = "nerf") -> None:
    """Parse and run. A UserError becomes one line and exit code 2. A signal that ends the command becomes one line and
    exit code 128 + its number: 130 after Ctrl-C, 143 after SIGTERM."""
    open_standard_streams()
    escape_what_is_not_encodable()
    try:
        with stopped_by_signals(), _all_written():
            end_with_parent()
            words = sys.argv[1:] if argv is None else argv
            _set_environment(words)
            _run(parse(words, program), [*([] if program == "nerf" else ["python"]), program, *words])
        return
    except UserError as error:
        message, code = " ".join(str(error).split()), 2
    except BrokenPipeError:  # who read what is printed has ended, which is nothing to tell
        sys.exit(128 + PIPE)
    except OSError as error:
        message, code = one_line(_told(error)), 2
    except ValueError as error:
        if "null byte" not in str(error):
            raise
        message, code = "a path has the character \\x00, which none can have: leave it out", 2
    except KeyboardInterrupt as stop:
        number = number_of(stop)
        message, code = f"{described(number)}; {stop if str(stop) else 'the same command starts again'}", 128 + number
    is_first = process() == 0  # of those of a training
    if code == 2 and not is_first:
        time.sleep(PATIENCE)  # the first process mostly reports the same error and ends this one
    if code == 2 or is_first:  # Ctrl-C reaches all processes; one reports it
        errors.print(f"{program}: {message}", style="red" if code == 2 else None)
    sys.exit(code)


@contextmanager
def _all_written() -> Iterator[None]:
    """What was printed is written when the block ends, and not when the interpreter does, which would tell an error in
    its own way."""
    try:
        try:
            yield
        except SystemExit:  # as after --help
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except OSError as error:
        if error.filename is None:
            drop_what_is_printed(sys.stdout)
        raise


def _told(error: OSError) -> str:
    """Of a path that was typed, such as one that is too long, or of the system, such as a full disk."""
    why = error.strerror or str(error)
    if error.filename:
        return f"{error.filename} cannot be used ({why}): give another path"
    try:
        os.getcwd()
    except FileNotFoundError:
        return "the current folder is gone: change to another one"
    return f"the system says: {why}"


def _set_environment(words: Sequence[str]) -> None:
    """Set what libraries read when torch is imported. Parsing imports it for a training that goes on."""
    # Threads that wait for each other spin for this long, then sleep. By default they spin a hundred times longer, and
    # beside another program training can be tens of times slower (docs/log.md).
    if "OMP_WAIT_POLICY" not in os.environ:  # which would not count beside it
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    is_several = any(word.replace("-", "_").startswith("__num_gpus") for word in words)
    if is_several or {"RANK", "SLURM_PROCID"} & set(os.environ):  # where a process is lost, we say so
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # and PyTorch would with a hundred lines


def _run(command: Command, words: Sequence[str]) -> None:
    # imported after parsing, so that --help and a misspelt option answer at once
    import torch

    from nerf_pl.ops import forced

    try:
        forced()
    except ValueError as error:  # of the environment variable that forces a backend
        raise UserError(str(error)) from error
    if not isinstance(command, TRAINS) and (told := left_to_first(" ".join(words[:2]))):
        errors.print(told)
        return
    clock, console.is_needed = Clock(), isinstance(command, ONLY_TELL)
    try:
        stay = command.run()
        _report(command, words, clock)
        if stay is not None:
            stay()
    except torch.OutOfMemoryError as error:
        first = str(error).splitlines()[0]
        told = (
            first
            if "lower --" in first
            else f"out of GPU memory: lower --batch_size or --chunk, or give --downscale 2 ({first})"
        )
        raise UserError(told) from error
    except NothingToDo as done:
        console.print(str(done))
    except (MemoryError, RuntimeError) as error:
        if NO_THREADS in str(error):
            told = "the system allows no more threads: allow more processes or memory (ulimit -u, -v)"
            raise UserError(f"{told}, or end other programs") from error
        if "CUDA" in str(error) and (told := _told_before(error)):
            raise told from error
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
            raise
        raise UserError("out of memory: lower --batch_size or --chunk, or give smaller pictures") from error
    except Interrupted as stop:
        if (stop.resumable or stop.is_finished) and process() == 0:
            with suppress(UserError, KeyboardInterrupt):  # that the training was stopped is what there is to tell
                _report(command, words, clock)
        how = "the same command with --resume" if hasattr(command, "resume") else getattr(command, "goes_on", None)
        raise Stopped(f"{stop}: {how} goes on" if stop.resumable and how else str(stop), stop.number) from stop


def _told_before(error: BaseException | None) -> UserError | None:
    """The mistake on whose way out this error came up: after a fault of a GPU, cleaning up fails as well."""
    while error is not None and not isinstance(error, UserError):
        error = error.__context__
    return error


def _report(command: Command, words: Sequence[str], clock: Clock) -> None:
    """What a command leaves if it adds to a run."""
    if isinstance(command, AddsToRun) and (added := command.added) is not None:
        try:
            report(added, words, clock)
        except KeyboardInterrupt as stop:
            stop.args = (f"all but the report is written: nerf report {shlex.quote(str(added.folder))} writes it",)
            raise
