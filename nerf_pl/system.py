"""NeRFSystem: what happens in one training step and in one validation view, for Lightning to drive."""

import math
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from nerf_pl import metrics, ops, optim
from nerf_pl.config import Config, to_dict
from nerf_pl.data import PixelBatches
from nerf_pl.errors import UserError
from nerf_pl.models import NGP, Model, NeRF, precision_of
from nerf_pl.rendering import render_view
from nerf_pl.scenes import Scene
from nerf_pl.sizes import EPOCHS
from nerf_pl.steps import Gradients, fit, is_plain, make_optimizer, memory_advice, untouched

CHUNK_SECONDS = 0.4  # how long Lightning leaves the device alone: between chunks come logging, callbacks, the clock
TIMED_PASSES = 4  # validations of a training that ends by the clock
PRECROP_STEPS = 500
LATE, LATE_STEPS = 0.5, 20_000  # share of a training, and steps, from which on a pixel is made of several rays


class NeRFSystem(L.LightningModule):
    """A model in training. `training_step` takes a number of steps at once, so that Lightning's own work between them
    does not show; on a GPU one step is the replay of a CUDA graph and one optimizer launch, with no synchronisation.
    """

    def __init__(self, config: Config, model: Model, scene: Scene, val_scene: Scene | None = None, world: int = 1):
        super().__init__()
        self.automatic_optimization = False
        self.config, self.model, self.val_scene, self.world = config, model, val_scene, world
        self.scene_root = str(scene.root.resolve()) if scene.root else ""
        n_pixels = scene.images.shape[:3].numel()
        self.steps_per_epoch = max(n_pixels // (config.train.batch_size * world), 1)
        self.max_steps, self.num_epochs = config.train.max_steps, config.train.num_epochs or EPOCHS
        if self.max_steps is None and config.train.seconds is None:
            self.max_steps = math.ceil(self.num_epochs * self.steps_per_epoch)
        precrop_steps = PRECROP_STEPS if self.max_steps is None else min(PRECROP_STEPS, self.max_steps // 4)
        if isinstance(model, NGP):
            precrop_steps = 0
        random_background = isinstance(model, NGP) and config.grid.random_background
        active = model.active if isinstance(model, NGP) else None
        draw = config.train.batch_size, model.seed, precrop_steps, random_background, active
        self.batches = PixelBatches(scene, *draw)
        self.scene = scene
        self.step = 0  # of the run, those before a resume included
        self.train_seconds = 0.0
        self.step_seconds = 0.0  # of one step, as last measured
        self.rays = config.train.batch_size  # of one step and process, as last measured
        self.skipped = 0  # steps left out since the start of this process, see `optim.GridAdam`
        self.error, self.is_failing = math.nan, False  # of the last steps that had one; whether the last ones had none
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
        out_of_time = seconds is not None and seconds - self.train_seconds < self.step_seconds / 2
        return self.progress >= 1 or out_of_time

    def next_chunks(self) -> list[int]:
        """Numbers of steps to take at once, up to the next validation; 0 leaves a number to the clock."""
        t = self.config.train
        if t.seconds is not None and t.val_every is None:
            share = t.seconds / TIMED_PASSES
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
    def val_every(self) -> int:
        """Steps from one validation to the next, where they are not set by the clock."""
        at_least_ten = self.steps_per_epoch if self.max_steps is None else self.max_steps // 10
        if isinstance(self.model, NGP):  # it takes fewer rays than batch_size: an epoch is no measure
            return self.config.train.val_every or max(at_least_ten, 1)
        return self.config.train.val_every or max(min(self.steps_per_epoch, at_least_ten), 1)

    def _chunk(self, asked: int, index: int) -> int:
        """Steps to take now, with this index in the pass: as many as asked for, within the time and number left."""
        left = math.inf if self.max_steps is None else self.max_steps - self.step
        if not asked:
            asked = round((self._pass_end - self.train_seconds) / (self._pass_chunks - index) / self.step_seconds)
        if self.config.train.seconds is not None:
            left = min(left, int((self.config.train.seconds - self.train_seconds) / self.step_seconds))
        return int(max(min(asked, left), 1))

    # ---- one training step -------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = make_optimizer(self.model, self.config)
        if self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)
        return optimizer

    def on_fit_start(self) -> None:
        if isinstance(self.trainer.strategy, DDPStrategy):
            # gradients are averaged below, after the graph: DDP's own hooks cannot run inside one; buffers are constant
            ddp: Any = self.trainer.strategy.model
            ddp.require_backward_grad_sync = ddp.require_forward_param_sync = False
        torch.set_float32_matmul_precision("high" if precision_of(self.config, self.device) == "tf32" else "highest")
        self.model.train()
        self.model.step.fill_(self.step)
        with memory_advice(self.model):
            if isinstance(self.model, NGP) and self.step == 0:
                start = time.perf_counter()
                fit(self.model, self.scene, self.device, keep_box=self.config.train.ckpt_path is not None)
                self.train_seconds += self._mean(time.perf_counter() - start)
            optimizer: Any = self.optimizers(use_pl_optimizer=False)
            self.gradients = Gradients(self.model, self.batches)
            if isinstance(self.model, NGP):
                self.batches.active = self.model.active  # on its way to the device it became another tensor
            with untouched(self.model):  # before the clock of a time budget starts
                self.model.before_step(0)
                if isinstance(optimizer, optim.GridAdam):
                    optimizer.prepare()
                # once for each number of rays that a pixel can be made of; the later steps are not run on a CPU for it
                numbers = {1, self.model.rays_per_pixel} if self.device.type == "cuda" else {1}
                self.step_seconds = self._mean(max(map(self.gradients.capture, sorted(numbers))))

    def training_step(self, n_steps: int, batch_idx: int) -> None:
        start = time.perf_counter()
        n_steps = self._chunk(n_steps, batch_idx)
        optimizer: Any = self.optimizers(use_pl_optimizer=False)  # Lightning's wrapper takes longer than a step
        with memory_advice(self.model):
            for _ in range(n_steps):
                self._one_step(optimizer)
            error = self._mean(self._error(optimizer, n_steps))
        spent = self._mean(time.perf_counter() - start)
        self.train_seconds += spent
        self.step_seconds = spent / n_steps
        if not math.isfinite(error):
            # ngp survives a step that went wrong, see `optim.GridAdam`; no end of them means that its weights are lost
            if self.is_failing or not isinstance(self.model, NGP):
                raise UserError(f"training diverged before step {self.step}: the loss is {error}; give a lower --lr")
            self.is_failing, error = True, self.error
        else:
            self.is_failing, self.error = False, error
        psnr = -10 * math.log10(max(error, 1e-12))
        # Lightning would count chunks; `step` is what it takes for the axis instead
        self.log_dict({"train/mse": error, "train/psnr": psnr, "lr": self._lr(), "step": float(self.step)})
        self.trainer.should_stop = self.finished

    def _one_step(self, optimizer: torch.optim.Optimizer) -> None:
        lr = self._lr()
        for group in optimizer.param_groups:
            group["lr"] = lr
        self.model.before_step(self.step)
        self.gradients(self._rays_per_pixel())
        if self.world > 1:
            for p in self.model.parameters():
                assert p.grad is not None
                torch.distributed.all_reduce(p.grad)
                p.grad /= self.world
        optimizer.step()
        self.step += 1

    def _rays_per_pixel(self) -> int:
        """One at first: many pixels teach more than the even coverage of a few, until what is left is their edges."""
        is_late = self.progress >= LATE and self.step >= LATE_STEPS
        return self.model.rays_per_pixel if is_late else 1

    def _error(self, optimizer: torch.optim.Optimizer, n_steps: int) -> float:
        """Mean squared error of the last steps; waits for the device."""
        total = self.gradients.error
        if isinstance(optimizer, optim.GridAdam) and isinstance(self.model, NGP):
            assert optimizer.skipped is not None
            numbers = total, optimizer.skipped, self.model.kept[0].to(total.dtype)
            error, skipped, rays = torch.stack(numbers).tolist()
            lost, self.skipped, self.rays = int(skipped) - self.skipped, int(skipped), int(rays)
            if lost == n_steps:
                told = f"no gradient was finite in the last {n_steps} steps"
                raise UserError(f"training diverged before step {self.step}: {told}; give a lower --lr")
        else:
            error = total.item()
        total.zero_()
        return error / n_steps

    def _mean(self, value: float) -> float:
        """The mean over all processes: what they plan by it is the same in each."""
        if self.world == 1:
            return value
        mean = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(mean)
        return mean.item() / self.world

    def _lr(self) -> float:
        o = self.config.optim
        warmup = o.warmup_epochs if o.optimizer in ("sgd", "adam") else 0
        return o.lr * optim.lr_factor(
            self.progress * self.num_epochs, self.num_epochs, o.lr_scheduler, o.decay_step, o.decay_gamma, o.poly_exp,
            o.warmup_multiplier, warmup, o.lr_per_step,
        )  # fmt: skip

    # ---- validation --------------------------------------------------------------------------------------------------

    def validation_step(self, view: int, batch_idx: int) -> dict[str, Tensor]:
        assert self.val_scene is not None
        images = render_view(self.model, self.val_scene, view, self.config.train.chunk, self.device)
        target = self.val_scene.image(view).to(self.device)
        images["target"] = target
        mask = self.val_scene.mask(view)
        mask = None if mask is None else mask.to(self.device)
        self.log("val/psnr", metrics.psnr(images["rgb"], target, mask), batch_size=1, sync_dist=True)
        self.log("step", float(self.step), batch_size=1, sync_dist=True)
        return images

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = to_dict(self.config)
        checkpoint["scene"] = self.scene_root
        checkpoint["global_step"] = self.step
        checkpoint["train_seconds"] = self.train_seconds

    def resume_from(self, checkpoint: dict[str, Any]) -> None:
        """Continue the run that wrote this checkpoint. Everything a step depends on is in it: weights, the optimizer,
        the number of the step, from which all random numbers follow, and the time spent."""
        self.load_state_dict(checkpoint["state_dict"])
        self._optimizer_state = checkpoint["optimizer_states"][0]
        self.step, self.train_seconds = checkpoint["global_step"], checkpoint["train_seconds"]

    def describe(self) -> str:
        """What runs, in one line."""
        precision = precision_of(self.config, self.device)
        fused = isinstance(self.model, NeRF) and ops.fuses_mlp(self.device, self.model.coarse.layout)
        fused = precision == "bf16" and fused
        if isinstance(self.model, NGP):
            precision = "fp32" if is_plain(self.model) else "fp16"
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        devices = f"{self.world} x {name}" if self.world > 1 else name
        # ngp in fp32 has no kernels for its field; without them it is the same to ask for the rest
        path = "plain PyTorch" if is_plain(self.model) and ops.use_kernels(self.device) else ops.path(self.device)
        return f"{devices}, {path}, {precision}{', fused network' if fused else ''}"
