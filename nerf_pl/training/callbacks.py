"""The callbacks of a training: progress bar, pictures in the log, checkpoints, and a clean end on Ctrl-C."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from rich.progress import BarColumn, Progress, TaskProgressColumn
from torch import Tensor

from nerf_pl.checkpoints.files import duplicate
from nerf_pl.console import QUIET_SECONDS, console, description, short_number, warn
from nerf_pl.errors import Interrupted, UserError
from nerf_pl.media import depth_colours, depth_span, side_by_side
from nerf_pl.rendering import Image
from nerf_pl.scenes.memory import in_gb, memory_of_process
from nerf_pl.signals import ENDING, handled
from nerf_pl.text import clock_time
from nerf_pl.training.checkpoint_io import HELD, AtomicCheckpointIO
from nerf_pl.training.machines import difference
from nerf_pl.training.poses import outcome
from nerf_pl.training.saving import Saving
from nerf_pl.training.system import NeRFSystem
from nerf_pl.training.time_left import TimeLeft
from nerf_pl.training.verdict import plain_psnr, verdict


class ProgressBar(Callback):
    """Speed, training and validation PSNR, and time left: a bar on a terminal, elsewhere a line every QUIET_SECONDS."""

    def __init__(self, saving: Saving | None = None) -> None:
        self.bar: Progress | None = None
        self.status = ""
        self.val_psnr = "-"
        self.last_line = time.monotonic()
        self.has_warned = self.has_told_plan = False
        self.time_left = TimeLeft(saving)

    def on_fit_start(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        if trainer.is_global_zero:
            console.print(pl_module.describe())

    def on_train_start(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        self.time_left.begin(pl_module.length)
        if trainer.is_global_zero and console.is_terminal:
            columns = BarColumn(None), TaskProgressColumn(), description()
            self.bar = Progress(*columns, console=console, expand=True, refresh_per_second=4)
            self.task = self.bar.add_task("", total=1.0)
            self.bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: NeRFSystem, *_: Any) -> None:
        self.time_left.stepped(pl_module.length)
        self._update(trainer, pl_module, self.time_left.seconds(pl_module.length))
        if pl_module.skipped and not self.has_warned and trainer.is_global_zero:
            console.print(f"step {pl_module.step}: a gradient was not finite; such steps are left out")
            self.has_warned = True
        if self.bar is None and time.monotonic() - self.last_line >= QUIET_SECONDS:
            self._print(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        self.time_left.pause()
        if self.bar is not None:
            self.bar.update(self.task, description="rendering the validation views", refresh=True)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        plan = pl_module.validation
        if trainer.is_global_zero and not self.has_told_plan and plan.every > 1:
            console.print(plan.describe())
            self.has_told_plan = True

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: NeRFSystem, batch: object, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        views = -(-len(pl_module.validation.views) // pl_module.world)  # of this process
        if self.bar is not None and batch_idx < views:
            self.bar.update(self.task, description=f"rendering validation view {batch_idx + 1} of {views}")

    def on_validation_end(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        self.val_psnr = f"{float(trainer.callback_metrics['val/psnr']):.2f}"
        self._update(trainer, pl_module, 0.0 if pl_module.length.finished else self.time_left.seconds(pl_module.length))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        self.time_left.go_on()  # after checkpoints are written

    def on_train_end(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        if self.bar is None:
            self._print(trainer, pl_module)
        if pl_module.skipped and trainer.is_global_zero:
            console.print(f"steps left out, as a gradient was not finite: {pl_module.skipped}; try a lower --lr")
        scores = [trainer.callback_metrics.get(name) for name in ("train/psnr", "val/psnr")]
        train, val = (None if score is None else float(score) for score in scores)
        told = verdict(pl_module.step, train, val, plain_psnr(pl_module.scene))
        if trainer.is_global_zero and told:
            warn(told)
        if pl_module.config.train.refine_poses:
            steps = pl_module.step // len(pl_module.model.parts)
            if kept := outcome(pl_module.scene, pl_module.batches, steps):
                console.print(kept)

    def teardown(self, trainer: L.Trainer, pl_module: NeRFSystem, stage: str) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def on_exception(self, trainer: L.Trainer, pl_module: NeRFSystem, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")

    def _update(self, trainer: L.Trainer, pl_module: NeRFSystem, left: float) -> None:
        done, rate = pl_module.length.progress, 1 / pl_module.length.step_seconds
        rays = rate * pl_module.rays * pl_module.world
        psnr = float(trainer.callback_metrics["train/psnr"])
        speed = f"{short_number(rate)} step/s  {short_number(rays)} rays/s"
        score = f"train {psnr:.2f} val {self.val_psnr} dB"
        self.status = "  ".join([speed, score, *used_memory(pl_module.device), f"{clock_time(left)} left"])
        if self.bar is not None:
            self.bar.update(self.task, completed=done, description=self.status)

    def _print(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        if trainer.is_global_zero:
            console.print(f"{pl_module.length.progress:4.0%}  step {pl_module.step}  {self.status}")
            self.last_line = time.monotonic()


def used_memory(device: torch.device) -> list[str]:
    """The memory that the training takes, of the GPU or of the machine; nothing if the system does not tell."""
    if device.type == "cuda":
        return [in_gb(torch.cuda.max_memory_reserved(device))]
    used = memory_of_process()
    return [] if used is None else [in_gb(used)]


class Agreement(Callback):
    """Processes that train together do so on the same pictures, with the same options, from the same step. That is
    compared before DDP compares the sizes of tensors, which it tells with a dump."""

    def setup(self, trainer: L.Trainer, pl_module: NeRFSystem, stage: str) -> None:
        if trainer.world_size == 1:
            return
        cameras, config = pl_module.scene.cameras, pl_module.config
        own: dict[str, object] = {"--method": config.method}
        for part in (config.model, config.data, config.optim, config.train):
            own |= {f"--{name}": value for name, value in asdict(part).items()}
        own |= {"pictures": f"{len(cameras)} of {cameras.width}x{cameras.height}", "step": pl_module.step}
        facts: list[dict[str, object]] = [{} for _ in range(trainer.world_size)]
        torch.distributed.all_gather_object(facts, own)
        if (told := difference(facts)) is not None:
            raise UserError(f"{told}: give the same command, scene and folder of runs on all machines")


class OptionsLog(Callback):
    """All options in TensorBoard, which compares runs by them, with the best PSNR at the end."""

    def __init__(self, checkpoints: "Checkpoints") -> None:
        self.checkpoints = checkpoints

    def on_fit_start(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        self._log(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        if math.isfinite(self.checkpoints.best):
            self._log(trainer, pl_module, {"options/best_psnr": self.checkpoints.best})

    def _log(self, trainer: L.Trainer, pl_module: NeRFSystem, scores: dict[str, float] | None = None) -> None:
        config = pl_module.config
        parts = (asdict(part) for part in (config.data, config.model, config.optim, config.train))
        shown = {name: str(value) for part in parts for name, value in part.items()}
        log: Any = trainer.logger
        if trainer.is_global_zero and log is not None:
            log.log_hyperparams({"method": config.method, **shown}, scores)


class ImageLog(Callback):
    """Ground truth, prediction and depth of the first validation view, side by side in TensorBoard."""

    def on_validation_batch_end(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        trainer: L.Trainer,
        pl_module: NeRFSystem,
        outputs: tuple[Image, Tensor] | None,
        batch: int,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx or outputs is None or not trainer.is_global_zero or trainer.logger is None:
            return
        image, target = outputs[0].cpu(), outputs[1].cpu()
        scene = pl_module.val_scene
        assert scene is not None
        span = depth_span(image.depth, image.opacity, scene.near, scene.far)
        pictures = side_by_side(target, image.rgb, depth_colours(image.depth, *span, image.opacity))
        log: Any = trainer.logger.experiment  # pyright: ignore[reportAttributeAccessIssue]
        log.add_image("val/GT_pred_depth", pictures, pl_module.step, dataformats="HWC")


class Checkpoints(Callback):
    """Writes last.ckpt after a validation, and best.ckpt if its PSNR was the highest so far.

    Without a validation split it writes last.ckpt alone, as often. Once saving has taken too much of the time, see
    `Saving`, validations save nothing until it has not, or until the last one. The best weights stay in memory
    meanwhile. minutes: of training after which last.ckpt is written in any case; 0 is never. best, best_step: the
    highest PSNR so far, and after which step.
    """

    def __init__(self, folder: Path, best: float = float("-inf"), minutes: float = 0.0) -> None:
        self.folder, self.best, self.best_step, self.minutes = folder, best, -1, minutes
        self.has_saved = False
        self.after_first: Callable[[], None] | None = None  # called after the first checkpoint is written
        self._saved_at = 0.0  # training seconds; all processes count the same
        self.saving = Saving()

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.folder / "last.ckpt"

    @property
    def _best(self) -> Path:
        return self.folder / "best.ckpt"

    def on_train_start(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        self._saved_at = pl_module.length.train_seconds
        self.saving.begin()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: NeRFSystem, *_: Any) -> None:
        is_due = 0 < 60 * self.minutes <= pl_module.length.train_seconds - self._saved_at
        if is_due and not pl_module.length.finished:  # else it is written in a moment
            self.save(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        psnr = float(trainer.callback_metrics["val/psnr"])
        if psnr > self.best:
            self.best, self.best_step = psnr, pl_module.step

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        is_best = self.best_step == pl_module.step
        if pl_module.length.finished or not _largest(trainer, int(self.saving.must_wait)):
            with self.saving.of_a_validation():
                self.save(trainer, pl_module)
                if trainer.is_global_zero and is_best:
                    self.keep_best()
        elif is_best:
            with self.saving.counted():
                pl_module.synchronize()
                trainer.save_checkpoint(self._best, storage_options=HELD)

    def on_exception(self, trainer: L.Trainer, pl_module: NeRFSystem, exception: BaseException) -> None:
        if not isinstance(exception, Interrupted | KeyboardInterrupt):  # those are to end it at once
            _files_of(trainer).write_held()

    def save(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        """Write last.ckpt. All processes call this."""
        with self.saving.counted():
            pl_module.synchronize()
            if self.best_step == pl_module.step:
                _files_of(trainer).drop_held()  # these weights are better
            # before last.ckpt, which says that best.ckpt is written: a run that goes on would not write it again
            _files_of(trainer).write_held()
            trainer.save_checkpoint(self.last)
        self.has_saved, self._saved_at = True, pl_module.length.train_seconds
        if self.after_first is not None:
            self.after_first()
            self.after_first = None

    def keep_best(self) -> None:
        """Copy last.ckpt to best.ckpt, after it is safe on the disk: so it is written, whatever becomes of the copy."""
        with self.saving.counted():
            duplicate(self.last, self._best)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: NeRFSystem, checkpoint: dict[str, Any]) -> None:
        checkpoint["best_psnr"], checkpoint["best_step"] = self.best, self.best_step


def _files_of(trainer: L.Trainer) -> AtomicCheckpointIO:
    found = trainer.strategy.checkpoint_io
    assert isinstance(found, AtomicCheckpointIO)
    return found


class Interrupt(Callback):
    """A signal, such as Ctrl-C or SIGTERM, ends the training after the current chunk of steps and writes last.ckpt to
    resume from.

    A second Ctrl-C, or any signal before the first step, ends the training at once. asked: the number of the signal; 0
    until there is one. resumed: whether there is a last.ckpt of this run. checkpoints: what writes it.
    """

    def __init__(self, folder: Path, resumed: bool = False, checkpoints: Checkpoints | None = None) -> None:
        self.checkpoints = checkpoints or Checkpoints(folder)
        self.last, self.resumed = folder / "last.ckpt", resumed
        self.training = False
        self.asked = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While the block runs, signals end the training as said above. One that came too late to end it, when all was
        saved, ends the command after the block."""
        with handled(self._on_signal, (signal.SIGINT, *ENDING)):
            yield
        if self.asked:
            raise self._finished(self.asked)

    @property
    def is_ours(self) -> bool:
        """Whether last.ckpt is of this run, and not of an earlier one of the name."""
        return self.resumed or self.checkpoints.has_saved

    def on_train_start(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        self.training = True

    def _on_signal(self, number: int = signal.SIGINT) -> None:
        is_ending, self.asked = bool(self.asked), self.asked or number
        if not self.training or (is_ending and number == signal.SIGINT):
            raise self.at_once(number)
        if not is_ending and number == signal.SIGINT:
            told = "stopping: what was learned is saved after the current steps or view; Ctrl-C once more ends at once"
            console.print(told)

    def at_once(self, number: int) -> Interrupted:
        """What ends a training that cannot save what it has learned."""
        if self.is_ours:
            return Interrupted(f"{self.last} is of an earlier step", True, number)
        before = f"; {self.last} is of the run before" if self.last.is_file() else ""
        return Interrupted(f"nothing was saved yet{before}", False, number)

    def _finished(self, number: int) -> Interrupted:
        return Interrupted(f"{self.last} is saved, and the training is finished", False, number, is_finished=True)

    def _stop_if_asked(self, trainer: L.Trainer, pl_module: NeRFSystem) -> None:
        # all processes stop at the same step, even if the signal has not reached each of them yet
        if number := _largest(trainer, self.asked):
            self.asked = number
            self.checkpoints.save(trainer, pl_module)
            if pl_module.length.finished:
                raise self._finished(number)
            raise Interrupted(f"{self.last} is saved", True, number)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: NeRFSystem, *_: Any) -> None:
        self._stop_if_asked(trainer, pl_module)

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: NeRFSystem, *_: Any) -> None:
        self._stop_if_asked(trainer, pl_module)


def _largest(trainer: L.Trainer, number: int) -> int:
    """The largest of the numbers that the processes of a training have."""
    if trainer.world_size == 1:
        return number
    return int(trainer.strategy.reduce(torch.tensor(number, device=trainer.strategy.root_device), reduce_op="max"))
