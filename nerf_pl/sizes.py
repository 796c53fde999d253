"""What is left to the device and to the kind of scene: sizes of the hash grid, and how long to train."""

import dataclasses
from typing import Any

import torch

from nerf_pl.config import Config

GRID_SIZES: dict[str, dict[str, float]] = {
    "gpu": {
        "levels": 8, "features": 4, "log2_size": 20, "finest_resolution": 512, "cells": 128, "march_steps": 768,
        "horizon": 512, "colour_hidden": 128, "samples": 2**18, "distortion": 1e-3, "smoothness": 0.0,
        "density_noise": 0.0, "network_rate": 0.3, "rays_per_pixel": 4, "seen_detail": 2,
    },
    "cpu": {
        "levels": 8, "features": 2, "log2_size": 14, "finest_resolution": 192, "cells": 64, "march_steps": 192,
        "horizon": 128, "colour_hidden": 64, "samples": 2**13, "distortion": 0.0, "smoothness": 0.0,
        "density_noise": 0.0, "network_rate": 1.0, "rays_per_pixel": 1, "seen_detail": 1,
    },
}  # fmt: skip

PHOTO_SIZES: dict[str, dict[str, float]] = {
    "gpu": {
        "finest_resolution": 2048, "march_steps": 1024, "horizon": 4096, "distortion": 1e-2, "smoothness": 1e-4,
        "density_noise": 0.5, "rays_per_pixel": 1, "seen_detail": 1,
    },
    "cpu": {
        "finest_resolution": 512, "march_steps": 256, "distortion": 1e-2, "smoothness": 1e-4, "density_noise": 0.5,
    },
}  # fmt: skip
"""What differs where a scene has no box around it but goes on to the horizon."""
NDC_SIZES: dict[str, dict[str, float]] = {"gpu": {"smoothness": 3e-3}, "cpu": {"smoothness": 3e-3, "horizon": 1024}}
"""What differs further for photos from one side: few views leave much to be made up."""
LONG_SECONDS = 120.0
LONG_SIZES = {"march_steps": 1536, "samples": 2**19}
"""What differs on a GPU, in a box, for trainings from LONG_SECONDS on: as much time with the sizes above wins next to
nothing."""
SMALL_CHIP = {"colour_hidden": 64}
"""What differs on a GPU whose multiprocessors have no room for the gradients of a wider network: with 128 they take
132 KB (160 on Hopper), with 64 58, and consumer GPUs have 99."""
ROOMY = ((8, 0), (9, 0), (10, 0), (10, 3))  # compute capabilities of the others: Ampere to Blackwell in data centres
SECONDS, NDC_SECONDS = 60.0, 20.0  # of training, where no length is asked for
EPOCHS = 16.0  # of a training, for schedules to count in, where they are not its length


def sized(config: Config, device_type: str, unbounded: bool = False, ndc: bool = False) -> Config:
    """The options with all that is left to the device ("cuda" or "cpu") and to the kind of scene filled in."""
    device = "cpu" if device_type == "cpu" else "gpu"
    unbounded = unbounded if config.grid.unbounded is None else config.grid.unbounded
    sizes: dict[str, Any] = {**GRID_SIZES[device], "unbounded": unbounded, "extended": unbounded or ndc}
    sizes |= PHOTO_SIZES[device] if unbounded or ndc else {}
    sizes |= NDC_SIZES[device] if ndc else {}
    is_long = (config.train.seconds or 0) >= LONG_SECONDS
    sizes |= LONG_SIZES if device == "gpu" and is_long and not (unbounded or ndc) else {}
    sizes |= SMALL_CHIP if device == "gpu" and _has_small_chip() else {}
    missing = {name: value for name, value in sizes.items() if getattr(config.grid, name) is None}
    train = config.train
    if train.num_epochs is None:
        seconds = (NDC_SECONDS if ndc else SECONDS) if train.max_steps is None else None
        train = dataclasses.replace(train, num_epochs=EPOCHS, seconds=train.seconds or seconds)
    return dataclasses.replace(config, grid=dataclasses.replace(config.grid, **missing), train=train)


def _has_small_chip() -> bool:
    return any(torch.cuda.get_device_capability(i) not in ROOMY for i in range(torch.cuda.device_count()))
