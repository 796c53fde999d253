"""Keyframes that are placed in the viewer: edited, played, saved as a file that `nerf render` films."""

import json
import math
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fake_page import Server
from tiny import CPU, nerf

from nerf_pl.checkpoints import open_run
from nerf_pl.errors import UserError
from nerf_pl.films.files import read_keyframes
from nerf_pl.films.paths import look_at
from nerf_pl.scenes import Scene, frame_of
from nerf_pl.viewer.loop import Loop
from nerf_pl.viewer.page import Page, go_to, wxyz_of
from nerf_pl.viewer.panel import NONE, Panel
from nerf_pl.viewer.track import Key, Track, command, file_for, play

POSES = look_at(torch.tensor([[4.0, 0, 1], [0, 4, 2], [-3, -3, 0.5]]))


@pytest.fixture
def scene(trained_ngp) -> Scene:
    """Cameras of a scene whose own file has another scale, axes and origin."""
    turned = torch.tensor([[0.0, 2, 0, 1], [0, 0, 2, -1], [2, 0, 0, 3], [0, 0, 0, 1]])
    return replace(open_run(trained_ngp, CPU).scene("train", pictures=False), frame=turned)


@pytest.fixture
def track(scene) -> Track:
    keys = [Key(pose, 0.5 + i / 10, 1.0 + i) for i, pose in enumerate(POSES)]
    return Track(scene, keys)


@pytest.mark.parametrize("loop", [False, True])
def test_the_file_gives_the_same_path_again(track, tmp_path, loop):
    track.loop = loop
    track.save(tmp_path / "path.json")
    found = read_keyframes(tmp_path / "path.json", track.like, frame_of(track.scene))
    torch.testing.assert_close(found.cameras.c2w, POSES, atol=1e-5, rtol=0)
    assert found.times.tolist() == [0.0, 2.0, 5.0]
    for mine, theirs in zip(track.keyframes().film(20).c2w, found.film(20).c2w, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)
    assert json.loads((tmp_path / "path.json").read_text())["coordinates"] == "file"
    other = Track(track.scene)
    other.load(tmp_path / "path.json")
    assert other.loop == loop
    for mine, theirs in zip(track.keys[1:], other.keys[1:], strict=True):
        assert (mine.fov, mine.seconds) == pytest.approx((theirs.fov, theirs.seconds), abs=1e-5)


def test_keyframes_are_inserted_changed_and_timed(track):
    key = Key(POSES[0], 1.0, 0.5)
    assert track.add(key, after=0) == 1
    assert track.times() == [0.0, 0.5, 2.5, 5.5]
    track.wait(1, -3)
    assert track.times()[1] > 0
    track.change(1, POSES[1], 0.9)
    assert (track.keys[1].fov, track.keys[1].seconds) == (0.9, track.times()[1])
    assert track.add(key) == 4


