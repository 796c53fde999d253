"""A training that goes on: what it must share with the one before, and what it may change."""

import shlex
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from nerf_pl.checkpoints import (
    compare,
    frame_in,
    read_own_checkpoint,
    require_frame,
    require_same_views,
    stored_config,
)
from nerf_pl.errors import DamagedError, FinishedError, UserError, reading, reason
from nerf_pl.methods import method_of
from nerf_pl.methods.method import kind_of
from nerf_pl.options import Config, Options, TrainOptions, differing, fixed_in_a_run
from nerf_pl.options.purposes import MACHINE, Help
from nerf_pl.options.ranges import marks
from nerf_pl.text import counted
from nerf_pl.training.callbacks import Checkpoints
from nerf_pl.training.schedule import lr_factor
from nerf_pl.training.sound import require_sound_training
from nerf_pl.training.system import NeRFSystem

BEST = "best.ckpt"
LENGTHS = {"max_steps": "step", "seconds": "s", "num_epochs": "epoch"}  # options that set the length, the first first
SAID_ELSEWHERE = {*LENGTHS, "exp_name", "ckpt_path", "prefixes_to_ignore"}  # or without effect on a run that goes on
DEVICES = {"cuda": "a GPU", "cpu": "the CPU", "mps": "Apple's GPU"}  # as a line calls them


def resume_run(system: NeRFSystem, checkpoints: Checkpoints, last: Path) -> list[str]:
    """Continue from `last`, on the type of device that `system.begun_on` says, which is then that of the run. Returns
    lines that say what differs from the training before.

    Raises UserError if the checkpoint does not fit the options or the scene, or if its training is finished.
    """
    try:
        content = read_own_checkpoint(last)
    except DamagedError as error:
        remedy = _remedy(last, _is_readable(last.with_name(BEST)))
        raise DamagedError(f"{last} cannot be resumed, it is damaged: {remedy}") from error
    if missing := {"state_dict", "optimizer_states", "global_step", "train_seconds", "config"} - set(content):
        raise UserError(f"{last} cannot be resumed, it has no {min(missing)}: {_remedy(last)}")
    with reading(last, _remedy(last), "cannot be resumed, it is damaged"):
        stored, config, device = stored_config(content, last), system.config, system.begun_on
        _compare(stored, config, last)
        require_frame(frame_in(content, last), system.scene, config, f"{last} was trained on")
        require_same_views(content, system.scene, last)
        _take_over(system, checkpoints, content)
    if system.length.finished:
        told = f"{last} is finished, after {counted(system.step, 'step')} and {system.length.train_seconds:.3g} s"
        raise FinishedError(f"{told}: to extend it, give --max_steps or --seconds with more than that, for all of it")
    told = [*_other_scene(content, system), *_other_device(stored, system, device)]
    return [*told, *_other_options(stored, config), *_other_length(stored, system)]


def _take_over(system: NeRFSystem, checkpoints: Checkpoints, content: dict[str, Any]) -> None:
    try:
        require_sound_training(content, system.model.make_optimizer(system.config.optim))
        system.resume_from(content)
    except (TypeError, LookupError, AttributeError) as error:  # values of other types than a training writes
        raise ValueError(reason(error)) from error
    checkpoints.best, checkpoints.best_step = content.get("best_psnr", checkpoints.best), content.get("best_step", -1)


def _remedy(last: Path, is_best_good: bool = True) -> str:
    """What to do about a checkpoint that is damaged. The best one of the run holds all that a training goes on from."""
    best = last.with_name(BEST)
    if not best.is_file():
        return "start again with --overwrite"
    if not is_best_good:
        return f"start again with --overwrite, for {best} is damaged, too"
    return f"{shlex.join(['cp', str(best), str(last)])}, then the same command goes on from the best weights"


def _is_readable(path: Path) -> bool:
    try:
        return bool(read_own_checkpoint(path))
    except UserError:
        return False


def _other_scene(content: dict[str, Any], system: NeRFSystem) -> Iterator[str]:
    """The views are the same, or the run would not go on."""
    before = content.get("scene")
    if before and before != system.scene_root:
        yield f"goes on with the scene in {system.scene_root}, before it was in {before!s:.200}"


