"""What a training and `nerf prepare` tell besides their results."""

import re
from collections.abc import Callable
from pathlib import Path

import llff_files
import numpy as np
import pytest
from PIL import Image
from tiny import NGP_FLAGS, config, nerf, refused

from nerf_pl.errors import UserError
from nerf_pl.options import RunFolders
from nerf_pl.scenes import detect
from nerf_pl.scenes.prepare.sheet import PLACED, sheet_of, write_sheet
from nerf_pl.scenes.prepare.top_view import top_view
from nerf_pl.text import counted
from nerf_pl.training import run as training
from nerf_pl.training.length import AROUND_SECONDS, Length
from nerf_pl.training.run import train
from nerf_pl.training.saving import Saving
from nerf_pl.training.time_left import TimeLeft
from nerf_pl.training.verdict import verdict


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ((30.0, 17.0), "learned, but not the scene"),
        ((28.0, 21.9), "--refine_poses"),
        ((30.0, 25.0), None),
        ((24.0, 19.0), None),
        ((9.0, 8.0), "learned little"),
        ((None, 17.0), None),
        ((30.0, None), None),
        ((float("nan"), 17.0), None),
    ],
)
def test_a_training_that_went_wrong_is_told_with_advice(scores, told):
    found = verdict(5000, *scores)
    assert found is None if told is None else told in found
    assert verdict(10, *scores) is None


def length_of(validates: bool = True, **options: object) -> Length:
    return Length(config("ngp", **options).train, 16, fixed_batches=False, validates=validates)


def test_time_left_counts_steps_and_validations():
    by_steps = length_of(max_steps=100)
    assert by_steps.seconds_left(2.0, 5.0) == pytest.approx(100 * 2.0 + 10 * 5.0)
    by_steps.step = 95
    assert by_steps.seconds_left(2.0, 5.0) == pytest.approx(5 * 2.0 + 5.0)
    by_steps.step = 100
    assert by_steps.seconds_left(2.0, 5.0) == 0
    assert length_of(validates=False, max_steps=100).seconds_left(2.0, 5.0) == pytest.approx(200)


def test_time_left_by_the_clock_does_not_depend_on_the_speed():
    timed = length_of(max_steps=None, seconds=60.0)
    for pace in (0.001, 1.0):
        assert timed.seconds_left(pace, 3.0) == pytest.approx(60 + 4 * 3.0)
    timed.train_seconds = 50.0
    assert timed.seconds_left(0.001, 3.0) == pytest.approx(10 + 3.0)
    assert timed.seconds_left(0.001, 0.0) == pytest.approx(10 + 0.75 + AROUND_SECONDS)  # at first
    timed.train_seconds = 45.5  # the validation after 45 s is over, a little late
    assert timed.seconds_left(1.0, 3.0, 1.1) == pytest.approx(14.5 * 1.1 + 3.0)


def lived_through(
    training: Length, step_seconds: Callable[[float], float], between: float, val: float, save: float = 0.0
) -> list:
    """The moments of a training and what was said to be left then, if its clock goes as is said: step_seconds of a
    step, by the share that is done; between: seconds from one chunk of steps to the next; val: of a validation; save:
    of saving after one, which some leave out."""
    now, said, saving = 100.0, [], Saving()
    saving.clock = lambda: now
    saving.begin()
    watch = TimeLeft(saving)
    watch.begin(training)
    while not training.finished:
        for index, asked in enumerate(training.next_chunks()):
            training.step_seconds = training.step_seconds or step_seconds(0.0)
            n = training.chunk(asked, index)
            spent = n * step_seconds(training.progress) * (1.3, 0.8, 0.9)[index % 3]
            training.step += n
            training.spend(spent, n)
            now += spent + between
            watch.stepped(training)
            said.append((now, watch.seconds(training)))
            if training.finished:
                break
        if training.validates:
            watch.pause()
            now += val
        if training.finished or not saving.must_wait:
            with saving.of_a_validation(), saving.counted():
                now += save
        watch.go_on()
    return [(at, left, now - at) for at, left in said]


@pytest.mark.parametrize("length", [{"max_steps": 3000}, {"max_steps": None, "seconds": 60.0}])
@pytest.mark.parametrize("val", [0.5, 2.3])
@pytest.mark.parametrize("slower", [0.0, 0.2])
def test_time_left_is_right_within_a_tenth(length, val, slower):
    """At a quarter, a half and three quarters of a training, also if its steps become slower and take turns."""
    told = lived_through(length_of(**length), lambda share: 0.02 * (1 + slower * share), between=0.03, val=val)
    whole = told[0][0] + told[0][2] - 100.0
    for share in (0.25, 0.5, 0.75):
        _, said, true = min(told, key=lambda moment: abs(moment[0] - 100.0 - share * whole))
        assert said == pytest.approx(true, rel=0.1), share


@pytest.mark.parametrize("length", [{"max_steps": 3000}, {"max_steps": None, "seconds": 60.0}])
@pytest.mark.parametrize("val", [0.0, 0.5])
@pytest.mark.parametrize("save", [0.5, 1.2, 12.0])
def test_time_left_counts_the_checkpoints_that_are_saved(length, val, save):
    """Once the first one is saved. Of slow ones the next is the last."""
    training = length_of(val > 0, **length)
    told = lived_through(training, lambda share: 0.02, between=0.03, val=val, save=save)
    for share in (0.5, 0.75):
        _, said, true = min(told, key=lambda moment: abs(moment[0] - 100.0 - share * (told[0][0] + told[0][2] - 100.0)))
        assert said == pytest.approx(true, rel=0.1), share


