"""Method: what is known before there is a model. Nothing here imports torch, so that `--help` is quick."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from nerf_pl.options import Config, ModelOptions, SceneKind

if TYPE_CHECKING:
    import torch

    from nerf_pl.methods.model import Model
    from nerf_pl.scenes import Scene


def kind_of(scene: Scene) -> SceneKind:
    """The kind of a scene to train on."""
    from nerf_pl.scenes import one_per_photo  # which imports torch

    return SceneKind(scene.unbounded, scene.ndc is not None, len(one_per_photo(scene)), scene.seen is not None)


@runtime_checkable
class Complete(Protocol):
    def __call__(self, config: Config, device_type: str, kind: SceneKind = ...) -> Config:
        """The options, with every value filled in that follows from the device (cuda or cpu) and the kind of scene. By
        default it is that of an object in a box."""
        ...


@runtime_checkable
class Make(Protocol):
    def __call__(self, config: Config, device: torch.device, rank: int = 0) -> Model:
        """The model of a run, on the CPU, for later use on `device`. rank: the number of the process. Each process has
        its own random numbers; all processes start from the same weights."""
        ...


@runtime_checkable
class Foreign(Protocol):
    """Reads weights that other implementations of the method wrote. found: the result of `read`."""

    def read(self, checkpoint: Mapping[str, Any], prefixes_to_ignore: Sequence[str], path: Path) -> Any | None:
        """The networks in a checkpoint; None if no other implementation wrote it."""
        ...

    def fit(self, config: Config | None, found: Any, path: Path) -> Config:
        """The options for a model of these networks: config, or the classic options, with the sizes of the networks."""
        ...

    def unmatched(self, model: Model, found: Any) -> tuple[list[str], list[str]]:
        """Networks of the model that are missing in `found`, and those that the model has no place for, each by the
        prefix of its weights' names. Those to be ignored do not count."""
        ...

    def assign(self, model: Model, found: Any, path: Path) -> None:
        """Copy the networks into a model. Raises UserError if they do not fit."""
        ...


@dataclass(frozen=True)
class Method:
    """options: the class of the method's own options. preset: the defaults of `nerf train`. pixel_offset: where in its
    pixel a ray passes, for each layout of scenes; 0.5 is the centre. foreign: reads other implementations' weights.
    tight: see `scenes.Request`. least_bytes: the memory that a ray takes at the very least, in a step or as it is
    rendered."""

    options: type[ModelOptions]
    preset: Config
    complete: Complete
    make: Make
    pixel_offset: Callable[[str], float] = lambda layout: 0.5
    foreign: Callable[[], Foreign] | None = None
    tight: bool = False
    least_bytes: Callable[[ModelOptions], int] = lambda options: 0
