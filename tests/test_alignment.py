"""A camera is moved to where the rendered picture fits a photo."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hills import Hills

from nerf_pl.alignment import Pair, after_motion, align, aligning_move, compared
from nerf_pl.cameras import Cameras, View
from nerf_pl.rendering import Image, render_view

MOTION = torch.tensor([0.02, -0.03, 0.04, 0.10, -0.05, 0.08])
NDC = (1.5, 1.5)


@pytest.fixture
def view() -> View:
    K = torch.tensor([[[150.0, 0, 100], [0, 150, 80], [0, 0, 1]]])
    return View(Cameras(torch.eye(4)[None, :3].clone(), K, 200, 160), 0.1, 10.0)


def at(view: View, c2w: torch.Tensor) -> View:
    return replace(view, camera=replace(view.camera, c2w=c2w[None]))


@pytest.mark.parametrize("ndc", [None, NDC])
@pytest.mark.parametrize("pixels", [40_000, 10_000])
def test_a_camera_comes_back(view, ndc, pixels):
    view, model = replace(view, ndc=ndc), Hills(ndc)
    photo, true = render_view(model, view).rgb, view.camera.c2w[0]
    wrong = at(view, after_motion(true, MOTION))
    found = align(model, wrong, photo, steps=8, pixels=pixels)
    assert (found.camera.c2w[0] - true).abs().max() < 0.003
    assert found.size == view.size
    torch.testing.assert_close(found.camera.K, view.camera.K)


def test_what_a_mask_hides_does_not_count(view):
    model = Hills()
    photo, true = render_view(model, view).rgb, view.camera.c2w[0]
    mask = torch.ones(160, 200, dtype=torch.bool)
    mask[:, :90] = False
    spoiled = torch.where(mask[:, :, None], photo, photo.roll(25, 1))
    wrong = at(view, after_motion(true, 0.5 * MOTION))
    found, misled = (align(model, wrong, spoiled, m, steps=14).camera.c2w[0] for m in (mask, None))
    assert (found - true).abs().max() < 0.003
    assert (misled - true).abs().max() > 0.01


def test_where_nothing_can_be_compared_nothing_moves(view):
    blank = Image(torch.full((160, 200, 3), 0.5), torch.ones(160, 200), torch.ones(160, 200))
    assert not aligning_move([Pair(view, blank, torch.zeros(160, 200, 3))]).any()
    nothing = replace(blank, rgb=torch.rand(160, 200, 3), opacity=torch.zeros(160, 200), depth=torch.zeros(160, 200))
    assert aligning_move([Pair(view, nothing, torch.rand(160, 200, 3))]).abs().max() < 1e-6
    tiny = replace(view, camera=view.camera.resized(5, 4))
    assert align(Hills(), tiny, torch.rand(4, 5, 3)) is tiny


def test_a_gpu_renders_what_is_compared_together(view):
    """Photos come one by one, as they are large; a picture that says nothing leaves its place."""

    class OnGPU(Hills):
        step, cpu_chunk = SimpleNamespace(is_cuda=True, device=torch.device("cpu")), 10**6

        def render(self, rays, background):
            asked.append(len(rays))
            return super().render(rays, background)

    asked: list[int] = []
    tiny = replace(view, camera=view.camera.resized(5, 4))
    views = [view, at(view, after_motion(view.camera.c2w[0], MOTION)), tiny, view]
    photos = [render_view(Hills(), each).rgb for each in views]
    given = {"pixels": 10_000, "chunk": 10**6}
    pairs = compared(OnGPU(), views, iter(photos), iter([None] * 4), **given)
    assert asked == [3 * pairs[0].image.opacity.numel()]
    assert pairs[2] is None
    for i in (0, 1, 3):
        (alone,) = compared(Hills(), [views[i]], [photos[i]], [None], **given)
        assert torch.equal(pairs[i].image.rgb, alone.image.rgb)
        assert torch.equal(pairs[i].photo, alone.photo)
        assert torch.equal(pairs[i].view.camera.c2w, views[i].camera.c2w)
