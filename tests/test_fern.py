"""The LLFF loader on fern, a scene that everybody measures on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nerf_pl.cameras import image_rays, project
from nerf_pl.scenes import Request, Scene, load_scene
from nerf_pl.scenes.llff import load_llff


@pytest.fixture(scope="module")
def fern(data_dir) -> list[Scene]:
    return [load_llff(data_dir / "nerf_llff_data" / "fern", Request(split, downscale=4)) for split in ("train", "test")]


def test_fern(fern, data_dir, tmp_path):
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
    for part in root.iterdir():  # since resized pictures are kept beside them
        (tmp_path / part.name).symlink_to(part.resolve())
    small = load_scene(tmp_path, Request("test", img_wh=(504, 378), test_every=8), "llff")
    torch.testing.assert_close(small.cameras.K[:, :2], test.cameras.K[:, :2] / 2)
    coarse = test.image(0).view(378, 2, 504, 2, 3).mean((1, 3))  # differs from Lanczos only in detail
    assert (small.image(0) - coarse).abs().mean() < 0.02


def test_all_rays_of_fern_lie_in_its_box(fern):
    low, high = fern[0].aabb
    for scene in fern:
        for i in range(len(scene)):
            view = scene.view(i)
            some = torch.arange(0, view.size[0] * view.size[1], 5)  # five does not divide the width
            rays = view.rays(pixels=some)
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
