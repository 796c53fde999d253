"""benchmarks/settings.py, by which settings are chosen: what it holds out, what it trains, and its table."""

import importlib.util
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from tiny import GRID, rays_of_steps

from nerf_pl.methods.ngp import optimizer
from nerf_pl.scenes import load_scene, some_views

PATH = Path(__file__).parent.parent / "benchmarks" / "settings.py"
pytestmark = pytest.mark.skipif(not PATH.is_file(), reason="needs the source tree")
CPU = torch.device("cpu")
ASKED = {name: value for name, value in asdict(GRID).items() if value is not None}


@pytest.fixture(scope="module")
def settings():
    spec = importlib.util.spec_from_file_location("settings", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_views_to_judge_by_are_not_trained_on(settings, scene_dir):
    scene = load_scene(scene_dir)
    scene = replace(some_views(scene, torch.arange(20) % 4), names=tuple(f"{i:02d}" for i in range(20)))
    train, held = settings.split(scene, {})
    assert held.names == ("03", "11", "19")
    assert sorted([*train.names, *held.names]) == list(scene.names)
    few, same = settings.split(scene, {"few": True})
    assert few.names == train.names[::3]
    assert same.names == held.names
    assert settings.split(scene, {"hold": 0})[1].names == ("00", "08", "16")
    train, test = settings.split(scene, {"test": True, "scene": str(scene_dir)})
    assert len(train) == 20
    assert len(test) == 2


def test_a_training_and_its_scores(settings, scene_dir):
    scene = load_scene(scene_dir)
    job = {"scene": str(scene_dir), "name": "a", "steps": 6, "hold": 1, "options": ASKED, "train": {"batch_size": 64}}
    told = settings.run(job, scene, CPU)
    assert told["steps"] == 6
    assert 0 < told["worst"] <= told["psnr"] < 60
    assert told["train"] > 0
    again = settings.run({**job, "seed": 1}, scene, CPU)
    assert again["psnr"] != told["psnr"]


def test_pixels_of_several_rays_come_as_late_for_each_field(settings, scene_dir, monkeypatch):
    numbers = rays_of_steps(monkeypatch)
    monkeypatch.setattr(settings, "LATE_STEPS", 4)
    job = {"name": "a", "steps": 12, "hold": 1, "train": {"batch_size": 64}}
    for fields, expected in ((1, 6), (2, 8), (3, 9)):
        numbers.clear()
        asked = {**ASKED, "ensemble": fields, "rays_per_pixel": 3}
        settings.run({**job, "scene": str(scene_dir), "options": asked}, load_scene(scene_dir), CPU)
        assert numbers[-12:] == [1] * expected + [3] * (12 - expected)


def test_constants_come_back(settings):
    before = optimizer.EPS
    with settings.constants({"nerf_pl.methods.ngp.optimizer.EPS": 1.0}):
        assert optimizer.EPS == 1.0
    assert before == optimizer.EPS
    with pytest.raises(AttributeError), settings.constants({"nerf_pl.methods.ngp.optimizer.NONE": 1.0}):
        pass


def test_a_packed_scene(settings, scene_dir, tmp_path):
    scene = load_scene(scene_dir)
    settings.pack(scene, tmp_path / "a.pt", quality=100)
    found = settings.loaded(str(tmp_path / "a.pt"))
    assert torch.equal(found.cameras.c2w, scene.cameras.c2w)
    assert (found.images.int() - scene.images[..., :3].int()).abs().float().mean() < 3
    image = replace(scene, images=torch.randint(0, 256, (1, 256, 256, 3), dtype=torch.uint8))  # does not compress
    settings.pack(image, tmp_path / "b.pt", quality=95)
    jpeg = torch.load(tmp_path / "b.pt", weights_only=False)["pictures"][0]
    assert (tmp_path / "b.pt").stat().st_size < 1.2 * len(jpeg)


@pytest.mark.parametrize(
    ("job", "told"),
    [
        ({"name": "a", "steps": 5}, "give a scene"),
        ({"scene": "s", "name": "a"}, "either steps or seconds"),
        ({"scene": "s", "name": "a", "steps": 5, "seconds": 5}, "either steps or seconds"),
        ({"scene": "s", "name": "a", "step": 5}, "'step', which is not known"),
    ],
)
def test_a_training_that_cannot_be(settings, job, told):
    assert told in settings.fault(job)
    assert settings.fault({"scene": "s", "name": "a", "steps": 5}) is None


def test_the_table(settings):
    def result(scene: str, name: str, psnr: float, **more: object) -> dict[str, object]:
        return {"job": {"scene": f"data/{scene}.pt", "name": name, **more}, "psnr": psnr, "train": 30.0}

    results = [
        result("fox", "a", 20.0), result("fox", "a", 21.0, seed=1), result("can", "a", 25.0, few=True),
        result("fox", "b", 22.0), {"job": {"scene": "fox", "name": "c"}, "failed": "no"},
    ]  # fmt: skip
    assert settings.table(json.loads(json.dumps(results))).splitlines() == [
        "| | can, few | fox | mean |",
        "|---|---|---|---|",
        "| a | 25.00 (30.0) | 20.50 (30.0) | 22.75 |",
        "| b |  | 22.00 (30.0) |  |",
    ]
