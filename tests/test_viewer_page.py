"""What a browser gets from the viewer, and the command."""

import math
import shutil
import socket
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from fake_page import Server
from llff_files import SIZE, around, facing, moved, similarity, write_scene
from tiny import CPU, config, refused

from nerf_pl import media
from nerf_pl.cameras import Cameras
from nerf_pl.checkpoints import open_run
from nerf_pl.errors import UserError
from nerf_pl.options import RunFolders
from nerf_pl.rendering import render_view
from nerf_pl.scenes import Scene
from nerf_pl.training.run import train
from nerf_pl.viewer.loop import Loop
from nerf_pl.viewer.page import Page, pose_of, wxyz_of
from nerf_pl.viewer.serve import address, free_port
from nerf_pl.viewer.stage import wish_of


@pytest.fixture(params=["nerf", "ngp"])
def run(request):
    return open_run(request.getfixturevalue("trained" if request.param == "nerf" else "trained_ngp"), CPU)


# ---- the page ----------------------------------------------------------------------------------------------------


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = float(((a.astype(float) - b.astype(float)) ** 2).mean()) / 255**2
    return -10 * math.log10(max(error, 1e-10))


@pytest.fixture
def page(run) -> Page:
    page = Page(Server(), Loop(run.model, run.scene("train", pictures=False), 4096))
    page.open()
    return page


def settle(page: Page) -> None:
    while page.loop.step():
        pass


def test_the_picture_of_a_client_is_that_of_render_view_wherever_its_camera_goes(page, run):
    client = page.server.connect(size=(48, 36))
    for i in (0, 2):
        view = page.scene.view(i)
        wish = wish_of(view)
        client.move(wish.c2w[:, 3].numpy(), wxyz_of(wish.c2w), wish.fov)
        settle(page)
        size = (48, 36)
        focal = 18 / math.tan(wish.fov / 2)
        K = torch.tensor([[[focal, 0, 24], [0, focal, 18], [0, 0, 1]]])
        camera = Cameras(view.camera.c2w, K, *size, view.camera.pixel_offset)
        expected = render_view(run.model, replace(view, camera=camera))
        picture, quality = client.pictures[-1]
        assert psnr(picture, media.to_uint8(expected.rgb)) > 45
        assert quality > client.pictures[0][1]


def test_a_new_client_starts_at_the_first_camera(page):
    start = page.server.initial_camera
    torch.testing.assert_close(torch.tensor(start.position), wish_of(page.scene.view(0)).c2w[:, 3])
    assert page.server.up == start.up == (0.0, 0.0, 1.0)


def test_controls_change_the_picture(page):
    client, wish = page.server.connect(size=(24, 24)), wish_of(page.scene.view(0))
    client.move(wish.c2w[:, 3].numpy(), wxyz_of(wish.c2w), wish.fov)
    settle(page)
    seen = [client.pictures[-1][0]]
    for label, value in [("show", "depth"), ("show", "opacity"), ("show", "normals"), ("show", "colour"),
                         ("background", (255, 0, 0)), ("near plane", 4.2)]:  # fmt: skip
        client.gui.handles[label].set(value)
        settle(page)
        seen.append(client.pictures[-1][0])
    assert [i for i, (a, b) in enumerate(pairwise(seen)) if np.array_equal(a, b)] == []
    low, high = (client.gui.handles[label] for label in ("lowest", "highest"))
    low.set((90.0, 90.0, 90.0))
    high.set((91.0, 91.0, 91.0))
    client.gui.handles["show only this box"].set(True)
    settle(page)
    assert (client.pictures[-1][0] == (255, 0, 0)).all()


def test_a_method_that_cannot_be_cropped_has_no_box(run):
    page = Page(Server(), Loop(run.model, run.scene("train", pictures=False)), may_crop=False)
    page.open()
    assert "show only this box" not in page.server.connect().gui.handles


