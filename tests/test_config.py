"""Options are stored and come back; what cannot work is refused by name."""

import json
from dataclasses import replace

import pytest
import torch

from nerf_pl.checks import check
from nerf_pl.config import (
    CLASSIC,
    PRESETS,
    Config,
    DataOptions,
    GridOptions,
    OptimOptions,
    from_dict,
    read_settings,
    to_dict,
)
from nerf_pl.errors import UserError
from nerf_pl.sizes import sized

CONFIGS = [CLASSIC, *PRESETS.values(), Config(data=DataOptions(img_wh=(3, 4), downscale=1, spheric=True))]


def message(function, *arguments) -> str:
    with pytest.raises(UserError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("config", CONFIGS)
def test_round_trip(config):
    assert from_dict(to_dict(config)) == config
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    check(config)


def test_options_that_are_not_stored_have_their_defaults():
    assert from_dict({"method": "nerf", "model": {"N_samples": 3}}).model.N_samples == 3
    assert from_dict({"method": "nerf"}) == Config()


@pytest.mark.parametrize(
    ("section", "option", "value"),
    [
        ("model", "N_smaples", 3),
        ("model", "N_samples", "64"),
        ("model", "N_samples", 6.5),
        ("model", "use_disp", 1),
        ("model", "perturb", True),
        ("optim", "optimizer", "adamw"),
        ("optim", "decay_step", [1, "2"]),
        ("data", "img_wh", [1, 2, 3]),
        ("train", "seconds", "all night"),
    ],
)
def test_stored_values_that_cannot_be(section, option, value):
    assert option in message(from_dict, {"method": "nerf", section: {option: value}})


@pytest.mark.parametrize("values", [{}, [], {"method": "nerv"}, {"method": "nerf", "model": 3}])
def test_stored_settings_that_are_damaged(values):
    message(from_dict, values)


def test_settings_file(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"scene": "/somewhere", **to_dict(CLASSIC)}))
    assert read_settings(path) == CLASSIC
    for text in ("", "{", "[]", json.dumps({"method": "nerf", "optim": {"lr": "much"}})):
        path.write_text(text)
        assert str(path) in message(read_settings, path)


BAD = {
    "data": {"downscale": 0, "img_wh": (0, 4)},
    "model": {
        "N_samples": 1, "N_importance": -1, "perturb": 1.5, "noise_std": -1.0, "net_depth": 1, "net_skip": 8,
        "net_width": 48,
    },
    "grid": {
        "levels": 0, "log2_size": 7, "base_resolution": 0, "finest_resolution": 8, "hidden": 8, "outputs": 24,
        "colour_hidden": 512, "cells": 48, "march_steps": 7, "horizon": 0, "samples": 127,
        "rays_per_pixel": 65, "distortion": -1.0, "smoothness": -1.0, "density_noise": -1.0, "network_rate": 0.0,
    },
    "optim": {
        "lr": 0.0, "momentum": 1.0, "weight_decay": -1.0, "decay_gamma": 0.0, "poly_exp": -1.0,
        "warmup_multiplier": 0.5, "warmup_epochs": -1.0,
    },
    "train": {
        "batch_size": 0, "chunk": 0, "num_epochs": 0.0, "max_steps": 0, "seconds": 0.0, "num_gpus": -1, "val_every": 0,
        "val_views": 0, "seed": -1, "exp_name": "",
    },
}  # fmt: skip
CASES = [(section, option, value) for section, options in BAD.items() for option, value in options.items()]


@pytest.mark.parametrize(("section", "option", "value"), CASES)
def test_values_that_cannot_work(section, option, value):
    config = replace(Config(), **{section: replace(getattr(Config(), section), **{option: value})})
    assert message(check, config).startswith(f"--{option} ")


@pytest.mark.parametrize(
    ("section", "options"),
    [
        ("optim", {"lr": float("nan")}),
        ("optim", {"lr": float("inf")}),
        ("model", {"N_samples": 2}),
        ("data", {"img_wh": (8, 8), "downscale": 2}),
        ("train", {"exp_name": "../elsewhere"}),
        ("train", {"exp_name": ".."}),
        ("grid", {"levels": 17}),
        ("grid", {"log2_size": 25}),
        ("grid", {"cells": 544}),
        ("grid", {"cells": 0}),
        ("grid", {"hidden": 65}),
    ],
)
def test_other_values_that_cannot_work(section, options):
    message(check, replace(Config(), **{section: replace(getattr(Config(), section), **options)}))


