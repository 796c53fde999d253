"""Batches: the colours are those of the pixels that the rays go through."""

from dataclasses import replace

import pytest
import torch
from nerf_pl.data import PixelBatches, SceneData

from nerf_pl.cameras import project
from nerf_pl.errors import UserError
from nerf_pl.scenes import load_scene


@pytest.fixture(scope="module")
def scene(scene_dir):
    return load_scene(scene_dir)


def step(i: int) -> torch.Tensor:
    return torch.tensor([i])


def pixels_of(scene, rays) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Image, row and column of each ray."""
    image_ids = (rays.origins[:, None] - scene.cameras.c2w[None, :, :, 3]).norm(dim=-1).argmin(1)
    places = [
        project(scene.cameras, int(i), (origin + direction)[None])[0][0]
        for i, origin, direction in zip(image_ids, rays.origins, rays.directions, strict=True)
    ]
    xy = torch.stack(places).floor().long()  # centres of pixels are at 0.5
    return image_ids, xy[:, 1], xy[:, 0]


@pytest.mark.parametrize("precrop_steps", [0, 10])
def test_colours_are_those_of_the_pixels(scene, precrop_steps):
    rays, rgb, _ = PixelBatches(scene, 200, 0, precrop_steps)(step(3))
    image_ids, rows, columns = pixels_of(scene, rays)
    expected = torch.stack([scene.image(i) for i in range(len(scene))])[image_ids, rows, columns]
    assert torch.allclose(rgb, expected, atol=1e-6)
    assert len(set(image_ids.tolist())) == len(scene)
    assert (rays.near == scene.near).all()
    assert (rays.far == scene.far).all()


def test_every_pixel_can_be_drawn(scene):
    batches = PixelBatches(scene, 20_000, 0)
    rays, *_ = batches(step(0))
    assert len(batches) == 4 * 16 * 16
    assert len(torch.unique(torch.cat([rays.origins, rays.directions], 1), dim=0)) == len(batches)


def test_rays_of_one_pixel(scene):
    rays, rgb, behind = PixelBatches(scene, 402, 0, random_background=True)(step(1), 4)
    assert rgb.shape == behind.shape == (100, 3)
    places = [
        project(scene.cameras, int(i), (origin + direction)[None])[0][0]
        for i, origin, direction in zip(pixels_of(scene, rays)[0], rays.origins, rays.directions, strict=True)
    ]
    xy = torch.stack(places).view(100, 4, 2)
    assert torch.equal(xy.floor(), xy[:, :1].floor().expand_as(xy))
    image_ids, rows, columns = (ids.view(100, 4) for ids in pixels_of(scene, rays))
    assert (image_ids == image_ids[:, :1]).all()
    pictures = scene.images.float() / 255
    seen = pictures[image_ids[:, 0], rows[:, 0], columns[:, 0]]
    assert torch.allclose(rgb, seen[:, :3] * seen[:, 3:] + (1 - seen[:, 3:]) * behind, atol=1e-6)
    within = xy % 1
    assert (within.mean((0, 1)) - 0.5).abs().max() < 0.03
    assert within.std((0, 1)) == pytest.approx(12**-0.5, abs=0.02)
    # spread over the pixel: four random places would have a mean of 0.144 around its middle
    assert within.mean(1).std(0).max() < 0.13
    assert len(torch.unique(within[:, 0], dim=0)) == 100


def test_early_steps_draw_from_the_middle(scene):
    batches = PixelBatches(scene, 300, 0, precrop_steps=10)
    for i, is_early in ((9, True), (10, False)):
        _, rows, columns = pixels_of(scene, batches(step(i))[0])
        for place in (rows, columns):
            inside = (place >= 4) & (place < 12)
            assert inside.all() == is_early
            assert (place[inside].min(), place[inside].max()) == (4, 11)


@pytest.mark.parametrize("precrop_steps", [0, 10])
def test_views_of_several_sizes(scene, precrop_steps):
    """Of each only the pixels that it has, and all of them."""
    sizes = torch.tensor([[16, 16], [8, 16], [16, 12], [5, 7]])
    mixed = replace(scene, cameras=replace(scene.cameras, sizes=sizes))
    rays, rgb, _ = PixelBatches(mixed, 20_000, 0, precrop_steps)(step(0))
    image_ids, rows, columns = pixels_of(mixed, rays)
    stack = torch.stack([scene.image(i) for i in range(len(scene))])
    assert torch.allclose(rgb, stack[image_ids, rows, columns], atol=1e-6)
    for i, (width, height) in enumerate(sizes.tolist()):
        own = image_ids == i
        assert 4500 < own.sum() < 5500
        found = set(zip(rows[own].tolist(), columns[own].tolist(), strict=True))
        row, column = range(height), range(width)
        if precrop_steps:
            row, column = ({k // 2 + n // 4 for k in range(n)} for n in (height, width))
        assert found == {(r, c) for r in row for c in column}
        assert mixed.image(i).shape == (height, width, 3)
        assert len(mixed.view(i).rays()) == height * width


def test_masks_leave_pixels_out(scene):
    masks = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.2
    batches = PixelBatches(replace(scene, masks=masks), 20_000, 0)
    assert len(batches) == masks.sum()
    found = torch.zeros_like(masks)
    found[pixels_of(scene, batches(step(0))[0])] = True
    assert torch.equal(found, masks)
    with pytest.raises(UserError, match="leave no pixel"):
        PixelBatches(replace(scene, masks=torch.zeros_like(masks)), 200, 0)


def test_the_same_seed_and_step_give_the_same_batch(scene):
    def rgb(seed: int, i: int) -> torch.Tensor:
        return PixelBatches(scene, 64, seed)(step(i))[1]

    assert torch.equal(rgb(0, 5), rgb(0, 5))
    assert not torch.equal(rgb(0, 5), rgb(0, 6))
    assert not torch.equal(rgb(0, 5), rgb(1, 5))


def test_a_checkpoint_holds_no_images(scene):
    assert not PixelBatches(scene, 64, 0).state_dict()


class Process:
    """Stands for the trainer of one of several processes."""

    def __init__(self, global_rank: int, world_size: int):
        self.global_rank, self.world_size = global_rank, world_size


@pytest.mark.parametrize("n_val", [1, 2, 3, 8, 100])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_the_validation_views(n_val, world):
    shares = []
    for rank in range(world):
        data = SceneData(n_val, list, val_views=8)
        data.trainer = Process(rank, world)
        shares.append(list(data.val_dataloader()))
    assert len({len(share) for share in shares}) == 1  # or one process would wait for ever
    views = {int(view) for share in shares for view in share}
    assert len(views) == min(n_val, 8)
    assert {0, n_val - 1} <= views <= set(range(n_val))


def test_training_takes_the_planned_steps():
    assert list(SceneData(0, lambda: [3, 4], 8).train_dataloader()) == [3, 4]
