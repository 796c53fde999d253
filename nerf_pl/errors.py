"""Errors that the user can correct, and the interrupt of a training. `reading` is the door of everything that reads
files: whatever damaged content can raise becomes one line that names the file."""

import errno
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb

from nerf_pl.text import one_line

STRICT = "NERF_PL_STRICT"  # environment variable: mistakes of this program are raised, as tests want it
# no file is told to be damaged for these: they say how the machine is, or that a person ended the program
PASS = ("OutOfMemoryError",)  # of torch, which is not imported here
NO_THREADS = "can't start new thread"  # in a RuntimeError
MISTAKES = (TypeError, AttributeError, NameError, LookupError, AssertionError, NotImplementedError)
OWN = f"{Path(__file__).parent}{os.sep}"
CHECKS = ("jaxtyping", "beartype")  # of types, in tests: what they raise is a mistake of this program
LONGEST_REASON = 100  # characters
# for which no file is damaged; decoders have the other numbers for damaged content, too
OF_THE_SYSTEM = {
    errno.EACCES: "make it readable (chmod)",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "end other programs, which have too many files open",
    errno.ESTALE: "mount its folder again",
}
MOST_BYTES = 2**31  # of a file that is read at once; those of scenes have some MB


class UserError(Exception):
    """An error that the user can correct. The message is one line: the file or option, the value and the remedy.

    The command line prints it without a traceback and exits with code 2. What the message takes from files is made
    harmless for terminals, and a very long message is shortened.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class DamagedError(UserError):
    """A file that cannot be read, since its content is not what it should be."""


class FinishedError(UserError):
    """A training that was to go on is finished."""


class NothingToDo(Exception):  # noqa: N818 - no error
    """All that a command was to do is done already. The message says so; the exit code is 0."""


class Interrupted(Exception):  # noqa: N818 - no error
    """A signal ended the training, Ctrl-C for example. The message says what was saved.

    resumable: whether there is a last.ckpt to go on from. is_finished: whether nothing is left to do. number: of the
    signal.
    """

    def __init__(self, message: str, resumable: bool, number: int = signal.SIGINT, is_finished: bool = False) -> None:
        super().__init__(message)
        self.resumable, self.number, self.is_finished = resumable, number, is_finished


@contextmanager
def reading(what: Path | str, remedy: str = "restore it", told: str = "is damaged") -> Iterator[None]:
    """While a file is read: any error becomes "FILE is damaged (why): restore it", a UserError, with the error as its
    cause. what: the file or folder; told: what is wrong with it.

    With NERF_PL_STRICT=1 in the environment, errors that only a mistake in this package can raise stay as they are.
    """
    try:
        if isinstance(what, Path):
            require_plain_file(what)
        yield
    except (UserError, Interrupted):
        raise
    except OSError as error:
        named = isinstance(error.filename, str | bytes | os.PathLike)
        file = os.fsdecode(error.filename) if named else str(what)
        if (mend := OF_THE_SYSTEM.get(error.errno or 0)) is not None:
            raise UserError(f"{file} cannot be read ({reason(error)}): {mend}") from error
        which = "" if file == str(what) else f"{file}: "
        raise DamagedError(f"{what} {told} ({which}{reason(error)}): {remedy}") from error
    except Exception as error:  # libraries raise nearly any type for damaged content
        if type(error).__name__ in PASS or NO_THREADS in str(error) or (os.environ.get(STRICT) and _is_mistake(error)):
            raise
        raise DamagedError(f"{what} {told} ({reason(error)}): {remedy}") from error


def content_of(path: Path, most: int = MOST_BYTES) -> bytes:
    """All that is in a file. Raises OSError, also for what is no file, and for one of more than `most` bytes: a sparse
    file claims any length."""
    require_plain_file(path)
    if (size := path.stat().st_size) > most:
        raise OSError(errno.EFBIG, f"it claims {size / 1e9:.0f} GB")
    return path.read_bytes()


def require_plain_file(path: Path) -> None:
    """Raises OSError for a pipe, a socket or a device, for which one would wait for ever, or read for ever."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # what opens it says so
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "it is a pipe or a device, and no file")


def reason(error: BaseException) -> str:
    """Why, in a few words. Errors whose texts mean nothing alone, such as that of a missing key, have their type."""
    if isinstance(error, RecursionError):
        return "it nests too deep"
    if isinstance(error, MemoryError):
        return "it claims more than fits into memory"
    text = str(getattr(error, "strerror", None) or error).strip()
    first, *more = text.splitlines() or [""]
    if first.endswith(":") and more:  # as torch writes of weights that do not fit
        first = more[0].strip()
    kind = type(error).__name__
    told = first if first and isinstance(error, OSError | ValueError) else f"{kind}: {first}" if first else kind
    return told if len(told) <= LONGEST_REASON else f"{told[:LONGEST_REASON]}..."


def _is_mistake(error: Exception) -> bool:
    """Whether an error was raised by a line of this package, and not for what files can hold."""
    if not isinstance(error, MISTAKES):
        return False
    *_, (frame, _) = walk_tb(error.__traceback__)
    file = frame.f_code.co_filename
    checked = any(f"{os.sep}{name}{os.sep}" in file or file.startswith(f"<@{name}(") for name in CHECKS)
    return file.startswith(OWN) or checked
