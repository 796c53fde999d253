"""How large a picture can be so that it is there in time."""

import statistics
from collections import deque
from dataclasses import dataclass, field

Size = tuple[int, int]
"""Width and height in pixels."""

FLOOR = 256  # pixels of the longer side; a smaller picture shows nothing
TARGET = 1 / 30  # seconds for a picture while the camera moves
RECENT = 9  # pictures whose median is the speed, so that one slow picture changes nothing
MOST_CHANGE = 1.5  # by which the speed changes from picture to picture
FINER = 2.0  # the factor between the sides of two pictures of a camera that rests


@dataclass
class Pace:
    """The sizes of pictures, from the speed of recent ones.

    The speed is the median of RECENT pictures, and changes by MOST_CHANGE at most at a time. A small picture has a low
    speed, as each has a fixed cost. The estimate cannot run away for that: no picture is smaller than FLOOR, and the
    larger pictures of a resting camera count as well.
    """

    target: float = TARGET
    speed: float | None = None
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def learn(self, size: Size, seconds: float) -> None:
        """Take note of how long a picture took, one ray a pixel."""
        self.recent.append(size[0] * size[1] / max(seconds, 1e-6))
        found = statistics.median(self.recent)
        if self.speed is not None:
            found = min(max(found, self.speed / MOST_CHANGE), self.speed * MOST_CHANGE)
        self.speed = found

    def moving(self, full: Size) -> Size:
        """The size of a picture while the camera moves, of the shape of `full` and not larger."""
        return self.within(self.target, full)

    def within(self, seconds: float, full: Size) -> Size:
        """The size of a picture that takes so long, of the shape of `full` and not larger."""
        if self.speed is None:
            return fitted(full, FLOOR)
        share = self.speed * seconds / (full[0] * full[1])
        return fitted(full, round(max(full) * share**0.5))

    @staticmethod
    def finer(size: Size, full: Size) -> Size:
        """The size of the picture that follows one of `size` if the camera rests."""
        return fitted(full, round(max(size) * FINER))


def fitted(full: Size, longer: int) -> Size:
    """A size of the shape of `full`, with `longer` pixels on the longer side: FLOOR or more, but not more than full."""
    longer = min(max(longer, FLOOR), max(full))
    width, height = (max(round(side * longer / max(full)), 1) for side in full)
    return width, height
