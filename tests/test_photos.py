"""`nerf prepare`: photos and films into scenes. Parts by themselves, whatever may be wrong, and eight real photos."""

import io
import json
import math
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pycolmap
import pytest
from colmap_files import poses, write_model
from PIL import Image

from nerf_pl.cli import main
from nerf_pl.errors import UserError
from nerf_pl.scenes import Request, load_scene
from nerf_pl.scenes.colmap import Pinhole
from nerf_pl.scenes.prepare import mapping, photos, placing, prepare
from nerf_pl.scenes.prepare.folder import transforms, write_scene
from nerf_pl.scenes.prepare.mapping import choose_matcher
from nerf_pl.scenes.prepare.photos import focal_in_pixels
from nerf_pl.scenes.prepare.placing import OVERLAP, pairs_by_tile, refine
from nerf_pl.scenes.prepare.top_view import top_view


def complaint(*parts: object, call) -> None:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message, message


def noise(seed: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write_photos(folder: Path, n: int = 6) -> None:
    folder.mkdir(parents=True)
    for i in range(n):
        Image.fromarray(noise(i)).save(folder / f"p{i}.jpg")


# ---- photos


def test_photos_are_turned_reduced_and_grouped_by_camera(tmp_path):
    source, stage = tmp_path / "photos", tmp_path / "stage"
    stage.mkdir()
    write_photos(source, 2)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 28
    Image.fromarray(noise(7)).save(source / "p turned.jpg", exif=exif, quality=95)
    (source / "more").mkdir()
    Image.fromarray(noise(8)).save(source / "more" / "p0.jpg")
    Image.fromarray(noise(9)).save(source / "p0.png")
    told = []
    found = photos.stage_photos(source, tmp_path / "out", 32, stage, step=lambda *a: told.append(a))
    assert [photo.name for photo in found] == ["more_p0.png", "p_turned.png", "p0_jpg.png", "p0_png.png", "p1.png"]
    sizes = {photo.name: photo.size for photo in found}
    assert sizes["p_turned.png"] == (24, 32)
    assert sizes["p1.png"] == (32, 24)
    with Image.open(stage / "p_turned.png") as picture:
        assert picture.size == (24, 32)
        with Image.open(source / "p turned.jpg") as stored:
            expected = np.rot90(np.asarray(stored, float), -1)
        assert abs(np.asarray(picture, float).mean() - expected.mean()) < 2
    cameras = {photo.name: photo.camera for photo in found}
    assert cameras["p0_jpg.png"] == cameras["p1.png"] == cameras["p0_png.png"]
    assert len(set(cameras.values())) == 3  # a folder of its own, and another size, are other cameras
    focals = {photo.name: photo.focal for photo in found}
    assert focals["p1.png"] is None
    assert focals["p_turned.png"] == pytest.approx(28 / math.hypot(36, 24) * math.hypot(24, 32), rel=1e-3)
    assert told[-1] == ("reading photos", 5, 5)


@pytest.mark.parametrize("width", [64, 32])
@pytest.mark.parametrize("kind", ["RGBA", "P"])
def test_transparency_stays(tmp_path, width, kind):
    """In photos that are reduced, in those that are not, and through the lens; alpha that nothing uses does not."""
    source, stage, work = tmp_path / "photos", tmp_path / "stage", tmp_path / "work"
    for folder in (source, stage, work):
        folder.mkdir()
    pixels = np.full((48, 64, 4), 255, np.uint8)
    pixels[:, :, 1:3] = 0
    pixels[:, :32] = (0, 0, 255, 0)  # a colour that is not to be seen
    Image.fromarray(pixels).convert(kind).save(source / "clear.png")
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(source / "whole.png")
    found = photos.stage_photos(source, tmp_path / "out", width, stage, step=lambda *a: None)
    with Image.open(stage / "clear.png") as clear, Image.open(stage / "whole.png") as whole:
        assert (clear.mode, whole.mode) == ("RGBA", "RGB")
    camera, names = ("SIMPLE_RADIAL", [0.9 * width, width / 2, width * 3 / 8, 0.05]), [photo.name for photo in found]
    write_model(tmp_path / "model", poses(2), cameras=[(*camera, found[0].size)], name=lambda i: names[i])
    model = pycolmap.Reconstruction(tmp_path / "model")
    views = sorted((model.image(i) for i in model.reg_image_ids()), key=lambda view: view.name)
    write_scene(model, views, stage, work, step=lambda *a: None)
    frames = json.loads((work / "transforms.json").read_text())["frames"]
    assert [frame["file_path"] for frame in frames] == ["images/clear.png", "images/whole.jpg"]
    with Image.open(work / "images" / "clear.png") as picture:
        stored = np.asarray(picture)
    assert stored.shape == (width * 3 // 4, width, 4)
    assert (stored[:, : width // 2 - 3, 3] == 0).all()
    assert (stored[:, width // 2 + 3 :] == (255, 0, 0, 255)).all()
    shown = stored[stored[..., 3] > 16]
    assert (shown[:, 2] < 40).all()  # nothing of the hidden colour


def test_focal_lengths_that_mean_nothing():
    assert focal_in_pixels(math.hypot(36, 24), (36, 24)) == pytest.approx(math.hypot(36, 24), rel=1e-3)
    assert focal_in_pixels(0, (36, 24)) is None
    assert focal_in_pixels("?", (36, 24)) is None
    assert focal_in_pixels(float("nan"), (36, 24)) is None


@pytest.mark.parametrize("n", [2, 9, 10, 25, 61])
def test_every_pair_is_matched_once(n):
    tiles = pairs_by_tile(n, "exhaustive")
    pairs = [pair for tile in tiles for pair in tile]
    assert sorted(pairs) == [(a, b) for a in range(n) for b in range(a + 1, n)]
    assert max(len({photo for pair in tile for photo in pair}) for tile in tiles) <= 20


def test_a_sequence_is_matched_with_its_neighbours():
    pairs = {pair for tile in pairs_by_tile(100, "sequential") for pair in tile}
    assert {(3, 4), (3, 3 + OVERLAP), (3, 35), (3, 67)} <= pairs
    assert (3, 3 + OVERLAP + 1) not in pairs
    assert choose_matcher("auto", 20, is_film=True) == "exhaustive"
    assert choose_matcher("auto", 300, is_film=True) == "sequential"
    assert choose_matcher("auto", 300, is_film=False) == "exhaustive"
    assert choose_matcher("sequential", 20, is_film=False) == "sequential"


def test_transforms_hold_shared_and_own_intrinsics():
    def pinhole(focal):
        return Pinhole(np.array([[focal, 0, 12.0], [0, focal + 1, 8.0], [0, 0, 1]]), (24, 16), None)

    c2w = np.random.default_rng(0).normal(size=(2, 3, 4))
    shared = transforms(["a.jpg", "b.jpg"], [pinhole(20.0)] * 2, c2w)
    assert (shared["fl_x"], shared["fl_y"], shared["cx"], shared["cy"], shared["w"]) == (20, 21, 12, 8, 24)
    assert shared["frames"][1]["file_path"] == "images/b.jpg"
    assert (np.array(shared["frames"][1]["transform_matrix"])[:3] == c2w[1]).all()
    own = transforms(["a.jpg", "b.jpg"], [pinhole(20.0), pinhole(30.0)], c2w)
    assert "fl_x" not in own
    assert [frame["fl_x"] for frame in own["frames"]] == [20, 30]
    assert own["aabb_scale"] == 16


def test_the_map_shows_every_camera_the_way_it_looks():
    c2w = np.zeros((2, 3, 4))
    c2w[:, :, 3] = [[-1, 0, 5], [1, 0, -5]]
    c2w[:, :, 2] = [[-1, 0, 0], [0, -1, 0]]  # they look along x and y
    pixels = top_view(c2w, np.zeros((0, 3)), size=400)
    rows, columns = np.nonzero((pixels[:360] < 220).any(-1))  # below is the scale
    left, right = columns < 200, columns >= 200
    assert columns[left].min() == pytest.approx(200 - 168, abs=5)  # 0.84 of the picture between them
    assert columns[right].max() == pytest.approx(200 + 168, abs=5)
    assert columns[left].max() > 40  # a line to the right
    assert np.ptp(rows[left]) < 10
    assert rows[right].min() < 190  # and one up
    assert rows[right].max() < 210
    with_points = top_view(c2w, np.random.default_rng(0).normal(size=(500, 3)), size=400)
    assert ((with_points < 250).any(-1)).sum() > ((pixels < 250).any(-1)).sum()


# ---- what may be wrong


def test_options_and_folders_that_cannot_work(tmp_path):
    source, out = tmp_path / "photos", tmp_path / "out"
    write_photos(source)
    wrong = [
        ((tmp_path / "nowhere", out), {}, ["nowhere does not exist"]),
        ((source / "p0.jpg", out), {}, ["p0.jpg is one photo"]),
        ((source, out), {"max_size": 10}, ["--max_size 10"]),
        ((source, out), {"frames": 2}, ["--frames 2"]),
        ((source, out), {"matcher": "magic"}, ["--matcher magic"]),
        ((source, tmp_path), {"overwrite": True}, [f"--out {tmp_path} holds the photos"]),
        ((source, source), {"overwrite": True}, ["holds the photos"]),
        ((source, source / "p0.jpg"), {}, ["p0.jpg is a file"]),
    ]
    for paths, options, parts in wrong:
        complaint(*parts, call=lambda p=paths, o=options: prepare(*p, **o))
    assert not out.exists()
    (out / "images").mkdir(parents=True)
    complaint(f"--out {out} is not empty", "--overwrite", call=lambda: prepare(source, out))


@pytest.mark.parametrize(("gpu", "size"), [(True, 1600), (False, 800)])
def test_photos_are_as_large_as_the_machine_has_use_for(tmp_path, monkeypatch, gpu, size):
    asked = []

    def stage(source, out, max_size, stage, step):
        asked.append(max_size)
        return []

    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("nerf_pl.scenes.prepare.stage_photos", stage)
    (tmp_path / "photos").mkdir()
    for given in (None, 100):
        complaint("0 photos", call=lambda g=given: prepare(tmp_path / "photos", tmp_path / "out", g))
    assert asked == [size, 100]


def test_too_few_or_unreadable_photos_leave_nothing_behind(tmp_path, capsys):
    source, out = tmp_path / "photos", tmp_path / "out"
    write_photos(source, 3)
    complaint("3 photos, too few", "overlap", call=lambda: prepare(source, out))
    (source / "p1.jpg").write_bytes(b"")
    complaint(source / "p1.jpg", "not a readable photo", call=lambda: prepare(source, out))
    for file in source.iterdir():
        file.unlink()
    complaint(source, "no photos", call=lambda: prepare(source, out))
    (source / "a.NEF").write_bytes(b"")
    complaint("convert them to JPEG", "a.NEF", call=lambda: prepare(source, out))
    assert not out.exists()
    write_photos(source / "more", 2)
    complaint("2 photos", call=lambda: prepare(source, out))
    assert "left out 1 photo (" in capsys.readouterr().err


def test_a_photo_that_is_cut_short_is_named(tmp_path):
    """And not the file that is made of it."""
    write_photos(tmp_path / "photos")
    photo, out = max((tmp_path / "photos").iterdir()), tmp_path / "out"
    photo.write_bytes(photo.read_bytes()[:-400])
    complaint(f"{photo} is not a readable photo", "remove it", call=lambda: prepare(photo.parent, out))


def test_photos_of_nothing_in_common_fail_with_advice(tmp_path):
    source, out = tmp_path / "photos", tmp_path / "out"
    write_photos(source, 6)
    (out / "images").mkdir(parents=True)
    (out / "images" / "kept.jpg").write_bytes(b"old")
    (out / "cameras.png").touch()
    call = lambda: prepare(source, out, overwrite=True)  # noqa: E731
    complaint("none of the 6 photos", source, "overlap", "--matcher sequential", call=call)
    assert sorted(file.relative_to(out).as_posix() for file in out.rglob("*")) == [
        "cameras.png", "images", "images/kept.jpg",
    ]  # fmt: skip


def test_the_command_ends_with_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos", 2)
    with pytest.raises(SystemExit) as stop:
        main(["prepare", "photos"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("nerf: photos has 2 photos, too few")
    assert not (tmp_path / "data" / "photos").exists()


def test_pycolmap_is_named_where_it_is_missing(tmp_path, monkeypatch):
    write_photos(tmp_path / "photos")
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    complaint('pip install "nerf_pl[colmap]"', call=lambda: prepare(tmp_path / "photos", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_too_small_is_said_before_colmap_begins(tmp_path, monkeypatch):
    """COLMAP would end the program when its database finds no room."""
    write_photos(tmp_path / "photos")
    monkeypatch.setattr("nerf_pl.scenes.prepare.mapping.shutil.disk_usage", lambda _: SimpleNamespace(free=3 * 10**7))
    monkeypatch.setattr("nerf_pl.scenes.prepare.reconstruct", None)
    told = "of disk while they are placed, and 30 MB are free"
    complaint(told, str(tmp_path / "out"), call=lambda: prepare(tmp_path / "photos", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


ENDS = {
    "aborts": ("sys.stderr.write('F1127 1:00 a.cc:3] no room\\n*** dump\\n'); os.abort()", "SIGABRT: no room"),
    "killed": ("os.kill(os.getpid(), 9)", "SIGKILL, as the system does when memory runs out"),
    "told to": ("os.kill(os.getpid(), 15)", "was ended by SIGTERM"),
    "says so": ("print(json.dumps({'failed': 'no features\\nat all'}))", "COLMAP failed: no features at all"),
    "is silent": ("sys.exit(3)", "code 3"),
}


@pytest.mark.parametrize("how", ENDS)
def test_whatever_ends_colmap_is_told_in_one_line(tmp_path, monkeypatch, capfd, how):
    code, told = ENDS[how]
    (tmp_path / "program.py").write_text(f"import json, os, sys\nsys.stdin.readline()\n{code}")
    monkeypatch.setattr(mapping, "PROGRAM", str(tmp_path / "program.py"))
    complaint(told, call=lambda: mapping.reconstruct(tmp_path, [], "exhaustive", print))
    assert capfd.readouterr().err == ""


def test_a_full_disk_is_what_ended_colmap(tmp_path, monkeypatch):
    monkeypatch.setattr(mapping.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    told = mapping._end(-6, ["F1127 10:00 database.cc:3] database or disk is full"], tmp_path)
    assert "1 MB are free" in told
    assert "free some space" in told


def test_colmap_ends_with_the_command(monkeypatch):
    """However that ends: the pipe between them does."""
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    placing._end_with_parent(io.BytesIO())
    assert ended == [placing.PARENT_IS_GONE]
    placing.main(io.BytesIO(), io.StringIO())  # before there was a job


def test_an_interrupt_leaves_nothing_behind(tmp_path):
    write_photos(tmp_path / "photos")

    def step(title, done, total):
        if title == "matching photos":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "photos", tmp_path / "out", step=step)
    assert not (tmp_path / "out").exists()


def test_refinement_finds_the_principal_point():
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=12)
    options.num_points3D = 200
    options.camera_model_id = pycolmap.CameraModelId.RADIAL
    options.camera_width, options.camera_height = 1000, 800
    options.camera_params = [900.0, 520.0, 390.0, 0.05, -0.04]
    pycolmap.set_random_seed(0)
    model = pycolmap.synthesize_dataset(options)  # observations without noise
    (camera,) = model.cameras.values()
    camera.model = pycolmap.CameraModelId.SIMPLE_RADIAL
    camera.params = [905.0, 500.0, 400.0, 0.03]
    model.update_point_3d_errors()
    refined = refine(pycolmap, model)
    (found,) = refined.cameras.values()
    np.testing.assert_allclose(found.params, [900, 520, 390, 0.05, -0.04], rtol=1e-3, atol=1e-4)
    assert refined.compute_mean_reprojection_error() < 0.01 < model.compute_mean_reprojection_error()


# ---- from photos to a scene


def test_eight_real_photos_and_one_of_something_else(data_dir, tmp_path, monkeypatch, capfd):
    """Every second of the first photos of the fox, small: the cameras stand where its transforms.json has them."""
    monkeypatch.chdir(tmp_path)
    fox, out = data_dir / "fox", tmp_path / "data" / "photos"
    files = sorted((fox / "images").iterdir())[:16:2]
    (tmp_path / "photos").mkdir()
    for file in files:
        with Image.open(file) as picture:
            picture.resize((216, 384), Image.Resampling.LANCZOS).save(tmp_path / "photos" / file.name, quality=95)
    Image.fromarray(noise(0, 216, 384)).save(tmp_path / "photos" / "other.png")
    out.mkdir(parents=True)
    (out / "cameras.png").write_bytes(b"old")
    main(["prepare", "photos", "--overwrite"])
    told = capfd.readouterr()
    assert told.err == ""
    *stages, placed, missing, then = told.out.splitlines()  # COLMAP is quiet
    assert stages[:3] == ["reading photos", "looking for features", "matching photos"]
    assert "placing photos" in stages
    assert len(stages) < 10
    error = float(re.fullmatch(r"8 of 9 photos placed, mean reprojection error (\d.\d\d) pixels", placed)[1])
    assert 0.05 < error < 1.0
    assert missing == "1 photo not placed: other"
    assert then.endswith("next: nerf train data/photos")
    assert sorted(path.name for path in out.iterdir()) == ["cameras.png", "images", "points.ply", "transforms.json"]
    assert 0.05 < json.loads((out / "transforms.json").read_text())["clear_distance"] < 1  # the cameras are 1 away
    with Image.open(out / "cameras.png") as picture:
        assert picture.size == (800, 800)
    scene = load_scene(out, Request(test_every=0))
    assert scene.images.shape == (8, 384, 216, 3)
    assert scene.seen is not None
    assert min(map(len, scene.seen)) > 20
    with Image.open(tmp_path / "photos" / files[3].name) as picture:  # the lens bends it by a few pixels at most
        assert np.abs(scene.images[3].numpy().astype(float) - np.asarray(picture)).mean() < 12

    given = {
        Path(f["file_path"]).stem: f["transform_matrix"]
        for f in json.loads((fox / "transforms.json").read_text())["frames"]
    }
    theirs = np.array([given[file.stem] for file in files])[:, :3]
    ours = scene.cameras.c2w.double().numpy()
    u, _, v = np.linalg.svd(sum(o[:, :3] @ t[:, :3].T for o, t in zip(ours, theirs, strict=True)))
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v  # the one that takes their axes to ours
    for o, t in zip(ours, theirs, strict=True):
        cosine = (np.trace(o[:, :3].T @ rotation @ t[:, :3]) - 1) / 2
        assert np.degrees(np.arccos(min(1, cosine))) < 1.5
    a, b = (x[:, :, 3] - x[:, :, 3].mean(0) for x in (theirs, ours))
    scale = np.sqrt((b**2).sum() / (a**2).sum())
    off = np.linalg.norm(b - scale * a @ rotation.T, axis=1)
    assert off.max() < 0.03 * np.ptp(b, axis=0).max()
