"""Charts, curves, colours and plans of a report."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from report_files import report

from nerf_pl.cameras import Cameras
from nerf_pl.methods import METHODS
from nerf_pl.options import SceneKind, to_dict
from nerf_pl.report.charts import Line, bin_width, histogram, line_chart, log_ticks, ticks
from nerf_pl.report.curves import Curve, read_curves, thinned
from nerf_pl.report.history import Entry, add_to_history, machine, read_history, versions
from nerf_pl.report.pictures import RAMP, error_colours, errors_of, top_of
from nerf_pl.report.plan import RULER, plan
from nerf_pl.report.record import Record, read_record
from nerf_pl.report.sections import settings_section
from nerf_pl.scenes import Scene, load_scene, some_views


@pytest.fixture
def photo_views() -> Scene:
    """A photo of a space without end."""
    cameras = Cameras(torch.eye(4)[None, :3], torch.eye(3)[None], 4, 3)
    images, box = torch.zeros(1, 3, 4, 3, dtype=torch.uint8), torch.tensor([[-1.0] * 3, [1.0] * 3])
    return Scene(cameras, images, 0.1, 100.0, box, unbounded=True)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.003, 0.0041), (-3, 88), (1e6, 3.3e6), (20.1, 20.2)])
def test_ticks_are_round_and_within(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    assert all(low - 1e-9 <= value <= high + 1e-9 * high for value in found)
    steps = np.diff(found)
    assert np.allclose(steps, steps[0])
    assert round(steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9), 6) in (1, 2, 5)


def test_log_ticks():
    assert log_ticks(0.5, 2000) == [1, 10, 100, 1000]
    assert np.allclose(log_ticks(0.011, 0.06), [0.02, 0.05])
    assert len(log_ticks(1e-12, 1e12)) <= 8


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0], [20.0, 20.4, 25.1], list(np.linspace(10, 40, 200))])
def test_a_histogram_counts_every_value(values):
    found = histogram("scores", values, [f"v{i}" for i in range(len(values))], "dB")
    told = re.findall(r"<title>.*?: (.*?)</title>", found)
    counts = [len(re.findall(r"v\d+", each)) + sum(map(int, re.findall(r"and (\d+) more", each))) for each in told]
    assert sum(counts) == len(values)
    assert len(counts) <= 16
    assert histogram("scores", [math.nan], ["v"], "dB") == ""


def test_bins_are_round():
    assert bin_width(20, 30, 20) == 2
    assert bin_width(5, 5, 1) == 0.01


def test_charts_leave_out_what_cannot_be_drawn():
    assert line_chart("loss", [Line("a", [1, 2], [0.0, math.nan])], "step", is_log=True) == ""
    assert line_chart("loss", [], "step") == ""
    one = line_chart("loss", [Line("a", [1, 2, 3], [0.0, 1.0, 0.1])], "step", is_log=True)
    (points,) = re.findall(r'points="(.*?)"', one)
    assert len(points.split()) == 2
    assert "nan" not in line_chart("one point", [Line("a", [5], [5])], "step")


def test_curves_of_a_resumed_run_are_in_order(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    for purge, steps in ((None, (1, 2, 3, 4)), (None, (3, 4, 5))):
        with SummaryWriter(tmp_path, purge_step=purge, filename_suffix=f".{steps[0]}") as log:
            for step in steps:
                log.add_scalar("val/psnr", 10 * step + len(steps), step)
                log.add_scalar("train/seconds", 0.5 * step, step)
                log.add_scalar("train/psnr", math.nan, step)
        # named as if written in different seconds: of one second the tenth file would come before the ninth
        (file,) = tmp_path.glob(f"*.{steps[0]}")
        file.rename(tmp_path / f"events.out.tfevents.{steps[0]}")
    found = read_curves(tmp_path)
    assert set(found) == {"val/psnr"}
    assert found["val/psnr"] == Curve((1, 2, 3, 4, 5), (14, 24, 33, 43, 53), (0.5, 1, 1.5, 2, 2.5))


def test_thinned_curves_keep_their_means():
    curve = Curve(tuple(range(1000)), tuple(float(i) for i in range(1000)), tuple(i / 10 for i in range(1000)))
    thin = thinned(curve, 7)
    assert len(thin.steps) == len(thin.values) == len(thin.x) == 7
    assert abs(np.mean(thin.values) - 499.5) < 1
    assert thinned(thin, 7) is thin


def test_errors_and_their_colours():
    a, b = np.zeros((4, 5, 3), np.uint8), np.full((4, 5, 3), (30, 0, 0), np.uint8)
    errors = errors_of(a, b)
    assert np.allclose(errors, 10)
    assert np.allclose(errors, errors_of(b, a))
    assert top_of([errors]) == 16
    assert top_of([]) == 8
    assert (error_colours(np.zeros((1, 1)), 16) == RAMP[0]).all()
    assert (error_colours(np.full((1, 1), 99.0), 16) == RAMP[-1]).all()


def test_the_plan_shows_where_cameras_stand_and_look(scene_dir):
    scene = load_scene(scene_dir)
    found = plan({"train": scene}, {("train", scene.names[0]): 31.234})
    lines = [np.array(list(map(float, each))).reshape(2, 2) for each in re.findall(
        r'<line class="c0" x1="(.*?)" y1="(.*?)" x2="(.*?)" y2="(.*?)"/>', found)]  # fmt: skip
    assert len(lines) == len(scene)
    xy = scene.cameras.c2w[:, :2, 3].numpy()
    a, b, c = (line[0] for line in lines[:3])
    for (p, q), (u, v) in (((a, b), (xy[0], xy[1])), ((b, c), (xy[1], xy[2]))):
        shift = (q - p) * (1, -1)  # y goes up on a plan
        assert np.allclose(shift / np.linalg.norm(shift), (v - u) / np.linalg.norm(v - u), atol=0.02)
    width, height = map(float, re.findall(r'viewBox="0 0 (\d+) (\d+)"', found)[0])
    middle = np.array([width, height - RULER]) / 2
    assert all(np.linalg.norm(end - middle) < np.linalg.norm(start - middle) for start, end in lines)
    assert f"train {scene.names[0]}: 31.23 dB" in found
    assert plan({}, {}) == ""


def test_the_history_names_machine_and_versions(tmp_path):
    entry = Entry("nerf train x", "2026-01-02T03:04:05+00:00", 12.5, True, machine(0), versions())
    assert re.search(r"\d+ cores?", entry.machine)
    assert {"nerf_pl", "Python", "PyTorch", "Lightning"} <= entry.versions.keys()
    add_to_history(tmp_path, entry, anew=False)
    add_to_history(tmp_path, entry, anew=False)
    assert read_history(tmp_path) == [entry, entry]
    assert "2026-01-02 03:04 UTC" in report(tmp_path).told
    assert read_record(tmp_path).history == [entry, entry]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("photos", [10, 80, 300])
@pytest.mark.parametrize("points", [False, True])
def test_defaults_of_such_a_scene_are_told_as_defaults(photo_views, device, photos, points):
    """Their values follow from the number of photos, and from whether these see sparse points."""
    preset = METHODS["ngp"].preset
    settings = METHODS["ngp"].complete(preset, device, SceneKind(True, False, photos, points))
    settings = json.loads(json.dumps(to_dict(settings)))  # as a run keeps them
    views = {"train": some_views(photo_views, torch.zeros(photos, dtype=torch.int64))}
    record = Record(Path(), "run", {"scene": "x", **settings}, [], {}, [], views)
    assert "All options are the defaults of ngp." in settings_section(record)
    changed = {**settings, "model": {**settings["model"], "smoothness": 0.25}}
    assert "smoothness" in settings_section(replace(record, settings=changed)).partition("<details>")[0]
