"""From checkpoints to models: those of this project, and the weights of other implementations."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.checkpoints.files import read_checkpoint, stamp_of, write_checkpoint
from nerf_pl.checkpoints.portable import SUFFIX, is_portable, read_portable, write_portable
from nerf_pl.checkpoints.sound import require_parts, wrong_weight
from nerf_pl.checkpoints.views import frame_in, kept_views, require_frame, require_unseen, views_in
from nerf_pl.console import warn
from nerf_pl.errors import DamagedError, UserError, reading
from nerf_pl.methods import METHODS, Foreign, from_dict, method_of
from nerf_pl.methods.model import Model
from nerf_pl.options import Config, ModelOptions, differing, sizes_for, to_dict
from nerf_pl.scenes import Request, Scene, available_splits, detect, frame_of, load_scene, name_of, require_sound
from nerf_pl.scenes.crop import cropped
from nerf_pl.scenes.placing import begun, bounded

ANOTHER = "give another, or fetch it again"
MOST_NAMES = 5  # of weights in a message
UNMOVED = "blender"  # the layout whose scenes stayed as they were in version 0.1.0, and do so in other implementations


@dataclass(frozen=True)
class Run:
    """A trained model, ready to render. root: the folder of its scene at training time; None if it is not known. frame:
    `Scene.frame` of the training views, the identity in place of None; None if it is not known. kept: the splits whose
    views the checkpoint keeps, with black pictures; none before version 0.2. told: what a portable scene tells of the
    run that it was made from; empty for others. others: the model once more on each further device that was asked for.
    stamp: see `stamp_of`; of the file that all of this was read from, which a training may replace at any time.
    is_single: the model is one of several that were trained together, see `single`.

        >>> run = open_run(Path("runs/first"), torch.device("cpu"))
        >>> xyz, dirs = torch.zeros(4, 3), torch.tensor([[0.0, 0.0, 1.0]]).expand(4, 3)
        >>> sigma, rgb = run.model.radiance(xyz, dirs)
        >>> tuple(sigma.shape), tuple(rgb.shape)
        ((4,), (4, 3))
    """

    model: Model
    config: Config
    root: Path | None
    frame: Float[Tensor, "4 4"] | None = None
    kept: Mapping[str, Scene] = field(default_factory=dict)
    told: Mapping[str, object] = field(default_factory=dict)
    others: tuple[Model, ...] = ()
    stamp: str = ""
    is_single: bool = False

    def scene(self, split: str = "test", root: Path | None = None, pictures: bool = True) -> Scene:
        """A split of the scene, loaded with the options of the run. root: the folder of the scene, if it has moved.
        pictures False leaves the pictures black; the folder need not be there then, if the run keeps the views. Raises
        UserError if there is no such split, or if the scene has other poses than it had in training."""
        if not pictures and root is None and split in self.kept:
            scene = self.kept[split]
        else:
            scene = self._loaded(split, root or self.root, pictures)
        for model in (self.model, *self.others):
            model.ndc = scene.ndc  # which a checkpoint of version 0.1.0 does not store
        return scene

    def single(self) -> "Run":
        """The run with the first part of its model alone, if that is an ensemble; else the run itself."""
        if len(self.model.parts) == 1:
            return self
        # a method whose models have several parts has an option for their number, by this name
        config = replace(self.config, model=replace(self.config.model, ensemble=1))
        others = tuple(model.parts[0] for model in self.others)
        return replace(self, model=self.model.parts[0], config=config, others=others, is_single=True)

    def _loaded(self, split: str, root: Path | None, pictures: bool) -> Scene:
        if root is None:
            raise UserError("the run does not know its scene: give the scene's folder")
        config = self.config
        if self.frame is None and config.data.scale is None and _layout(config, root) == UNMOVED:
            config = replace(config, data=replace(config.data, scale=1.0))
        scene = load_split(config, root, split, pictures)
        if self.root is not None:  # weights of others know no scene
            require_frame(self.frame, scene, self.config, "the run was trained on")
        if split == "test":
            require_unseen(self.kept, scene)
        return scene


def open_run(run: Path, device: torch.device, which: str = "last", others: Sequence[torch.device] = ()) -> Run:
    """The run in a folder, the one that wrote a checkpoint, or a portable scene. which: its last or best weights.
    others: see `Run`. Raises UserError.

        >>> run = open_run(Path("runs/first"), torch.device("cpu"))
        >>> run.config.method, len(run.scene("test"))
        ('ngp', 2)
    """
    path = find_checkpoint(run, which)
    try:
        return load_model(path, device, others=others)
    except DamagedError as error:
        if run.is_dir() and (run / "checkpoints" / "best.ckpt").is_file() and which != "best":
            raise UserError(f"{error}; or give --checkpoint best, for the best weights of the run") from error
        raise


def find_checkpoint(run: Path, which: str = "last") -> Path:
    """The checkpoint of a run folder, or `run` itself if that is a file. Raises UserError if there is none."""
    if run.is_file() or (run.suffix.lower() == SUFFIX and not run.is_dir()):
        return run
    path = run / "checkpoints" / f"{which}.ckpt"
    if not path.is_file():
        what = "holds no checkpoint" if run.is_dir() else "does not exist"
        raise UserError(f"run {run} {what} ({path} is missing): give the folder of a training, such as runs/NAME")
    return path


def load_training(config: Config, root: Path) -> tuple[Config, Scene]:
    """The training views, and the options with the background that these views show, with where their rays begin and
    with whether they show a scene without end: all later views then have it."""
    scene = load_split(config, root, "train")
    asked = config.data.background
    if asked == "auto":
        asked = scene.background if scene.plain and scene.background else "none"
    known = asked if isinstance(asked, str) else name_of(asked) or asked
    # of other scenes the rays begin where they begin, whatever this option says
    ahead = scene.ahead if scene.unbounded and scene.ndc is None else config.data.ahead
    config = replace(config, data=replace(config.data, background=known, ahead=ahead))
    if getattr(config.model, "unbounded", True) is None:
        config = replace(config, model=replace(config.model, unbounded=scene.unbounded))
    return config, scene


def load_split(config: Config, root: Path, split: str, pictures: bool = True, trained: Scene | None = None) -> Scene:
    """One split of the scene in `root`, loaded with the options of a run; see `scenes.load_scene`."""
    d, layout = config.data, _layout(config, root)
    method = method_of(config.method)
    offset = method.pixel_offset(layout)
    request = Request(split, d.img_wh, d.downscale, d.test_every, d.spheric, pictures, offset, method.tight)
    request = replace(request, background=d.background, scale=d.scale, masks=d.masks)
    unbounded = getattr(config.model, "unbounded", None)
    request = replace(request, endless=unbounded if d.aabb is None else False)
    if unbounded:  # asked for, or trained before such pictures made a box
        request = replace(request, objects=False)
    scene = load_scene(root, request, layout, trained)
    scene = scene if d.aabb is None else cropped(scene, d.aabb, pictures, is_needed=split == "train")
    ahead = d.ahead if d.aabb is None else None  # a box says where rays begin
    scene = bounded(begun(scene, ahead), d.near, d.far)
    require_sound(scene, root)
    return scene


def _layout(config: Config, root: Path) -> str:
    d = config.data
    return detect(root, d.spheric) if d.dataset_name == "auto" else d.dataset_name


def load_cameras(config: Config, root: Path, *splits: str) -> dict[str, Scene]:
    """Those of the splits that a scene has, to be kept in a checkpoint: pictures are black. One that cannot be read is
    left out, with a warning."""
    found = {}
    for split in {*splits} & {*available_splits(root, config.data.dataset_name, config.data.test_every)}:
        try:
            found[split] = load_split(config, root, split, pictures=False)
        except UserError as error:
            warn(f"the run keeps no {split} views: {error}")
    return found


def load_model(
    path: Path, device: torch.device, config: Config | None = None, others: Sequence[torch.device] = ()
) -> Run:
    """The model of a checkpoint, ours or another implementation's, or of a portable scene.

    config: options to use instead of the stored ones; the sizes of the networks stay the stored ones. others: see
    `Run`. Raises UserError.
    """
    with reading(path, ANOTHER):
        while True:
            stamp = _stamp(path)
            run = _loaded_model(path, device, config, others)
            if _stamp(path) in (stamp, ""):  # else a training has replaced it, before it was read or after
                return replace(run, stamp=stamp)


def _stamp(path: Path) -> str:
    return stamp_of(path) if path.is_file() else ""


def _loaded_model(path: Path, device: torch.device, asked: Config | None, others: Sequence[torch.device]) -> Run:
    checkpoint = read_portable(path) if is_portable(path) else read_checkpoint(path)
    made = _own_model if "config" in checkpoint else _foreign_model
    model, config = made(checkpoint, path, device, asked)
    further = [made(checkpoint, path, other, asked)[0].to(other).eval() for other in others]
    ndc, scene = checkpoint.get("ndc"), checkpoint.get("scene") or ""
    try:
        for each in (model, *further):
            each.ndc = (float(ndc[0]), float(ndc[1])) if ndc else None
        scene = Path(scene)
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise UserError(
            f"checkpoint {path} is damaged, it has ndc {ndc!r:.40}, scene {scene!r:.60}: give another"
        ) from error
    root, frame, kept = scene if checkpoint.get("scene") else None, frame_in(checkpoint, path), {}
    if "config" in checkpoint:
        kept = views_in(checkpoint, path)
    told = checkpoint.get("facts") or {}
    return Run(model.to(device).eval(), config, root, frame, kept, told, tuple(further))


def _own_model(
    checkpoint: Mapping[str, Any], path: Path, device: torch.device, asked: Config | None
) -> tuple[Model, Config]:
    config = stored_config(checkpoint, path)
    if asked and config.method != asked.method:
        raise UserError(f"checkpoint {path} was trained with the method {config.method}: use nerf eval")
    if asked:
        sizes = sizes_for(asked.model, config.model)
        data = replace(asked.data, background=config.data.background, ahead=config.data.ahead)
        config = replace(asked, data=data, model=replace(asked.model, **sizes))
    # pictures need no order of sums, so the kernels make them
    model = method_of(config.method).make(replace(config, train=replace(config.train, deterministic=False)), device)
    if "portable" in checkpoint:
        try:
            for name, weight in checkpoint["portable"].items():
                if wrong := wrong_weight(weight):
                    raise ValueError(f"{name} {wrong}")
            model.to(device).take_portable(checkpoint["portable"])
        except (ValueError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path} is damaged, {reason:.200}: copy it again, or export it anew") from error
        return model, config
    _load_own(model, checkpoint, path)
    if missing := model.state_dict().keys() - model.state_of_a_run - _own_weights(checkpoint).keys():
        raise UserError(f"checkpoint {path} has no {min(missing)}: it is incomplete, give another")
    return model, config


def _foreign_model(
    checkpoint: Mapping[str, Any], path: Path, device: torch.device, asked: Config | None
) -> tuple[Model, Config]:
    found = _read_foreign(checkpoint, (), path)
    if found is None:
        raise UserError(f"checkpoint {path} was not made by nerf_pl or nerf-pytorch: give one of theirs")
    foreign, networks, _ = found
    config = foreign.fit(asked, networks, path)
    if config.data.ahead is None:  # others begin all rays at one distance
        config = replace(config, data=replace(config.data, ahead=0.0))
    model = method_of(config.method).make(config, device)
    foreign.assign(model, networks, path)
    return model, config


def _read_foreign(
    checkpoint: Mapping[str, Any], prefixes_to_ignore: Sequence[str], path: Path
) -> tuple[Foreign, Any, str] | None:
    """What reads the networks that another implementation wrote, the networks, and the name of their method."""
    for name, method in METHODS.items():
        if method.foreign is not None:
            foreign = method.foreign()
            if networks := foreign.read(checkpoint, prefixes_to_ignore, path):
                return foreign, networks, name
    return None


def load_weights(model: Model, config: Config, path: Path, prefixes_to_ignore: Sequence[str]) -> None:
    """Load the weights of a checkpoint into `model`, which was made from `config`.

    prefixes_to_ignore: weights whose names start with one of these are left out. Raises UserError if the checkpoint
    does not fit the model, or if other weights than these are missing or left over.
    """
    with reading(path, ANOTHER):
        _load_weights(model, config, path, prefixes_to_ignore)


def _load_weights(model: Model, config: Config, path: Path, prefixes_to_ignore: Sequence[str]) -> None:
    checkpoint = read_checkpoint(path)
    found = _read_foreign(checkpoint, prefixes_to_ignore, path) if "config" not in checkpoint else None
    stored = stored_config(checkpoint, path) if "config" in checkpoint else None
    theirs = stored.method if stored else found[2] if found else config.method
    if theirs != config.method:
        told = f"--ckpt_path {path} is of the method {theirs}, and this training of {config.method}"
        raise UserError(f"{told}: train with nerf train --method {theirs}, or leave the option out")
    if found:
        _require_match(*found[0].unmatched(model, found[1]), path)
        found[0].assign(model, found[1], path)
        return
    if stored:
        compare(stored.model, config.model, f"--ckpt_path {path}", parts=False)
    if _own_weights(checkpoint):
        _require_match(*_unmatched(model, checkpoint, tuple(prefixes_to_ignore)), path)
    _load_own(model, checkpoint, path, prefixes_to_ignore, model.state_of_a_run)


def _unmatched(model: Model, checkpoint: Mapping[str, Any], ignored: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Weights of the model that are missing in a checkpoint of ours, and those that the model has no place for."""
    ours, theirs = model.state_dict().keys(), _own_weights(checkpoint).keys()
    optional = model.state_of_a_run | model.essential_state  # the latter are required below, whatever is ignored
    pairs = (ours - theirs - optional, theirs - ours)
    missing, surplus = (sorted(name for name in names if not name.startswith(ignored)) for names in pairs)
    return missing, surplus


