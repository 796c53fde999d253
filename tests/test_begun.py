"""A run that goes on with the options that it had, and what clashes with them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import config, with_model

from nerf_pl import cli
from nerf_pl.checkpoints import as_begun, clashes_told, write_checkpoint
from nerf_pl.errors import UserError
from nerf_pl.methods import METHODS
from nerf_pl.options import Config, DataOptions, RunFolders, to_dict
from nerf_pl.training.run import train

PARTS = {"data": DataOptions, **{name: method.options for name, method in METHODS.items()}}
EARLIER = [(name, option) for name, part in PARTS.items() for option in getattr(part, "EARLIER", {})]


def stored(path: Path, options: Config, *without: str) -> Path:
    """A checkpoint of a run with these options, from a version that had some of them not."""
    values: Any = to_dict(options)
    for section in ("data", "model", "optim", "train"):
        values[section] = {name: value for name, value in values[section].items() if name not in without}
    write_checkpoint({"config": values}, path)
    return path


def of_train(options: Config, **values: object) -> Config:
    return replace(options, train=replace(options.train, **values))


def of_data(options: Config, **values: object) -> Config:
    return replace(options, data=replace(options.data, **values))


@pytest.mark.parametrize(("part", "option"), EARLIER)
def test_an_option_that_came_later_is_what_it_was_before(tmp_path, part, option):
    method = part if part in METHODS else "ngp"
    last = stored(tmp_path / "last.ckpt", config(method), option)
    section = "data" if part == "data" else "model"
    asked = METHODS[method].preset
    assert getattr(getattr(asked, section), option) in (None, "auto")  # or nobody could tell that it is not given
    assert getattr(getattr(as_begun(asked, last), section), option) == PARTS[part].EARLIER[option]


def test_what_is_left_open_goes_on_and_what_is_asked_is_heeded(tmp_path):
    before = with_model(config("ngp", fit_colours=True, max_steps=12), distortion=0.25, levels=4)
    last = stored(tmp_path / "last.ckpt", of_data(before, near=0.5, background="white", dataset_name="llff"))
    asked = with_model(of_train(METHODS["ngp"].preset, max_steps=20), levels=5)
    found: Any = as_begun(asked, last)
    assert (found.model.distortion, found.model.levels) == (0.25, 5)
    assert (found.data.near, found.data.background, found.data.dataset_name) == (0.5, "white", "llff")
    assert (found.train.fit_colours, found.train.max_steps, found.train.seconds) == (True, 20, None)
    assert as_begun(METHODS["nerf"].preset, last) == METHODS["nerf"].preset


@pytest.mark.parametrize(
    ("before", "asked", "told"),
    [
        (
            of_train(config("ngp"), deterministic=True), of_train(config("ngp"), num_gpus=2, accelerator="cpu"),
            "--num_gpus 2, asked now, clashes with --deterministic True, of {last}: "
            "leave --num_gpus out, or start another run with another --exp_name",
        ),
        (
            of_train(config("nerf"), refine_poses=True), of_train(config("nerf"), num_gpus=3, refine_poses=True),
            "--num_gpus 3, asked now, clashes with --refine_poses True, of {last}: ",
        ),
        (
            of_train(config("ngp"), deterministic=True), of_train(config("ngp"), seconds=5.0, max_steps=None),
            "--seconds 5.0, asked now, clashes with --deterministic True, of {last}",
        ),
        (
            of_data(config("ngp"), img_wh=(8, 8)), of_data(config("ngp"), downscale=2),
            "--downscale 2, asked now, clashes with --img_wh 8 8, of {last}: leave --downscale out",
        ),
        (
            of_data(config("ngp"), ahead=0.4), of_data(config("ngp"), near=0.2),
            "--near 0.2, asked now, clashes with --ahead 0.4, of {last}: leave --near out",
        ),
        (
            config("ngp"), with_model(config("ngp"), march_steps=4096),
            "--march_steps 4096, asked now, clashes with --samples 2048, of {last}: "
            "leave --march_steps out, or change --samples: give more than --march_steps, 4096",
        ),
        (config("ngp"), of_train(config("ngp"), batch_size=0), "--batch_size 0 cannot work: give 1 or more"),
    ],
)  # fmt: skip
def test_a_clash_says_what_the_run_had_and_what_is_asked_now(tmp_path, before, asked, told):
    folders = RunFolders.modern(tmp_path)
    stored(folders.last, before)
    with pytest.raises(UserError) as error:
        train(asked, tmp_path / "scene", folders, resume=True)
    assert str(error.value).startswith(told.format(last=folders.last))


def test_what_the_machine_lacks_may_be_what_the_run_had(tmp_path):
    last = stored(tmp_path / "last.ckpt", of_train(config("ngp"), num_gpus=2))
    told = rf"--num_gpus 2, but there is 1: give fewer; {last} was trained with --num_gpus 2"
    with pytest.raises(UserError, match=told), clashes_told(of_train(config("ngp"), num_gpus=2), last):
        raise UserError("--num_gpus 2, but there is 1: give fewer")


def test_a_checkpoint_alone_knows_the_options_and_the_method(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored(Path("runs/a/checkpoints/last.ckpt"), of_train(config("nerf"), batch_size=77, max_steps=9, exp_name="other"))
    found: Any = cli.parse(["train", "x", "--exp_name", "a", "--resume", "--max_steps", "20"])
    assert (found.method, found.name, found.train.batch_size, found.train.max_steps) == ("nerf", "a", 77, 20)
    with pytest.raises(UserError, match=r"--method ngp: run runs/a was trained with nerf; leave the option out"):
        cli.parse(["train", "x", "--exp_name", "a", "--resume", "--method", "ngp"])


def test_a_copied_run_goes_on_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored(Path("runs/x-ngp/checkpoints/last.ckpt"), of_train(config("ngp"), batch_size=77, exp_name="other"))
    found: Any = cli.parse(["train", "x", "--resume"])
    assert (found.name, found.train.batch_size) == ("x-ngp", 77)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_checkpoint_that_cannot_be_read_is_no_matter_of_the_command_line(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    last = RunFolders.classic("a").last
    if content is None:
        stored(last, config("ngp"))  # of another method than that of train.py
    else:
        last.parent.mkdir(parents=True)
        last.write_bytes(content)
    found: Any = cli.parse(["--root_dir", "x", "--exp_name", "a", "--resume"], "train.py")
    assert isinstance(found.model, METHODS["nerf"].options)
