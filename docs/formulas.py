"""Formulas of the pages, written in LaTeX between dollars, as MathML, which browsers show without a script."""

import re
from collections.abc import Callable, Iterator
from html import escape

CODE = r"^ *```.*?^ *```$|`[^`]+`"
FORMULA = re.compile(rf"(?P<code>{CODE})|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$]+)\$", re.M | re.S)
PLACE = re.compile(r"FORMULA(\d+)E")  # what stands for a formula while Markdown becomes HTML


def taken_out(markdown: str, formulas: list[tuple[str, bool]]) -> str:
    """The text with a mark in place of each formula. formulas: gets each, and whether it has a line of its own."""

    def mark(match: re.Match[str]) -> str:
        if match["code"]:
            return match[0]
        formulas.append((match["block"] or match["inline"], bool(match["block"])))
        return f"FORMULA{len(formulas) - 1}E"

    return FORMULA.sub(mark, markdown)


def put_back(html: str, formulas: list[tuple[str, bool]]) -> str:
    """HTML with the formulas in place of their marks."""
    from latex2mathml.converter import convert

    return PLACE.sub(lambda match: mathml(*formulas[int(match[1])], convert), html)


def mathml(latex: str, is_block: bool, convert: Callable[..., str]) -> str:
    """One formula. Its LaTeX is kept as a title, for those who want to copy it."""
    found = convert(latex, display="block" if is_block else "inline").replace(r"\_", "_")
    return found.replace("<math ", f'<math title="{escape(" ".join(latex.split()))}" ', 1)


def formulas_of(markdown: str) -> Iterator[str]:
    """The LaTeX of each formula."""
    found: list[tuple[str, bool]] = []
    taken_out(markdown, found)
    yield from (latex for latex, _ in found)
