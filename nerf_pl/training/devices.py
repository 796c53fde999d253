"""Where a training runs: on which kind of device, and in how many processes on this machine."""

import torch

from nerf_pl.errors import UserError
from nerf_pl.options import Config
from nerf_pl.text import counted
from nerf_pl.training.limits import require_processes
from nerf_pl.training.machines import processes_here, started_elsewhere


def devices_of(config: Config) -> tuple[str, int]:
    """Lightning's accelerator and number of devices. Raises UserError if the machine does not have them."""
    t = config.train
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if started_elsewhere():
        return _devices_here(t.accelerator == "cpu" or t.num_gpus == 0 or there == 0, there)
    if t.accelerator == "mps" and t.num_gpus > 0:
        if not torch.backends.mps.is_available():
            raise UserError("--accelerator mps: PyTorch sees no GPU of Apple here; leave it out, or give cpu")
        if t.num_gpus > 1:
            raise UserError(f"--num_gpus {t.num_gpus}: a Mac has one GPU; leave it out")
        if t.deterministic:
            raise UserError("--deterministic: on the GPU of a Mac this is not known to work; add --accelerator cpu")
        return "mps", 1
    if t.accelerator == "cpu" or t.num_gpus == 0:
        require_processes(t.num_gpus)
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


def _devices_here(on_cpu: bool, there: int) -> tuple[str, int]:
    """The same, where another program has started the processes, which says how many there are."""
    count = processes_here()
    if on_cpu:
        require_processes(count)
        return "cpu", count
    if count > there:
        told = f"{count} processes were started here, and each sees {counted(there, 'GPU')}: start fewer"
        raise UserError(f"{told}, or let each see all of them, as with srun --gpu-bind none")
    return "gpu", count
