"""What people see and keep of a training: the progress bar, pictures in the log, checkpoints, a clean interrupt."""

import signal
import threading
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor

from nerf_pl.media import depth_colours


class ProgressBar(Callback):
    """Speed, training and validation PSNR, and time left, on one line."""

    def __init__(self) -> None:
        self.bar: Progress | None = None
        self.val_psnr = "-"

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        self.bar = Progress(*columns, TextColumn("{task.fields[status]}"), refresh_per_second=4)
        self.task = self.bar.add_task("training", total=1.0, status="")
        self.bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        if self.bar is None:
            return
        done, spent = pl_module.progress, pl_module.train_seconds
        rate = 1 / pl_module.step_seconds
        rays = rate * pl_module.batches.batch_size * pl_module.world
        left = (1 - done) * spent / max(done, 1e-9)
        psnr = trainer.callback_metrics.get("train/psnr")
        status = (
            f"step {pl_module.global_step}  {rate:.3g} step/s  {_short(rays)} rays/s  "
            f"train {float(psnr) if psnr is not None else 0:.2f} dB  val {self.val_psnr} dB  {_clock(left)} left"
        )
        self.bar.update(self.task, completed=done, status=status)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        psnr = trainer.callback_metrics.get("val/psnr")
        if psnr is not None:
            self.val_psnr = f"{float(psnr):.2f}"

    def teardown(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def _short(number: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


class ImageLog(Callback):
    """Ground truth, prediction and depth of the first validation view, side by side in TensorBoard."""

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx == 0 and trainer.is_global_zero and trainer.logger is not None:
            picture = stack(outputs, pl_module.val_scene.near, pl_module.val_scene.far)
            trainer.logger.experiment.add_image(  # pyright: ignore[reportAttributeAccessIssue]
                "val/GT_pred_depth", picture, trainer.global_step, dataformats="HWC"
            )


def stack(images: dict[str, Tensor], near: float, far: float) -> Tensor:
    """Target, prediction and coloured depth next to each other: (H, 3 W, 3) in [0, 1]."""
    depth = depth_colours(images["depth"].cpu(), near, far, images["opacity"].cpu())
    parts = (images["target"].cpu(), images["rgb"].cpu(), torch.from_numpy(depth).float() / 255)
    return torch.cat(parts, 1)


def keep_best_and_last(folder: Path, validates: bool) -> ModelCheckpoint:
    """Writes best.ckpt, by PSNR on the validation split, and last.ckpt, at every validation."""
    return ModelCheckpoint(
        dirpath=folder,
        filename="best",
        monitor="val/psnr" if validates else None,
        mode="max",
        save_last=True,
        save_on_train_epoch_end=not validates,
        enable_version_counter=False,
    )


class Interrupted(Exception):  # noqa: N818 - no error
    """Training was ended by Ctrl-C, and last.ckpt was written."""


class Interrupt(Callback):
    """Ctrl-C ends the training after the steps under way and leaves last.ckpt to resume from; a second one ends it at
    once."""

    def __init__(self, folder: Path) -> None:
        self.last = folder / "last.ckpt"
        self.asked = False
        self._before: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, *_: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        if self.asked:
            trainer.save_checkpoint(self.last)
            raise Interrupted

    def teardown(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
