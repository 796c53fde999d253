"""What hangs in front of cameras is measured, and views that nothing can be said of do not spoil the scores."""

import json
import math
from dataclasses import replace

import pytest
import torch

from nerf_pl.cameras import Cameras
from nerf_pl.evaluation import Output, evaluate
from nerf_pl.evaluation.floaters import floater_shares, usual_depth
from nerf_pl.films.paths import turntable
from nerf_pl.rendering import Image
from nerf_pl.scenes import Scene
from nerf_pl.types import Pixels, Rays


class Fog(torch.nn.Module):
    """A wall at depth 3 behind fog at depth 0.5, which takes a quarter of the light of the right half of each view."""

    rays_per_pixel = 1

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("step", torch.zeros(1, dtype=torch.int64))

    def render(self, rays: Rays, background: object) -> Pixels:
        right = torch.linalg.cross(rays.directions, rays.directions.mean(0).expand_as(rays.directions))[:, 2] > 0
        fog = 0.25 * (right & (rays.far > 0.5)).float()
        wall = (1 - fog) * (rays.far > 3).float()
        return Pixels(torch.zeros(len(rays), 3), 0.5 * fog + 3 * wall, fog + wall, torch.zeros(0))


def scene_of(n: int = 3) -> Scene:
    K = torch.tensor([[[20.0, 0, 8], [0, 20, 8], [0, 0, 1]]])
    cameras = turntable(n, Cameras(torch.eye(3, 4)[None], K, 16, 16))
    images = torch.full((n, 16, 16, 3), 9, dtype=torch.uint8)
    return Scene(cameras, images, 0.1, 100.0, torch.tensor([[-1.0] * 3, [1.0] * 3]), None, unbounded=True)


def test_the_share_of_light_from_too_near():
    shares = floater_shares(Fog(), scene_of(), [3.0, 3.0, 3.0], 1000)
    assert shares == pytest.approx([0.125] * 3, abs=0.04)
    assert floater_shares(Fog(), scene_of(), [0.9, 0.9, 0.9], 1000) == [0, 0, 0]  # such a scene begins at the fog
    assert floater_shares(Fog(), scene_of(), [0.4, 3.0, 3.0], 1000)[0] > 0.08  # its own nearness excuses no view


def test_views_without_others_tell_nothing():
    assert math.isnan(floater_shares(Fog(), scene_of(1), [3.0], 1000)[0])
    assert all(map(math.isnan, floater_shares(Fog(), scene_of(2), [math.nan, math.nan], 1000)))


def test_the_usual_depth():
    depth = torch.linspace(1, 2, 100).view(10, 10)
    image = Image(torch.zeros(10, 10, 3), depth, torch.ones(10, 10))
    assert usual_depth(image) == pytest.approx(1.5, abs=0.01)
    assert math.isnan(usual_depth(replace(image, opacity=torch.zeros(10, 10))))


def test_views_that_cannot_be_scored(tmp_path, capsys):
    """An empty mask leaves nothing to score, and an equal picture has no finite PSNR. The file stays JSON."""
    scene = scene_of()
    masks = torch.ones(3, 16, 16, dtype=torch.bool)
    masks[1] = False
    images = scene.images.clone()
    images[2] = 0
    scene = replace(scene, masks=masks, images=images, names=("a", "b", "c"))
    evaluate(Fog(), scene, Output(tmp_path, tmp_path / "metrics.json", "test", floaters=True), 1000, {})

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    found = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    first, second, third = found["views"]
    assert (second["psnr"], third["psnr"]) == (None, None)
    assert found["psnr"] == first["psnr"]
    assert found["floaters"] == pytest.approx(0.125, abs=0.04)
    out, err = capsys.readouterr()
    assert "left out of the mean PSNR, as nothing in them counts: b" in err
    assert "left out of the mean PSNR, as they equal their photographs: c" in err
    assert f"PSNR {first['psnr']:6.2f} dB" in out.splitlines()[-1]
