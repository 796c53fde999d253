"""Where the trainings of a sweep run: each on GPUs that no other one has, or on a CPU one after the other."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

VISIBLE, VISIBLE_AMD = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"
THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Slot:
    """A place for one training at a time. told: what it is called. environment: variables of its processes."""

    told: str
    environment: Mapping[str, str] = field(default_factory=dict)


def slots_of(accelerator: str, devices: int, there: int, jobs: int | None) -> list[Slot]:
    """Places for trainings that run at the same time.

    accelerator: Lightning's. devices: those of one training. there: GPUs of the machine. jobs: how many trainings at
    once; by default as many as the GPUs are for, or one where there are none. More trainings than that share GPUs.
    """
    if accelerator != "gpu":
        return _on_cpu(accelerator, jobs or 1)
    # ROCm knows both variables, and the second one counts more
    variable = VISIBLE_AMD if torch.version.hip and VISIBLE_AMD in os.environ else VISIBLE
    visible = [name for name in os.environ.get(variable, "").split(",") if name.strip()][:there]
    names = visible or [str(i) for i in range(there)]
    groups = [names[i : i + devices] for i in range(0, len(names) - devices + 1, devices)]
    chosen = [groups[i % len(groups)] for i in range(jobs or len(groups))]
    return [Slot(f"GPU {', '.join(group)}", {variable: ",".join(group)}) for group in chosen]


def _on_cpu(accelerator: str, jobs: int) -> list[Slot]:
    """Trainings at the same time share the cores; else the threads of each would wait for those of the others."""
    told = "the CPU" if accelerator == "cpu" else "the GPU"
    share = max((os.cpu_count() or 1) // jobs, 1)
    return [Slot(told, {} if jobs == 1 or THREADS in os.environ else {THREADS: str(share)})] * jobs