@pytest.mark.parametrize(("spent", "ends"), [(59.7, False), (59.85, True), (59.999, True)])
def test_a_rest_that_is_too_short_for_a_chunk_ends_a_training_by_the_clock(spent, ends):
    timed = length_of(max_steps=None, seconds=60.0)
    timed.train_seconds, timed.step_seconds = spent, 1e-3
    assert timed.finished == ends


def test_options_are_in_the_log(scene_dir, tmp_path):
    train(config("ngp", max_steps=2), scene_dir, RunFolders.modern(tmp_path / "run"))
    text = (tmp_path / "run" / "logs" / "hparams.yaml").read_text()
    assert "method: ngp" in text
    assert "lr: '0.01'" in text


@pytest.mark.parametrize("inside", ["", "images", "my photos"])
def test_photos_alone_are_sent_to_prepare(tmp_path, inside):
    (folder := tmp_path / "flat" / inside).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "a.jpg")
    with pytest.raises(UserError, match=r"use `nerf prepare`.*: nerf prepare .* --out flat_scene"):
        detect(tmp_path / "flat")
    (film := tmp_path / "film.mp4").touch()
    with pytest.raises(UserError, match=r"nerf prepare .*film.mp4 makes a scene"):
        detect(film)


def test_the_sheet_frames_what_was_placed(tmp_path):
    for name in ("a", "b", "c"):
        Image.new("RGB", (40, 20), "blue").save(tmp_path / f"{name}.png")
    path = write_sheet(tmp_path / "scene", tmp_path, ["a.png", "b.png", "c.png"], ["b"])
    assert path == sheet_of(tmp_path / "scene") == tmp_path / "scene_not_placed.png"
    pixels = np.asarray(Image.open(path)).astype(int)
    green = np.abs(pixels - PLACED).sum(-1) < 5
    assert 0 <= np.nonzero(green)[1].min() - 6 - 166 < 10  # the second one
    assert np.ptp(np.nonzero(green)[1]) <= 160


def test_a_camera_that_is_far_away_does_not_shrink_the_map():
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    c2w = np.zeros((12, 3, 4))
    c2w[:, 0, 3], c2w[:, 1, 3], c2w[:, 0, 2] = np.cos(turn), np.sin(turn), 1.0
    alone = top_view(c2w, np.zeros((0, 3)), size=200)
    far = np.concatenate([c2w, c2w[:1] + np.array([0, 0, 0, 500.0])])
    with_stray = top_view(far, np.zeros((0, 3)), size=200)
    same = (alone[:170, 10:180] == with_stray[:170, 10:180]).all(-1).mean()
    assert same > 0.97
    assert not np.array_equal(alone[:170, 180:], with_stray[:170, 180:])  # its ring


@pytest.mark.parametrize(("number", "told"), [(0, "0 views"), (1, "1 view"), (2, "2 views"), (-1, "-1 views")])
def test_a_number_of_things(number, told):
    assert counted(number, "view") == told


def test_one_is_not_told_in_the_plural(scene_dir, tmp_path, capsys, monkeypatch):
    """A run with one of whatever there can be one of."""
    monkeypatch.chdir(tmp_path)
    run = ["train", scene_dir, *NGP_FLAGS, "--num_gpus", 0, "--exp_name", "one"]
    out = ""
    nerf(*run, "--max_steps", 1)
    out += refused(capsys, *run, "--max_steps", 1, "--resume")
    for words in (
        [*run, "--max_steps", 2, "--resume"], ["eval", "runs/one", "--split", "val"], ["info", scene_dir],
        ["render", "runs/one", "--frames", 1, "--img_wh", 8, 8], ["report", "runs/one"],
    ):  # fmt: skip
        nerf(*words)
    out += capsys.readouterr().out + Path("runs/one/report.html").read_text(encoding="utf-8")
    assert "is finished, after 1 step and" in out
    assert "before it was 1 step:" in out
    assert "(1 view" in out  # of nerf eval
    assert "1 view of 16 x 16" in out
    assert "1 frame:" in out
    wrong = re.findall(r"[^0-9.,]1 (?:steps|views|frames|photos|pictures|fields|epochs|cameras|points)\b.{20}", out)
    assert not wrong


@pytest.mark.parametrize(("words", "is_told"), [(["--random_until", 0.3], True), ([], False)])
def test_options_for_transparent_pictures_are_told_of_others(scene_dir, tmp_path, capsys, monkeypatch, words, is_told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "_fit", lambda *_: None)
    llff_files.write_scene(tmp_path / "photos", llff_files.facing())
    told = f"--random_until 0.3 changes nothing: the pictures of {tmp_path / 'photos'} are opaque"
    for scene, is_opaque in ((tmp_path / "photos", True), (scene_dir, False)):
        nerf("train", scene, *NGP_FLAGS, "--num_gpus", 0, *words)
        assert (told in capsys.readouterr().err) == (is_told and is_opaque)
