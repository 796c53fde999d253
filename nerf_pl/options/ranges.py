"""The marks in the annotation of an option: which values it can have, and what it shapes.

levels: Annotated[int | None, between(1, 16), SHAPES_WEIGHTS] = None
"""

from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, fields
from typing import (
    TYPE_CHECKING,
    Annotated,
    ClassVar,
    Protocol,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

from nerf_pl.errors import UserError
from nerf_pl.text import typed

SMALLEST, LARGEST = 1e-15, 1e15  # beyond them squares and their quotients do not fit into 32-bit floats


@dataclass(frozen=True)
class Range:
    """Values that an option can have. remedy: what a message tells the user to give instead."""

    holds: Callable[..., bool]
    remedy: str


Corners = tuple[float, float, float, float, float, float]
"""x y z of the lowest and then of the highest corner of a box."""


Colour = tuple[float, float, float]
"""Red, green and blue."""


def _is_box(box: Corners) -> bool:
    return all(-LARGEST < low < high < LARGEST for low, high in zip(box[:3], box[3:], strict=True))


def at_least(low: float) -> Range:
    return Range(lambda value: low <= value <= LARGEST, f"give {low} or more")


def between(low: float, high: float) -> Range:
    return Range(lambda value: low <= value <= high, f"give {low} to {high}")


BACKGROUND = Range(
    lambda value: isinstance(value, str) or all(0 <= part <= 1 for part in value),
    "give white, black, auto, none, or red, green and blue from 0 to 1, which is 255 in a picture",
)
BOX = Range(_is_box, "give the x y z of its lowest and then of its highest corner")
POSITIVE = Range(lambda value: SMALLEST <= value <= LARGEST, "give a positive number, 1e-15 to 1e15")
SHARE = Range(lambda value: 0 < value <= 1, "give more than 0, up to 1")
POWER_OF_TWO = Range(lambda value: value in (16, 32, 64, 128, 256), "give a power of two, 16 to 256")


@dataclass(frozen=True)
class Shapes:
    """Marks an option that must be the same for weights to fit, or for a run to be resumed.

    weights: the option decides the shapes of weights. Without it, the option matters to a resumed run alone. part: the
    option counts how often a part of the model is used, so it only matters whether it is 0.
    """

    weights: bool = True
    part: bool = False


SHAPES_WEIGHTS, SHAPES_PART, FIXED_IN_A_RUN = Shapes(), Shapes(part=True), Shapes(weights=False)


@dataclass(frozen=True)
class OfTransparent:
    """Marks an option that changes nothing where all pictures are opaque."""


@runtime_checkable
class Options(Protocol):
    """A frozen dataclass of options."""

    if TYPE_CHECKING:  # at run time a protocol that classes are tested against can have nothing but methods
        __dataclass_fields__: ClassVar[dict[str, Field]]

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Options that contradict each other, each with a remedy. The values themselves are in range."""
        ...


def check_options(options: Options) -> None:
    """Raises UserError for a value outside the range beside its option, or for options that contradict each other."""
    for name, mark in marks(type(options), Range):
        value = getattr(options, name)
        require(value is None or mark.holds(value), options, name, mark.remedy)
    for name, remedy in options.conflicts():
        require(False, options, name, remedy)


def require(holds: bool, options: Options, name: str, remedy: str) -> None:
    """Unless the condition holds, raises UserError with the option, its value and the remedy."""
    if not holds:
        value = getattr(options, name)
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
        raise UserError(f"{typed(name, shown)} cannot work: {remedy}")


Mark = TypeVar("Mark")


def marks(options: type[Options], kind: type[Mark]) -> list[tuple[str, Mark]]:
    """The options that carry a mark of this kind, and the mark."""
    hints = get_type_hints(options, include_extras=True)
    found = ((f.name, hints[f.name]) for f in fields(options))
    annotated = ((name, get_args(hint)[1:]) for name, hint in found if get_origin(hint) is Annotated)
    return [(name, mark) for name, all_marks in annotated for mark in all_marks if isinstance(mark, kind)]


def fixed_in_a_run(options: type[Options]) -> set[str]:
    """The options that a run keeps when it goes on."""
    return {name for name, _ in marks(options, Shapes)}


def differing(
    stored: Options, asked: Options, *, resumed: bool = False, parts: bool = True
) -> dict[str, tuple[object, object]]:
    """Options whose values in two trainings shape different weights: name -> (stored, asked).

    resumed: options that only a resumed run must keep count as well. parts: so do parts that one of the two lacks.
    """
    found = {}
    for name, mark in marks(type(stored), Shapes):
        pair = getattr(stored, name), getattr(asked, name)
        same = not parts or bool(pair[0]) == bool(pair[1]) if mark.part else pair[0] == pair[1]
        if not same and (mark.weights or resumed):
            found[name] = pair
    return found


def sizes_for(asked: Options, stored: Options) -> dict[str, object]:
    """The values that options must have for the weights of `stored` to fit. If the weights have a part, the options may
    leave it out."""
    shapes = ((name, mark) for name, mark in marks(type(stored), Shapes) if mark.weights)
    return {name: getattr(asked if mark.part and getattr(stored, name) else stored, name) for name, mark in shapes}
