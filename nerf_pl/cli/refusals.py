"""What the parser of command lines refuses, in one line. tyro says it in a box of several lines."""

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TypeVar

from nerf_pl.errors import UserError

Result = TypeVar("Result")


def in_one_line(
    parse: Callable[[], Result],
    meant: Callable[[list[str]], list[str]] = lambda words: [],
    unknown: Callable[[], list[str]] = list,
) -> Result:
    """What `parse` returns. Raises UserError for a command line that it refuses; --help exits as it does.

    meant: what words that are not understood may have been meant for, where tyro has no idea. unknown: the options that
    are not understood, of which tyro does not speak if a folder is missing as well.
    """
    try:
        with redirect_stderr(io.StringIO()):
            return parse()
    except SystemExit as stop:
        if stop.code != 2:
            raise
    box = io.StringIO()  # once more, for a box without colours and wrapped lines
    with redirect_stderr(box), redirect_stdout(io.StringIO()), _wide(), suppress(SystemExit):
        parse()
    raise UserError(_line(box.getvalue(), meant, unknown))


@contextmanager
def _wide() -> Iterator[None]:
    """As if the terminal were wide enough for everything."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def _line(box: str, meant: Callable[[list[str]], list[str]], unknown: Callable[[], list[str]]) -> str:
    """What a box says, without its title and the help of an option that the message names."""
    told, similar = [], []
    for part in re.split(r"^ *-{3,} *\n", box, flags=re.MULTILINE)[1:] or [box]:
        text = " ".join(part.split())
        if text.startswith(("Perhaps you meant", "Arguments similar")):
            similar += re.findall(r"^ {6}(--\w+)", part, re.MULTILINE)
        elif not text.startswith("Argument helptext"):
            said = text.partition(" Got errors:")[0].rstrip(".")
            told.append(re.sub("^For full helptext, (run|see):? ", "see ", said))
    if told and re.match(r"Missing value for argument '[a-z]", told[0]):
        words = unknown()
        told[0] = f"Missing: PATH{'; unrecognized options: ' if words else ''}{', '.join(words)}"
        similar = meant(words)
    elif told and not similar and (words := re.match(r"Unrecognized options: ([^;]*)", told[0])):
        similar = meant(words[1].rstrip(".").split(", "))
    hint = [f"perhaps you meant {' or '.join(sorted(set(similar)))}"] if similar else []
    return "; ".join([*told[:-1], *hint, *told[-1:]])
