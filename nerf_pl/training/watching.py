"""What lets somebody look at a model while it trains."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import lightning as L
from lightning.pytorch.callbacks import Callback

from nerf_pl.methods.model import Model
from nerf_pl.scenes import Scene
from nerf_pl.training.callbacks import Interrupt, ProgressBar
from nerf_pl.training.system import NeRFSystem


@runtime_checkable
class Watcher(Protocol):
    """Who looks at a model while it trains. Must not change it, nor draw from a stream of its random numbers."""

    def begin(self, model: Model, scene: Scene) -> None:
        """The first step is about to come."""
        ...

    def look(self) -> float:
        """Called between two steps, in the thread that trains. Returns the seconds that it took."""
        ...

    def hold(self, is_over: Callable[[], bool]) -> None:
        """Called every now and then. Returns at once, or if the training is paused when it goes on or `is_over`."""
        ...

    def tell(self, line: str) -> None:
        """How far the training is."""
        ...

    def end(self, model: Model) -> None:
        """The last step has been."""
        ...


class Watched(Callback):
    """Lets a watcher look at the model between steps. The time for it is not the training's."""

    def __init__(self, watcher: Watcher, bar: ProgressBar, interrupt: Interrupt) -> None:
        self.watcher, self.bar, self.interrupt = watcher, bar, interrupt

    def on_train_start(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        self.watcher.begin(pl_module.model, pl_module.scene)
        pl_module.between_steps = self.watcher.look

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: NeRFSystem, *_: Any) -> None:
        self.watcher.tell(f"{pl_module.length.progress:.0%}  step {pl_module.step}  {self.bar.status}")
        self.watcher.hold(lambda: self.interrupt.asked > 0)

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: NeRFSystem, *_: Any) -> None:
        self.watcher.look()

    def on_train_end(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        pl_module.between_steps = None
