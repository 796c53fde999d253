"""What a sweep is to do: trainings, each with its evaluation."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nerf_pl.errors import UserError

LONGEST = 100  # characters of a scene's name


@dataclass(frozen=True)
class Job:
    """A training and its evaluation.

    run: the folder of the run. scene: what the tables call the scene. seed: None if the sweep has one for all. asked:
    the options of the training, as words, whatever becomes of a run that is there. commands: the words of the commands
    after `nerf`, first of the training, then of the evaluation. Each is asked for when the one before has ended well.
    """

    run: Path
    scene: str
    method: str
    seed: int | None
    asked: tuple[str, ...]
    commands: tuple[Callable[[], Sequence[str]], ...]

    @property
    def name(self) -> str:
        return self.run.name


def labels_of(scenes: Sequence[Path]) -> list[str]:
    """The names of folders; where they are the same, with those of the folders above. Raises UserError for a folder
    that is named twice, and for two whose names still become the same."""
    whole = [scene.resolve() for scene in scenes]
    if twice := [scene for scene, n in Counter(whole).items() if n > 1]:
        raise UserError(f"scene {twice[0]} is given twice: name each scene once")
    labels = [_label(scene, whole) for scene in whole]
    if same := [label for label, n in Counter(labels).items() if n > 1]:
        named = " and ".join(str(scene) for scene, label in zip(scenes, labels, strict=True) if label == same[0])
        raise UserError(f"{named} would have runs of the same name, {same[0]}: rename one of these folders")
    return labels


def _label(scene: Path, others: Sequence[Path]) -> str:
    """As few of the last parts of a path as no other one ends with."""
    parts, n = scene.parts, 1
    while n < len(parts) and sum(other.parts[-n:] == parts[-n:] for other in others) > 1:
        n += 1
    told = "-".join(part.strip("/\\:") for part in parts[-n:])
    return "".join(c if c.isprintable() and c not in "/\\" else "_" for c in told)[-LONGEST:] or "scene"
