"""What the parser of command lines refuses, in one line. tyro says it in a box of several lines."""

import ast
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TypeVar

from nerf_pl.errors import UserError

Result = TypeVar("Result")
# the option of a value that cannot be taken, and then that value, or those, as Python writes them
OPTION = re.compile(r"^(?:Error parsing |(?:invalid choice|Missing value) .*?for argument ')--(\w+)")
VALUES = re.compile(r"^Error parsing .*?(?:: | from )(\[.*\]|'[^']*'|\"[^\"]*\")$|^invalid choice (.*) for argument '")


def in_one_line(
    parse: Callable[[], Result],
    meant: Callable[[list[str]], list[str]] = lambda words: [],
    unknown: Callable[[], list[str]] = list,
    refused: Callable[[str, list[str]], str | None] = lambda option, values: None,
    stray: Callable[[list[str]], str | None] = lambda words: None,
) -> Result:
    """What `parse` returns. Raises UserError for a command line that it refuses; --help exits as it does.

    meant: what words that are not understood may have been meant for, where tyro has no idea. unknown: the options that
    are not understood, of which tyro does not speak if a folder is missing as well. refused: what to tell of an option
    and the words that it cannot take, of which tyro speaks as a Python program would. stray: what to tell of words that
    are left over, if more is known of them.
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
    told = _refusal(box.getvalue(), refused) or stray(_left_over(_said(_parts(box.getvalue())[0])))
    raise UserError(told or _line(box.getvalue(), meant, unknown))


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


def _parts(box: str) -> list[str]:
    """Of a box: what it says, and the hints below that."""
    return re.split(r"^ *-{3,} *\n", box, flags=re.MULTILINE)[1:] or [box]


def _said(part: str) -> str:
    """A part of a box in one line, without what each type of an option has against a value."""
    return " ".join(part.split()).partition(" Got errors:")[0].rstrip(".")


def _refusal(box: str, refused: Callable[[str, list[str]], str | None]) -> str | None:
    """What to tell if a box is about the value of an option; None if it is about something else."""
    text = _said(_parts(box)[0])
    if (option := OPTION.match(text)) is None:
        return None
    if text.startswith("Missing"):
        return refused(option[1], [])
    if (found := VALUES.match(text)) is None:
        return None
    try:
        values = ast.literal_eval(found[1] or found[2])
    except (ValueError, SyntaxError):
        return None
    return refused(option[1], list(values) if isinstance(values, list) else [str(values)])


def _left_over(text: str) -> list[str]:
    """The words that nothing takes, if a box says that there are some."""
    words = re.match(r"Unrecognized options: ([^;]*)", text)
    return words[1].rstrip(".").split(", ") if words else []


def _line(box: str, meant: Callable[[list[str]], list[str]], unknown: Callable[[], list[str]]) -> str:
    """What a box says, without its title and the help of an option that the message names."""
    told, similar = [], []
    for part in _parts(box):
        text = _said(part)
        if text.startswith(("Perhaps you meant", "Arguments similar")):
            similar += re.findall(r"^ {6}(--\w+)", part, re.MULTILINE)
        elif not text.startswith("Argument helptext"):
            told.append(re.sub("^For full helptext, (run|see):? ", "see ", text))
    if told and re.match(r"Missing value for argument '[a-z]", told[0]):
        words = unknown()
        told[0] = f"Missing: PATH{'; unrecognized options: ' if words else ''}{', '.join(words)}"
        similar = meant(words)
    elif told and not similar and (words := _left_over(told[0])):
        similar = meant(words)
    hint = [f"perhaps you meant {' or '.join(sorted(set(similar)))}"] if similar else []
    return "; ".join([*told[:-1], *hint, *told[-1:]])
