"""Options are stored and come back; what cannot work is refused by name."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nerf_pl.checkpoints import stored_config
from nerf_pl.errors import UserError
from nerf_pl.methods import CLASSIC, METHODS, from_dict, read_settings
from nerf_pl.methods.nerf.options import NeRFOptions
from nerf_pl.methods.ngp.options import NGPOptions, complete
from nerf_pl.options import Config, DataOptions, OptimOptions, SceneKind, differing, sizes_for, to_dict

NERF, NGP = Config("nerf", NeRFOptions()), METHODS["ngp"].preset
CONFIGS = [
    CLASSIC, NERF, NGP, METHODS["nerf"].preset, complete(NGP, "cuda"),
    Config("nerf", NeRFOptions(), data=DataOptions(img_wh=(3, 4), downscale=1, spheric=True)),
]  # fmt: skip


def message(function, *arguments) -> str:
    with pytest.raises(UserError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("config", CONFIGS)
def test_round_trip(config):
    assert from_dict(to_dict(config)) == config
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    config.check()


def test_options_that_are_not_stored_have_their_defaults():
    assert from_dict({"method": "nerf", "model": {"N_samples": 3}}).model.N_samples == 3
    assert from_dict({"method": "nerf"}) == NERF


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
        ("model", "levels", 8),
    ],
)
def test_stored_values_that_cannot_be(section, option, value):
    assert option in message(from_dict, {"method": "nerf", section: {option: value}})


def of_0_1_0(method: str, **grid: object) -> dict:
    """What version 0.1.0 stored: the options of both methods, whichever was trained."""
    model = to_dict(replace(NERF, model=NeRFOptions(N_samples=7, grad_share=0.5)))["model"]
    return {"method": method, "model": model, "grid": {"levels": 3, "random_background": False, **grid}}


def test_options_as_version_0_1_0_stored_them():
    nerf, ngp = from_dict(of_0_1_0("nerf")), from_dict(of_0_1_0("ngp"))
    assert nerf.model == NeRFOptions(N_samples=7, grad_share=0.5)
    assert ngp.model == NGPOptions(levels=3, random_background=False, grad_share=0.5, **NGPOptions.EARLIER)
    for method in METHODS:
        assert "'lvels'" in message(from_dict, of_0_1_0(method, lvels=3))


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


def test_stored_options_are_checked_with_the_sizes_that_are_not_stored():
    checkpoint = {"config": {"method": "ngp", "model": {"samples": 150}}}
    told = message(stored_config, checkpoint, Path("some.ckpt"))
    assert told.startswith("checkpoint some.ckpt: --samples 150 cannot work: give more than --march_steps, ")


BAD = {
    "data": {"downscale": 0, "img_wh": (0, 4), "test_every": 1},
    "nerf": {
        "N_samples": 1, "N_importance": -1, "perturb": 1.5, "noise_std": -1.0, "net_depth": 1, "net_skip": 8,
        "net_width": 48, "grad_share": 0.0,
    },
    "ngp": {
        "levels": 0, "log2_size": 7, "base_resolution": 0, "finest_resolution": 8, "hidden": 8, "outputs": 24,
        "colour_hidden": 512, "cells": 48, "march_steps": 7, "horizon": 0, "samples": 127,
        "rays_per_pixel": 65, "distortion": -1.0, "smoothness": -1.0, "density_noise": -1.0, "network_rate": 0.0,
        "grad_share": 1.5,
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


def having(section: str, **options: object) -> Config:
    """A config with other values of a method, or of a section of what all methods share."""
    if section in METHODS:
        return replace(METHODS[section].preset, model=replace(METHODS[section].preset.model, **options))
    return replace(NERF, **{section: replace(getattr(NERF, section), **options)})


@pytest.mark.parametrize(("section", "option", "value"), CASES)
def test_values_that_cannot_work(section, option, value):
    assert message(having(section, **{option: value}).check).startswith(f"--{option} ")


@pytest.mark.parametrize(
    ("section", "options"),
    [
        ("optim", {"lr": float("nan")}),
        ("optim", {"lr": float("inf")}),
        ("nerf", {"N_samples": 2}),
        ("data", {"img_wh": (8, 8), "downscale": 2}),
        ("train", {"exp_name": "../elsewhere"}),
        ("train", {"exp_name": ".."}),
        ("ngp", {"levels": 17}),
        ("ngp", {"log2_size": 25}),
        ("ngp", {"cells": 544}),
        ("ngp", {"cells": 0}),
        ("ngp", {"hidden": 65}),
    ],
)
def test_other_values_that_cannot_work(section, options):
    message(having(section, **options).check)


@pytest.mark.parametrize("optimizer", ["sgd", "radam", "ranger"])
def test_ngp_has_its_own_optimizer(optimizer):
    ngp, nerf = (replace(METHODS[name].preset, optim=OptimOptions(optimizer=optimizer)) for name in ("ngp", "nerf"))
    assert message(ngp.check).startswith(f"--optimizer {optimizer} ")
    nerf.check()


def test_a_step_has_room_for_a_ray():
    sizes = {"samples": 500, "march_steps": 500}
    assert "--march_steps, 500" in message(having("ngp", **sizes).check)
    having("ngp", **{**sizes, "march_steps": 499}).check()


def test_a_step_has_room_for_the_rays_of_a_pixel():
    sizes = {"samples": 2001, "march_steps": 500, "rays_per_pixel": 4}
    having("ngp", **sizes).check()
    assert "--samples 2001" in message(having("ngp", **{**sizes, "rays_per_pixel": 5}).check)
    few = replace(having("ngp", **sizes), train=replace(NGP.train, batch_size=3))
    assert message(few.check).startswith("--batch_size 3 ")


def test_a_finest_level_is_finer_than_the_base():
    sizes = {"base_resolution": 64, "finest_resolution": 63}
    assert "--base_resolution, 64" in message(having("ngp", **sizes).check)
    having("ngp", **{**sizes, "finest_resolution": 64}).check()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_sizes_that_are_left_to_the_device(device):
    config = complete(having("ngp", levels=3), device)
    config.check()
    assert config.model.levels == 3
    assert None not in to_dict(config)["model"].values()
    assert complete(config, "cuda" if device == "cpu" else "cpu") == config
    assert complete(NGP, "cpu") != complete(NGP, "cuda")


def test_few_and_many_photos_train_differently():
    def model(photos, device_type="cuda", **kind):
        return complete(NGP, device_type, SceneKind(photos=photos, **kind)).model

    usual = model(80, unbounded=True)
    assert usual == model(None, unbounded=True) == model(33, unbounded=True) == model(149, unbounded=True)
    assert model(32, unbounded=True) == replace(usual, smoothness=3e-3)
    assert model(150, unbounded=True) == replace(
        usual, samples=2**20, grad_share=0.05, log2_size=21, finest_resolution=4096, ensemble=1, interleave=False
    )
    assert model(20, ndc=True) == replace(model(40, ndc=True), table_decay=0.1)
    for kind in ({}, {"device_type": "cpu", "unbounded": True}, {"device_type": "cpu", "ndc": True}):
        assert model(10, **kind) == model(1000, **kind)


@pytest.mark.parametrize(
    ("fields", "kind", "train"),
    [
        (3, {"unbounded": True}, {}),
        (3, {"unbounded": True}, {"seconds": 45.0}),
        (1, {"unbounded": True}, {"seconds": 44.0}),
        (1, {"unbounded": True}, {"max_steps": 44_000}),
        (3, {"unbounded": True}, {"max_steps": 45_000}),
        (1, {"unbounded": True}, {"num_epochs": 30.0}),
        (3, {"unbounded": True}, {"num_epochs": 30.0, "max_steps": 45_000}),
        (3, {"ndc": True}, {"seconds": 60.0}),
        (3, {}, {"seconds": 600.0}),
        (3, {"photos": 100}, {"seconds": 45.0}),
        (1, {"photos": 100}, {"seconds": 44.0}),
        (3, {"photos": 150}, {"seconds": 600.0}),
        (1, {"unbounded": True, "photos": 150}, {}),
        (4, {"unbounded": True}, {"num_gpus": 2}),
        (3, {"unbounded": True}, {"num_gpus": 3}),
        (3, {"unbounded": True}, {"num_gpus": 8}),
        (4, {}, {"num_gpus": 2, "seconds": 30.0}),
        (2, {}, {"num_gpus": 2, "seconds": 29.0}),
        (2, {}, {"num_gpus": 2, "max_steps": 15_000}),
        (1, {}, {"num_gpus": 2, "seconds": 14.0}),
        (4, {}, {"num_gpus": 4, "seconds": 15.0}),
        (1, {}, {"num_gpus": 8, "seconds": 44.0}),
        (1, {"unbounded": True}, {"num_gpus": 2, "seconds": 5.0}),
        (3, {"unbounded": True, "photos": 150}, {"seconds": 150.0}),
        (1, {"unbounded": True, "photos": 150}, {"seconds": 149.0}),
        (3, {"ndc": True, "photos": 150}, {"max_steps": 75_000}),
        (2, {"unbounded": True, "photos": 150}, {"num_gpus": 2}),
        (1, {"unbounded": True, "photos": 150}, {"num_gpus": 2, "seconds": 49.0}),
    ],
)
def test_fields_of_an_ensemble(monkeypatch, fields, kind, train):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)  # whatever GPU is here
    asked = replace(NGP, train=replace(NGP.train, **train))
    assert complete(asked, "cuda", SceneKind(**kind)).model.ensemble == fields
    assert complete(asked, "cpu", SceneKind(**kind)).model.ensemble == 1
    given = replace(asked, model=replace(asked.model, ensemble=2))
    assert complete(given, "cuda", SceneKind(**kind)).model.ensemble == 2


def test_slow_gpus_need_longer_for_an_ensemble(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    props = [SimpleNamespace(multi_processor_count=n) for n in (132, 66)]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: props[i])
    for seconds, fields in ((89.0, 1), (90.0, 3)):
        asked = replace(NGP, train=replace(NGP.train, seconds=seconds))
        assert complete(asked, "cuda", SceneKind(unbounded=True)).model.ensemble == fields


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_points_allow_more_distortion_loss(device):
    without = SceneKind(unbounded=True, photos=80)
    kind = replace(without, points=True)
    assert complete(NGP, device, kind).model == replace(complete(NGP, device, without).model, distortion=3e-3)
    assert complete(NGP, device, SceneKind(points=True)) == complete(NGP, device)
    assert complete(having("ngp", distortion=0.5), device, kind).model.distortion == 0.5


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_large_errors_count_less_for_photos(device):
    for kind in (SceneKind(unbounded=True), SceneKind(unbounded=True, photos=20), SceneKind(ndc=True)):
        assert complete(NGP, device, kind).model.charbonnier == 0.1
    assert complete(NGP, device).model.charbonnier == 0
    assert complete(having("ngp", charbonnier=0.5), device, SceneKind(ndc=True)).model.charbonnier == 0.5
    for value in (-1.0, 1e-20, 2.0):
        assert f"--charbonnier {value:g}" in message(having("ngp", charbonnier=value).check)


def test_runs_of_before_go_on_with_all_errors_squared():
    stored = to_dict(complete(NGP, "cpu", SceneKind(unbounded=True)))
    del stored["model"]["charbonnier"]
    assert from_dict(stored).model.charbonnier == 0


@pytest.mark.parametrize("method", list(METHODS))
def test_a_length_that_is_asked_for_is_kept(method):
    for length in ({"max_steps": 5}, {"seconds": 7.0}, {"num_epochs": 3.0}):
        asked = replace(METHODS[method].preset, train=replace(METHODS[method].preset.train, **length))
        found = METHODS[method].complete(asked, "cpu").train
        assert all(getattr(found, name) == value for name, value in length.items())
        assert found.num_epochs is not None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"seen_detail": 3}, "--seen_detail 3 cannot work: give 1, 2 or 4"),
        (
            {"seen_detail": 4, "cells": 160},
            "--seen_detail 4 cannot work: give less: times --cells, 160, it must be at most 512",
        ),
    ],
)
def test_parts_of_cells_that_cannot_be(options, told):
    assert told in message(having("ngp", **options).check)
    having("ngp", seen_detail=4, cells=128).check()


def test_networks_are_narrower_where_the_chip_is_small(monkeypatch):
    found = []
    for capabilities in (((9, 0), (8, 0)), ((9, 0), (8, 9)), ((12, 0),)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda found=capabilities: len(found))
        monkeypatch.setattr(torch.cuda, "get_device_capability", capabilities.__getitem__)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(multi_processor_count=132))
        found.append(complete(NGP, "cuda").model.colour_hidden)
    assert found == [128, 64, 64]
    assert complete(having("ngp", colour_hidden=32), "cuda").model.colour_hidden == 32
    assert complete(NGP, "cpu", SceneKind(unbounded=True)).model.colour_hidden == 64


def test_what_must_be_the_same_for_weights_to_fit():
    a, b = NeRFOptions(), NeRFOptions(net_width=64, N_samples=9, N_importance=64)
    assert differing(a, b) == {"net_width": (256, 64)}
    assert differing(a, replace(b, N_importance=0)) == {"N_importance": (128, 0), "net_width": (256, 64)}
    assert differing(a, replace(b, N_importance=0), parts=False) == {"net_width": (256, 64)}


def test_what_must_be_the_same_for_a_run_to_go_on():
    a, b = NGPOptions(seen_detail=1), NGPOptions(seen_detail=2)
    assert differing(a, b) == {}
    assert differing(a, b, resumed=True) == {"seen_detail": (1, 2)}
    sgd = OptimOptions(optimizer="sgd", lr=9.0)
    assert differing(OptimOptions(), sgd) == {}
    assert differing(OptimOptions(), sgd, resumed=True) == {"optimizer": ("adam", "sgd")}


def test_sizes_that_weights_ask_for():
    stored = NeRFOptions(net_width=64, net_depth=4, net_skip=2, N_samples=9, N_importance=8)
    sizes = {"net_width": 64, "net_depth": 4, "net_skip": 2}
    assert sizes_for(NeRFOptions(), stored) == {**sizes, "N_importance": 128}
    assert sizes_for(NeRFOptions(N_importance=0), stored) == {
        **sizes,
        "N_importance": 0,
    }  # the fine network is left out
    assert sizes_for(NeRFOptions(), replace(stored, N_importance=0)) == {**sizes, "N_importance": 0}
