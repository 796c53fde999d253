"""What is known of a method before there is a model of it. Nothing here imports torch, so that `--help` is quick."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from nerf_pl.options import Config, ModelOptions

if TYPE_CHECKING:
    import torch

    from nerf_pl.methods.model import Model


@runtime_checkable
class Complete(Protocol):
    def __call__(self, config: Config, device_type: str, unbounded: bool = False, ndc: bool = False) -> Config:
        """The options with all that is left to the device ("cuda" or "cpu") and to the kind of scene filled in."""
        ...


@runtime_checkable
class Make(Protocol):
    def __call__(self, config: Config, device: torch.device, rank: int = 0) -> Model:
        """The model of a run, on the CPU, for use on a device. Each process has random numbers of its own; the weights
        are those of process 0."""
        ...


@runtime_checkable
class Foreign(Protocol):
    """Weights that other implementations of the method wrote; found: what `read` gave."""

    def read(self, checkpoint: Mapping[str, Any], prefixes_to_ignore: Sequence[str], path: Path) -> Any | None:
        """The networks in a checkpoint; None if no other implementation wrote it."""
        ...

    def fit(self, config: Config | None, found: Any, path: Path) -> Config:
        """The options for a model of these networks: those given, or the classic ones, but for the sizes."""
        ...

    def assign(self, model: Model, found: Any, path: Path) -> None:
        """Put the networks into a model. Raises UserError if they do not fit."""
        ...


@dataclass(frozen=True)
class Method:
    """options: the class of the method's own options. preset: the defaults of `nerf train`. pixel_offset: where in its
    pixel a ray passes, for a layout of scenes (0.5 is the middle). foreign: how weights of others are read."""

    options: type[ModelOptions]
    preset: Config
    complete: Complete
    make: Make
    pixel_offset: Callable[[str], float] = lambda layout: 0.5
    foreign: Callable[[], Foreign] | None = None
