"""Checkpoints of nerf_pl and nerf-pytorch become layers under our names."""

import argparse
import collections
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import config, make, with_model

from nerf_pl.checkpoints import load_weights, read_checkpoint
from nerf_pl.errors import UserError
from nerf_pl.methods import CLASSIC
from nerf_pl.methods.nerf.foreign import ForeignModel, fit
from nerf_pl.methods.nerf.foreign import read as foreign_layers

OURS = [*(f"density_{i}" for i in range(8)), "feature", "direction", "sigma", "rgb"]


def shapes_of(depth: int, width: int, skip: int | None) -> dict[str, tuple[int, int]]:
    """The weights of the 2020 model by our names."""
    shapes = {f"density_{i}": (width, width if i else 63) for i in range(depth)}
    if skip is not None:
        shapes[f"density_{skip}"] = (width, width + 63)
    head = {
        "feature": (width, width),
        "direction": (width // 2, width + 27),
        "sigma": (1, width),
        "rgb": (3, width // 2),
    }
    return shapes | head


def nerf_pl_name(ours: str) -> str:
    heads = {"feature": "xyz_encoding_final", "direction": "dir_encoding.0", "sigma": "sigma", "rgb": "rgb.0"}
    return heads.get(ours) or f"xyz_encoding_{int(ours.removeprefix('density_')) + 1}.0"


def nerf_pytorch_name(ours: str) -> str:
    heads = {"feature": "feature_linear", "direction": "views_linears.0", "sigma": "alpha_linear", "rgb": "rgb_linear"}
    return heads.get(ours) or f"pts_linears.{ours.removeprefix('density_')}"


def random_network(name_of, depth: int, width: int, skip: int | None) -> dict[str, torch.Tensor]:
    state = {}
    for ours, shape in shapes_of(depth, width, skip).items():
        state[f"{name_of(ours)}.weight"] = torch.randn(shape)
        state[f"{name_of(ours)}.bias"] = torch.randn(shape[0])
    return state


def nerf_pl_state(depth: int = 8, width: int = 32, skip: int | None = 4, levels=("coarse", "fine")) -> dict:
    return {
        f"nerf_{level}.{name}": value
        for level in levels
        for name, value in random_network(nerf_pl_name, depth, width, skip).items()
    }


def nerf_pytorch_checkpoint(depth: int = 8, width: int = 32, skip: int | None = 5) -> dict:
    networks = [random_network(nerf_pytorch_name, depth, width, skip) for _ in range(2)]
    return {"global_step": 7, "network_fn_state_dict": networks[0], "network_fine_state_dict": networks[1]}


def refused(checkpoint: dict, *parts: str, ignore: tuple[str, ...] = ()) -> None:
    with pytest.raises(UserError) as error:
        foreign_layers(checkpoint, ignore, "runs/some.ckpt")
    message = str(error.value)
    assert "\n" not in message
    assert "runs/some.ckpt" in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(("depth", "width", "skip"), [(8, 32, 4), (4, 64, 2), (2, 32, None)])
def test_nerf_pl(depth, width, skip):
    state = nerf_pl_state(depth, width, skip)
    model = foreign_layers({"state_dict": state, "epoch": 3})
    assert isinstance(model, ForeignModel)
    assert (model.net_depth, model.net_width, model.net_skip, model.source) == (depth, width, skip, "nerf_pl")
    for level in ("coarse", "fine"):
        assert set(model.fields[level]) == set(shapes_of(depth, width, skip))
        for ours, (weight, bias) in model.fields[level].items():
            assert torch.equal(weight, state[f"nerf_{level}.{nerf_pl_name(ours)}.weight"])
            assert torch.equal(bias, state[f"nerf_{level}.{nerf_pl_name(ours)}.bias"])


@pytest.mark.parametrize(("depth", "width", "skip"), [(8, 32, 5), (6, 64, 3), (3, 32, None)])
def test_nerf_pytorch(depth, width, skip):
    checkpoint = nerf_pytorch_checkpoint(depth, width, skip)
    model = foreign_layers(checkpoint)
    assert model is not None
    assert (model.net_depth, model.net_width, model.net_skip, model.source) == (depth, width, skip, "nerf-pytorch")
    for level, key in (("coarse", "network_fn_state_dict"), ("fine", "network_fine_state_dict")):
        assert set(model.fields[level]) == set(shapes_of(depth, width, skip))
        for ours, (weight, bias) in model.fields[level].items():
            assert torch.equal(weight, checkpoint[key][f"{nerf_pytorch_name(ours)}.weight"])
            assert torch.equal(bias, checkpoint[key][f"{nerf_pytorch_name(ours)}.bias"])


def test_weights_alone_without_the_outer_dict():
    model = foreign_layers(nerf_pl_state())
    assert model is not None
    assert set(model.fields) == {"coarse", "fine"}


@pytest.mark.parametrize("template", ["module.{}", "{0[0]}.module.{0[1]}", "{0[0]}._orig_mod.{0[1]}"])
def test_wrapped_models(template):
    state = nerf_pl_state()
    wrapped = {
        template.format(name.split(".", 1) if "0[" in template else name): value for name, value in state.items()
    }
    model, plain = foreign_layers({"state_dict": wrapped}), foreign_layers({"state_dict": state})
    assert model is not None
    assert plain is not None
    assert torch.equal(model.fields["fine"]["rgb"][0], plain.fields["fine"]["rgb"][0])


def test_wrapped_nerf_pytorch():
    checkpoint = nerf_pytorch_checkpoint()
    for key in ("network_fn_state_dict", "network_fine_state_dict"):
        checkpoint[key] = {f"module.{name}": value for name, value in checkpoint[key].items()}
    model = foreign_layers(checkpoint)
    assert model is not None
    assert model.net_skip == 5


def test_coarse_network_alone():
    model = foreign_layers({"state_dict": nerf_pl_state(levels=("coarse",))})
    assert model is not None
    assert set(model.fields) == {"coarse"}
    for absent in ({}, {"network_fine_state_dict": None}):
        checkpoint = nerf_pytorch_checkpoint()
        del checkpoint["network_fine_state_dict"]
        model = foreign_layers(checkpoint | absent)
        assert model is not None
        assert set(model.fields) == {"coarse"}


def test_half_precision_becomes_float32():
    state = {name: value.half() for name, value in nerf_pl_state().items()}
    model = foreign_layers({"state_dict": state})
    assert model is not None
    assert all(part.dtype == torch.float32 for layer in model.fields["coarse"].values() for part in layer)


@pytest.mark.parametrize(
    "checkpoint", [{}, {"state_dict": {"coarse.rgb": torch.ones(1)}}, {"state_dict": None}, {"state_dict": {}}]
)
def test_other_checkpoints_are_left_to_others(checkpoint):
    assert foreign_layers(checkpoint) is None


def test_other_weights_beside_the_networks():
    state = nerf_pl_state() | {"loss.weight": torch.ones(1), "embedding_a.weight": torch.ones(2, 2)}
    assert foreign_layers({"state_dict": state}, ("loss",)) is not None


@pytest.mark.parametrize("prefix", ["sigma", "sigma.w", "nerf_coarse.sigma"])
def test_ignored_layers_are_left_out_and_may_have_any_shape(prefix):
    state = nerf_pl_state()
    state["nerf_coarse.sigma.weight"] = torch.ones(7, 32)
    model = foreign_layers({"state_dict": state}, ("loss", prefix))
    assert model is not None
    assert set(model.fields["coarse"]) == set(OURS) - {"sigma"}
    assert ("sigma" in model.fields["fine"]) == (prefix == "nerf_coarse.sigma")


def test_ignored_weights_may_be_missing_or_surplus():
    state = nerf_pl_state() | {"nerf_fine.transient_rgb.0.weight": torch.ones(3, 3)}
    del state["nerf_fine.rgb.0.bias"]
    model = foreign_layers({"state_dict": state}, ("transient", "rgb"))
    assert model is not None
    assert set(model.fields["fine"]) == set(OURS) - {"rgb"}


def test_an_ignored_network():
    model = foreign_layers({"state_dict": nerf_pl_state()}, ("nerf_fine",))
    assert model is not None
    assert set(model.fields) == {"coarse"}
    refused({"state_dict": nerf_pl_state()}, "no coarse network", "--prefixes_to_ignore", ignore=("nerf_coarse",))


@pytest.mark.parametrize(
    "name", ["nerf_fine.xyz_encoding_3.0.weight", "nerf_coarse.sigma.bias", "nerf_fine.rgb.0.weight"]
)
def test_missing_weights_are_named(name):
    state = nerf_pl_state()
    del state[name]
    refused({"state_dict": state}, name, "missing")


def test_misshapen_weights_are_named():
    state = nerf_pl_state()
    state["nerf_coarse.dir_encoding.0.weight"] = torch.ones(16, 32)
    refused({"state_dict": state}, "nerf_coarse.dir_encoding.0.weight is (16, 32), not (16, 59)")
    state = nerf_pl_state()
    state["nerf_coarse.xyz_encoding_1.0.weight"] = torch.tensor(1.0)
    refused({"state_dict": state}, "nerf_coarse.xyz_encoding_1.0.weight is ()")


def test_another_encoding_is_refused():
    checkpoint = nerf_pytorch_checkpoint()
    checkpoint["network_fn_state_dict"]["pts_linears.0.weight"] = torch.ones(32, 75)
    refused(checkpoint, "network_fn_state_dict.pts_linears.0.weight is (32, 75), not (32, 63)")


def test_two_skips_are_refused():
    state = nerf_pl_state()
    state["nerf_coarse.xyz_encoding_7.0.weight"] = torch.ones(32, 95)
    refused({"state_dict": state}, "xyz_encoding_7.0.weight is (32, 95), not (32, 32)")


def test_unknown_weights_are_refused():
    state = nerf_pl_state() | {"nerf_fine.transient_rgb.0.weight": torch.ones(3, 3)}
    refused({"state_dict": state}, "nerf_fine.transient_rgb.0.weight", "--prefixes_to_ignore")


def test_networks_of_different_size_are_refused():
    small, large = nerf_pl_state(width=32, levels=("coarse",)), nerf_pl_state(width=64, levels=("fine",))
    refused({"state_dict": small | large}, "(8, 32, 4)", "(8, 64, 4)")


def test_diverged_weights_are_refused():
    state = nerf_pl_state()
    state["nerf_fine.rgb.0.bias"][1] = torch.nan
    refused({"state_dict": state}, "nerf_fine.rgb.0.bias", "diverged")


def test_no_tensor_is_refused():
    refused({"state_dict": nerf_pl_state() | {"nerf_fine.rgb.0.bias": [1.0]}}, "nerf_fine.rgb.0.bias")


def test_a_model_without_view_directions_is_refused():
    checkpoint = nerf_pytorch_checkpoint()
    for network in (checkpoint["network_fn_state_dict"], checkpoint["network_fine_state_dict"]):
        for name in ("feature_linear", "alpha_linear", "rgb_linear"):
            del network[f"{name}.weight"], network[f"{name}.bias"]
        network |= {"output_linear.weight": torch.ones(5, 32), "output_linear.bias": torch.ones(5)}
    refused(checkpoint, "use_viewdirs=False")


def test_a_real_checkpoint(data_dir):
    model = foreign_layers(read_checkpoint(data_dir / "parity" / "nerf_pl_lego.ckpt"), ("loss",))
    assert model is not None
    assert (model.net_depth, model.net_width, model.net_skip, model.source) == (8, 256, 4, "nerf_pl")
    for level in ("coarse", "fine"):
        shapes = {name: tuple(weight.shape) for name, (weight, _) in model.fields[level].items()}
        assert shapes == shapes_of(8, 256, 4)


def old_lightning_checkpoint(monkeypatch) -> dict:
    """What PyTorch Lightning of 2020 left beside the weights; its package is replaced by look-alikes."""
    modules = ("pytorch_lightning.utilities.parsing", "pytorch_lightning.callbacks.model_checkpoint")
    for name in ("pytorch_lightning", "pytorch_lightning.utilities", "pytorch_lightning.callbacks", *modules):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    attribute_dict = type("AttributeDict", (dict,), {"__module__": modules[0]})
    callback = type("ModelCheckpoint", (), {"__module__": modules[1]})
    sys.modules[modules[0]].__dict__["AttributeDict"] = attribute_dict
    sys.modules[modules[1]].__dict__["ModelCheckpoint"] = callback
    hparams = argparse.Namespace(root_dir="lego", img_wh=[400, 400], lr=5e-4, optimizer="adam")
    return {
        "state_dict": collections.OrderedDict(nerf_pl_state()),
        "hparams": hparams,
        "hyper_parameters": attribute_dict(lr=5e-4, decay_step=[20]),
        "callbacks": {callback: {"best": np.float64(31.4), "history": np.arange(3), "path": Path("ckpts")}},
        "epoch": 5,
        "lr": np.float32(5e-4),
    }


@pytest.mark.parametrize("new_format", [True, False])
def test_old_checkpoints_load(tmp_path, monkeypatch, new_format):
    checkpoint = old_lightning_checkpoint(monkeypatch)
    torch.save(checkpoint, tmp_path / "old.ckpt", _use_new_zipfile_serialization=new_format)
    monkeypatch.undo()
    read = read_checkpoint(tmp_path / "old.ckpt")
    assert read["epoch"] == 5
    assert read["hyper_parameters"] == {"lr": 5e-4, "decay_step": [20]}
    model = foreign_layers(read)
    assert model is not None
    assert torch.equal(model.fields["fine"]["rgb"][1], checkpoint["state_dict"]["nerf_fine.rgb.0.bias"])


@pytest.mark.parametrize("new_format", [True, False])
def test_tar_with_an_optimizer(tmp_path, new_format):
    weight = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    checkpoint = nerf_pytorch_checkpoint() | {"optimizer_state_dict": optimizer.state_dict()}
    torch.save(checkpoint, tmp_path / "200000.tar", _use_new_zipfile_serialization=new_format)
    assert foreign_layers(read_checkpoint(tmp_path / "200000.tar")) is not None


def pytorch_networks(*levels: str) -> dict:
    """Networks of the sizes in `tiny.MODEL`."""
    keys = {"coarse": "network_fn_state_dict", "fine": "network_fine_state_dict"}
    return {keys[level]: random_network(nerf_pytorch_name, 2, 32, 1) for level in levels}


@pytest.mark.parametrize(
    ("whole", "coarse", "name"),
    [
        (nerf_pl_state(2, 32, 1), nerf_pl_state(2, 32, 1, ("coarse",)), "nerf_fine"),
        (pytorch_networks("coarse", "fine"), pytorch_networks("coarse"), "network_fine_state_dict"),
    ],
)
def test_a_training_starts_from_all_networks_or_says_which_it_does_not(tmp_path, whole, coarse, name):
    both, one = config(), with_model(config(), N_importance=0)
    told = {
        "has no NAME: give another checkpoint, or name these weights in --prefixes_to_ignore": (coarse, both),
        "has NAME, which this model lacks: give another checkpoint, or name these": (whole, one),
    }
    for what, (content, options) in told.items():
        path = tmp_path / "theirs.ckpt"
        torch.save(content, path)
        with pytest.raises(UserError) as error:
            load_weights(make(options), options, path, ("loss",))
        assert str(error.value).startswith(f"--ckpt_path {path} {what.replace('NAME', name)}")
        for prefix in (name, f"{name}."):
            load_weights(make(options), options, path, ("loss", prefix))
    load_weights(make(both), both, path, ("loss",))


def test_options_follow_the_networks():
    """Sizes come from the file, the rest from what is asked for; a fine network that is not there is not asked."""
    model = foreign_layers({"state_dict": nerf_pl_state(4, 64, 2)})
    found = fit(None, model, Path("some.ckpt")).model
    assert (found.net_depth, found.net_width, found.net_skip) == (4, 64, 2)
    assert (found.N_samples, found.N_importance) == (CLASSIC.model.N_samples, CLASSIC.model.N_importance)
    asked = replace(CLASSIC, model=replace(CLASSIC.model, N_samples=9, N_importance=5))
    assert (fit(asked, model, Path("some.ckpt")).model.N_samples, asked.model.N_importance) == (9, 5)
    alone = foreign_layers({"state_dict": nerf_pl_state(levels=("coarse",))})
    assert fit(asked, alone, Path("some.ckpt")).model.N_importance == 0
    with pytest.raises(UserError, match=r"some\.ckpt holds a network without the skip connection"):
        fit(None, foreign_layers({"state_dict": nerf_pl_state(2, 32, None)}), Path("some.ckpt"))