def test_nothing_can_be_saved_or_loaded_where_there_is_nothing(scene, tmp_path):
    with pytest.raises(UserError, match="no keyframes yet"):
        Track(scene).save(tmp_path / "path.json")
    with pytest.raises(UserError, match="does not exist"):
        Track(scene).load(tmp_path / "path.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "../out", "a/b", ".", "c:\\x", "a\0", "x" * 200, "/etc/passwd"])
def test_the_name_of_a_file_leads_nowhere_else(name, tmp_path):
    with pytest.raises(UserError, match="cannot be the name of a file"):
        file_for(tmp_path, name)


def test_a_name_may_have_its_ending(tmp_path):
    assert file_for(tmp_path, " tour-1.json ") == file_for(tmp_path, "tour-1") == tmp_path / "tour-1.json"


def test_the_command_can_be_typed_whatever_the_folder_is_called():
    words = shlex.split(command(Path("runs/my scene"), Path("runs/my scene/paths/a.json"), (0, 0, -1, 1, 1, 2.5)))
    assert words[:5] == ["nerf", "render", "runs/my scene", "--path", "runs/my scene/paths/a.json"]
    assert words[5:] == ["--crop", "0", "0", "-1", "1", "1", "2.5"]


@pytest.mark.parametrize("loop", [False, True])
def test_a_film_plays_through_its_keyframes_in_time(track, loop):
    track.loop, now, seen = loop, [10.0], []

    def show(key: Key) -> None:
        seen.append((now[0] - 10, key))
        now[0] += 0.5

    play(track, show, lambda: len(seen) < 40, lambda: now[0])
    at = {seconds: key.pose for seconds, key in seen}
    for seconds, pose in zip((0.0, 2.0, 5.0), POSES, strict=True):
        torch.testing.assert_close(at[seconds], pose, atol=1e-5, rtol=0)
    assert len(seen) == (40 if loop else 11)
    if loop:  # once round, 7.5 s, it is at the first again
        torch.testing.assert_close(at[7.5], POSES[0], atol=1e-5, rtol=0)


def test_one_keyframe_is_a_film_too(track):
    track.keys, seen = track.keys[:1], []
    track.loop = True
    play(track, seen.append, lambda: len(seen) < 5, lambda: 0.0)
    assert len(seen) == 1


@pytest.mark.parametrize("rolled", [0.0, 0.3, math.pi])
def test_a_camera_goes_to_a_view_as_it_is_even_rolled(scene, rolled):
    camera, pose = SimpleNamespace(), POSES[0].clone()
    cos, sin = math.cos(rolled), math.sin(rolled)
    right, up = POSES[0][:, 0], POSES[0][:, 1]
    pose[:, 0], pose[:, 1] = cos * right + sin * up, -sin * right + cos * up
    go_to(camera, scene, pose, 0.6)
    ahead = torch.tensor(camera.look_at) - torch.tensor(camera.position)
    found = torch.linalg.cross(ahead, torch.tensor(camera.up_direction).float())
    torch.testing.assert_close(found / found.norm(), pose[:, 0], atol=1e-4, rtol=0)
    if rolled == 0:  # it then turns about the scene's own axis
        assert camera.up_direction == pytest.approx((0, 0, 1), abs=1e-4)


@pytest.fixture
def panel(trained_ngp, tmp_path) -> Panel:
    folder = tmp_path / "run"
    shutil.copytree(trained_ngp, folder)
    run = open_run(folder, CPU)
    page = Page(Server(), Loop(run.model, run.scene("train", pictures=False)))
    page.open()
    return Panel(page, folder, folder / "paths")


def test_the_panel_from_the_first_view_to_the_film(panel, capsys):
    handles, client = panel.page.server.gui.handles, panel.page.server.connect()
    handles["save"].click(client)
    assert "no keyframes yet" in panel.told.content
    for label in ("go there", "replace by this view", "remove"):
        handles[label].click(client)
        assert "no keyframes yet" in panel.told.content
    for pose in POSES:
        client.move(pose[:, 3].numpy(), wxyz_of(pose), 0.6)
        handles["add this view"].click(client)
    assert panel.chosen.value == "3 at 4.00 s"
    handles["seconds"].set(0.5, client)
    assert panel.chosen.options == ("1 at 0.00 s", "2 at 2.00 s", "3 at 2.50 s")
    panel.chosen.set(panel.chosen.options[1], client)
    assert handles["seconds"].value == 2.0
    handles["remove"].click(client)
    assert panel.chosen.options == ("1 at 0.00 s", "2 at 0.50 s")
    handles["go there"].click(client)
    torch.testing.assert_close(torch.tensor(client.camera.position), POSES[0][:, 3], atol=1e-5, rtol=0)
    client.gui.handles["show only this box"].set(True)
    handles["file"].set("../tour", client)
    handles["save"].click(client)
    assert "cannot be the name" in panel.told.content
    handles["file"].set("tour", client)
    handles["save"].click(client)
    words = shlex.split(panel.told.content.split("```")[1])
    capsys.readouterr()
    nerf(*words[1:], "--num_gpus", "0", "--depth", "none", "--img_wh", "16", "16", "--fps", "4")
    assert "3 frames" in capsys.readouterr().out
    film = read_keyframes(panel.run / "renders" / "tour_cameras.json", panel.track.like, frame_of(panel.page.scene))
    torch.testing.assert_close(film.cameras.c2w[[0, -1]], POSES[[0, 2]], atol=1e-4, rtol=0)
    for _ in range(2):
        handles["remove"].click(client)
    assert panel.chosen.options == (NONE,)
    handles["load"].click(client)
    assert panel.chosen.options == ("1 at 0.00 s", "2 at 0.50 s")


def test_play_ends_and_can_be_stopped(panel, monkeypatch):
    monkeypatch.setattr("nerf_pl.viewer.panel.FRAME", 0.0)
    handles, client = panel.page.server.gui.handles, panel.page.server.connect()
    handles["play"].set(True, client)
    assert "no keyframes yet" in panel.told.content
    for pose in POSES[:2]:
        client.move(pose[:, 3].numpy(), wxyz_of(pose), 0.6)
        handles["add this view"].click(client)
    handles["seconds"].set(0.05, client)
    handles["play"].set(True, client)
    panel.player.join(30)
    assert handles["play"].value is False
    torch.testing.assert_close(torch.tensor(client.camera.position), POSES[1][:, 3], atol=1e-4, rtol=0)
    handles["loop"].set(True, client)
    panel.page.disconnect(client)  # a browser that has gone ends it
    handles["play"].set(True, client)
    panel.player.join(30)
    assert handles["play"].value is False
