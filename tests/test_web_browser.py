"""The page in a browser, from the disk: it shows what the model shows, takes hands, and complains of nothing."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import BROWSER, opened
from test_mesh import Ball

from nerf_pl.cameras import AHEAD, ndc_points, ndc_scale
from nerf_pl.export.options import WebOptions
from nerf_pl.export.web import bake, tune
from nerf_pl.export.web.bake import web_page
from nerf_pl.export.web.march import picture
from nerf_pl.export.web.page import picture_request, write_page
from nerf_pl.media import to_uint8
from nerf_pl.rendering import render_view
from nerf_pl.scenes import Scene, load_scene

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs a browser: apt install chromium")


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(((a.astype(float) - b) ** 2).mean() / 255**2))


NDC = (2.0, 2.0)


class BallInFront(Ball):
    """A ball in normalised device coordinates."""

    ndc = NDC

    def density(self, xyz):
        along = xyz.new_tensor(AHEAD).expand_as(xyz)
        return super().density(ndc_points(xyz, NDC)) * ndc_scale(xyz, along, NDC)

    def radiance(self, xyz, dirs):
        return self.density(xyz), Ball().radiance(ndc_points(xyz, NDC), dirs)[1]

    def render(self, rays, background):
        return Ball().render(rays, background)


def world(kind: str, scene_dir: Path) -> tuple[Scene, Ball]:
    """A scene whose grid is of this kind, and a model of it."""
    scene = load_scene(scene_dir)
    scene = replace(scene, cameras=scene.cameras.resized(48, 48), background=(0.2, 0.4, 0.9))
    if kind == "all":
        return replace(scene, unbounded=True, aabb=torch.tensor([[-0.6] * 3, [0.6] * 3])), Ball()
    if kind == "ndc":
        c2w = torch.eye(3, 4).repeat(4, 1, 1)
        c2w[:, :, 3] = torch.tensor([[0, 0, 0], [0.2, 0.1, 0], [-0.2, 0.1, 0], [0, -0.2, 0.1]])
        K = torch.tensor([[48.0, 0, 24], [0, 48, 24], [0, 0, 1]]).expand(4, 3, 3)
        box = torch.tensor([[-1.0] * 3, [1.0] * 3])
        cameras = replace(scene.cameras, c2w=c2w, K=K)
        return replace(scene, cameras=cameras, ndc=NDC, aabb=box, orbit=None, near=0.0, far=1.0), BallInFront()
    return scene, Ball()


@pytest.mark.parametrize("kind", ["box", "all", "ndc"])
def test_the_page_shows_the_scene_and_takes_hands(kind, scene_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "RAYS", {"cpu": 2**10})
    monkeypatch.setattr(tune, "BATCH", {"cpu": 2**8})
    monkeypatch.setattr(bake, "RAYS", {"cpu": 2**12})
    scene, model = world(kind, scene_dir)
    made = web_page(model, scene, WebOptions(resolution=40), 1024, 'a "ball" & more')
    assert made.baked.grid.space.kind == kind
    page = tmp_path / "a page.html"
    write_page(page, made.html)
    view = scene.view(1)
    expected, baked = (to_uint8(rgb) for rgb in (render_view(model, view).rgb, picture(made.baked, view)))
    with opened(page, tmp_path / "browser") as tab:
        assert tab.evaluate("window.ready") is True
        shown = tab.picture(f"picture({json.dumps(picture_request(view, view.near))})")
        assert shown.shape == expected.shape
        assert psnr(baked, expected) > 24
        assert psnr(shown, baked) > 32  # which has one ray for each pixel
        assert psnr(shown, expected) > psnr(baked, expected) - 1
        assert tab.evaluate("document.title") == 'a "ball" & more'
        positions = [tab.evaluate("[...orbit.away, ...orbit.target]")]
        for event in hands():
            tab.call(**event)
            positions.append(tab.evaluate("[...orbit.away, ...orbit.target]"))
        moved = [not np.allclose(a, b, atol=1e-4) for a, b in itertools.pairwise(positions)]
        assert moved == [False, True, False, True, True, False, True, False, True]
        assert np.allclose(positions[0], positions[-1], atol=1e-6)  # back at the start
        assert len(np.unique(tab.screenshot().reshape(-1, 3), axis=0)) > 10
        assert tab.told == []


def hands() -> Iterator[dict]:
    """A drag, the wheel, an arrow key, two fingers that part, and back to the start."""
    mouse, key = {"method": "Input.dispatchMouseEvent", "x": 140, "y": 90}, {"method": "Input.dispatchKeyEvent"}
    yield {**mouse, "x": 100, "type": "mousePressed", "button": "left", "buttons": 1}
    yield {**mouse, "type": "mouseMoved", "button": "left", "buttons": 1}
    yield {**mouse, "type": "mouseReleased", "button": "left"}
    yield {**mouse, "type": "mouseWheel", "deltaX": 0, "deltaY": 120}
    yield {**key, "type": "keyDown", "key": "ArrowLeft"}
    touch = {"method": "Input.dispatchTouchEvent"}
    yield {**touch, "type": "touchStart", "touchPoints": [{"x": 100, "y": 90, "id": 0}, {"x": 200, "y": 90, "id": 1}]}
    yield {**touch, "type": "touchMove", "touchPoints": [{"x": 80, "y": 90, "id": 0}, {"x": 220, "y": 90, "id": 1}]}
    yield {**touch, "type": "touchEnd", "touchPoints": []}
    yield {**key, "type": "keyDown", "key": "Home"}


def test_a_browser_without_webgl_is_told(tmp_path, scene_dir, monkeypatch):
    monkeypatch.setattr(tune, "RAYS", {"cpu": 2**8})
    monkeypatch.setattr(tune, "BATCH", {"cpu": 2**8})
    monkeypatch.setattr(bake, "RAYS", {"cpu": 2**10})
    page = tmp_path / "page.html"
    write_page(page, web_page(Ball(), load_scene(scene_dir), WebOptions(resolution=16), 1024, "ball").html)
    with opened(page, tmp_path / "browser", "--disable-3d-apis") as tab:
        tab.evaluate("window.ready")
        assert "WebGL 2" in str(tab.evaluate("document.getElementById('told').textContent"))
