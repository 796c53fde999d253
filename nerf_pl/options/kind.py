"""The kind of scene that a training learns, as far as defaults follow from it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SceneKind:
    """unbounded: the scene continues beyond its box. ndc: its photos were taken from one side. photos: how many there
    are to train on; None if that is not known. points: it is known which sparse points they see."""

    unbounded: bool = False
    ndc: bool = False
    photos: int | None = None
    points: bool = False
