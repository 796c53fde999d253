"""Batches: the colours are those of the pixels that the rays go through."""

from dataclasses import replace

import pytest
import torch
from tiny import config, make

from nerf_pl.cameras import ndc_rays, project
from nerf_pl.errors import UserError
from nerf_pl.ops import Backend
from nerf_pl.scenes import Scene, load_scene
from nerf_pl.training.batches import PixelBatches
from nerf_pl.training.chunks import SceneData
from nerf_pl.training.system import NeRFSystem
from nerf_pl.training.validation import plan


@pytest.fixture(scope="module")
def scene(scene_dir):
    return load_scene(scene_dir)


def draw(scene: Scene, batch_size: int, seed: int = 0, **options) -> PixelBatches:
    return PixelBatches(scene, batch_size, seed, backend=Backend(), **options)


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
    batch = draw(scene, 200, precrop_steps=precrop_steps)(step(3))
    rays, rgb = batch.rays, batch.rgb
    image_ids, rows, columns = pixels_of(scene, rays)
    expected = torch.stack([scene.image(i) for i in range(len(scene))])[image_ids, rows, columns]
    assert torch.allclose(rgb, expected, atol=1e-6)
    assert len(set(image_ids.tolist())) == len(scene)
    assert (rays.near == scene.near).all()
    assert (rays.far == scene.far).all()


def test_every_pixel_can_be_drawn(scene):
    batches = draw(scene, 20_000)
    rays = batches(step(0)).rays
    assert len(batches) == 4 * 16 * 16
    assert len(torch.unique(torch.cat([rays.origins, rays.directions], 1), dim=0)) == len(batches)


def test_late_in_a_training_the_background_is_the_one_that_is_shown(scene):
    """Behind three of four pixels."""
    batches = draw(replace(scene, background=(0.25, 0.5, 1.0)), 100, random_until=0.5)
    first = batches(step(1))
    assert len(first.background.unique(dim=0)) == 100
    for progress, is_shown in ((0.0, False), (0.49, False), (0.5, True), (0.9, True), (0.3, False)):
        batches.advance(progress)
        batch = batches(step(1))
        shown = (batch.background == torch.tensor([0.25, 0.5, 1.0])).all(1)
        assert shown.sum() == 75 * is_shown
        assert torch.equal(batch.background[~shown], first.background[~shown])
        assert torch.equal(batch.rays.origins, first.rays.origins)


@pytest.mark.parametrize(
    ("plain", "until", "is_random"), [(False, 0.75, True), (True, 1.0, False), (False, 0.0, False)]
)
def test_opaque_pictures_keep_random_colours(scene, plain, until, is_random):
    """So colours stay random there, or the field would learn to be transparent where the background looks alike."""
    opaque = replace(scene, images=scene.images[..., :3].contiguous(), plain=plain)
    batches = draw(opaque, 100, random_until=until)
    batches.advance(1.0)
    assert (len(batches(step(1)).background.unique(dim=0)) == 100) == is_random


def test_rays_of_one_pixel(scene):
    batch = draw(scene, 402, random_until=1.0)(step(1), 4)
    rays, rgb, behind = batch.rays, batch.rgb, batch.background
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
    batches = draw(scene, 300, precrop_steps=10)
    for i, is_early in ((9, True), (10, False)):
        _, rows, columns = pixels_of(scene, batches(step(i)).rays)
        for place in (rows, columns):
            inside = (place >= 4) & (place < 12)
            assert inside.all() == is_early
            assert (place[inside].min(), place[inside].max()) == (4, 11)


