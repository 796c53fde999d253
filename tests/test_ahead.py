"""Rays of cameras that look at one point begin at a share of the own way of each, in every layout and wherever views
are made; less where something is known to stand there, and where a camera looks elsewhere."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import colmap_files
import llff_files
import numpy as np
import photo_world
import pytest
import torch
from photo_world import K, edit, read
from test_scenes_points import ply
from tiny import batches, config, make, refused

from nerf_pl.checkpoints import as_begun, load_cameras, load_split, load_training, open_run, save_model
from nerf_pl.checkpoints.files import read_checkpoint, write_checkpoint
from nerf_pl.errors import UserError
from nerf_pl.export.web.points import random_rays
from nerf_pl.films.film import views_of
from nerf_pl.films.paths import look_at
from nerf_pl.options import Config
from nerf_pl.scenes import Request, Scene, load_scene, require_sound
from nerf_pl.scenes.clearings import with_trusted_points
from nerf_pl.scenes.normalize import AHEAD, LEAST_NEAR, YIELDS, ahead_of, near_of
from nerf_pl.scenes.placing import begun, bounded
from nerf_pl.scenes.points import first_share
from nerf_pl.scenes.sightings import write_sightings
from nerf_pl.viewer.stage import view_of, wish_of

N = 9
FOCUS = torch.tensor([2.0, 1.0, -3.0], dtype=torch.float64)


def away(factors: Sequence[float]) -> torch.Tensor:
    """Cameras that look at one point from so many times the usual distance."""
    c2w = photo_world.poses(len(factors))
    c2w[:, :, 3] = FOCUS + torch.tensor(factors, dtype=torch.float64)[:, None] * (c2w[:, :, 3] - FOCUS)
    return c2w


C2W = away([1 + 0.2 * (i % 5) for i in range(N)])


def transforms(root: Path, c2w: torch.Tensor = C2W, **told: object) -> None:
    photo_world.write(root, K, [{}] * len(c2w))
    values = read(root)
    for frame, pose in zip(values["frames"], c2w.tolist(), strict=True):
        frame["transform_matrix"] = [*pose, [0, 0, 0, 1]]
    edit(root, {**values, **told})


def blender(root: Path) -> None:
    transforms(root)
    values = read(root)
    for split, frames in (("train", values["frames"][1:]), ("test", values["frames"][:1])):
        (root / f"transforms_{split}.json").write_text(json.dumps({**values, "frames": frames}))


def colmap(root: Path, xyz: np.ndarray | None = None) -> None:
    xyz = np.zeros((0, 3)) if xyz is None else xyz
    colmap_files.write_model(root / "sparse/0", C2W.numpy(), xyz=xyz)
    colmap_files.write_pictures(root / "images", [colmap_files.picture(i) for i in range(N)])


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "transforms": transforms,
    "colmap": colmap,
    "llff": lambda root: llff_files.write_scene(root, C2W, bounds=(0.01, 1e4)),
    "blender": blender,
}


def own(scene: Scene) -> torch.Tensor:
    """The way from each camera to what all look at."""
    return (scene.cameras.c2w[:, :, 3] - torch.tensor(scene.target)).norm(dim=1)


@pytest.fixture
def around(tmp_path) -> Scene:
    transforms(tmp_path)
    return load_scene(tmp_path, Request("train"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_camera_has_a_near_of_its_own(tmp_path, layout):
    if layout == "colmap":
        pytest.importorskip("pycolmap")
    LAYOUTS[layout](tmp_path)
    for split in ("train", "test"):
        scene = load_scene(tmp_path, Request(split, endless=True), layout)
        near = [scene.view(i).near for i in range(len(scene))]
        assert near == pytest.approx((0.4 * own(scene)).tolist(), rel=0.02)
        assert scene.closest <= float(own(scene).min()) + 1e-5
    scene = load_scene(tmp_path, Request("train", endless=True), layout)
    drawn = batches(make(config("ngp")), scene, 100)(torch.zeros(1, dtype=torch.int64), 2).rays
    views = torch.cdist(drawn.origins, scene.cameras.c2w[:, :, 3]).argmin(1)
    assert len(views.unique()) > 2
    torch.testing.assert_close(drawn.near, scene.near_at(scene.cameras.c2w)[views])
    baked = random_rays(scene, 50, torch.Generator().manual_seed(0))
    views = torch.cdist(baked.origins, scene.cameras.c2w[:, :, 3]).argmin(1)
    torch.testing.assert_close(baked.near, scene.near_at(scene.cameras.c2w)[views])


def test_films_and_the_viewer_see_from_where_they_are(around):
    """Farther off than all photos, among them, and closer to what they show: never past it."""
    camera, target = around.cameras[:1], torch.tensor(around.target)
    shares = []
    for factor in (3.0, 1.0, 0.9 * around.closest, 0.8 * around.closest, 0.5 * around.closest):
        c2w = camera.c2w.clone()
        c2w[:, :, 3] = target + factor * torch.nn.functional.normalize(c2w[:, :, 3] - target, dim=1)
        (view,) = views_of(around, replace(camera, c2w=c2w))
        shown = view_of(around, wish_of(view), view.size)
        assert shown.near == pytest.approx(view.near, rel=1e-4)
        shares.append(view.near / factor)
    assert shares[:2] == pytest.approx([0.4, 0.4], rel=1e-3)
    assert shares[2] == pytest.approx(0.4 - 0.1 / 0.9, rel=1e-3)  # as far as the nearest of the photos saw
    assert shares[3] < shares[2]
    assert shares[4] * 0.5 * around.closest == pytest.approx(LEAST_NEAR)


def test_a_camera_that_looks_elsewhere_sees_what_is_beside_it(around):
    """The more it turns away, the nearer, without a jump; never nearer than what holds for all."""
    pose, found = around.cameras.c2w[1].double(), []
    for angle in range(0, 181, 5):
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        turn = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float64)
        found.append(float(around.near_at(torch.cat([pose[:, :3] @ turn, pose[:, 3:]], 1)[None].float())))
    steps = np.diff(found)
    assert found[0] == found[8] == pytest.approx(0.4 * float(own(around)[1]), rel=1e-4)
    assert (steps <= 1e-6).all()
    assert steps.min() > -0.15 * found[0]
    assert found[-1] == pytest.approx(min(around.near, found[0]))


def test_one_close_up_among_others(tmp_path):
    """Ten times as close: what it shows is not cut off, nor does fog stand in front of the others."""
    transforms(tmp_path, away([1.0] * 8 + [0.1]))
    scene = load_scene(tmp_path, Request("train", test_every=0))
    assert scene.near_at(scene.cameras.c2w).tolist() == pytest.approx((0.4 * own(scene)).tolist(), rel=0.05)


def test_cameras_that_look_at_no_common_point():
    """They look outward, one way, from one spot, or there is only one: all rays begin at one distance."""
    outward = C2W * torch.tensor([-1.0, 1, -1, 1])
    one_spot = torch.cat([C2W[:, :, :3], C2W[:1, :, 3:].expand(N, 3, 1)], -1)
    clusters = torch.cat(
        [look_at(C2W[:4, :, 3] + 90, (90.0, 90, 120)), look_at(C2W[4:, :, 3] - 90, (-90.0, -90, -120))]
    )
    one_way = torch.cat([C2W[:1, :, :3].expand(N, 3, 3), C2W[:, :, 3:]], -1)
    for c2w in (outward, one_spot, C2W[:1], one_way, clusters):
        assert ahead_of(c2w) == 0
    assert ahead_of(C2W) == AHEAD
    assert ahead_of(C2W, 0.2) == pytest.approx(YIELDS * 0.2)


def test_what_sparse_points_say():
    """A few wrong ones change nothing; many in one view do."""
    rng = np.random.default_rng(0)

    def share(strays: int, view: int = 3, n: int = 300, views: int = 40) -> float:
        distances = [rng.uniform(0.7, 1.5, n) for _ in range(views)]
        distances[view][:strays] = 0.05
        return first_share(distances, np.ones(views))

    assert share(0) == pytest.approx(0.7, abs=0.02)
    assert (share(2), share(2, n=20)) == pytest.approx((0.7, 0.7), abs=0.05)
    assert share(30) < 0.1
    assert share(30, views=120) > 0.6  # a photo that is placed wrong
    assert share(9, n=9, view=0, views=1) == first_share([], np.zeros(0)) == math.inf
    assert first_share([np.full(20, 0.3), np.full(20, 3.0)], np.array([1.0, 10.0])) == pytest.approx(0.3)
    assert first_share([np.full(20, 0.3)], np.zeros(1)) == math.inf


def cloud(c2w: torch.Tensor, near: int, at: float, n: int = 200) -> list[np.ndarray]:
    """Points at the focus that each camera sees, and in front of all of them some at a share of its way."""
    middle = FOCUS.numpy() + np.random.default_rng(0).uniform(-0.3, 0.3, (n, 3))
    centres = c2w[:, :, 3].numpy()
    return [np.concatenate([middle, np.tile(c + at * (FOCUS.numpy() - c), (near, 1))]) for c in centres]


@pytest.mark.parametrize(("near", "expected"), [(0, 0.4), (2, 0.4), (20, 0.18)])
@pytest.mark.parametrize("kind", ["sightings", "points", "distance"])
def test_points_beside_the_poses(tmp_path, kind, near, expected):
    """Of `nerf prepare`, of other programs, and the distance alone that it tells."""
    transforms(tmp_path)
    values, seen = read(tmp_path), cloud(C2W, near, 0.2)
    if kind == "sightings":
        names = [frame["file_path"] for frame in values["frames"]]
        write_sightings(tmp_path / "p.ply", dict(zip(names, seen, strict=True)))
        edit(tmp_path, {**values, "ply_file_path": "p.ply", "clear_distance": 0.01})
    elif kind == "points":
        (tmp_path / "p.ply").write_bytes(ply(np.concatenate([seen[0], *(points[200:] for points in seen[1:])])))
        edit(tmp_path, {**values, "ply_file_path": "p.ply"})
    else:
        nearest = 0.2 if near > 2 else 0.9
        clear = 0.5 * nearest * float((C2W[:, :, 3] - FOCUS).norm(dim=1).quantile(0.05))
        edit(tmp_path, {**values, "clear_distance": clear})
    for split in ("train", "test"):
        scene = load_scene(tmp_path, Request(split))
        assert scene.ahead == pytest.approx(expected, rel=0.05)
        assert scene.told


def test_points_of_a_model(tmp_path):
    pytest.importorskip("pycolmap")
    for name, near in (("far", 0), ("near", 20)):
        colmap(tmp_path / name, np.concatenate(cloud(C2W, near, 0.2, 20)))
    far, near = (load_scene(tmp_path / name, Request("train")) for name in ("far", "near"))
    assert far.ahead == pytest.approx(0.4)
    assert near.ahead < 0.2
    strange = replace(near, seen=tuple(points + 50 for points in near.seen or ()))
    trusted = with_trusted_points(strange)
    assert (trusted.ahead, trusted.told) == (AHEAD, False)


def test_what_is_told_of_all_cameras_holds_for_all(tmp_path):
    """Also where it is more than the share: photos across a yard, whose middle is empty."""
    clear = 0.7 * float((C2W[:, :, 3] - FOCUS).norm(dim=1).min())
    transforms(tmp_path, clear_distance=clear)
    scene = load_scene(tmp_path, Request("train"))
    expected = (0.4 * own(scene)).clamp(min=scene.near)
    assert scene.near > 0.4 * float(own(scene).min())
    torch.testing.assert_close(scene.near_at(scene.cameras.c2w), expected, rtol=0.01, atol=0)


@pytest.mark.parametrize(("bound", "expected"), [(0.001, 0.4), (0.2, 0.18), (0.8, 0.4), (50.0, 0.4)])
def test_bounds_of_photos(tmp_path, bound, expected):
    """Those of half of the photos count, if they can be meant."""
    llff_files.write_scene(tmp_path, C2W)
    rows = np.load(tmp_path / "poses_bounds.npy")
    rows[:, 15] = bound * (C2W[:, :, 3] - FOCUS).norm(dim=1).numpy()
    rows[:3, 15] = 1e-6
    rows[:, 16] = 1e3
    np.save(tmp_path / "poses_bounds.npy", rows)
    assert load_scene(tmp_path, Request("train")).ahead == pytest.approx(expected, rel=0.02)
    assert load_scene(tmp_path, Request("train", tight=True)).ahead == 0


def with_data(**values: object) -> Config:
    options = config("ngp")
    return replace(options, data=replace(options.data, **values))


def test_options_decide(tmp_path, capsys):
    transforms(tmp_path)
    assert load_split(with_data(near=0.5), tmp_path, "train").ahead == 0
    assert load_split(with_data(aabb=(1.0, 0.0, -4.0, 3.0, 2.0, -2.0)), tmp_path, "train").ahead == 0
    assert load_split(with_data(far=50.0), tmp_path, "train").ahead == AHEAD
    assert load_split(with_data(ahead=0.25), tmp_path, "test").view(0).near == pytest.approx(
        0.25 * float(own(load_split(config("ngp"), tmp_path, "test"))[0]), rel=1e-3
    )
    with pytest.raises(UserError, match=r"ahead.*give it or --near, not both"):
        with_data(near=0.5, ahead=0.3).check()
    with pytest.raises(UserError, match=r"--ahead 0.3: .* lies in a box.*leave the option out"):
        begun(replace(load_scene(tmp_path), unbounded=False), 0.3)
    assert "--ahead 2" in refused(capsys, "train", tmp_path, "--ahead", 2)
    for wrong in ({"ahead": math.nan}, {"ahead": 1.0}, {"closest": math.inf}):
        with pytest.raises(UserError, match="begin at"):
            require_sound(replace(load_scene(tmp_path), **wrong), tmp_path)


def test_runs_of_earlier_versions_render_and_go_on_as_they_were(tmp_path):
    """Their options do not say where rays begin, nor do the views that they keep: at one distance for all cameras."""
    transforms(tmp_path / "scene")
    options, scene = load_training(config("ngp"), tmp_path / "scene")
    assert options.data.ahead == AHEAD  # a training stores it: another default will not change its pictures
    views = load_cameras(options, tmp_path / "scene", "train", "test")
    last = tmp_path / "run" / "last.ckpt"
    save_model(last, make(options), options, str(tmp_path / "scene"), views)
    run = open_run(last, torch.device("cpu"))
    assert run.scene("train").view(0).near == run.scene("train", pictures=False).view(0).near == scene.view(0).near
    assert as_begun(with_data(), last).data.ahead == AHEAD
    assert as_begun(with_data(ahead=0.2), last).data.ahead == 0.2
    assert as_begun(with_data(), tmp_path / "none").data.ahead is None

    content = read_checkpoint(last)
    del content["config"]["data"]["ahead"]
    for kept in content["views"].values():
        for name in ("ahead", "closest", "told"):
            del kept[name]
    write_checkpoint(content, last)
    old = open_run(last, torch.device("cpu"))
    everything = torch.cat([each.cameras.c2w for each in views.values()])
    for split, pictures in (("train", True), ("train", False), ("test", True), ("test", False)):
        found = old.scene(split, pictures=pictures)
        assert {found.view(i).near for i in range(len(found))} == {found.near}
        assert found.near == pytest.approx(near_of(everything), rel=1e-4)  # a third of the way of the nearest
    assert as_begun(with_data(), last).data.ahead == 0
    assert load_training(as_begun(with_data(), last), tmp_path / "scene")[1].ahead == 0


def test_near_in_units_of_the_file_is_for_all(around):
    assert bounded(around, 0.5, None).near_at(around.cameras.c2w).unique().numel() == 1
