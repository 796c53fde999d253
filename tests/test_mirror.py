"""Mirrored directions: normals of what the occupancy grid has found, what follows from them, and what keeps them."""

from pathlib import Path

import pytest
import torch
from test_config import NGP
from tiny import CPU, NGP_FLAGS, batches, config, content, crashed, equal, make, nerf, refused, resumed, with_model

from nerf_pl.checkpoints import open_run
from nerf_pl.methods.ngp import mirror as mirrors
from nerf_pl.methods.ngp.mirror import Mirror
from nerf_pl.methods.ngp.options import complete
from nerf_pl.ops import Backend, mirrored_harmonics, spherical_harmonics
from nerf_pl.options import RunFolders, SceneKind
from nerf_pl.rendering import render_view
from nerf_pl.scenes import load_scene
from nerf_pl.training.gradients import Gradients, take_steps
from nerf_pl.training.run import train

SIZE = 32


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def options(**values: object):
    return with_model(config("ngp"), mirror=True, **values)


def ball(span: torch.Tensor) -> tuple[Mirror, torch.Tensor]:
    """Of what is solid within 0.3 of the middle of a box with these sides; and where points of its surface are."""
    mirror, axes = Mirror(SIZE), (torch.arange(SIZE) + 0.5) / SIZE
    z, y, x = torch.meshgrid(axes * span[2], axes * span[1], axes * span[0], indexing="ij")
    distance = (torch.stack([x, y, z], -1) - span / 2).norm(dim=-1)
    mirror.follow((40 * (0.3 - distance)).sigmoid().flatten(), span)
    outward = torch.nn.functional.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    return mirror, outward


@pytest.mark.parametrize("span", [(1.0, 1.0, 1.0), (1.0, 0.8, 0.65)])
def test_a_ball_mirrors_as_a_ball(span):
    """Also in cells that are longer along one axis than along another."""
    sides = torch.tensor(span)
    mirror, outward = ball(sides)
    points, looks = sides / 2 + 0.3 * outward, torch.nn.functional.normalize(torch.randn(200, 3), dim=1)
    found = mirrored_harmonics(points, looks, torch.arange(200), mirror.normals, backend=Backend())
    expected = looks - 2 * (looks * outward).sum(1, keepdim=True) * outward
    found = found[:, [19, 17, 18]] / torch.tensor([-0.4886, -0.4886, 0.4886])  # of degree 1: the direction itself
    assert torch.nn.functional.cosine_similarity(found, expected).min() > 0.97


def test_where_nothing_is_solid_nothing_is_mirrored():
    mirror, _ = ball(torch.ones(3))
    dirs = torch.nn.functional.normalize(torch.randn(8, 3), dim=1)
    found = mirrored_harmonics(torch.full((8, 3), 0.02), dirs, torch.arange(8), mirror.normals, backend=Backend())
    assert torch.allclose(found[:, 16:], spherical_harmonics(dirs, backend=Backend()), atol=1e-6)


def test_colours_follow_the_normals(scene_dir):
    scene, model = load_scene(scene_dir), make(options()).train()
    model.fit(scene)
    model.go_on(0)
    take_steps(Gradients(model, batches(model, scene, 256)), model.make_optimizer(config("ngp").optim), range(20))
    assert model.mirror.solid.any()
    assert model.mirror.values.abs().sum() > 0
    xyz, dirs = torch.rand(50, 3) - 0.5, torch.nn.functional.normalize(torch.randn(50, 3), dim=1)
    sigma, rgb = model.eval().radiance(xyz, dirs)
    model.mirror.values.copy_(model.mirror.values[..., [1, 0, 2, 3]])
    other_sigma, other_rgb = model.radiance(xyz, dirs)
    assert torch.equal(sigma, other_sigma)
    assert (rgb - other_rgb).abs().max() > 1e-3


def test_a_run_keeps_them_and_goes_on_with_them(scene_dir):
    """To the last bit, from a checkpoint between two updates of the grid."""
    asked = with_model(config("ngp", max_steps=40, val_every=1), mirror=True)
    train(asked, scene_dir, RunFolders.modern(Path("whole")), overwrite=True)
    assert crashed(asked, scene_dir, Path("parts"), after=20)["global_step"] % 16
    assert equal(resumed(asked, scene_dir, Path("parts"))["state_dict"], content(Path("whole"))["state_dict"])
    nerf("export", "whole", "--scene", "out.nerf", "--num_gpus", 0)
    models, view = [open_run(Path(name), CPU).model for name in ("whole", "out.nerf")], load_scene(scene_dir).view(0)
    assert models[0].mirror.values.any()
    assert torch.equal(models[0].mirror.values, models[1].mirror.values)
    first, second = (render_view(model, view).rgb for model in models)
    assert torch.allclose(first, second, atol=2e-3)  # weights in half precision


def test_normals_of_a_fine_grid_follow_more_rarely(scene_dir, monkeypatch):
    """A grid with eight times the cells is followed an eighth as often."""
    monkeypatch.setattr(mirrors, "OFTEN", 16)
    model, followed = make(options()).train(), []
    assert model.occupancy.size == 32
    monkeypatch.setattr(model.mirror, "follow", lambda *_: followed.append(int(model.step)))
    model.fit(load_scene(scene_dir))
    for step in range(0, 300):
        model.step.fill_(step)
        model.before_step(step)
    assert followed == [0, 128, 256]


def test_each_field_has_normals_of_its_own(scene_dir):
    asked = with_model(config("ngp", max_steps=160), mirror=True, ensemble=2, interleave=True)
    train(asked, scene_dir, RunFolders.modern(Path("run")), overwrite=True)
    first, second = open_run(Path("run"), CPU).model.parts
    assert not torch.equal(first.mirror.solid, second.mirror.solid)
    nerf("eval", "run")


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_they_are_for_boxes(device):
    def mirrors(**kind: object) -> bool:
        return complete(NGP, device, SceneKind(**kind)).model.mirror

    assert mirrors()
    assert not mirrors(unbounded=True)
    assert not mirrors(ndc=True)


def test_a_run_without_is_told_the_option(scene_dir, capsys):
    nerf("train", scene_dir, *NGP_FLAGS, "--max_steps", 4, "--exp_name", "a", "--no_mirror")
    told = refused(capsys, "train", scene_dir, *NGP_FLAGS, "--ckpt_path", "runs/a/checkpoints/last.ckpt")
    assert "give --no_mirror" in told
