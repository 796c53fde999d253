"""What is made of several fields: one density of all, and files of the first field beside those of all."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_ensemble import options, rays, trained
from tiny import NGP_FLAGS, config, make, nerf, with_model

from nerf_pl.methods.ngp.model import NGP


def test_the_density_lets_as_much_light_through_as_the_fields_in_the_mean(scene_dir):
    model = trained(scene_dir, 12)
    xyz, dirs = 2 * torch.rand(500, 3) - 1, rays(500).directions
    sigmas, colours = map(torch.stack, zip(*(part.radiance(xyz, dirs) for part in model.parts), strict=True))
    length, (sigma, rgb) = model.fields[0].grain_at(xyz), model.radiance(xyz, dirs)
    left = (-sigmas * length).exp()
    assert torch.allclose((-sigma * length).exp(), left.mean(0), atol=1e-6)
    assert torch.equal(sigma, model.density(xyz))
    weighed = ((1 - left)[..., None] * colours).sum(0) / (1 - left).sum(0)[:, None]
    full = sigma > 0.1
    assert full.any()
    assert torch.allclose(rgb[full], weighed[full], atol=1e-2)
    empty = sigmas.amax(0) == 0
    assert empty.any()
    assert torch.equal(sigma[empty], torch.zeros_like(sigma[empty]))
    assert torch.allclose(rgb[empty], colours.mean(0)[empty], atol=1e-4)


@pytest.mark.parametrize(
    ("fogs", "grey"), [((1e-6, 0.0), 0.5), ((1.0, 0.0), 0.0), ((900.0, 0.0), 0.0), ((900.0, 2000.0), 0.5)]
)
def test_neither_thin_fog_nor_walls_are_rounded_away(fogs, grey, monkeypatch):
    """Colours count by what a field takes of the light: two walls as much as each other, however dense they are."""
    model, xyz = make(options(2)), torch.zeros(1, 3)
    for colour, (part, fog) in enumerate(zip(model.fields, fogs, strict=True)):
        found = torch.tensor([fog]), torch.full((1, 3), float(colour))
        monkeypatch.setattr(part, "radiance", lambda xyz, dirs, found=found: found)
    length = float(model.fields[0].grain_at(xyz))
    left = torch.tensor([-fog * length for fog in fogs], dtype=torch.float64)
    expected = -(torch.logsumexp(left, 0) - np.log(2)) / length
    sigma, rgb = model.radiance(xyz, xyz)
    assert float(sigma) == pytest.approx(float(expected), rel=1e-3)
    assert torch.allclose(rgb, torch.full((1, 3), grey), atol=0.02)


@pytest.mark.parametrize("kind", ["box", "ndc"])
def test_a_grain_is_as_long_as_a_cell(kind):
    part = boxed(unbounded=False)
    part.ndc = (2.0, 2.0) if kind == "ndc" else None
    xyz = 0.3 * torch.randn(20, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([0.0, 0.0, -3.0])
    step = 1e-2 * part.grain_at(xyz)[:, None] * torch.tensor([[0.0, 0.0, -1.0]])
    near, far = (part._place(at, step)[0] for at in (xyz - step, xyz + step))
    assert torch.allclose((far - near).norm(dim=1) * part.occupancy.size, torch.full((20,), 2e-2), rtol=0.05)


def test_grains_grow_with_the_distance():
    part = boxed(unbounded=True)
    lengths = part.grain_at(torch.tensor([[0.2, 0.0, 0.0], [0.0, 3.0, 1.0], [50.0, 7.0, -20.0]]))
    assert torch.allclose(lengths, torch.tensor([1.0, 3.0, 50.0]) * 2 / part.occupancy.size)


def boxed(unbounded: bool) -> NGP:
    part = make(with_model(config("ngp"), ensemble=1, unbounded=unbounded))
    assert isinstance(part, NGP)
    part.occupancy.aabb.copy_(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    part._set_stride()
    return part


def test_what_is_made_of_one_field_goes_beside_what_is_made_of_all(scene_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nerf("train", scene_dir, *NGP_FLAGS, "--max_steps", 40, "--num_gpus", 0, "--ensemble", 2, "--exp_name", "two")
    run = ("runs/two", "--num_gpus", 0)
    few = {"mesh": ("--resolution", 16, "--keep_unseen"), "points": ("--count", 100)}
    nerf("render", *run, "--frames", 2)
    whole = {name: Path(f"runs/two/renders/{name}.mp4").read_bytes() for name in ("360", "360_depth")}
    for command, words in {"render": ("--frames", 2), **few}.items():
        nerf(command, *run, *words, "--single")
    names = ["360.mp4", "360_depth.mp4", "360_single.mp4", "360_single_depth.mp4"]
    assert sorted(file.name for file in Path("runs/two/renders").glob("*.mp4")) == names
    assert {name: Path(f"runs/two/renders/{name}.mp4").read_bytes() for name in whole} == whole
    assert sorted(file.name for file in Path("runs/two").glob("*.ply")) == ["mesh_single.ply", "points_single.ply"]
    page = Path("runs/two/report.html").read_text()
    assert "Its 2 fields trained in turn, and what is shown is their mean." in page
    assert page.count("of the first field alone") == 2
    capsys.readouterr()
    nerf("export", "runs/two", "--scene", "alone.nerf", "--num_gpus", 0, "--single")
    nerf("points", "alone.nerf", "--num_gpus", 0, "--count", 100, "--single")
    assert "--single changes nothing: alone.nerf has one field" in capsys.readouterr().err
    assert Path("alone/points.ply").is_file()