def _require_match(missing: Sequence[str], surplus: Sequence[str], path: Path) -> None:
    """Raises UserError if there is one of either. Weights that nobody named would train from nothing, unnoticed."""
    told = [f"has no {', '.join(missing[:MOST_NAMES])}"] if missing else []
    told += [f"has {', '.join(surplus[:MOST_NAMES])}, which this model lacks"] if surplus else []
    if told:
        remedy = "give another checkpoint, or name these weights in --prefixes_to_ignore"
        raise UserError(f"--ckpt_path {path} {' and '.join(told)}: {remedy}")


def compare(stored: ModelOptions, asked: ModelOptions, source: str, resumed: bool = False, parts: bool = True) -> None:
    """Raises UserError, naming the options to give, if the weights of `source` have other sizes than are asked for.

    resumed: options that only a resumed run must keep count as well. parts: so do parts that one of the two lacks.
    """
    found = differing(stored, asked, resumed=resumed, parts=parts)
    if found:
        here = ", ".join(f"--{name} {pair[1]}" for name, pair in found.items())
        given = " ".join(f"--{name} {pair[0]}" for name, pair in found.items())
        raise UserError(f"{here}: {source} was trained with other sizes; give {given}")


def stored_config(checkpoint: Mapping[str, Any], path: Path) -> Config:
    """The options that a checkpoint was trained with, every size filled in. Raises UserError if they cannot work, or if
    the weights are of another number of parts."""
    try:
        config = from_dict(checkpoint["config"])
        config.check()
        # a training stores every size; if one is missing, the shapes of the weights will not fit
        config = method_of(config.method).complete(config, "cpu")
        config.check()
    except UserError as error:
        raise UserError(f"checkpoint {path}: {error}") from error
    require_parts(_own_weights(checkpoint), getattr(config.model, "ensemble", None), path)
    return config


