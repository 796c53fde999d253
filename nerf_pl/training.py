"""One training from options to checkpoints: `train` is what both commands call."""

import json
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from nerf_pl.callbacks import ImageLog, Interrupt, ProgressBar, keep_best_and_last
from nerf_pl.checkpoint import AtomicCheckpointIO, load_weights
from nerf_pl.config import Config, check, to_dict
from nerf_pl.data import SceneData
from nerf_pl.media import atomic_write
from nerf_pl.models import make_model
from nerf_pl.scenes import available_splits, load_scene
from nerf_pl.system import NeRFSystem
from nerf_pl.types import UserError

console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class RunFolders:
    """Where the files of a run go."""

    checkpoints: Path
    logs: Path
    settings: Path

    @staticmethod
    def modern(run: Path) -> "RunFolders":
        return RunFolders(run / "checkpoints", run / "logs", run / "settings.json")

    @staticmethod
    def classic(exp_name: str) -> "RunFolders":
        return RunFolders(Path("ckpts") / exp_name, Path("logs") / exp_name, Path("logs") / exp_name / "settings.json")


def train(config: Config, root: Path, folders: RunFolders, resume: bool = False, overwrite: bool = False) -> Path:
    """Train a model on the scene in `root`; returns the path of the last checkpoint.

    resume continues from last.ckpt exactly where it stopped. Raises UserError for anything the user can mend, and
    KeyboardInterrupt after Ctrl-C, when last.ckpt has been written.
    """
    check(config)
    accelerator, devices = devices_of(config)
    rank = int(os.environ.get("LOCAL_RANK", 0))
    last = folders.checkpoints / "last.ckpt"
    if rank == 0:
        _check_folder(last, resume, overwrite)
    d = config.data
    scene = load_scene(root, d.dataset_name, "train", d.img_wh, d.downscale, d.spheric)
    has_val = "val" in available_splits(root)
    val = load_scene(root, d.dataset_name, "val", d.img_wh, d.downscale, d.spheric) if has_val else None

    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    model = make_model(config, device, rank)
    if config.train.ckpt_path and not resume:
        load_weights(model, Path(config.train.ckpt_path), config.train.prefixes_to_ignore)
    system = NeRFSystem(config, model, scene, devices)
    system.val_scene = val
    if resume:
        system.resume_from(AtomicCheckpointIO().load_checkpoint(last))
    if rank == 0:
        with atomic_write(folders.settings) as path:
            path.write_text(json.dumps({"scene": system.scene_root, **to_dict(config)}, indent=2) + "\n")
        console.print(f"{len(scene)} training views of {scene.cameras.width} x {scene.cameras.height} from {root}")
        if val is None:
            console.print(f"{root} has no val split: the last checkpoint is kept, there is no best one")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its start-up lines say nothing about the run
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=system.passes,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=TensorBoardLogger(folders.logs, name="", version=""),
        plugins=[AtomicCheckpointIO()],
        callbacks=[
            ProgressBar(),
            ImageLog(),
            keep_best_and_last(folders.checkpoints, val is not None),
            Interrupt(folders.checkpoints),
        ],
    )
    with warnings.catch_warnings():
        # the loaders hold numbers, not images: there is nothing for workers to do
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
        trainer.fit(system, SceneData(val, system.next_chunks, config.train.val_views))
    return last


def devices_of(config: Config) -> tuple[str, int]:
    """Lightning's accelerator and number of devices. Raises UserError where they are not to be had."""
    t = config.train
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if t.accelerator == "cpu" or t.num_gpus == 0:
        return "cpu", max(t.num_gpus, 1)
    if t.accelerator == "gpu" and there == 0:
        raise UserError(
            "--accelerator gpu: PyTorch sees no CUDA GPU here; leave it out, or install a CUDA build of torch"
        )
    if there == 0 and t.num_gpus == 1:
        return "cpu", 1
    if t.num_gpus > there:
        remedy = "add --accelerator cpu to train in processes on the CPU" if there == 0 else "give fewer"
        raise UserError(f"--num_gpus {t.num_gpus}, but this machine has {there}: {remedy}")
    return "gpu", t.num_gpus


def _check_folder(last: Path, resume: bool, overwrite: bool) -> None:
    if resume and not last.is_file():
        raise UserError(f"--resume: there is no {last}; leave it out to start a new run")
    if last.is_file() and not resume and not overwrite:
        raise UserError(f"{last} exists: add --resume to go on, --overwrite to start again, or give another --exp_name")
