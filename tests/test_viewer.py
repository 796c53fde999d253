"""The viewer: how large pictures are, which comes next, and what they show."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import CPU

from nerf_pl import media
from nerf_pl.cameras import Cameras, View, ndc_points
from nerf_pl.checkpoints import open_run
from nerf_pl.rendering import Image, hurried, render_view
from nerf_pl.scenes import Scene
from nerf_pl.types import Pixels
from nerf_pl.viewer.loop import Loop
from nerf_pl.viewer.pace import FLOOR, MOST_CHANGE, Pace, fitted
from nerf_pl.viewer.page import pose_of, wxyz_of
from nerf_pl.viewer.paint import normals, paint
from nerf_pl.viewer.stage import MODES, box_to_crop, looked_at, up_of, view_of, wish_of

# ---- how large ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [(800, 800), (1600, 900), (300, 2000), (100, 80), (1, 3000)])
def test_no_picture_is_smaller_than_the_floor_however_slow(full):
    pace = Pace()
    for _ in range(200):
        size = pace.moving(full)
        assert max(size) == min(max(full), max(FLOOR, max(size)))
        assert max(size) >= min(FLOOR, max(full))
        assert min(size) >= 1
        pace.learn(size, 10.0)
    assert max(pace.moving(full)) == min(FLOOR, max(full))


def test_a_fixed_cost_of_each_picture_does_not_make_pictures_shrink_and_shrink():
    pace, full = Pace(), (1000, 1000)
    for _ in range(300):
        size = pace.moving(full)
        pace.learn(size, 0.02 + size[0] * size[1] / 3e7)
    assert size[0] * size[1] / 3e7 + 0.02 <= pace.target * 1.05
    assert size[0] > 1.5 * FLOOR


def test_one_slow_picture_changes_nothing():
    pace, full = Pace(), (1000, 1000)
    for _ in range(20):
        pace.learn((500, 500), 1 / 30)
    before = pace.moving(full)
    pace.learn((500, 500), 20.0)
    assert pace.moving(full) == before


def test_the_speed_changes_by_steps_and_recovers():
    pace, full = Pace(), (1000, 1000)
    pace.learn((256, 256), 30.0)  # kernels were compiled
    for _ in range(30):
        before = pace.speed
        pace.learn(pace.moving(full), 1e-3)
        assert before / MOST_CHANGE - 1e-9 <= pace.speed <= before * MOST_CHANGE + 1e-9
    for _ in range(30):
        pace.learn(pace.moving(full), 1e-3)
    assert pace.moving(full) == full


def test_pictures_get_finer_until_they_are_whole():
    size, full, sizes = fitted((1600, 900), FLOOR), (1600, 900), []
    while size != full:
        size = Pace.finer(size, full)
        sizes.append(size)
    assert len(sizes) == 3
    assert all(abs(w / h - 16 / 9) < 0.01 for w, h in sizes)


# ---- what a wish is ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["nerf", "ngp"])
def run(request):
    return open_run(request.getfixturevalue("trained" if request.param == "nerf" else "trained_ngp"), CPU)


def test_the_view_of_a_camera_of_the_scene_is_that_of_the_scene(run):
    scene = run.scene("train", pictures=False)
    for i in range(len(scene)):
        view, found = scene.view(i), view_of(scene, wish_of(scene.view(i)), scene.view(i).size)
        assert (found.near, found.far) == pytest.approx((view.near, view.far), abs=1e-5)
        a, b = view.rays(), found.rays()
        torch.testing.assert_close(a.directions, b.directions, atol=1e-5, rtol=0)
        torch.testing.assert_close(a.origins, b.origins)


def test_near_and_far_follow_a_camera_that_leaves_the_others(run):
    scene = run.scene("train", pictures=False)
    wish, target = wish_of(scene.view(0)), torch.tensor(scene.target)

    def at(factor: float, **values: object) -> View:
        pose = wish.c2w
        pose[:, 3] = target + factor * (pose[:, 3] - target)
        return view_of(scene, replace(wish, pose=tuple(pose.flatten().tolist()), **values), (8, 8))

    assert at(0.6).near < scene.near
    assert at(0.01).near > 0
    assert at(3.0).far > scene.far
    assert at(1.0, near=3.0).near == 3.0
    assert at(1.0, near=1e9).near < scene.far


def test_viser_and_we_mean_the_same_pose(run):
    scene = run.scene("train", pictures=False)
    for i in range(len(scene)):
        c2w = wish_of(scene.view(i)).c2w
        camera = type("Camera", (), {"wxyz": wxyz_of(c2w), "position": c2w[:, 3].numpy()})
        torch.testing.assert_close(pose_of(camera).float(), c2w, atol=1e-5, rtol=0)
        ahead = torch.tensor(looked_at(scene, c2w)) - c2w[:, 3]
        assert float(torch.cosine_similarity(ahead, -c2w[:, 2], dim=0)) > 0.999
    assert up_of(scene) == (0.0, 0.0, 1.0)


# ---- what it shows -----------------------------------------------------------------------------------------------


def plane_scene(ndc: tuple[float, float] | None) -> Scene:
    """One camera at the origin that looks along -z."""
    c2w = torch.eye(3, 4)[None]
    K = torch.tensor([[[20.0, 0, 16], [0, 20.0, 16], [0, 0, 1]]])
    images = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    return Scene(Cameras(c2w, K, 32, 32), images, 1.0, 9.0, box, ndc=ndc, target=(0.0, 0.0, -4.0))


@pytest.mark.parametrize("ndc", [None, (1.25, 1.25)])
@pytest.mark.parametrize("opacity", [1.0, 0.5])
def test_normals_are_those_of_a_plane(ndc, opacity):
    scene = plane_scene(ndc)
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.2, 1.0]), dim=0)
    camera = scene.view(0)
    world = replace(camera, ndc=None).rays()
    t = (normal @ torch.tensor([0.0, 0, -4])) / (world.directions @ normal)
    points = world.origins + t[:, None] * world.directions
    rays = camera.rays()
    if ndc:
        points = ndc_points(points, ndc)
    depth = ((points - rays.origins) * rays.directions).sum(1)
    image = Image(torch.zeros(32, 32, 3), (opacity * depth).view(32, 32), torch.full((32, 32), opacity))
    found = normals(image, camera)
    torch.testing.assert_close(found, normal.expand(32, 32, 3), atol=2e-2 if ndc else 1e-3, rtol=0)
    shown = paint(image, camera, "normals").astype(float) / 255
    np.testing.assert_allclose(shown[9, 9], opacity * (found[9, 9].numpy() + 1) / 2 + 1 - opacity, atol=0.005)


@pytest.mark.parametrize("ndc", [None, (1.25, 1.25)])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_shows_empty_space_and_tiny_pictures(mode, ndc):
    scene = plane_scene(ndc)
    for size in ((1, 1), (2, 5), (16, 9)):
        view = view_of(scene, wish_of(scene.view(0)), size)
        nothing = Image(torch.ones(*size[::-1], 3), torch.zeros(*size[::-1]), torch.zeros(*size[::-1]))
        shown = paint(nothing, view, mode)
        assert shown.dtype == np.uint8
        assert shown.shape == (*size[::-1], 3)
        assert (shown == (0 if mode == "opacity" else 255)).all()


@pytest.mark.parametrize("ndc", [None, (1.25, 1.25)])
def test_the_box_of_a_scene_holds_what_the_cameras_look_at(ndc):
    scene = replace(plane_scene(ndc), frame=torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])))
    low, high = np.array(box_to_crop(scene)).reshape(2, 3)
    if ndc is None:
        assert (low, high) == (pytest.approx([-0.5] * 3), pytest.approx([0.5] * 3))
    else:
        assert (low < np.array([0, 0, -2])).all()
        assert (high > np.array([0, 0, -2])).all()


# ---- which picture comes next ------------------------------------------------------------------------------------


class Flat(torch.nn.Module):
    """A grey wall. `before` is called before each chunk of rays."""

    rays_per_pixel = 1

    def __init__(self, before=lambda: None) -> None:
        super().__init__()
        self.register_buffer("step", torch.zeros(1, dtype=torch.int64))
        self.before, self.rays = before, 0

    def render(self, rays, background) -> Pixels:
        self.before()
        self.rays += len(rays)
        one = torch.ones(len(rays))
        return Pixels(0.5 * one[:, None].expand(-1, 3), 4 * one, one, one)


def wall(model: torch.nn.Module, **values: object) -> Loop:
    return Loop(model, plane_scene(None), **values)


def test_a_resting_camera_gets_finer_pictures_then_none():
    loop, shown = wall(Flat()), []
    loop.pace.target = 1e-9  # as slow as can be
    loop.join(0, lambda picture, is_sharp: shown.append((picture.shape[:2], is_sharp)))
    assert not loop.step()
    loop.ask(0, replace(wish_of(loop.scene.view(0)), size=(700, 350)))
    while loop.step():
        pass
    assert shown == [((128, 256), False), ((256, 512), False), ((350, 700), False), ((350, 700), True)]


class Unlike(Flat):
    """Its quick pictures are black. Its time goes by rays: it takes a second for `rate` of them."""

    haste = 1.0
    rays_per_pixel = 4

    def render(self, rays, background) -> Pixels:
        found = super().render(rays, background)
        side = torch.arange(len(rays)) % 2  # so that there are edges everywhere
        return replace(found, rgb=found.rgb * (self.haste == 1) * (0.8 + 0.4 * side[:, None]))


@pytest.mark.parametrize("mode", MODES)
def test_rows_of_a_sharp_picture_are_shown_while_it_is_rendered(mode):
    model, shown = Unlike(), []
    width, height = 96, 128
    loop = wall(model, clock=lambda: model.rays / (24 * width), chunk=width // 2)
    loop.join(0, lambda picture, is_sharp: shown.append((picture, is_sharp)))
    loop.ask(0, replace(wish_of(loop.scene.view(0)), size=(width, height), mode=mode))
    while loop.step():
        pass
    (quick, _), *parts, (sharp, is_sharp) = shown
    assert is_sharp
    assert not any(is_sharp for _, is_sharp in parts)
    rows = [11 + 12 * i for i in range(10)] + [height]
    assert len(parts) == len(rows)  # with all rows there is nothing more to show, but many rays of edges to come
    for (picture, _), whole in zip(parts, rows, strict=True):
        assert picture.dtype == np.uint8
        np.testing.assert_array_equal(picture[whole:], quick[whole:])
        if mode == "colour":
            assert picture[:whole].min() > 0 == quick.max()
        else:
            np.testing.assert_array_equal(picture[:whole], sharp[:whole])


class Mean(Unlike):
    """Of two walls, of which the second one is black."""

    @property
    def shown(self):
        return [Counted(self, 1.0), Counted(self, 0.0)]


class Counted(Unlike):
    """A wall whose rays count as those of another one."""

    def __init__(self, whole, light) -> None:
        super().__init__()
        self.whole, self.light = whole, light

    def render(self, rays, background) -> Pixels:
        self.whole.rays += len(rays)
        found = super().render(rays, background)
        return replace(found, rgb=self.light * found.rgb)


def test_rows_of_a_mean_get_better_with_each_model():
    model, shown = Mean(), []
    side = 64
    loop = wall(model, clock=lambda: model.rays / (40 * side), chunk=side)
    loop.join(0, lambda picture, is_sharp: shown.append(picture[:, 0, 0].astype(int)))
    loop.ask(0, replace(wish_of(loop.scene.view(0)), size=(side, side)))
    while loop.step():
        pass
    assert len(shown) == 10 - 1  # a quick one, one in twenty rows, and the sharp one
    half, sharp = len(shown) // 2, shown[-1]
    assert (shown[0] == 0).all()
    assert (shown[1][:19] == 2 * sharp[0]).all()
    assert (shown[1][19:] == 0).all()
    assert (shown[half][:12] == sharp[0]).all()
    assert (shown[half][24:] == 2 * sharp[0]).all()


def test_rows_stay_if_their_picture_is_given_up():
    """Another client comes in the middle of a sharp picture. Then the rest is rendered anew, over what there is."""
    model, shown = Unlike(), []
    side = 64
    loop = wall(model, clock=lambda: model.rays / (30 * side), chunk=side)
    wish = replace(wish_of(loop.scene.view(0)), size=(side, side))

    def show(picture, is_sharp):
        shown.append((int((picture.max((1, 2)) > 0).sum()), is_sharp))
        if len(shown) == 4:
            loop.join(1, lambda picture, is_sharp: None)
            loop.ask(1, wish)

    loop.join(0, show)
    loop.ask(0, wish)
    while loop.step():
        pass
    lit = [n for n, _ in shown]
    assert lit == sorted(lit)
    assert lit[0] == 0 < lit[1] < lit[3] < side == lit[-1]
    assert [is_sharp for _, is_sharp in shown].index(True) == len(shown) - 1


def test_motion_interrupts_a_fine_picture_but_not_a_first_one():
    wishes, shown = [], []

    def before() -> None:
        if wishes and model.rays > wishes[0][0]:
            loop.ask(0, wishes.pop(0)[1])

    model = Flat(before)
    loop = wall(model)
    loop.pace.target = 1e-9
    wish = replace(wish_of(loop.scene.view(0)), size=(512, 512))
    others = [replace(wish, fov=fov) for fov in (1.4, 1.5)]
    n = 256 * 256
    wishes += [
        (n // 2, others[0]),
        (2 * n + 5000, others[1]),
    ]  # in the middle of the first picture; of the second's finer
    loop.join(0, lambda picture, is_sharp: shown.append((picture.shape[0], loop.clients[0].got.fov, is_sharp)))
    loop.ask(0, wish)
    while loop.step():
        pass
    assert shown[:3] == [(256, wish.fov, False), (256, 1.4, False), (256, 1.5, False)]
    assert shown[3:] == [(512, 1.5, False), (512, 1.5, True)]
    assert model.rays < 3 * n + 2 * 4 * n + 10_000  # the finer picture of 1.4 was given up soon


def test_pictures_before_the_sharp_one_take_fewer_samples_and_leave_no_trace(trained_ngp):
    run, counts = open_run(trained_ngp, CPU), []
    loop, shown = Loop(run.model, run.scene("train", pictures=False)), []
    loop.pace.target = 1e-9
    loop.join(0, lambda picture, is_sharp: shown.append(picture))
    loop.ask(0, replace(wish_of(loop.scene.view(0)), size=(64, 64)))
    plain = render_view(run.model, view_of(loop.scene, loop.clients[0].wish, (64, 64)))
    with hurried(run.model, 3.0):
        assert run.model.haste == 3.0
        hasty = render_view(run.model, view_of(loop.scene, loop.clients[0].wish, (64, 64)))
    assert run.model.haste == 1.0
    assert 0 < float(((plain.rgb - hasty.rgb) ** 2).mean()) < 10**-2.5
    while loop.step():
        counts.append(run.model.haste)
    assert counts == [1.0, 1.0]
    np.testing.assert_array_equal(shown[-1], media.to_uint8(plain.rgb))
    assert not np.array_equal(shown[0], shown[-1])


def test_a_client_that_leaves_is_forgotten_and_two_take_turns():
    loop, order = wall(Flat()), []
    wish = replace(wish_of(loop.scene.view(0)), size=(300, 300))
    for i in range(2):
        loop.join(i, lambda picture, is_sharp, i=i: order.append(i))
        loop.ask(i, wish)
    for step in range(6):  # both move all the time
        loop.ask(0, replace(wish, fov=0.5 + step / 10))
        loop.ask(1, replace(wish, fov=0.5 + step / 10))
        loop.step()
    assert order == [0, 1, 0, 1, 0, 1]
    loop.leave(1)
    loop.ask(1, wish)
    while loop.step():
        pass
    assert set(order[6:]) == {0}


def test_stop_ends_the_loop_from_another_thread():
    loop = wall(Flat())
    thread = threading.Thread(target=loop.run)
    thread.start()
    loop.join(0, lambda picture, is_sharp: loop.stop() if is_sharp else None)
    loop.ask(0, replace(wish_of(loop.scene.view(0)), size=(64, 64)))
    thread.join(30)
    assert not thread.is_alive()