@pytest.mark.parametrize("precrop_steps", [0, 10])
def test_views_of_several_sizes(scene, precrop_steps):
    """Of each only the pixels that it has, and all of them."""
    sizes = torch.tensor([[16, 16], [8, 16], [16, 12], [5, 7]])
    mixed = replace(scene, cameras=replace(scene.cameras, sizes=sizes))
    batch = draw(mixed, 12_000, precrop_steps=precrop_steps)(step(0))
    image_ids, rows, columns = pixels_of(mixed, batch.rays)
    stack = torch.stack([scene.image(i) for i in range(len(scene))])
    assert torch.allclose(batch.rgb, stack[image_ids, rows, columns], atol=1e-6)
    for i, (width, height) in enumerate(sizes.tolist()):
        own = image_ids == i
        assert 2700 < own.sum() < 3300
        found = set(zip(rows[own].tolist(), columns[own].tolist(), strict=True))
        row, column = range(height), range(width)
        if precrop_steps:
            row, column = ({k // 2 + n // 4 for k in range(n)} for n in (height, width))
        assert found == {(r, c) for r in row for c in column}
        assert mixed.image(i).shape == (height, width, 3)
        assert len(mixed.view(i).rays()) == height * width


def test_masks_leave_pixels_out(scene):
    masks = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.2
    batches = draw(replace(scene, masks=masks), 5_000)
    assert len(batches) == masks.sum()
    found = torch.zeros_like(masks)
    found[pixels_of(scene, batches(step(0)).rays)] = True
    assert torch.equal(found, masks)
    with pytest.raises(UserError, match="leave no pixel"):
        draw(replace(scene, masks=torch.zeros_like(masks)), 200)


def test_the_same_seed_and_step_give_the_same_batch(scene):
    def rgb(seed: int, i: int) -> torch.Tensor:
        return draw(scene, 64, seed)(step(i)).rgb

    assert torch.equal(rgb(0, 5), rgb(0, 5))
    assert not torch.equal(rgb(0, 5), rgb(0, 6))
    assert not torch.equal(rgb(0, 5), rgb(1, 5))


def test_a_checkpoint_holds_no_images(scene):
    assert not draw(scene, 64).state_dict()


class Process:
    """Stands for the trainer of one of several processes."""

    def __init__(self, global_rank: int, world_size: int):
        self.global_rank, self.world_size = global_rank, world_size


@pytest.mark.parametrize("n_val", [1, 2, 3, 8, 100])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_the_validation_views(scene, n_val, world):
    views = plan(n_val, 8, pixels=100, pixel_seconds=0.0, budget=1.0).views
    assert len(views) == len(set(views)) == min(n_val, 8)
    assert {0, n_val - 1} <= set(views) <= set(range(n_val))
    val_scene = replace(scene, cameras=scene.cameras[torch.zeros(n_val, dtype=torch.int64)])
    options = config(val_views=8)
    system = NeRFSystem(options, make(options), scene, val_scene, world)
    shares = []
    for rank in range(world):
        data = SceneData(list, system.validation_slots)
        data.trainer = Process(rank, world)
        shares.append([int(slot) for slot in data.val_dataloader()])
    assert len({len(share) for share in shares}) == 1  # or one process would wait for ever
    assert {views[slot % len(views)] for share in shares for slot in share} == set(views)


def test_training_takes_the_planned_steps():
    assert list(SceneData(lambda: [3, 4], 0).train_dataloader()) == [3, 4]


def test_no_more_rays_than_the_model_has_use_for(scene):
    """And whole pixels alone."""
    for limit, n in ((None, 64), (30, 30), (100, 64)):
        batch = draw(scene, 64, limit=lambda limit=limit: limit)(step(0))
        assert (len(batch.rays), len(batch.rgb)) == (n, n)
    batch = draw(scene, 64, limit=lambda: 30)(step(0), 4)
    assert (len(batch.rays), len(batch.rgb), len(batch.background)) == (28, 7, 7)


def test_batches_of_photos_from_one_side_are_bent(scene):
    flat = replace(scene, cameras=replace(scene.cameras, c2w=torch.eye(3, 4).expand(4, 3, 4).contiguous()))
    ndc = (1.7, 2.3)
    straight, bent = draw(flat, 64)(step(0)), draw(replace(flat, ndc=ndc), 64)(step(0))
    for name, value in vars(ndc_rays(straight.rays, ndc)).items():
        assert torch.equal(getattr(bent.rays, name), value), name
    assert torch.equal(bent.rgb, straight.rgb)
