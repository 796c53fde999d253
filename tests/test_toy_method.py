"""A method of a few lines goes all the way, from training to films, without a change to the package."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import torch
from tiny import content, nerf, refused
from torch import nn

from nerf_pl.checkpoints import open_run
from nerf_pl.methods import METHODS, Method
from nerf_pl.ops import choose
from nerf_pl.options import Config, TrainOptions
from nerf_pl.options.ranges import SHAPES_WEIGHTS, between
from nerf_pl.rendering import over
from nerf_pl.types import Pixels


@dataclass(frozen=True)
class FogOptions:
    cells: Annotated[int, between(1, 64), SHAPES_WEIGHTS] = 6
    """Cells along each axis."""

    def conflicts(self) -> Iterator:
        yield from ()

    conflicts_with = lambda self, optim, train: iter(())  # noqa: E731


class Fog(nn.Module):
    """Coloured fog in the cube [-1.5, 1.5]^3, in cells of one density and colour each."""

    precrop_steps, fixed_batches, random_until, can_be_captured, ndc = 0, True, 0.0, True, None
    state_of_a_run, essential_state = frozenset({"step"}), frozenset()
    memory_options, chip_options, size_options = "--batch_size", "--cells", "--cells"

    def __init__(self, config: Config, device: torch.device, rank: int = 0):
        super().__init__()
        self.n, self.seed, self.backend, self.rays_per_pixel = config.model.cells, rank, choose(device, "fp32"), 1
        self.fog = nn.Parameter(torch.zeros(4, self.n, self.n, self.n))
        self.register_buffer("step", torch.zeros(1, dtype=torch.int64))

    parts, in_turn = property(lambda self: [self]), property(lambda self: self)

    def radiance(self, xyz, dirs):
        i, j, k = ((xyz / 3 + 0.5) * self.n).long().clamp(0, self.n - 1).unbind(-1)
        inside = (xyz.abs() < 1.5).all(-1)
        found = self.fog[:, i, j, k]
        return nn.functional.softplus(found[0]) * inside, found[1:].sigmoid().T

    def density(self, xyz):
        return self.radiance(xyz, xyz)[0]

    def render(self, rays, background):
        t = (
            rays.near[:, None]
            + (rays.far - rays.near)[:, None] * (torch.arange(24, device=rays.near.device) + 0.5) / 24
        )
        xyz = rays.origins[:, None] + t[..., None] * rays.directions[:, None]
        sigma, rgb = self.radiance(xyz.view(-1, 3), None)
        tau = sigma.view(t.shape) * (rays.far - rays.near)[:, None] / 24
        w = (tau - tau.cumsum(1)).exp() * (1 - (-tau).exp())
        rgb = (w[..., None] * rgb.view(xyz.shape)).sum(1)
        return over(Pixels(rgb, (w * t).sum(1), w.sum(1), w.flatten()), background)

    def loss(self, batch):
        error = ((self.render(batch.rays, batch.background).rgb - batch.rgb) ** 2).mean()
        return error, error.detach()

    def make_optimizer(self, options):
        return torch.optim.Adam(self.parameters(), options.lr)

    fit = prepare_optimizer = before_step = synchronize = go_on = lambda self, *_, **__: None
    apart = lambda self, world: False  # noqa: E731
    batch_limit = lambda self: None  # noqa: E731
    counts = lambda self, optimizer: None  # noqa: E731
    samples_in = lambda self, rays: 24 * rays  # noqa: E731
    describe = lambda self: "fog"  # noqa: E731
    portable = lambda self: {"fog": self.fog.detach().half()}  # noqa: E731
    take_portable = lambda self, tensors: self.fog.data.copy_(tensors["fog"])  # noqa: E731


PRESET = Config("fog", FogOptions(), train=TrainOptions(batch_size=128))


def complete(config, device_type, kind=None):
    return config


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(METHODS, "fog", Method(FogOptions, PRESET, complete, Fog))


TRAIN = ["--method", "fog", "--cells", 8, "--lr", 0.3, "--max_steps", 60, "--num_gpus", 0]


def test_it_trains_resumes_is_scored_and_filmed(scene_dir, capsys):
    nerf("train", scene_dir, *TRAIN)
    assert "CPU, fog" in capsys.readouterr().out
    run = Path("runs/toys-fog")
    nerf("eval", run, "--split", "train")  # of other views four pictures tell too little
    first = json.loads((run / "metrics_train.json").read_text())
    assert first["method"] == "fog"
    nerf("train", scene_dir, "--resume", "--exp_name", "toys-fog", "--max_steps", 160)
    assert content(run)["global_step"] == 160
    nerf("eval", run, "--split", "train")
    assert json.loads((run / "metrics_train.json").read_text())["psnr"] > first["psnr"] + 1
    nerf("eval", run, "--checkpoint", "best")
    nerf("export", run, "--scene", "fog.nerf")
    nerf("render", "fog.nerf", "--frames", 2, "--img_wh", 16, 16)
    assert Path("fog/renders/360.mp4").is_file()
    loaded = open_run(run, torch.device("cpu"))
    assert isinstance(loaded.model, Fog)
    assert loaded.config.model == FogOptions(8)


def test_what_can_go_wrong_is_said_in_its_own_options(scene_dir, capsys):
    assert "--cells 65 cannot work: give 1 to 64" in refused(capsys, "train", scene_dir, *TRAIN, "--cells", 65)
    nerf("train", scene_dir, *TRAIN, "--max_steps", 1)
    resumed = ["train", scene_dir, "--resume", "--exp_name", "toys-fog", "--max_steps", 9]
    assert "give --cells 8" in refused(capsys, *resumed, "--cells", 4)
    assert "--levels is an option of --method ngp" in refused(capsys, "train", scene_dir, *TRAIN, "--levels", 4)


def test_it_is_measured_like_the_others(scene_dir, monkeypatch):
    from nerf_pl.bench import budgets

    monkeypatch.setattr(budgets, "WARM_UP", 1)
    monkeypatch.setattr(budgets, "STEPS", 1)
    nerf("bench", "fog", scene_dir, "--seconds", 0.3)
    assert json.loads(Path("runs/bench/results.json").read_text())["step"]["samples"] == 24 * 128