def _own_weights(checkpoint: Mapping[str, Any]) -> dict[str, object]:
    """Weights by their names in the model."""
    state = checkpoint.get("state_dict")
    state = state if isinstance(state, dict) else {}
    return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}


def _load_own(
    model: Model,
    checkpoint: Mapping[str, Any],
    path: Path,
    prefixes_to_ignore: Sequence[str] = (),
    left_out: Collection[str] = (),
) -> None:
    own = {name: value for name, value in model.state_dict().items() if name not in left_out}
    ignored, essential = tuple(prefixes_to_ignore), model.essential_state
    weights: dict[str, Any] = {
        name: value
        for name, value in _own_weights(checkpoint).items()
        if name in own and (name in essential or not name.startswith(ignored))
    }
    if not weights.keys() - essential:
        raise UserError(f"checkpoint {path} holds no weights for this model: give one of nerf_pl or nerf-pytorch")
    if missing := essential - weights.keys():
        raise UserError(f"checkpoint {path} has no {min(missing)}: it is incomplete, give another")
    for name, value in weights.items():
        if not isinstance(value, Tensor) or own[name].shape != value.shape:
            raise UserError(f"checkpoint {path} has another network size ({name}): set {model.size_options}")
        if wrong := wrong_weight(value):
            raise UserError(f"checkpoint {path}: {name} {wrong}, training had diverged: give an earlier one")
    model.load_state_dict(weights, strict=False)


