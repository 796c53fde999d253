"""The README's Python example shows what `nerf eval` shows."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import config, nerf

from nerf_pl import media
from nerf_pl.cameras import pixel_rays
from nerf_pl.options import RunFolders
from nerf_pl.scenes import Request, load_scene
from nerf_pl.training.run import train

README = Path(__file__).resolve().parent.parent / "README.md"
RUN = Path("runs/first")  # as the example names it


def example() -> str:
    """The one Python block of the README."""
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == 1
    return blocks[0]


@pytest.fixture(params=["nerf", "ngp"])
def shown(request, trained, scene_dir, tmp_path, monkeypatch) -> dict:
    """What the names of the example hold, after it has run where there is a run of each method."""
    monkeypatch.chdir(tmp_path)
    if request.param == "nerf":
        shutil.copytree(trained, RUN)
    else:
        train(config("ngp"), scene_dir, RunFolders.modern(RUN))
    names: dict = {}
    exec(compile(example(), str(README), "exec"), names)
    assert names["run"].config.method == request.param
    return names


def test_the_example_shows_the_picture_of_nerf_eval(shown):
    nerf("eval", RUN)
    with Image.open(RUN / "renders" / "test" / "000.png") as picture:
        written = np.asarray(picture)
    assert np.array_equal(media.to_uint8(shown["image"].rgb), written)
    assert shown["image"].depth.shape == shown["image"].opacity.shape == written.shape[:2]


def test_radiance_and_density_take_world_points(shown):
    model, device = shown["run"].model, shown["device"]
    xyz = torch.rand(50, 3, device=device) - 0.5
    dirs = torch.nn.functional.normalize(torch.randn(50, 3, device=device), dim=1)
    with torch.no_grad():
        sigma, rgb = model.radiance(xyz, dirs)
        torch.testing.assert_close(model.density(xyz), sigma)
    assert sigma.shape == (50,)
    assert bool((sigma >= 0).all())
    assert rgb.shape == (50, 3)
    assert bool(((rgb >= 0) & (rgb <= 1)).all())


def test_load_scene_reads_the_views_of_the_run(shown, scene_dir):
    scene, ids = shown["scene"], torch.zeros(1, dtype=torch.int64)
    offset = scene.cameras.pixel_offset
    assert offset == {"nerf": 0.0, "ngp": 0.5}[shown["run"].config.method]
    again = load_scene(scene_dir, Request("test", pixel_offset=offset))
    assert torch.equal(again.images, scene.images)
    rays = [pixel_rays(s.cameras, ids, ids, s.near, s.far) for s in (again, scene)]
    assert torch.equal(rays[0].directions, rays[1].directions)
