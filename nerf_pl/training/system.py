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
from nerf_pl.options import EPOCHS, Config
from nerf_pl.options.ranges import LARGEST
from nerf_pl.rendering import Image, lattice, render_lattice, render_view
from nerf_pl.scenes import Scene
from nerf_pl.training.batches import PixelBatches
from nerf_pl.training.exchange import Exchange
from nerf_pl.training.gradients import Gradients, memory_advice, take_steps, untouched
from nerf_pl.training.poses import TURNS, refine
from nerf_pl.training.schedule import lr_factor
from nerf_pl.training.validation import LEAST_SECONDS, SHARE, Plan, plan, probe

CHUNK_SECONDS = 0.4  # of steps without Lightning; logging, callbacks and the clock come between two chunks
TIMED_PASSES, PASS_SECONDS = 4, 5.0  # a training that ends by the clock: most validations, least time between two
AROUND_SECONDS = 0.8  # of a validation, before and after its pictures: to plan it, for the log and checkpoints
NEARLY = 0.1  # of a pass by the clock, by which it may be longer or shorter
LEAST_REST = 0.02  # share of a training that ends by the clock
LEAST_STEP_SECONDS = 4e-4  # that a step takes; the first ones say little of the later ones
MOST_PSNR = 60.0  # dB that a validation view counts; pictures that differ by the rounding to 8 bits have 59
LATE, LATE_STEPS = 0.5, 10_000  # share of a training, steps of a field; after both a pixel is a mean of several rays


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
        self._late_from = 0  # step before which no pixel is the mean of several rays, see `LATE`
        self.begun_on = ""  # the type of device on which the run was begun; "" if that is not known
        self.kept = {"train": scene}  # splits whose views a checkpoint keeps, without their pictures
        self.steps_per_epoch = max(scene.n_pixels // (config.train.batch_size * world), 1)
        self.max_steps, self.num_epochs = config.train.max_steps, config.train.num_epochs or EPOCHS
        if self.max_steps is None and config.train.seconds is None:
            self.max_steps = math.ceil(self.num_epochs * self.steps_per_epoch)
        precrop = model.precrop_steps if self.max_steps is None else min(model.precrop_steps, self.max_steps // 4)
        draw = {"precrop_steps": precrop, "random_background": model.random_background, "limit": model.batch_limit}
        draw["fit_colours"] = bool(config.train.fit_colours)
        self.batches = PixelBatches(scene, config.train.batch_size, model.seed, backend=model.backend, **draw)
        self.step = 0  # of the run, those before a resume included
        self.train_seconds = 0.0
        self.step_seconds = 0.0  # of one step, as last measured
        self.rays = config.train.batch_size  # of one step and process, as last measured
        self.skipped = 0  # steps left out since the start of this process, see `methods.Model.counts`
        self.error, self.is_failing = math.nan, False  # the last finite error; whether the latest is not finite
        self.validation = Plan(())
        self._leaves_out = False  # whether the model leaves out steps without a finite gradient
        self.pose_turns = 0  # how often poses were refined
        self.between_steps: Callable[[], float] | None = None  # returns seconds that are not the training's
        self._away = 0.0  # such seconds since the last steps began
        self._optimizer_state: dict[str, Any] | None = None
        self._pass_end, self._pass_chunks = 0.0, 0  # of a pass by the clock: training seconds at its end, its chunks

    # ---- length of training ------------------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """Share of the training that is done, 0 to 1."""
        by_time = self.train_seconds / self.config.train.seconds if self.config.train.seconds else 0.0
        by_steps = self.step / self.max_steps if self.max_steps else 0.0  # whichever ends first
        return min(max(by_time, by_steps), 1.0)

    @property
    def finished(self) -> bool:
        """Whether there are no steps left, or no time for another one."""
        seconds = self.config.train.seconds
        if seconds is None:
            return self.progress >= 1
        # a rest that is too short for a chunk is not worth another validation
        rest = max(self.step_seconds / 2, min(CHUNK_SECONDS / 2, LEAST_REST * seconds))
        return self.progress >= 1 or seconds - self.train_seconds < rest

    def seconds_left(self, step_seconds: float, val_seconds: float, stretch: float = 1.0) -> float:
        """How long the rest of the training takes, if a step and a validation take as long as is said.

        val_seconds: 0 as long as that is not known. stretch: how much longer than the steps is the time from one to the
        next, because of what is done between them.
        """
        t, steps = self.config.train, math.inf if self.max_steps is None else self.max_steps - self.step
        seconds = math.inf if t.seconds is None else t.seconds - self.train_seconds
        left = 0.0 if self.finished else max(min(seconds, steps * step_seconds), 0.0)
        if self.val_scene is None:
            return left * stretch
        every = self.val_every * step_seconds
        if self._by_clock and t.seconds is not None:
            every = t.seconds / self._timed_passes
        by_plan = max(SHARE * every, LEAST_SECONDS) / 2 + AROUND_SECONDS  # it may take all of the plan, or little
        return left * stretch + self._passes_left(left / every) * (val_seconds or by_plan)

    def _passes_left(self, passes: float) -> int:
        """Validations to come. passes: what is left of the training, in times from one to the next."""
        if self.max_steps is not None and self.config.train.seconds is None:
            return -(-self.max_steps // self.val_every) - self.step // self.val_every
        return max(math.ceil(passes - NEARLY), 1)  # a pass may end a little late or early; the last one is to come

    def next_chunks(self) -> list[int]:
        """Numbers of steps to take at once, up to the next validation. 0 means as many as the time allows."""
        t = self.config.train
        if self._by_clock and t.seconds is not None:
            share = t.seconds / self._timed_passes
            # rounded, since a pass ends a little before or after its share of the time
            self._pass_end = share * (round(self.train_seconds / share) + 1)
            left = self._pass_end - self.train_seconds
            self._pass_chunks = max(math.ceil(left / max(CHUNK_SECONDS, self.step_seconds)), 1)
            return [0] * self._pass_chunks
        total = self.val_every - self.step % self.val_every
        if self.max_steps is not None:
            total = min(total, self.max_steps - self.step)
        n = max(min(round(total * self.step_seconds / CHUNK_SECONDS), total), 1)
        return [total * (i + 1) // n - total * i // n for i in range(n)]

    @property
    def _by_clock(self) -> bool:
        """Whether the clock says when to validate, and not the number of steps."""
        return self.config.train.seconds is not None and self.config.train.val_every is None

    @property
    def _timed_passes(self) -> int:
        """Validations of a training that ends by the clock."""
        seconds = self.config.train.seconds or math.inf
        return int(min(max(seconds / PASS_SECONDS, 1), TIMED_PASSES))

    @property
    def val_every(self) -> int:
        """Steps from one validation to the next, if the clock does not set them."""
        tenth = self.steps_per_epoch if self.max_steps is None else self.max_steps // 10
        by_default = min(self.steps_per_epoch, tenth) if self.model.fixed_batches else tenth
        return self.config.train.val_every or max(by_default, 1)

    def _chunk(self, asked: int, index: int) -> int:
        """Steps to take in this chunk of the pass: as many as asked for, within the steps and the time left."""
        left = math.inf if self.max_steps is None else self.max_steps - self.step
        if not asked:
            asked = round((self._pass_end - self.train_seconds) / (self._pass_chunks - index) / self.step_seconds)
        if self.config.train.seconds is not None:
            left = min(left, int((self.config.train.seconds - self.train_seconds) / self.step_seconds))
        return int(max(min(asked, left), 1))

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
                    self.model.fit(self._fitted_scene, keep_box=self.config.train.ckpt_path is not None)
                self.train_seconds += self._mean(time.perf_counter() - start)
            self.model.go_on(self.step)
            # by the steps that the fields have taken: with another number of processes those of the run were others
            parts = self.model.parts
            self._late_from = self.step + sum(LATE_STEPS - int(part.step) for part in parts)
            self.gradients = Gradients(self.model, self.batches)
            self.exchange = Exchange(self._optimizer(), self.world, self.model.apart(self.world))
            compiles = "; it compiles, which takes longest the first time" if self.model.backend.uses_kernels else ""
            said = doing(f"preparing the first step{compiles}") if self.global_rank == 0 else nullcontext()
            with said, untouched(self.model):  # before the clock of a time budget starts
                self.model.before_step(0)
                self.model.prepare_optimizer(self._optimizer())
                self.step_seconds = self._mean(self.gradients.capture())
                # a CPU captures nothing, so it does not run later steps in advance
                if self.device.type == "cuda" and self.model.rays_per_pixel > 1 and self._gets_late:
                    self.step_seconds = self._mean(self.gradients.capture(self.model.rays_per_pixel))

    @property
    def _fitted_scene(self) -> Scene:
        """What the model is fitted to. Outlines seen by cameras that are yet to be moved would cut the object away."""
        scene = self.scene
        return replace(scene, images=scene.images[..., :3]) if self.config.train.refine_poses else scene

    @property
    def _gets_late(self) -> bool:
        """Whether the training is long enough for pixels of several rays; see `_rays_per_pixel`."""
        seconds = self.config.train.seconds
        by_time = math.inf if seconds is None else seconds / LEAST_STEP_SECONDS
        return min(by_time, self.max_steps or math.inf) > self._late_from

    def training_step(self, n_steps: int, batch_idx: int) -> None:
        start, self._away = time.perf_counter(), 0.0
        n_steps = self._chunk(n_steps, batch_idx)
        optimizer = self._optimizer()
        steps = range(self.step, self.step + n_steps)
        with memory_advice(self.model):
            late = self._rays_per_pixel()
            if self.gradients.is_captured(1) and not self.gradients.is_captured(late):
                self.gradients.capture(late)  # a training that turned out to be longer than it seemed
            exchange = self.exchange
            take_steps(
                self.gradients, optimizer, steps,
                begin=self._begin, exchange=exchange.gradients, end=exchange.weights,
            )  # fmt: skip
            exchange.level()
            self.step = steps.stop
            error = self._mean(self._error(optimizer, n_steps))
        spent = self._mean(time.perf_counter() - start - self._away)
        self.train_seconds += spent
        self.step_seconds = spent / n_steps
        self._report(error)
        self.trainer.should_stop = self.finished

    def _optimizer(self) -> torch.optim.Optimizer:
        """The optimizer itself: Lightning's wrapper takes longer than a step."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        return optimizer

    def _begin(self, step: int) -> int:
        """Set the learning rate of a step, and refine poses if it is time; returns the rays per pixel of the step."""
        if self.between_steps is not None:
            self._away += self.between_steps()
        self.step = step
        is_due = self.pose_turns < len(TURNS) and self.progress >= TURNS[self.pose_turns]
        if self.config.train.refine_poses and is_due:
            refine(self.model, self.scene, self.batches, self.pose_turns, self.config.train.chunk)
            self.pose_turns += 1
        lr = self._lr()
        for group in self._optimizer().param_groups:
            group["lr"] = lr
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
        rate = self.rays * self.world / self.step_seconds
        speed = {"train/rays_per_second": rate, "train/seconds": self.train_seconds}
        self.log_dict({"train/mse": error, "train/psnr": psnr, **speed, "lr": self._lr(), "step": float(self.step)})

    def _rays_per_pixel(self) -> int:
        """One at first, because more pixels teach more than the even coverage of fewer. Later the edges matter most."""
        is_late = self.progress >= LATE and self.step >= self._late_from
        return self.model.rays_per_pixel if is_late else 1

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
            lr = o.lr * lr_factor(o, self.progress * self.num_epochs, self.num_epochs)
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
        by_clock = t.seconds / self._timed_passes if self._by_clock and t.seconds else None
        seconds = self.val_every * self.step_seconds if by_clock is None else by_clock
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
        checkpoint["train_seconds"] = self.train_seconds
        checkpoint["step_seconds"] = self.step_seconds
        checkpoint["begun_on"] = self.begun_on
        if self.config.train.refine_poses:
            checkpoint["refined"] = {"turns": self.pose_turns, "c2w": self.batches.c2w.cpu()}

    def resume_from(self, checkpoint: dict[str, Any]) -> None:
        """Continue the run that wrote this checkpoint. It holds all that a step depends on: the weights, the state of
        the optimizer, the number of the step (all random numbers follow from it) and the time spent."""
        missing, surplus = self.load_state_dict(checkpoint["state_dict"], strict=False)
        if lacking := [name for name in [*missing, *surplus] if not name.startswith("batches.colours.")]:
            raise KeyError(lacking[0])  # version 0.1.0 had no changes of colours
        self.model.ndc = self.scene.ndc
        self._optimizer_state = checkpoint["optimizer_states"][0]
        self.step, self.train_seconds = checkpoint["global_step"], checkpoint["train_seconds"]
        self.step_seconds, self.begun_on = checkpoint.get("step_seconds", 0.0), checkpoint.get("begun_on") or ""
        if (refined := checkpoint.get("refined")) is not None:
            if refined["c2w"].shape != self.batches.c2w.shape:
                raise ValueError(f"refined.c2w has the shape {tuple(refined['c2w'].shape)}")
            self.pose_turns = refined["turns"]
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
