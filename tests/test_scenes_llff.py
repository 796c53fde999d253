"""The LLFF loader: poses, bounds and sizes of pictures, forward-facing and all around, on tiny scenes and on fern."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from llff_files import FOCAL, SIZE, around, facing, moved, picture, similarity, write_scene
from PIL import Image

from nerf_pl.cameras import image_rays, project
from nerf_pl.scenes import Scene, available_splits, detect, load_scene
from nerf_pl.scenes.llff import load_llff
from nerf_pl.scenes.scene import camera_focus


def splits(root: Path, **options) -> list[Scene]:
    return [load_llff(root, split, **options) for split in ("train", "test")]


def test_forward_facing_poses_are_recentred_and_scaled(tmp_path):
    c2w = facing()
    write_scene(tmp_path, c2w)
    assert detect(tmp_path) == "llff"
    scenes = splits(tmp_path, test_every=4)
    assert [len(scene) for scene in scenes] == [7, 3]
    order = [i for i in range(10) if i % 4] + [0, 4, 8]
    ours = torch.cat([scene.cameras.c2w for scene in scenes]).double()[torch.tensor(order).argsort()]
    assert ours.dtype == torch.float64
    assert scenes[0].cameras.c2w.dtype == torch.float32
    # one similarity takes the poses of the file to ours, and its scale takes the nearest bound, 20, to 4/3
    rotation = ours[0, :, :3] @ c2w[0, :, :3].T
    scale = 4 / 3 / 20
    shift = ours[0, :, 3] - scale * rotation @ c2w[0, :, 3]
    torch.testing.assert_close(ours, moved(c2w, scale, rotation, shift), atol=1e-6, rtol=0)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert torch.linalg.det(rotation) > 0
    # the middle of the cameras is the origin; they look along -z and are upright, on average
    torch.testing.assert_close(ours[:, :, 3].mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0)
    mean = torch.nn.functional.normalize(ours[:, :, 2].mean(0), dim=0)
    torch.testing.assert_close(mean, torch.tensor([0.0, 0, 1]).double(), atol=1e-6, rtol=0)
    assert abs(ours[:, 0, 1].mean()) < 1e-6
    assert ours[:, 1, 1].min() > 0.9
    for scene in scenes:
        assert (scene.near, scene.far, scene.background, scene.unbounded) == (0.0, 1.0, None, False)
        assert scene.ndc == pytest.approx((2 * FOCAL / 24, 2 * FOCAL / 16))
        assert scene.cameras.pixel_offset == 0.0
        torch.testing.assert_close(scene.cameras.K[1], torch.tensor([[FOCAL, 0, 12], [0, FOCAL, 8], [0, 0, 1]]))
        assert scene.target[:2] == (0, 0)
        assert -90 / 20 * 4 / 3 < scene.target[2] < -4 / 3  # between the bounds
    assert torch.equal(scenes[0].aabb, scenes[1].aabb)


def test_the_box_is_tight_around_all_rays(tmp_path):
    write_scene(tmp_path, facing())
    scenes = splits(tmp_path)
    low, high = scenes[0].aabb
    assert (low[2], high[2]) == (-1, 1)
    largest = torch.full((2, 2), -math.inf)
    for scene in scenes:
        for i in range(len(scene)):
            rays = scene.rays(i)
            for ends in (rays.origins, rays.origins + rays.far[:, None] * rays.directions):
                largest = torch.maximum(largest, torch.stack([-ends[:, :2].amin(0), ends[:, :2].amax(0)]))
    # a pixel short of it at most: rays pass a corner of their pixel, and none the picture's right and lower border
    short = torch.stack([-low[:2], high[:2]]) - largest
    assert short.min() > -1e-5
    assert (short < 2.5 * torch.tensor([2 / 24, 2 / 16])).all()


@pytest.mark.parametrize(
    ("options", "folder", "size"),
    [
        ({}, 1, (24, 16)),
        ({"downscale": 2}, 2, (12, 8)),
        ({"downscale": 4}, 4, (6, 4)),
        ({"downscale": 8}, 4, (3, 2)),  # the next larger ones are resized
        ({"downscale": 3}, 2, (8, 5)),
        ({"img_wh": (12, 8)}, 2, (12, 8)),
        ({"img_wh": (15, 10)}, 1, (15, 10)),
        ({"img_wh": (48, 32)}, 1, (48, 32)),
    ],
)
def test_pictures_come_from_the_fitting_folder(tmp_path, options, folder, size):
    write_scene(tmp_path, facing(3), folders=(1, 2, 4))
    scene = load_llff(tmp_path, "train", test_every=2, **options)
    stored = Image.fromarray(picture(1 + 100 * folder, 24 // folder, 16 // folder))
    expected = stored if stored.size == size else stored.resize(size, Image.Resampling.LANCZOS)
    assert (scene.images[0].numpy() == np.asarray(expected)).all()
    assert scene.names == (("IMG_41.JPG",) if folder == 1 else ("image001",))
    assert (scene.cameras.width, scene.cameras.height) == size
    K = scene.cameras.K[0]
    focal = torch.tensor([FOCAL * size[0] / 24, FOCAL * size[1] / 16])
    torch.testing.assert_close(K[[0, 1], [0, 1]], focal)
    torch.testing.assert_close(K[:2, 2], torch.tensor([size[0] / 2, size[1] / 2]))
    assert scene.ndc == pytest.approx((2 * FOCAL / 24, 2 * FOCAL / 16))  # a field of view has no pixels


def test_small_pictures_alone(tmp_path):
    write_scene(tmp_path, facing(3), folders=(4,))
    for options in ({}, {"downscale": 4}, {"img_wh": (6, 4)}):
        scene = load_llff(tmp_path, "test", **options)
        assert (scene.images[0].numpy() == picture(400, 6, 4)).all()
        assert scene.cameras.K[0, 0, 0] == FOCAL / 4
    assert load_llff(tmp_path, "test", downscale=8).images.shape == (1, 2, 3, 3)


def test_the_most_central_view_validates_in_the_classic_way(tmp_path):
    c2w = facing()
    write_scene(tmp_path, c2w)
    central = int((c2w[:, :, 3] - c2w[:, :, 3].mean(0)).norm(dim=-1).argmin())
    assert available_splits(tmp_path, test_every=0) == ("train", "val")
    assert load_scene(tmp_path, split="val", test_every=0).names == (f"IMG_{40 + central}.JPG",)
    others = tuple(f"IMG_{40 + i}.JPG" for i in range(10) if i != central)
    train = load_scene(tmp_path, split="train", test_every=0)
    assert train.names == others
    assert torch.equal(train.aabb, load_scene(tmp_path, split="train").aabb)


def test_pictures_that_exif_turns(tmp_path):
    """Poses are of the pictures as stored, whatever EXIF says, unless only the turned ones have their shape."""
    for name, stored in (("as stored", SIZE), ("turned", SIZE[::-1])):
        root = tmp_path / name
        write_scene(root, facing(2))
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees clockwise
        pixels = picture(7, *stored)
        for path in (root / "images").iterdir():
            Image.fromarray(pixels).save(path, exif=exif)
        scene = load_llff(root, "test")
        expected = pixels if stored == SIZE else np.rot90(pixels, -1)
        assert (scene.images[0].numpy() == expected).all()


def test_spheric_gives_the_rays_of_the_blender_layout(tmp_path):
    """The same views in both layouts: one similarity takes the rays of the one to those of the other."""
    c2w = around()
    write_scene(tmp_path / "llff", moved(c2w, *similarity(3)), bounds=(15.0, 400.0))
    frames = []
    for i, pose in enumerate(c2w.tolist()):
        (tmp_path / "blender").mkdir(exist_ok=True)
        Image.fromarray(picture(100 + i)).save(tmp_path / "blender" / f"{i}.png")
        frames.append({"file_path": f"{i}", "transform_matrix": [*pose, [0, 0, 0, 1]]})
    angle = 2 * math.atan(SIZE[0] / 2 / FOCAL)
    text = json.dumps({"camera_angle_x": angle, "frames": frames})
    (tmp_path / "blender" / "transforms_train.json").write_text(text)
    theirs = load_scene(tmp_path / "blender")
    ours = load_scene(tmp_path / "llff", test_every=0, split="train", spheric=True)
    held = load_scene(tmp_path / "llff", test_every=0, split="val", spheric=True)
    pairs = [(scene, k, int(name[4:6]) - 40) for scene in (ours, held) for k, name in enumerate(scene.names)]
    assert sorted(i for *_, i in pairs) == list(range(10))
    scale = 4 / 3 / 15 * 5  # the file's unit of length is a fifth of the other's
    rotation = ours.cameras.c2w[0, :, :3] @ theirs.cameras.c2w[pairs[0][2], :, :3].T
    shift = ours.cameras.c2w[0, :, 3] - scale * rotation @ theirs.cameras.c2w[pairs[0][2], :, 3]
    for scene, k, i in pairs:
        a, b = scene.rays(k), theirs.rays(i)
        torch.testing.assert_close(a.directions, b.directions @ rotation.T, atol=1e-5, rtol=0)
        torch.testing.assert_close(a.origins, scale * b.origins @ rotation.T + shift, atol=1e-5, rtol=0)
        assert torch.equal(scene.images[k], theirs.images[i])
    # z is up as it was, and what the cameras look at is the origin
    torch.testing.assert_close(rotation[2], torch.tensor([0.0, 0, 1]), atol=0.1, rtol=0)
    assert camera_focus(torch.cat([s.cameras.c2w for s in (ours, held)])).norm() < 1e-3
    assert ours.target == (0, 0, 0)
    assert ours.ndc is None
    assert ours.unbounded
    assert ours.near == pytest.approx(4 / 3)
    assert ours.far == pytest.approx(8 * 4 / 3)
    assert torch.equal(ours.aabb, held.aabb)
    low, high = ours.aabb
    centres = torch.cat([s.cameras.c2w[:, :, 3] for s in (ours, held)])
    assert (high == high[0]).all()
    assert torch.equal(low, -high)
    assert centres.abs().max() == pytest.approx(float(high[0]))


def test_the_far_bound_of_a_spheric_scene_may_be_close(tmp_path):
    write_scene(tmp_path, around(), bounds=(3.0, 6.0))
    scene = load_llff(tmp_path, "train", spheric=True)
    assert scene.near == pytest.approx(4 / 3)
    assert scene.far == pytest.approx(6.9 * 4 / 9)  # the bounds of the last view are 0.9 more


@pytest.fixture(scope="module")
def fern(data_dir) -> list[Scene]:
    return splits(data_dir / "nerf_llff_data" / "fern", downscale=4)


def test_fern(fern, data_dir):
    train, test = fern
    assert (len(train), len(test)) == (17, 3)
    assert test.names == ("image000", "image008", "image016")  # images_4 is there, under other names
    root = data_dir / "nerf_llff_data" / "fern"
    rows = np.load(root / "poses_bounds.npy")
    for scene in fern:
        assert scene.images.shape[1:] == (756, 1008, 3)
        assert scene.cameras.K[0, 0, 0] == pytest.approx(rows[0, 14] / 4)
        assert scene.ndc == pytest.approx((2 * rows[0, 14] / 4032, 2 * rows[0, 14] / 3024))
        assert scene.cameras.c2w[:, 2, 2].min() > 0.95  # all look along -z
        assert scene.cameras.c2w[:, 1, 1].min() > 0.95
    assert torch.equal(train.aabb, test.aabb)
    small = load_scene(root, "llff", "test", img_wh=(504, 378), test_every=8)
    torch.testing.assert_close(small.cameras.K[:, :2], test.cameras.K[:, :2] / 2)
    coarse = test.image(0).view(378, 2, 504, 2, 3).mean((1, 3))  # differs from Lanczos only in detail
    assert (small.image(0) - coarse).abs().mean() < 0.02


def test_all_rays_of_fern_lie_in_its_box(fern):
    low, high = fern[0].aabb
    for scene in fern:
        for i in range(len(scene)):
            rays = scene.rays(i)
            ends = rays.origins + rays.far[:, None] * rays.directions
            for points in (rays.origins, ends):
                assert (points > low - 1e-4).all()
                assert (points < high + 1e-4).all()


def test_what_fern_shows_is_seen_by_its_neighbours(fern, data_dir):
    """Bounds and poses belong together: what is in the middle of one picture, at its bounds, is in all the others."""
    cameras = fern[0].cameras
    rows = np.load(data_dir / "nerf_llff_data" / "fern" / "poses_bounds.npy")
    scale = 4 / 3 / rows[:, 15:].min()
    middle = 378 * 1008 + 504
    for i, (near, far) in enumerate(rows[np.arange(20) % 8 > 0, 15:] * scale):
        ray = image_rays(cameras, i, near, far)[middle : middle + 1]
        points = torch.cat([ray.origins + ray.near[:, None] * ray.directions, ray.origins + far * ray.directions])
        for j in range(len(cameras)):
            xy, depth = project(cameras, j, points)
            assert (depth > 1).all()
            assert (xy > 0).all()
            assert (xy < torch.tensor([1008, 756])).all()


def test_the_poses_of_fern_explain_its_photos(fern):
    """Pixels of one view find their colour again in the neighbours, at one of some depths, as they do not with poses
    whose axes are mixed up."""
    train = fern[0]
    view, neighbours = 8, (7, 9, 3, 13)
    photos = {j: train.image(j).permute(2, 0, 1)[None] for j in (view, *neighbours)}
    ids = torch.arange(0, 1008 * 756, 7013)

    def error(signs: tuple[float, float, float]) -> float:
        c2w = train.cameras.c2w.clone()
        c2w[:, :, 3] *= torch.tensor(signs)
        cameras = replace(train.cameras, c2w=c2w)
        rays = image_rays(cameras, view, 0.0, 1.0)[ids]
        colours = photos[view][0].flatten(1)[:, ids]
        errors = []
        for disparity in torch.linspace(0.05, 0.75, 96):
            points = rays.origins + rays.directions / disparity
            seen = []
            for j in neighbours:
                xy = project(cameras, j, points)[0] / torch.tensor([1008, 756]) * 2 - 1
                seen.append(torch.nn.functional.grid_sample(photos[j], xy[None, None], align_corners=False)[0, :, 0])
            errors.append((torch.stack(seen) - colours).abs().mean((0, 1)))
        return float(torch.stack(errors).amin(0).mean())

    right = error((1.0, 1.0, 1.0))
    for signs in ((-1.0, 1.0, 1.0), (1.0, -1.0, 1.0), (-1.0, -1.0, 1.0)):
        assert right < 0.7 * error(signs)


def test_photos_all_around_with_a_model_are_read_from_it(tmp_path):
    """Sets such as those of mip-NeRF 360 come in both layouts, and forward-facing ones with the model beside them."""
    write_scene(tmp_path / "around", around())
    write_scene(tmp_path / "facing", facing())
    for name, found in (("around", "colmap"), ("facing", "llff")):
        assert detect(tmp_path / name) == "llff"
        (tmp_path / name / "sparse" / "0").mkdir(parents=True)
        for part in ("cameras", "images", "points3D"):
            (tmp_path / name / "sparse" / "0" / f"{part}.bin").write_bytes(b"")
        assert detect(tmp_path / name) == found
    assert detect(tmp_path / "around", spheric=True) == "llff"
