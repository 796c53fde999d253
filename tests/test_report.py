"""The report of a run: what it says, what it shows, and what it does without."""

import base64
import json
import re
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_files import SIZE, report, requires_nothing_else, write_film, write_json, write_pictures, write_run

from nerf_pl.metrics import FLOATERS_BY
from nerf_pl.report import page, turn, write_report
from nerf_pl.report.history import Entry, add_to_history
from nerf_pl.report.pictures import RAMP, error_colours
from nerf_pl.report.record import ViewRow
from nerf_pl.report.sections import Room
from nerf_pl.report.views import worst_and_best


def test_a_report_shows_the_worst_and_the_best_views(tmp_path):
    psnr = [30.0, 21.0, 25.0, 28.5, 22.0, 24.0, 27.0, 29.0, 20.5]
    shown = report(write_run(tmp_path / "run", psnr))
    requires_nothing_else(shown)
    cards = re.findall(r'<article class="view"><header><h3>(.*?)</h3>', shown.text)
    assert cards == ["v8", "v1", "v4", "v0", "v7", "v3"]
    assert len(shown.all("input", type="range")) == 6
    assert len(shown.all("img")) == 6 * 4  # rendered, of the scene, errors, depth
    assert shown.text.count("colours of depth, from 2 to 6.5") == 6
    assert shown.headings == ["Views", "Scores", "Settings", "How it was made"]
    assert f"{np.mean(psnr):.2f}" in shown.told


def test_few_views_are_all_shown():
    views = [ViewRow("v", {"psnr": value}, Path("000.png"), None) for value in (3.0, None, 1.0, 2.0)]
    worst, best = worst_and_best(views)
    assert [view.psnr for view in worst] == [1, 2, 3]
    assert not best


def test_pictures_are_those_on_the_disk_and_their_errors(tmp_path):
    shown = report(write_run(tmp_path / "run", [20.0, 21.0, 22.0]))
    (pictures,) = [[each["src"] for each in shown.all("img") if each["alt"].startswith(what)] for what in ("v2, ",)]
    rendered, target = (decoded(source) for source in pictures)
    assert (rendered == 102).all()
    assert (target == 100).all()
    errors = decoded(shown.all("img", alt="errors of v2")[0]["src"])
    assert np.array_equal(errors, error_colours(np.full(SIZE, 2.0), 8))


