"""From checkpoints to models and back: those of this project, and the weights of other implementations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.checkpoints.files import read_checkpoint, stamp_of, write_checkpoint
from nerf_pl.checkpoints.portable import SUFFIX, is_portable, read_portable, write_portable
from nerf_pl.checkpoints.sound import wrong_weight
from nerf_pl.checkpoints.splits import layout_of, load_split
from nerf_pl.checkpoints.views import frame_in, kept_views, require_frame, require_unseen, views_in
from nerf_pl.checkpoints.weights import ANOTHER, load_own, own_weights, read_foreign, stored_config
from nerf_pl.errors import DamagedError, UserError, reading
from nerf_pl.methods import method_of
from nerf_pl.methods.model import Model
from nerf_pl.options import Config, sizes_for, to_dict
from nerf_pl.scenes import Scene, frame_of

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
        if self.frame is None and config.data.scale is None and layout_of(config, root) == UNMOVED:
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
        other = "last" if which == "best" else "best"
        if path.with_name(f"{other}.ckpt").is_file():
            raise UserError(f"run {run} has no {path.name}: give --checkpoint {other}")
        what = "holds no checkpoint" if run.is_dir() else "does not exist"
        raise UserError(f"run {run} {what} ({path} is missing): give the folder of a training, such as runs/NAME")
    return path


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
    load_own(model, checkpoint, path)
    if missing := model.state_dict().keys() - model.state_of_a_run - own_weights(checkpoint).keys():
        raise UserError(f"checkpoint {path} has no {min(missing)}: it is incomplete, give another")
    return model, config


def _foreign_model(
    checkpoint: Mapping[str, Any], path: Path, device: torch.device, asked: Config | None
) -> tuple[Model, Config]:
    found = read_foreign(checkpoint, (), path)
    if found is None:
        raise UserError(f"checkpoint {path} was not made by nerf_pl or nerf-pytorch: give one of theirs")
    foreign, networks, _ = found
    config = foreign.fit(asked, networks, path)
    if config.data.ahead is None:  # others begin all rays at one distance
        config = replace(config, data=replace(config.data, ahead=0.0))
    model = method_of(config.method).make(config, device)
    foreign.assign(model, networks, path)
    return model, config


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
