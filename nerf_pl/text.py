"""Text that came from elsewhere, such as names of files and values in them, as a terminal may show it."""

LONGEST = 299  # characters of a message
LONG_WORD, LEFT = 90, (24, 60)  # characters of a word that is shortened, and of its beginning and end that stay


def visible(text: str) -> str:
    """The text with what a terminal would obey, such as escape sequences, as escapes: \\x1b. Newlines and tabs stay.

    A byte of a name that is no UTF-8, which Python keeps as half of a surrogate pair, becomes \\xff.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text)


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