def decoded(source: str) -> np.ndarray:
    with Image.open(BytesIO(base64.b64decode(source.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGB"))


def test_large_pictures_are_shrunk_and_the_page_stays_small(tmp_path):
    run = write_run(tmp_path / "run", [20.0])
    for i, end in enumerate(("", "_target", "_depth")):
        noise = np.random.default_rng(i).integers(0, 255, (900, 1200, 3), dtype=np.uint8)
        Image.fromarray(noise).save(run / "renders" / "test" / f"000{end}.png", compress_level=1)
    shown = report(run)
    assert {(each["width"], each["height"]) for each in shown.all("img")} == {("640", "480")}
    assert 6 * len(shown.text) < page.MOST_BYTES  # of noise, which hardly compresses


def test_masked_pixels_are_grey(tmp_path):
    run = write_run(tmp_path / "run", [20.0])
    write_pictures(run / "renders" / "test", 0)
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[:, :5] = 255
    Image.fromarray(mask).save(run / "renders" / "test" / "000_mask.png")
    shown = report(run)
    errors = decoded(shown.all("img", alt="errors of v0")[0]["src"])
    assert (errors[:, 5:] == 128).all()
    assert (errors[:, :5] == RAMP[0]).all()
    assert "masked" in shown.told


@pytest.mark.parametrize(
    ("kind", "told"),
    [("photo", "the photo"), ("ray-traced", "the ray-traced picture"), ("reference", "the reference picture")],
)
def test_pictures_are_called_what_they_are(tmp_path, kind, told):
    shown = report(write_run(tmp_path / "run", [20.0], pictures=kind))
    assert told in shown.told
    assert ("photo" in shown.told) == (kind == "photo")


def test_metrics_of_earlier_versions_do_not_call_the_demo_photos(tmp_path, scene_dir):
    run = write_run(tmp_path / "run", [20.0])
    assert "reference" in report(run).told
    write_json(run / "settings.json", {"scene": str(scene_dir), "method": "ngp"})
    assert "ray-traced" in report(run).told


NASTY = "<script>alert(1)</script>\"'&$title"


def test_names_are_escaped(tmp_path):
    run = write_run(tmp_path / "<b>&$style", [20.0, 21.0], [NASTY, "b"], split="test", checkpoint=NASTY)
    write_json(run / "settings.json", {"scene": NASTY, "method": NASTY, "model": {NASTY: NASTY}})
    add_to_history(run, Entry(NASTY, NASTY, 1.0, True, NASTY, {NASTY: NASTY}), anew=True)
    write_film(run / "renders" / "a<i>&.mp4")
    shown = report(run)
    assert len(shown.all("script")) == 1
    assert NASTY not in shown.text
    assert shown.text.count("<h1>") == 1
    assert "<b>&$style" in shown.told


def test_films_are_inside_if_they_are_small_and_links_if_they_are_large(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", [20.0])
    write_film(run / "renders" / "360.mp4")
    write_film(run / "renders" / "360_depth.mp4")
    write_film(run / "renders" / "test" / "test.mp4")  # of one view
    inside = report(run)
    assert len(inside.all("video")) == 2
    content = inside.all("video")[0]["src"]
    assert base64.b64decode(content.partition(",")[2]) == (run / "renders" / "360.mp4").read_bytes()
    monkeypatch.setattr(page, "MOST_FILM", 10)
    linked = report(run)
    assert not linked.all("video")
    assert linked.all("a", href="renders/360.mp4")


def test_films_share_the_room_of_the_page():
    room = Room(1000)
    assert not room.takes(500, most=499)
    assert [room.takes(400, most=500) for _ in range(3)] == [True, False, False]
    assert room.takes(300, most=500)


def test_a_film_of_many_test_views_is_shown(tmp_path):
    run = write_run(tmp_path / "run", [20.0] * 13)
    write_film(run / "renders" / "test" / "test.mp4")
    assert len(report(run).all("video")) == 1


@pytest.mark.parametrize("split", ["val", "train"])
def test_other_splits_are_shown_if_no_test_views_were_scored(tmp_path, split):
    shown = report(write_run(tmp_path / "run", [20.0, 22.0], split=split))
    assert f"{split} views" in shown.told
    assert len(shown.all("article")) == 2
    both = report(write_run(tmp_path / "run", [25.0], split="test"))
    assert len(both.all("article")) == 1
    assert f"<td>{split}</td>" in both.text


def test_floaters_of_another_measure_are_left_out_and_said_to_be(tmp_path):
    run = write_run(tmp_path / "run", [20.0], floaters=0.25, floaters_by=FLOATERS_BY)
    shown = report(run)
    assert "25.0%" in shown.told
    assert "another way" not in shown.told
    for split in ("val", "test"):
        write_run(run, [20.0], split=split, floaters=0.25)  # as earlier versions measured
    shown = report(run)
    assert "25.0%" not in shown.told
    told = "Floaters of the test views were measured in another way, and are left out"
    assert f"{told}." in shown.told
    (run / "checkpoints").mkdir()
    shown = report(run)
    assert f"{told}: nerf eval {run} measures them anew." in shown.told
    assert f"left out: nerf eval {run} --split val measures them anew." in shown.told


def damage(run: Path, how: str) -> None:
    """Take something away from a run, or damage it."""
    metrics = json.loads((run / "metrics.json").read_text())
    if how == "no pictures":
        shutil.rmtree(run / "renders")
    elif how == "damaged pictures":
        for file in (run / "renders" / "test").glob("*.png"):
            file.write_bytes(file.read_bytes()[:60])
    elif how == "other sizes":
        Image.new("RGB", (7, 5)).save(run / "renders" / "test" / "000_target.png")
    elif how == "damaged scores":
        (run / "metrics.json").write_text('{"psnr": 3')
    elif how == "scores of another kind":
        write_json(run / "metrics.json", {"psnr": "high", "views": [3, {"name": None}, {"psnr": [1], "depth": 7}]})
    elif how == "a list for scores":
        write_json(run / "metrics.json", [1, 2])
    elif how == "no numbers":
        rows = [{**view, "psnr": None, "ssim": None, "depth": None} for view in metrics["views"]]
        write_json(run / "metrics.json", {**metrics, "psnr": None, "ssim": None, "views": rows})
    elif how == "of version 0.1.0":
        rows = [{"name": view["name"], "psnr": view["psnr"], "ssim": view["ssim"]} for view in metrics["views"]]
        write_json(run / "metrics.json", {"psnr": metrics["psnr"], "ssim": 0.9, "views": rows})
    elif how == "damaged settings":
        (run / "settings.json").write_bytes(b"\xff\x00{")
    elif how == "another method":
        write_json(run / "settings.json", {"method": "other", "model": {"a": [1, 2], "b": None}})
    elif how == "a damaged checkpoint":
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "last.ckpt").write_bytes(b"nothing")
    elif how == "a damaged log":
        (run / "logs").mkdir()
        (run / "logs" / "events.out.tfevents.1").write_bytes(b"nothing at all, but long enough for a header")
    elif how == "a damaged mesh":
        (run / "mesh.ply").write_text("ply\nformat ascii 1.0\nelement vertex 3\n")
    elif how == "a damaged history":
        write_json(run / "history.json", [1, {"command": 3}, None])
    elif how == "an empty film":
        (run / "renders" / "360.mp4").write_bytes(b"")


HOWS = [
    "no pictures", "damaged pictures", "other sizes", "damaged scores", "scores of another kind", "a list for scores",
    "no numbers", "of version 0.1.0", "damaged settings", "another method", "a damaged checkpoint", "a damaged log",
    "a damaged mesh", "a damaged history", "an empty film",
]  # fmt: skip


@pytest.mark.parametrize("how", HOWS)
def test_what_is_missing_or_damaged_is_left_out(tmp_path, how):
    run = write_run(tmp_path / "run", [20.0, 22.0])
    damage(run, how)
    shown = report(run)
    requires_nothing_else(shown)
    assert "run" in shown.told
    assert shown.headings[-1] == "How it was made"
    if how in ("no pictures", "damaged pictures"):
        assert not shown.all("img")
    if how == "of version 0.1.0":
        assert len(shown.all("article")) == 2
        assert "near" in shown.told  # the ends of depth are not known


def test_an_empty_folder_has_a_report(tmp_path):
    assert "not scored yet" in report(tmp_path).told


def test_the_page_is_whole_or_as_it_was(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", [20.0])
    before = write_report(run).read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(Exception, match=r"cannot write .*report\.html: No space left"):
        write_report(run)
    assert (run / "report.html").read_bytes() == before
    assert [path.name for path in run.glob(".report*")] == []


@pytest.mark.parametrize("suffix", ["ply", "glb", "obj"])
def test_a_mesh_in_the_folder_is_shown_from_all_around(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(turn, "POINTS", 40_000)
    monkeypatch.setattr(turn, "FRAMES", 4)
    trimesh = pytest.importorskip("trimesh", reason="needs trimesh: pip install 'nerf_pl[mesh]'")
    run = write_run(tmp_path / "run", [20.0])
    box = trimesh.creation.box(extents=(1, 1, 2))
    box.visual.vertex_colors = np.tile(np.array([200, 40, 40, 255], np.uint8), (len(box.vertices), 1))
    box.export(run / f"mesh.{suffix}")
    shown = report(run)
    pictures = [decoded(each["src"]) for each in shown.all("img") if each["alt"].startswith("mesh")]
    assert len(pictures) == 4
    covered = [(picture != 255).any(-1) for picture in pictures]
    assert all(0.05 < float(each.mean()) < 0.9 for each in covered)
    assert pictures[0][covered[0]].mean(0)[0] > 2 * pictures[0][covered[0]].mean(0)[1]  # red
    assert shown.all("input", max="3")
    assert "12 triangles" in shown.told
