"""Which views belong to a split, for layouts whose files leave that open."""

from collections.abc import Sequence
from pathlib import Path

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.finder import find_named
from nerf_pl.scenes.pictures import list_some

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
    taken, and the reverse; without both, all that train_filenames leaves. Without train_filenames all that the others
    leave is trained on. Names that no frame has, and pictures that are trained on and scored, are said. Raises
    UserError for a list that is no list of names, or names no file.
    """
    names = {"train": ["train"], "val": ["val", "test"], "test": ["test", "val"]}[split]
    if not any(lists.get(f"{name}_filenames") for name in SPLITS):
        return None
    if not lists.get("train_filenames"):
        return _without_training(lists, files, path, split)
    trained = _places(lists, path, "train")
    if not (names := [name for name in names if lists.get(f"{name}_filenames")]):
        found = [i for i, file in enumerate(files) if file.resolve() not in trained]
        if not found:
            told = f"{path}: train_filenames lists all pictures and no other list is there, so none is left for {split}"
            raise UserError(f"{told}: add test_filenames, or give --test_every 0 to train without tests")
        return found
    places = trained if names[0] == "train" else _places(lists, path, names[0])
    found = [i for i, file in enumerate(files) if file.resolve() in places]
    if not found:
        raise UserError(
            f"{path}: none of the pictures in {names[0]}_filenames is there; correct the names, or remove the list"
        )
    if names[0] != "train" and (both := [files[i].name for i in found if files[i].resolve() in trained]):
        told = f"{len(both)} of {len(found)} pictures in {names[0]}_filenames are in train_filenames, too"
        warn(f"{path}: {told} ({list_some(both)}): the scores are those of views that were trained on")
    return found


def _without_training(lists: dict[str, object], files: Sequence[Path], path: Path, split: str) -> list[int]:
    """The same, if there is a list for val or for test alone."""
    held = {name: _places(lists, path, name) for name in ("val", "test") if lists.get(f"{name}_filenames")}
    told = " and ".join(f"{name}_filenames" for name in held)
    warn(f"{path}: there is no train_filenames, so all pictures that {told} leave are trained on")
    wanted = held.get(split) or next(iter(held.values()))
    if split == "train":
        wanted = {file.resolve() for file in files} - {file for each in held.values() for file in each}
    found = [i for i, file in enumerate(files) if file.resolve() in wanted]
    if not found:
        raise UserError(f"{path}: {told} leave no picture for {split}; correct them, or remove them")
    return found


def _places(lists: dict[str, object], path: Path, name: str) -> set[Path]:
    """The pictures in a list."""
    wanted = lists[f"{name}_filenames"]
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        raise UserError(f"{path}: {name}_filenames is {wanted!r:.60}; list names of pictures")
    found = find_named(path, wanted, tell=False)
    if any(found) and (gone := [told for told, file in zip(wanted, found, strict=True) if not file]):
        warn(f"{path}: {len(gone)} of {len(wanted)} pictures in {name}_filenames are missing ({list_some(gone)})")
    return {file.resolve() for file in found if file}
