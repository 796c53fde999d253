"""Text that came from elsewhere, such as names of files and values in them, as a terminal may show it; and numbers."""

import math
from collections.abc import Iterable, Sequence

NOTHING = 1e-5  # of the size of a scene: a smaller coordinate is what rounding left
LONGEST = 299  # characters of a message
LONG_WORD, LEFT = 90, (24, 60)  # characters of a word that is shortened, and of its beginning and end that stay


def visible(text: str) -> str:
    """The text with what a terminal would obey, such as escape sequences, as escapes: \\x1b. Newlines and tabs stay.

    A byte of a name that is no UTF-8, which Python keeps as half of a surrogate pair, becomes \\xff.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text)


def counted(number: int, noun: str) -> str:
    """A number of things: 1 view, 2 views. noun: of one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def typed(name: str, value: object) -> str:
    """An option as one types it: --name value, or --name and --no_name for what is on or off."""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no_{name}"
    return f"--{name} {value}"


def clock_time(seconds: float) -> str:
    """h:mm:ss, or m:ss below an hour."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def coordinates(values: Iterable[float], size: float) -> list[str]:
    """Coordinates that can be typed back, in four digits or, where these do not tell what is a thousandth of `size`
    apart, as in those of a map, in more."""
    return [_coordinate(value, size) for value in values]


def box_text(box: Sequence[float]) -> str:
    """A box, x y z of its lowest and of its highest corner, as options take it, to 1 in 100,000 of its longest side."""
    longest = max(high - low for low, high in zip(box[:3], box[3:], strict=True))
    return " ".join(coordinates(box, 0.01 * longest))


def _coordinate(value: float, size: float) -> str:
    if not abs(value) > NOTHING * size:
        return "0"
    return f"{value:.{4 + max(math.ceil(math.log10(abs(value) / size)), 0)}g}"


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(character)[1:-1]


def one_line(text: str, longest: int = LONGEST) -> str:
    """The text in a line that a terminal may show. If it is very long, its longest words lose their middle, and then
    the line does."""
    line = " ".join(visible(text).split())
    while len(line) > longest:
        word = max(line.split(" "), key=len)
        if len(word) <= LONG_WORD:
            return f"{line[: longest // 2]} ... {line[longest // 2 + 5 - longest :]}"
        line = line.replace(word, f"{word[: LEFT[0]]}...{word[-LEFT[1] :]}")
    return line