def _other_device(stored: Config, system: NeRFSystem, here: str) -> Iterator[str]:
    """A run keeps the sizes of the type of device on which it was begun. What shapes no weights can be given anew, if
    it works with the other options. What is no size of that device was typed, or is of another version."""
    begun, now, method = system.begun_on, system.config, method_of(stored.method)
    if begun not in DEVICES or here not in DEVICES or begun == here:
        return
    made = ((here, now), (begun, stored))
    kind, left_open = kind_of(system.scene), method.preset.model
    ours, theirs = (method.complete(replace(of, model=left_open), device, kind).model for device, of in made)
    each_of = (stored.model, now.model, theirs, ours)
    values = {f.name: [getattr(each, f.name) for each in each_of] for f in fields(ours)}
    kept = {name for name, (before, after, their, our) in values.items() if before == after == their != our}
    if not kept:
        return
    told = f"goes on with the sizes of {DEVICES[begun]}, on which it was begun, and not of {DEVICES[here]}"
    shown = [name for name, each in marks(type(ours), Help) if each.purpose == MACHINE]
    costs = {name: getattr(ours, name) for name in shown if name in kept - fixed_in_a_run(type(ours))}
    if costs and _works(replace(now, model=replace(now.model, **costs))):
        given = " ".join(f"--{name} {_shown(value)}" for name, value in costs.items())
        is_less = all(value < getattr(now.model, name) for name, value in costs.items())
        told += f": {given}, as runs begun here have, {'makes a step cheaper' if is_less else 'lets a step do more'}"
    yield told


def _works(config: Config) -> bool:
    try:
        config.check()
    except UserError:
        return False
    return True


def _compare(stored: Config, asked: Config, last: Path) -> None:
    """Raises UserError if the options ask for another training than the one that is to go on."""
    if stored.method != asked.method:
        raise UserError(f"--method {asked.method}: {last} was trained with {stored.method}; leave the option out")
    compare(stored.model, asked.model, str(last), resumed=True)
    for before, now in _parts(stored, asked):
        for name, (value, given) in differing(before, now, resumed=True).items():
            how = "without" if value is None else f"with {_shown(value)}"
            raise UserError(f"--{name} {_shown(given)}: {last} was trained {how}; leave the option out")


def _parts(stored: Config, asked: Config) -> Iterator[tuple[Options, Options]]:
    yield from ((stored.data, asked.data), (stored.optim, asked.optim), (stored.train, asked.train))


def _other_options(stored: Config, asked: Config) -> Iterator[str]:
    """Options that a run that goes on may be given, and was."""
    changed = [
        f"--{field.name} {_shown(getattr(now, field.name))} (was {_shown(getattr(before, field.name))})"
        for before, now in [(stored.model, asked.model), *_parts(stored, asked)]
        for field in fields(now)
        if field.name not in SAID_ELSEWHERE and getattr(before, field.name) != getattr(now, field.name)
    ]
    if changed:
        yield f"goes on with other options than before: {', '.join(changed)}"


def _other_length(stored: Config, system: NeRFSystem) -> Iterator[str]:
    """The schedule spans all of a training. If this becomes longer, the learning rate rises again."""
    before, now = _length(stored.train), _length(system.config.train)
    if before != now:
        o, epochs = system.config.optim, system.length.num_epochs
        factor = lr_factor(o, system.length.progress * epochs, epochs)
        told = f"goes on to {now} in all, before it was {before}"
        yield f"{told}: the schedule spans the new length, and the learning rate is at {factor:.0%} of --lr now"


def _length(options: TrainOptions) -> str:
    """Those of the options that set the length of a training; epochs do if nothing else does."""
    values = {name: getattr(options, name) for name in LENGTHS}
    if values["max_steps"] is not None or values["seconds"] is not None:
        del values["num_epochs"]
    return " or ".join(_with_unit(value, LENGTHS[name]) for name, value in values.items() if value is not None)


def _with_unit(value: float, unit: str) -> str:
    return f"{value:g} {unit}{'' if value == 1 or unit == 's' else 's'}"


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