def save_model(
    path: Path, model: Model, config: Config, root: str = "", views: Mapping[str, Scene] | None = None
) -> None:
    """Write a checkpoint that holds a model and its options, as training does, without the state of an optimizer."""
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    write_checkpoint({"state_dict": state, "global_step": 0, **facts(model, config, root, views or {})}, path)


def save_portable(path: Path, run: Run, views: Mapping[str, Scene], told: Mapping[str, object]) -> None:
    """Write a portable scene: what it takes to render a run, see `portable`. views: by split. told: see `Run`."""
    frame = None if run.frame is None else run.frame.tolist()
    content = facts(run.model, run.config, str(run.root or ""), views) | {"frame": frame, "facts": dict(told)}
    if "train" in views:  # a checkpoint of version 0.1.0 does not store it
        content["ndc"] = views["train"].ndc
    write_portable(path, run.model.portable(), content)


def facts(model: Model, config: Config, root: str, views: Mapping[str, Scene]) -> dict[str, object]:
    """What a checkpoint holds beside weights: all options, the folder of the scene, its frame and its views, and the
    model's `ndc`. root: the folder of the scene. views: by split, see `views.kept_views`."""
    frame = frame_of(views["train"]).tolist() if "train" in views else None
    kept = kept_views(views)
    return {"config": to_dict(config), "scene": root, "frame": frame, "views": kept, "ndc": model.ndc}