def test_cameras_are_drawn_with_photos_and_lead_to_their_views(page, run):
    from nerf_pl.viewer.photos import reader

    page.photos = reader(lambda: run.scene("train"))
    client = page.server.connect(size=(24, 24))
    client.gui.handles["cameras"].set(True)
    assert [handle.image for handle in client.drawn] == [None] * len(page.scene)
    client.gui.handles["photos"].set(True)
    plain, drawn = client.drawn[: len(page.scene)], client.drawn[len(page.scene) :]
    assert all(handle.is_removed for handle in plain)
    scene = run.scene("train")
    for i, handle in enumerate(drawn):
        np.testing.assert_array_equal(handle.image, media.to_uint8(scene.image(i)))
        torch.testing.assert_close(pose_of(handle).float(), scene.cameras.c2w[i], atol=1e-5, rtol=0)
    drawn[2].click(client)
    torch.testing.assert_close(torch.tensor(client.camera.position), scene.cameras.c2w[2, :, 3])
    ahead = torch.tensor(client.camera.look_at) - scene.cameras.c2w[2, :, 3]
    assert float(torch.cosine_similarity(ahead, -scene.cameras.c2w[2, :, 2], dim=0)) > 0.999
    client.gui.handles["cameras"].set(False)
    assert all(handle.is_removed for handle in drawn)


def test_photos_that_are_gone_are_said_and_left_out(page, capsys, tmp_path):
    from nerf_pl.viewer.photos import reader

    def gone() -> Scene:
        raise UserError(f"{tmp_path} is gone")

    page.photos = reader(gone)
    client = page.server.connect(size=(24, 24))
    client.gui.handles["photos"].set(True)
    client.gui.handles["cameras"].set(True)
    assert [handle.image for handle in client.drawn] == [None] * len(page.scene)
    assert f"shows no photos: {tmp_path} is gone" in capsys.readouterr().err


def test_a_client_that_goes_gets_nothing_more(page):
    client, other = page.server.connect(0, (24, 24)), page.server.connect(1, (24, 24))
    page.server.disconnects[0](client)
    settle(page)
    assert not client.pictures
    assert other.pictures
    client.gui.handles["show"].set("depth")
    settle(page)
    assert not client.pictures


KINDS = {"one side": lambda: facing(), "all around": lambda: moved(around(), *similarity(3))}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["nerf", "ngp"])
def test_photos_from_one_side_and_from_all_around_are_shown_without_their_folder(kind, method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scene(tmp_path / "scene", KINDS[kind]())
    train(config(method, max_steps=2), tmp_path / "scene", RunFolders.modern(tmp_path / "run"))
    shutil.rmtree(tmp_path / "scene")
    run = open_run(tmp_path / "run", CPU)
    scene = run.scene("train", pictures=False)
    assert (scene.ndc is not None) == (kind == "one side")
    page = Page(Server(), Loop(run.model, scene), may_crop=method == "ngp")
    page.open()
    client, wish = page.server.connect(size=SIZE), wish_of(scene.view(1))
    client.move(wish.c2w[:, 3].numpy(), wxyz_of(wish.c2w), wish.fov)
    settle(page)
    expected = render_view(run.model, replace(scene.view(1), background=scene.background or (0.0, 0.0, 0.0)))
    assert psnr(client.pictures[-1][0], media.to_uint8(expected.rgb)) > 40
    assert float(torch.tensor(page.server.up) @ wish.c2w[:, 1]) > 0.7
    for label, value in [("show", "normals"), ("show", "depth"), *([("show only this box", True)] * (method == "ngp"))]:
        client.gui.handles[label].set(value)
        settle(page)
        assert client.pictures[-1][0].shape == (SIZE[1], SIZE[0], 3)


# ---- the command -------------------------------------------------------------------------------------------------


def test_without_viser_one_line_names_the_package(trained, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    assert 'pip install "nerf_pl[viewer]"' in refused(capsys, "view", trained)


@pytest.mark.parametrize("words", [("--port", "0"), ("--port", "70000")])
def test_numbers_that_cannot_be_are_refused(trained, capsys, words):
    assert words[0] in refused(capsys, "view", trained, *words)


def test_a_taken_port_leads_to_the_next_and_says_so(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        if port > 65000:
            pytest.skip("the system gave one of the last ports")
        assert port < free_port("127.0.0.1", port) < port + 20
    told = capsys.readouterr().err
    assert f"port {port} is taken" in told
    with pytest.raises(UserError, match=r"--host 203\.0\.113\.7 cannot be used"):
        free_port("203.0.113.7", port)
    with pytest.raises(UserError, match="--host no such host"):
        free_port("no such host", port)


def test_the_address_is_one_that_a_browser_opens():
    assert address("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert address("::1", 81) == "http://[::1]:81"
