"""Values of options that cannot work, and what to give instead."""

import math

from nerf_pl.config import Config, GridOptions
from nerf_pl.errors import UserError

MOST_RAYS = 64  # of a pixel


def check(config: Config) -> None:
    """Raises UserError for values that cannot work, naming the option, the value and the remedy."""
    data, model, optim, train = config.data, config.model, config.optim, config.train
    _require(data.downscale >= 1, "downscale", data.downscale, "give 1 or more")
    _require(data.img_wh is None or min(data.img_wh) >= 1, "img_wh", data.img_wh, "give a width and a height in pixels")
    _require(data.img_wh is None or data.downscale == 1, "downscale", data.downscale, "give it or --img_wh, not both")
    _require(model.N_samples >= 2, "N_samples", model.N_samples, "give 2 or more")
    fine = model.N_importance > 0
    _require(not fine or model.N_samples >= 3, "N_samples", model.N_samples, "give 3 or more, or --N_importance 0")
    _require(model.N_importance >= 0, "N_importance", model.N_importance, "give 0 or more")
    _require(0 <= model.perturb <= 1, "perturb", model.perturb, "give 0 to 1")
    _require(0 <= model.noise_std < math.inf, "noise_std", model.noise_std, "give 0 or more")
    _require(model.net_depth >= 2, "net_depth", model.net_depth, "give 2 or more")
    _require(1 <= model.net_skip < model.net_depth, "net_skip", model.net_skip, "a layer from 1 to net_depth - 1")
    _require(model.net_width >= 32 and model.net_width % 32 == 0, "net_width", model.net_width, "a multiple of 32")
    _require(0 < model.grad_share <= 1, "grad_share", model.grad_share, "give more than 0, up to 1")
    _check_grid(config.grid)
    rays = config.grid.rays_per_pixel or 1 if config.method == "ngp" else 1
    _require(train.batch_size >= rays, "batch_size", train.batch_size, f"give no less than --rays_per_pixel, {rays}")
    own = config.method == "ngp"
    remedy = "ngp has an Adam of its own, leave the option out or give --method nerf"
    _require(not own or optim.optimizer == "adam", "optimizer", optim.optimizer, remedy)
    _require(0 < optim.lr < math.inf, "lr", optim.lr, "give a positive number")
    _require(0 <= optim.momentum < 1, "momentum", optim.momentum, "give 0 or more, less than 1")
    _require(0 <= optim.weight_decay < math.inf, "weight_decay", optim.weight_decay, "give 0 or more")
    _require(0 < optim.decay_gamma < math.inf, "decay_gamma", optim.decay_gamma, "give a positive number")
    _require(0 <= optim.poly_exp < math.inf, "poly_exp", optim.poly_exp, "give 0 or more")
    _require(1 <= optim.warmup_multiplier < math.inf, "warmup_multiplier", optim.warmup_multiplier, "give 1 or more")
    _require(0 <= optim.warmup_epochs < math.inf, "warmup_epochs", optim.warmup_epochs, "give 0 or more")
    for name in ("batch_size", "chunk", "max_steps", "val_every", "val_views"):
        value = getattr(train, name)
        _require(value is None or value >= 1, name, value, "give 1 or more")
    epochs = train.num_epochs
    _require(epochs is None or 0 < epochs < math.inf, "num_epochs", epochs, "give a positive number")
    _require(train.seconds is None or 0 < train.seconds < math.inf, "seconds", train.seconds, "give a positive number")
    _require(train.num_gpus >= 0, "num_gpus", train.num_gpus, "give 0 (the CPU) or more")
    _require(0 <= train.seed < 2**63, "seed", train.seed, "give 0 or more, less than 2^63")
    name = train.exp_name
    _require(bool(name.strip(". ")) and not set(name) & set("/\\"), "exp_name", name, "a name without slashes")


def _require(holds: bool, option: str, value: object, remedy: str) -> None:
    if not holds:
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
        raise UserError(f"--{option} {shown} cannot work: {remedy}")


def _check_grid(grid: GridOptions) -> None:
    # so that places in the grids can be told apart in 32-bit numbers, and a mistyped size does not ask for terabytes
    bounds = {
        "levels": (1, 16), "log2_size": (8, 24), "base_resolution": (1, 2**16), "finest_resolution": (1, 2**16),
        "march_steps": (8, 2**16), "samples": (128, 2**24), "horizon": (1, 2**24), "cells": (32, 512),
    }  # fmt: skip
    for name, (low, high) in bounds.items():
        value = getattr(grid, name)
        _require(value is None or low <= value <= high, name, value, f"give {low} to {high}")
    for name in ("hidden", "outputs", "colour_hidden"):
        value = getattr(grid, name)
        possible = value is None or (16 <= value <= 256 and not value & (value - 1))
        _require(possible, name, value, "give a power of two, 16 to 256")
    cells, finest, base = grid.cells, grid.finest_resolution, grid.base_resolution
    _require(cells is None or cells % 32 == 0, "cells", cells, "give a multiple of 32")
    detail = grid.seen_detail
    _require(detail in (None, 1, 2, 4), "seen_detail", detail, "give 1, 2 or 4")
    fits = detail is None or cells is None or detail * cells <= 512
    _require(fits, "seen_detail", detail, f"give less, --cells {cells} times it is over 512")
    remedy = f"give no less than --base_resolution, {base}"
    _require(finest is None or base <= finest, "finest_resolution", finest, remedy)
    for name in ("distortion", "smoothness", "density_noise"):
        value = getattr(grid, name)
        _require(value is None or 0 <= value < math.inf, name, value, "give 0 or more")
    rate = grid.network_rate
    _require(rate is None or 0 < rate < math.inf, "network_rate", rate, "give a positive number")
    check_rays(grid.rays_per_pixel)
    samples, steps, rays = grid.samples, grid.march_steps, grid.rays_per_pixel or 1
    what = f"--march_steps, {steps}" if rays == 1 else f"--rays_per_pixel times --march_steps, {rays} x {steps}"
    remedy = f"give more than {what}: a step of training needs room for one pixel"
    _require(samples is None or steps is None or samples > rays * steps, "samples", samples, remedy)


def check_rays(rays_per_pixel: int | None) -> None:
    """Raises UserError for a number of rays that no pixel can be made of."""
    possible = rays_per_pixel is None or 1 <= rays_per_pixel <= MOST_RAYS
    _require(possible, "rays_per_pixel", rays_per_pixel, f"give 1 to {MOST_RAYS}")
