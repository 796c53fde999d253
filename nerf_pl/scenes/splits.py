"""Which views belong to a split, for layouts whose files leave that open."""

from collections.abc import Sequence
from pathlib import Path

from nerf_pl.errors import UserError
from nerf_pl.scenes.finder import find_named

SPLITS = ("train", "val", "test")


def rule_splits(test_every: int) -> tuple[str, ...]:
    """The splits that `held_out` fills."""
    return SPLITS if test_every else ("train",)


def held_out(n: int, split: str, test_every: int) -> list[int]:
    """Which of n views in order belong to a split, for layouts that have no splits of their own: every test_every-th,
    from the first, is for test and val, the others are for training; 0 keeps all for training."""
    if split == "train":
        return [i for i in range(n) if not test_every or i % test_every]
    return list(range(0, n, test_every)) if test_every else []


def listed(lists: dict[str, object], files: Sequence[Path], path: Path, split: str) -> list[int] | None:
    """Which files belong to a split, if the lists train_filenames, val_filenames and test_filenames in the JSON file
    `path` say so; None if there are none. They name pictures as its frames do. Without a list for val, that for test is
    taken, and the reverse. Raises UserError for a list that is no list of names, or names none of the files.
    """
    names = {"train": ["train"], "val": ["val", "test"], "test": ["test", "val"]}[split]
    keys = [f"{name}_filenames" for name in names if lists.get(f"{name}_filenames")]
    if not lists.get("train_filenames") or not keys:
        return None
    wanted = lists[keys[0]]
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        raise UserError(f"{path}: {keys[0]} is {wanted!r:.60}; list names of pictures")
    places = {file.resolve() for file in find_named(path, wanted, tell=False) if file}
    found = [i for i, file in enumerate(files) if file.resolve() in places]
    if not found:
        raise UserError(f"{path}: none of the pictures in {keys[0]} is there; correct the names, or remove the list")
    return found
