"""What an option is for: the mark that sorts it in `--help`.

seconds: Annotated[float | None, POSITIVE, common(LENGTH, "15")] = None
"""

from dataclasses import dataclass

RUN, LENGTH, PICTURES, PLACE = "run", "length", "picture", "place"
CORRECTIONS, MACHINE, VALIDATION, WEIGHTS = "correction", "machine", "validation", "first weights"
RATE, SIZE_OF_MODEL, SAMPLING, LOSSES = "learning rate", "model size", "sampling", "loss"
PURPOSES = (
    RUN, LENGTH, PICTURES, PLACE, CORRECTIONS, MACHINE, VALIDATION, WEIGHTS, RATE, SIZE_OF_MODEL, SAMPLING, LOSSES,
)  # fmt: skip
"""Titles of the boxes of the help, in their order."""


@dataclass(frozen=True)
class Help:
    """How the help shows an option. purpose: its box. example: values as they are typed; options whose values are
    words or switches need none. common: whether the short help has it, too."""

    purpose: str
    example: str = ""
    common: bool = False


def common(purpose: str, example: str = "") -> Help:
    return Help(purpose, example, common=True)
