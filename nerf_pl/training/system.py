"""NeRFSystem: what happens in one training step and in one validation view, for Lightning to drive."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from nerf_pl import metrics
from nerf_pl.checkpoints import facts
from nerf_pl.console import doing
from nerf_pl.errors import UserError
from nerf_pl.methods.model import Model
from nerf_pl.ops import precision_of
from nerf_pl.options import Config
from nerf_pl.options.ranges import LARGEST
from nerf_pl.rendering import Image, lattice, render_lattice, render_view
from nerf_pl.scenes import Scene, with_wide_outlines
from nerf_pl.training.batches import PixelBatches
from nerf_pl.training.exchange import Exchange
from nerf_pl.training.gradients import Gradients, memory_advice, take_steps, untouched
from nerf_pl.training.length import Length
from nerf_pl.training.poses import LEAST_STEPS, OUTLINES, TURNS, refine
from nerf_pl.training.schedule import lr_factor
from nerf_pl.training.validation import LEAST_SECONDS, SHARE, Plan, plan, probe

MOST_PSNR = 60.0  # dB that a validation view counts; pictures that differ by the rounding to 8 bits have 59
LATE, LATE_STEPS = 0.5, 10_000  # share of a training, steps of a field; after both a pixel is a mean of several rays
LATEST = 0.75  # share of a training after which it is one anyhow


def is_late(progress: float, step: int, late_from: int) -> bool:
    """Whether a pixel is the mean of several rays. late_from: the step after LATE_STEPS of each field."""
    return progress >= LATEST or (progress >= LATE and step >= late_from)


class NeRFSystem(L.LightningModule):
    """A model in training, for Lightning to drive.

    `training_step` takes many steps at once, so that Lightning's own work does not show. On a GPU one step is the
    replay of a CUDA graph and one step of the optimizer, with no synchronisation.
    """

    def __init__(self, config: Config, model: Model, scene: Scene, val_scene: Scene | None = None, world: int = 1):
        super().__init__()
        self.automatic_optimization = False
        self.config, self.model, self.scene, self.val_scene, self.world = config, model, scene, val_scene, world
        self.scene_root = str(scene.root.resolve()) if scene.root else ""
        self._late_from = 0  # see `is_late`
        self.begun_on = ""  # the type of device on which the run was begun; "" if that is not known
        self.kept = {"train": scene}  # splits whose views a checkpoint keeps, without their pictures
        steps_per_epoch = max(scene.n_pixels // (config.train.batch_size * world), 1)
        validates, most = val_scene is not None, model.precrop_steps
        self.length = Length(config.train, steps_per_epoch, fixed_batches=model.fixed_batches, validates=validates)
        precrop = most if self.length.max_steps is None else min(most, self.length.max_steps // 4)
        draw = {"precrop_steps": precrop, "random_until": model.random_until, "limit": model.batch_limit}
        draw["fit_colours"] = bool(config.train.fit_colours)
        self.batches = PixelBatches(scene, config.train.batch_size, model.seed, backend=model.backend, **draw)
        self.rays = config.train.batch_size  # of one step and process, as last measured
        self.skipped = 0  # steps left out since the start of this process, see `methods.Model.counts`
        self.error, self.is_failing = math.nan, False  # the last finite error; whether the latest is not finite
        self.validation = Plan(())
        self._leaves_out = False  # whether the model leaves out steps without a finite gradient
        self.pose_turns = 0  # how often it was time to refine poses
        self.may_be_off = config.train.refine_poses  # whether poses are yet to be refined, or were wrong
        self.between_steps: Callable[[], float] | None = None  # returns seconds that are not the training's
        self._away = 0.0  # such seconds since the last steps began
        self._optimizer_state: dict[str, Any] | None = None

    @property
    def step(self) -> int:
        """The step of the run that comes next, or that is being taken."""
        return self.length.step

    # ---- one training step -------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = self.model.make_optimizer(self.config.optim)
        if self._optimizer_state is not None:
            stored = self._optimizer_state
            pairs = zip(optimizer.param_groups, stored["param_groups"], strict=True)
            # the settings are those asked for: a resumed run may be given another weight decay, say
            groups = [{**asked, "params": group["params"]} for asked, group in pairs]
            optimizer.load_state_dict({**stored, "param_groups": groups})
        return optimizer

    def on_fit_start(self) -> None:
        if isinstance(self.trainer.strategy, DDPStrategy):
            # `Exchange` does it: DDP's own hooks cannot run inside a graph; buffers are constant
            ddp: Any = self.trainer.strategy.model
            ddp.require_backward_grad_sync = ddp.require_forward_param_sync = False
        precision = precision_of(self.config.train.precision, self.device)
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        self.model.train()
        with memory_advice(self.model):
            if self.step == 0:
                start = time.perf_counter()
                with doing("finding where the scene is empty") if self.global_rank == 0 else nullcontext():
                    self._fit(keep_box=self.config.train.ckpt_path is not None)
                self.length.train_seconds += self._mean(time.perf_counter() - start)
            self.model.go_on(self.step)
            # by the steps that the fields have taken: with another number of processes those of the run were others
            parts = self.model.parts
            self._late_from = self.step + sum(LATE_STEPS - int(part.step) for part in parts)
            self.gradients = Gradients(self.model, self.batches)
            self.exchange = Exchange(self._optimizer(), self.world, self.model.apart(self.world))
            compiles = "; it compiles, which takes longest the first time" if self.model.backend.uses_kernels else ""
            said = doing(f"preparing the first step{compiles}") if self.global_rank == 0 else nullcontext()
            with said:  # before the clock of a time budget starts
                self._prepare()

    def _prepare(self) -> None:
        """Compile the kernels and record the graphs."""
        self.model.prepare_optimizer(self._optimizer())
        with untouched(self.model):
            self.model.before_step(0)
            self.length.step_seconds = self._mean(self.gradients.capture())
            # a CPU captures nothing, so it does not run later steps in advance
            if self.device.type == "cuda" and self.model.rays_per_pixel > 1:
                self.length.step_seconds = self._mean(self.gradients.capture(self.model.rays_per_pixel))

    def _fit(self, keep_box: bool) -> None:
        """Fit the model to the scene, with the pictures that the device has already. Outlines of cameras that are yet
        to be moved would cut the object away, so they are wider."""
        cameras = replace(self.scene.cameras, c2w=self.batches.c2w.to(self.scene.cameras.c2w))
        scene = replace(self.scene, images=self.batches.images, cameras=cameras)
        self.model.fit(with_wide_outlines(scene, OUTLINES) if self.may_be_off else scene, keep_box)

    def _refine_poses(self) -> None:
        """A turn of `poses.refine`. Once the poses are known to be right, outlines count as they are."""
        moved = refine(self.model, self.scene, self.batches, self.pose_turns, self.config.train.chunk)
        if moved != self.may_be_off:
            self.may_be_off = moved
            if self.scene.images.shape[-1] == 4:
                self._fit(keep_box=True)

    def training_step(self, n_steps: int, batch_idx: int) -> None:
        start, self._away = time.perf_counter(), 0.0
        n_steps = self.length.chunk(n_steps, batch_idx)
        optimizer = self._optimizer()
        steps = range(self.step, self.step + n_steps)
        with memory_advice(self.model):
            exchange = self.exchange
            take_steps(
                self.gradients, optimizer, steps,
                begin=self._begin, exchange=exchange.gradients, end=exchange.weights,
            )  # fmt: skip
            exchange.level()
            self.length.step = steps.stop
            error = self._mean(self._error(optimizer, n_steps))
        spent = self._mean(time.perf_counter() - start - self._away)
        self.length.spend(spent, n_steps)
        self._report(error)
        self.trainer.should_stop = self.length.finished

    def _optimizer(self) -> torch.optim.Optimizer:
        """The optimizer itself: Lightning's wrapper takes longer than a step."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        return optimizer

    def _begin(self, step: int) -> int:
        """Set the learning rate of a step and what is behind pictures, and refine poses if it is time; returns the rays
        per pixel of the step."""
        if self.between_steps is not None:
            self._away += self.between_steps()
        self.length.step = step
        is_due = self.pose_turns < len(TURNS) and self.length.progress >= TURNS[self.pose_turns]
        if self.config.train.refine_poses and is_due:
            if step >= LEAST_STEPS * len(self.model.parts):
                self._refine_poses()
            self.pose_turns += 1
        lr = self._lr()
        for group in self._optimizer().param_groups:
            group["lr"] = lr
        self.batches.advance(self.length.progress)
        return self._rays_per_pixel()

    def _report(self, error: float) -> None:
        """Log the error of the last steps. Raises UserError when training has diverged."""
        if not math.isfinite(error):
            # a model may skip one such step; if it skips none, or after two in a row, the weights are lost
            if self.is_failing or not self._leaves_out:
                raise UserError(f"training diverged before step {self.step}: the loss is {error}; give a lower --lr")
            self.is_failing, error = True, self.error
        else:
            self.is_failing, self.error = False, error
        psnr = -10 * math.log10(max(error, 1e-12))
        # Lightning would count chunks; `step` is what it takes for the axis instead
        rate = self.rays * self.world / self.length.step_seconds
        speed = {"train/rays_per_second": rate, "train/seconds": self.length.train_seconds}
        self.log_dict({"train/mse": error, "train/psnr": psnr, **speed, "lr": self._lr(), "step": float(self.step)})

    def _rays_per_pixel(self) -> int:
        """One at first, because more pixels teach more than the even coverage of fewer. Later the edges matter most."""
        late = is_late(self.length.progress, self.step, self._late_from)
        return self.model.rays_per_pixel if late else 1

    def _error(self, optimizer: torch.optim.Optimizer, n_steps: int) -> float:
        """Mean squared error of the last steps. Waits for the device."""
        total, counts = self.gradients.error, self.model.counts(optimizer)
        self._leaves_out = counts is not None
        if counts is None:
            error = total.item()
        else:
            error, rays, skipped = torch.cat([total[None], counts.to(total.dtype)]).tolist()
            lost, self.skipped, self.rays = int(skipped) - self.skipped, int(skipped), int(rays)
            if self._mean(lost) == n_steps:  # of all processes, which then end together
                told = f"no gradient was finite in the last steps, {n_steps} in all"
                raise UserError(f"training diverged before step {self.step}: {told}; give a lower --lr")
        total.zero_()
        return error / n_steps

    def _mean(self, value: float) -> float:
        """The mean over all processes, so that all of them plan the same."""
        if self.world == 1:
            return value
        mean = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(mean)
        return mean.item() / self.world

    def _lr(self) -> float:
        """The learning rate. Raises UserError for a schedule that grows beyond all measure."""
        o = self.config.optim
        try:
            lr = o.lr * lr_factor(o, self.length.progress * self.length.num_epochs, self.length.num_epochs)
        except OverflowError:
            lr = math.inf
        if lr > LARGEST:
            told = f"--lr {o.lr:g} grows to {lr:g} before step {self.step}"
            raise UserError(f"{told}: give a lower --lr or --decay_gamma")
        return lr

    # ---- validation --------------------------------------------------------------------------------------------------

    @property
    def validation_slots(self) -> int:
        """How many views a validation may render, rounded up so that each process has as many."""
        n = min(self.config.train.val_views, len(self.val_scene)) if self.val_scene else 0
        return -(-n // self.world) * self.world

    def on_validation_start(self) -> None:
        assert self.val_scene is not None
        self.model.synchronize()
        scene, t = self.val_scene, self.config.train
        seconds = self.length.pass_seconds(self.length.step_seconds)
        budget = max(SHARE * seconds, LEAST_SECONDS) * self.world
        pixel_seconds = self._mean(probe(self.model, scene, t.chunk))
        self.validation = plan(len(scene), t.val_views, math.prod(scene.view(0).size), pixel_seconds, budget)

    def validation_step(self, slot: int, batch_idx: int) -> tuple[Image, Tensor] | None:
        """The picture of a view, whole or on a lattice, and the same pixels of the photograph. None if the validation
        needs no more views."""
        scene, views, every = self.val_scene, self.validation.views, self.validation.every
        assert scene is not None
        if slot >= -(-len(views) // self.world) * self.world:
            return None
        view, chunk = views[slot % len(views)], self.config.train.chunk
        target, mask = scene.image(view).to(self.device), scene.mask(view)
        mask = None if mask is None else mask.to(self.device)
        if mask is not None and not bool(lattice(mask, every).any()):
            every = 1  # the few pixels that count lie between those of the lattice
        if every == 1:
            image = render_view(self.model, scene.view(view), chunk)
        else:
            image = render_lattice(self.model, scene.view(view), every, chunk)
            target, mask = lattice(target, every), None if mask is None else lattice(mask, every)
        # a view that shows nothing may equal its photograph: inf would be the mean, and the best one for ever
        psnr = metrics.psnr(image.rgb, target, mask).clamp(max=MOST_PSNR)
        self.log("val/psnr", psnr, batch_size=1, sync_dist=True)
        self.log("step", float(self.step), batch_size=1, sync_dist=True)
        return image, target

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def synchronize(self) -> None:
        """Bring all that a checkpoint holds to all processes, each of which calls this."""
        self.model.synchronize(self._optimizer())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint |= facts(self.model, self.config, self.scene_root, self.kept)
        checkpoint["global_step"] = self.step
        checkpoint["train_seconds"] = self.length.train_seconds
        checkpoint["step_seconds"] = self.length.step_seconds
        checkpoint["epochs"] = self.length.epochs
        checkpoint["begun_on"] = self.begun_on
        if self.config.train.refine_poses:
            checkpoint["refined"] = {
                "turns": self.pose_turns, "c2w": self.batches.c2w.cpu(), "may_be_off": self.may_be_off,
            }  # fmt: skip

    def resume_from(self, checkpoint: dict[str, Any]) -> None:
        """Continue the run that wrote this checkpoint. It holds all that a step depends on: the weights, the state of
        the optimizer, the number of the step (all random numbers follow from it) and the time spent."""
        missing, surplus = self.load_state_dict(checkpoint["state_dict"], strict=False)
        if lacking := [name for name in [*missing, *surplus] if not name.startswith("batches.colours.")]:
            raise KeyError(lacking[0])  # version 0.1.0 had no changes of colours
        self.model.ndc = self.scene.ndc
        self._optimizer_state = checkpoint["optimizer_states"][0]
        self.length.go_on(checkpoint["global_step"], checkpoint["train_seconds"], checkpoint.get("epochs"))
        self.length.step_seconds, self.begun_on = checkpoint.get("step_seconds", 0.0), checkpoint.get("begun_on") or ""
        if (refined := checkpoint.get("refined")) is not None:
            if refined["c2w"].shape != self.batches.c2w.shape:
                raise ValueError(f"refined.c2w has the shape {tuple(refined['c2w'].shape)}")
            self.pose_turns, self.may_be_off = refined["turns"], refined.get("may_be_off", True)
            self.batches.c2w.copy_(refined["c2w"])

    def describe(self) -> str:
        """What runs, in one line."""
        name = {"cpu": "CPU", "mps": "Apple's GPU"}.get(self.device.type) or torch.cuda.get_device_name(self.device)
        devices = f"{self.world} x {name}" if self.world > 1 else name
        return f"{devices}, {self.model.describe()}{self._repeats()}"

    def _repeats(self) -> str:
        if not self.config.train.deterministic:
            return ""
        if self.device.type == "cpu":
            return "; deterministic, as all trainings on a CPU are"
        return "; deterministic, so without the kernels, which are faster"
