"""One training from options to checkpoints: `train` is what both commands call."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nerf_pl.checkpoints import (
    as_begun,
    clashes_told,
    load_cameras,
    load_split,
    load_training,
    load_weights,
)
from nerf_pl.checkpoints.splits import layout_of
from nerf_pl.console import console, doing, now, warn
from nerf_pl.errors import FinishedError, NothingToDo
from nerf_pl.methods import method_of
from nerf_pl.methods.method import kind_of
from nerf_pl.ops import FAMILIES, choose
from nerf_pl.options import Config, Resume, RunFolders, TrainOptions, to_dict
from nerf_pl.scenes import LOADERS, Scene, available_splits, with_pixels
from nerf_pl.scenes.agreement import doubt
from nerf_pl.scenes.placing import missed
from nerf_pl.scenes.store import require_gpu_memory
from nerf_pl.text import counted
from nerf_pl.training.colours import UNEVEN, unevenness
from nerf_pl.training.deterministic import deterministic
from nerf_pl.training.devices import devices_of
from nerf_pl.training.folders import check_folder, held, marked, preparation, saved
from nerf_pl.training.limits import require_memory
from nerf_pl.training.machines import adopt_slurm, machines, process, process_here, require_whole_environment, watched
from nerf_pl.training.processes import together
from nerf_pl.training.verdict import alone, idle, strange_lens, untrained
from nerf_pl.writing import write_errors

if TYPE_CHECKING:  # Lightning takes seconds to import: it is imported while the pictures are read
    import lightning as L

    from nerf_pl.training.callbacks import Checkpoints, Interrupt
    from nerf_pl.training.system import NeRFSystem
    from nerf_pl.training.watching import Watcher


def train(
    config: Config,
    root: Path,
    folders: RunFolders,
    resume: Resume = False,
    overwrite: bool = False,
    watcher: Watcher | None = None,
) -> Path:
    """Train a model on the scene in `root`. Returns the path of the last checkpoint.

    resume: continue from last.ckpt exactly where the run stopped, see `options.Resume`. watcher: see
    `watching.Watcher`. Raises UserError for anything that the user can correct, Interrupted after Ctrl-C, with
    last.ckpt written, and NothingToDo if resume is auto and the run is finished.

        >>> from nerf_pl.methods import METHODS
        >>> config = METHODS["ngp"].preset
        >>> config = replace(config, train=replace(config.train, seconds=None, max_steps=3, batch_size=64, num_gpus=0))
        >>> print(train(config, Path("my_scene"), RunFolders.modern(Path("runs/short"))).as_posix())
        my_scene: 4 views of 16 x 16 to train on, 1 for validation
        ...
        runs/short/checkpoints/last.ckpt
    """
    adopt_slurm(os.environ)
    require_whole_environment()
    config, where = _begin(config, folders.last if folders.goes_on(resume) else None)
    with watched(lambda: saved(folders)) as gather, held(folders):
        goes_on = folders.goes_on(resume)
        if process() == 0:
            check_folder(folders, resume, overwrite)
        with deterministic() if config.train.deterministic and where[0] == "gpu" else nullcontext():
            try:
                with marked(folders, goes_on):
                    system, checkpoints = _made(config, root, folders, where, resume=goes_on)
            except FinishedError as error:
                if resume == "auto":
                    raise NothingToDo(str(error).partition(":")[0]) from error
                raise
            _train(system, checkpoints, folders, where, resume=goes_on, watcher=watcher, gather=gather)
    return folders.last


def _begin(config: Config, last: Path | None) -> tuple[Config, tuple[str, int]]:
    """The options, with those that a run had if it goes on from `last`, and the devices. Raises UserError."""
    if last is not None:
        config = as_begun(config, last)
    with clashes_told(config, last) if last is not None else nullcontext():
        config.check()
        where = devices_of(config)
    world = replace(config, train=replace(config.train, num_gpus=max(where[1] * machines(), config.train.num_gpus)))
    with clashes_told(world, last) if last is not None else nullcontext():
        world.check()
    return config, where


def _made(
    config: Config, root: Path, folders: RunFolders, where: tuple[str, int], *, resume: bool
) -> tuple[NeRFSystem, Checkpoints]:
    """All that is made before the training begins. Raises UserError."""
    (accelerator, devices), rank, last = where, process(), folders.last
    world = devices * machines()
    method, device = method_of(config.method), torch.device("cuda" if accelerator == "gpu" else accelerator)
    with doing(f"reading the pictures of {root}") if process() == 0 else nullcontext(), ThreadPoolExecutor(2) as pool:
        ready = [pool.submit(_import_lightning), pool.submit(_start_device, device, config.train)]
        config, scene = load_training(config, root)
        val = _validation(config, root, scene)
        tested = load_cameras(config, root, "test")
        if not (resume or rank) and (unlike := doubt(scene, LOADERS[layout_of(config, root)].poses)):
            warn(unlike)  # before anything is refused, for it may say why
        beside = missed(scene)
        now("importing PyTorch Lightning")
        for work in ready:
            work.result()
    _require_gpu_memory(scene, config, root, device)
    from nerf_pl.training.callbacks import Checkpoints
    from nerf_pl.training.resume import resume_run
    from nerf_pl.training.system import NeRFSystem

    without_effect = "" if resume else idle(config.model, scene)  # a run that goes on has all of its options
    config = _completed(_with_colours(config, scene, world), scene, device.type, world)
    config.check()  # once more, with the sizes that were left to the device and the scene
    if device.type == "cpu":
        require_memory(config, scene.cameras.width * scene.cameras.height)

    system = NeRFSystem(config, method.make(config, device, rank), scene, val, world)
    system.kept |= tested
    system.begun_on = device.type
    checkpoints = Checkpoints(folders.checkpoints, minutes=config.train.save_minutes)
    goes_on = resume_run(system, checkpoints, last) if resume else []
    if not resume and config.train.ckpt_path:
        load_weights(system.model, config, Path(config.train.ckpt_path), config.train.prefixes_to_ignore)
    if rank == 0:
        prepare = preparation(folders, {"scene": system.scene_root, **to_dict(config)}, resume)
        if resume or folders.trained is None:
            prepare()
        else:  # until there is a checkpoint of the new run, the old one stays whole
            checkpoints.after_first = prepare
        if resume and checkpoints.best_step == system.step:
            checkpoints.keep_best()  # which a training that was killed may not have done
        few = untrained(len(system.model.parts), system.length.max_steps, world)
        for line in filter(None, (without_effect, beside, strange_lens(scene), alone(scene, val), few)):
            warn(line)
        console.print("\n".join([_describe(scene, val, root), *goes_on]))
    return system, checkpoints


def _train(
    system: NeRFSystem,
    checkpoints: Checkpoints,
    folders: RunFolders,
    where: tuple[str, int],
    *,
    resume: bool,
    watcher: Watcher | None,
    gather: Callable[[], None],
) -> None:
    from nerf_pl.training.callbacks import Interrupt

    accelerator, devices = where
    interrupt = Interrupt(folders.checkpoints, resume, checkpoints)
    callbacks = _callbacks(checkpoints, interrupt, watcher)
    with interrupt.listening(), together(devices, interrupt.at_once):
        gather()
        trainer = _trainer(accelerator, devices, folders.logs, system.val_scene is not None, callbacks)
        _fit(trainer, system, folders.logs)
    if process() > 0:
        sys.exit()  # this process was started to help train; the first process alone goes on
    if watcher is not None:
        device = torch.device("cuda" if accelerator == "gpu" else accelerator)
        watcher.end(system.model.to(device))  # Lightning leaves it on the CPU


def _completed(config: Config, scene: Scene, device_type: str, world: int) -> Config:
    """The options, with those that follow from the scene and from the number of processes, whoever started them."""
    together = replace(config, train=replace(config.train, num_gpus=max(world, config.train.num_gpus)))
    made = method_of(config.method).complete(together, device_type, kind_of(scene))
    return replace(made, train=replace(made.train, num_gpus=config.train.num_gpus))


def _validation(config: Config, root: Path, trained: Scene) -> Scene | None:
    """The views for validation, if the scene has any. trained: the training views."""
    splits = available_splits(root, config.data.dataset_name, config.data.test_every)
    return with_pixels(load_split(config, root, "val", trained=trained)) if "val" in splits else None


def _require_gpu_memory(scene: Scene, config: Config, root: Path, device: torch.device) -> None:
    """Raises UserError if a GPU has no room for the pictures."""
    if device.type == "cuda":
        told, masked = f"{root}: {len(scene)} pictures", scene.masks is not None
        downscale = config.data.downscale if config.data.img_wh is None else 1
        free = torch.cuda.mem_get_info(process_here())[0]
        require_gpu_memory(scene.images, free, told=told, masked=masked, downscale=downscale)


def _with_colours(config: Config, scene: Scene, devices: int) -> Config:
    """Decides, where the user has not, whether changes of colours are learned."""
    if config.train.fit_colours is not None:
        return config
    is_fitted = False
    if devices == 1 and scene.images.shape[-1] == 3:
        found = unevenness(scene)
        is_fitted = found >= UNEVEN
        if is_fitted and process() == 0:
            told = f"the brightness of photos taken side by side differs by {found:.0%}"
            warn(f"{told}, so changes of colours are learned; --no_fit_colours leaves the photos as they are")
    return replace(config, train=replace(config.train, fit_colours=is_fitted))


def _import_lightning() -> None:
    """Import the modules that are needed after the pictures are read."""
    for name in ("nerf_pl.training.callbacks", "nerf_pl.training.checkpoint_io", "torch.utils.tensorboard"):
        importlib.import_module(name)


def _start_device(device: torch.device, options: TrainOptions) -> None:
    """On a GPU start CUDA and import the kernels."""
    if device.type == "cuda":
        torch.zeros(1, device=torch.device("cuda", process_here()))
        backend = choose(device, options.precision, options.deterministic)
        for family in FAMILIES:
            backend.module(family)


def _callbacks(checkpoints: Checkpoints, interrupt: Interrupt, watcher: Watcher | None) -> list[L.Callback]:
    from nerf_pl.training.callbacks import Agreement, ImageLog, OptionsLog, ProgressBar
    from nerf_pl.training.watching import Watched

    bar = ProgressBar(checkpoints.saving)
    watched = [] if watcher is None else [Watched(watcher, bar, interrupt)]
    return [Agreement(), bar, ImageLog(), checkpoints, OptionsLog(checkpoints), *watched, interrupt]


def _trainer(accelerator: str, devices: int, logs: Path, validates: bool, callbacks: list[L.Callback]) -> L.Trainer:
    import lightning as L
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.pytorch.loggers import TensorBoardLogger

    from nerf_pl.training.checkpoint_io import AtomicCheckpointIO

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # its start-up lines say nothing about the run
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="GPU available but not used")  # the options say so
        trainer = L.Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=machines(),
            strategy="ddp" if devices * machines() > 1 else "auto",
            max_epochs=-1,  # the system says when to stop
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if validates else 0,
            log_every_n_steps=1,
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            logger=TensorBoardLogger(logs, name="", version="", default_hp_metric=False),
            # said, and not found: batch systems have variables that look like many tasks, each of a process of its own
            plugins=[AtomicCheckpointIO(), LightningEnvironment()],
            default_root_dir=logs,  # and not where the user is
            callbacks=callbacks,
        )
    # Lightning answers SIGTERM in its own way, which ends with exit code 0, or waits for other processes in the handler
    if (connector := getattr(trainer, "_signal_connector", None)) is not None:
        connector.register_signal_handlers = lambda: None
    return trainer


def _fit(trainer: L.Trainer, system: NeRFSystem, logs: Path) -> None:
    from nerf_pl.training.chunks import SceneData

    with _log_errors(logs), warnings.catch_warnings():
        # the loaders hold numbers, not images, so workers would have nothing to do
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own
        # DDP makes these nodes before a graph is captured on a stream of its own, which waits for all it needs
        warnings.filterwarnings("ignore", message=".*AccumulateGrad node's stream does not match.*")
        warnings.filterwarnings("ignore", message=".*srun.*")  # it need not start this program
        trainer.fit(system, SceneData(system.length.next_chunks, system.validation_slots))


@contextmanager
def _log_errors(folder: Path) -> Iterator[None]:
    """Turns an OSError of the log's writer, a full disk for example, into a UserError. The writer is a thread. Its
    error is raised here too, so the thread need not report it."""
    tell = threading.excepthook
    threading.excepthook = lambda args: None if issubclass(args.exc_type, OSError) else tell(args)
    try:
        with write_errors(folder):
            yield
    finally:
        threading.excepthook = tell


def _describe(scene: Scene, val: Scene | None, root: Path) -> str:
    size = f"{scene.cameras.width} x {scene.cameras.height}"
    others = f"{len(val)} for validation" if val else "no val split, so no validation and no best.ckpt"
    return f"{root}: {counted(len(scene), 'view')} of {size} to train on, {others}"