@pytest.mark.parametrize("optimizer", ["sgd", "radam", "ranger"])
def test_ngp_has_its_own_optimizer(optimizer):
    ngp, nerf = (replace(PRESETS[name], optim=OptimOptions(optimizer=optimizer)) for name in ("ngp", "nerf"))
    assert message(check, ngp).startswith(f"--optimizer {optimizer} ")
    check(nerf)


def test_a_step_has_room_for_a_ray():
    sizes = GridOptions(samples=500, march_steps=500)
    assert "--march_steps, 500" in message(check, replace(PRESETS["ngp"], grid=sizes))
    check(replace(PRESETS["ngp"], grid=replace(sizes, march_steps=499)))


def test_a_step_has_room_for_the_rays_of_a_pixel():
    sizes = GridOptions(samples=2001, march_steps=500, rays_per_pixel=4)
    check(replace(PRESETS["ngp"], grid=sizes))
    assert "--samples 2001" in message(check, replace(PRESETS["ngp"], grid=replace(sizes, rays_per_pixel=5)))
    few = replace(PRESETS["ngp"].train, batch_size=3)
    assert message(check, replace(PRESETS["ngp"], grid=sizes, train=few)).startswith("--batch_size 3 ")


def test_a_finest_level_is_finer_than_the_base():
    sizes = GridOptions(base_resolution=64, finest_resolution=63)
    assert "--base_resolution, 64" in message(check, replace(PRESETS["ngp"], grid=sizes))
    check(replace(PRESETS["ngp"], grid=replace(sizes, finest_resolution=64)))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_sizes_that_are_left_to_the_device(device):
    config = sized(replace(PRESETS["ngp"], grid=GridOptions(levels=3)), device)
    check(config)
    assert config.grid.levels == 3
    assert None not in to_dict(config)["grid"].values()
    assert sized(config, "cuda" if device == "cpu" else "cpu") == config
    assert sized(PRESETS["ngp"], "cpu") != sized(PRESETS["ngp"], "cuda")


def test_long_trainings_of_a_box_take_finer_steps():
    def steps(seconds, **kind):
        train = replace(PRESETS["ngp"].train, seconds=seconds)
        return sized(replace(PRESETS["ngp"], train=train), **{"device_type": "cuda", **kind}).grid.march_steps

    assert steps(None) == steps(119.0) < steps(120.0)
    for kind in ({"device_type": "cpu"}, {"unbounded": True}, {"unbounded": True, "ndc": True}):
        assert steps(60.0, **kind) == steps(600.0, **kind)


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        (GridOptions(seen_detail=3), "--seen_detail 3 cannot work: give 1, 2 or 4"),
        (GridOptions(seen_detail=4, cells=160), "--seen_detail 4 cannot work: give less, --cells 160 times it is"),
    ],
)
def test_parts_of_cells_that_cannot_be(grid, told):
    assert told in message(check, replace(PRESETS["ngp"], grid=grid))
    check(replace(PRESETS["ngp"], grid=GridOptions(seen_detail=4, cells=128)))


def test_networks_are_narrower_where_the_chip_is_small(monkeypatch):
    found = []
    for capabilities in (((9, 0), (8, 0)), ((9, 0), (8, 9)), ((12, 0),)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda found=capabilities: len(found))
        monkeypatch.setattr(torch.cuda, "get_device_capability", capabilities.__getitem__)
        found.append(sized(PRESETS["ngp"], "cuda").grid.colour_hidden)
    assert found == [128, 64, 64]
    asked = replace(PRESETS["ngp"], grid=GridOptions(colour_hidden=32))
    assert sized(asked, "cuda").grid.colour_hidden == 32
    assert sized(PRESETS["ngp"], "cpu", unbounded=True).grid.colour_hidden == 64
