"""The air that cameras stand in, and the loss on density there."""

from dataclasses import replace
from typing import Any

import photo_world
import pytest
import torch
from tiny import batches, config, make, with_model

from nerf_pl.methods import METHODS
from nerf_pl.methods.ngp.losses import EMPTY_STEPS, air
from nerf_pl.methods.ngp.options import AROUND, NGPOptions
from nerf_pl.options import Config, SceneKind
from nerf_pl.scenes import Request, Scene, load_scene
from nerf_pl.scenes.air import NUMBERS, SHARE, Air, air_of

ON, OFF = (NGPOptions(air=weight) for weight in (0.5, 0.0))


def options_of(options: Config) -> NGPOptions:
    assert isinstance(options.model, NGPOptions)
    return options.model


def air_in(scene: Scene) -> Air:
    found = air_of(scene)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Scene:
    """Nine photos from around a point."""
    root = tmp_path_factory.mktemp("capture")
    photo_world.write(root, photo_world.K, [{}] * 9)
    scene = load_scene(root, Request("train"))
    assert scene.ahead
    return scene


def test_points_lie_between_the_cameras_and_what_they_look_at(capture):
    found = air_in(capture)
    numbers = torch.rand(4000, NUMBERS, generator=torch.Generator().manual_seed(0))
    middle = capture.cameras.K[0, :2, 2] / torch.tensor(capture.cameras.size(0))
    numbers[:, 5:7] = middle  # of the pictures, where the target is
    points, length = found(numbers)
    target = torch.tensor(capture.target)
    ways = (capture.cameras.c2w[:, :, 3] - target).norm(dim=1)
    away = (points - target).norm(dim=1)
    assert bool((away > (1 - SHARE) * 0.9 * ways.min()).all())
    assert bool((away > 0.9 * ways.min()).any())
    assert bool((length > SHARE * 0.9 * ways.min()).all())


def test_points_follow_from_the_numbers(capture):
    numbers = torch.rand(16, NUMBERS)
    first, again = (air_in(capture)(numbers)[0] for _ in range(2))
    assert torch.equal(first, again)
    numbers[:, 10] = 0  # at the places
    near, _ = air_in(capture)(numbers)
    assert bool(
        ((near - torch.tensor(capture.target)).norm(dim=1) > (first - torch.tensor(capture.target)).norm(dim=1)).all()
    )


def test_other_scenes_have_none(capture):
    assert air_of(replace(capture, ahead=0.0)) is None  # cameras that look nowhere in common, or --ahead 0
    assert air_of(replace(capture, unbounded=False)) is None
    one = replace(capture, cameras=capture.cameras[:1], images=capture.images[:1], names=(), seen=None)
    assert air_of(one) is None


def test_the_loss_falls_to_nothing():
    optical, step = torch.tensor([0.0, 1.0, 3.0]), torch.zeros(1, dtype=torch.int64)
    mean = torch.log1p(optical).mean()
    assert air(optical, step, ON) == pytest.approx(0.5 * float(mean))
    assert air(optical, step + EMPTY_STEPS // 2, ON) == pytest.approx(0.25 * float(mean))
    assert air(optical, step + 2 * EMPTY_STEPS, ON) == 0


def test_the_loss_thins_the_air_and_leaves_the_error_as_it_is(capture):
    densities, errors = [], []
    points, _ = air_in(capture)(torch.rand(500, NUMBERS, generator=torch.Generator().manual_seed(1)))
    for weight in (0.0, 30.0):
        options = with_model(config("ngp"), air=weight, unbounded=True)
        model: Any = make(options).train()
        model.fit(capture)
        drawn, optimizer = batches(model, capture, 64), torch.optim.Adam(model.parameters(), lr=1e-2)
        for step in range(6):
            model.before_step(step)
            loss, error = model.loss(drawn(model.step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model.step += 1
            errors.append(float(error)) if step == 0 else None
        densities.append(float(model._trained_density(points).mean()))
    assert errors[0] == errors[1]
    assert densities[1] < 0.9 * densities[0]


def test_photos_all_around_have_it_on_a_cpu_alone():
    preset = METHODS["ngp"].preset
    weights = {
        (device, kind): options_of(METHODS["ngp"].complete(preset, device, kind)).air
        for device in ("cpu", "cuda")
        for kind in (SceneKind(), SceneKind(unbounded=True), SceneKind(ndc=True))
    }
    assert {key for key, weight in weights.items() if weight} == {("cpu", SceneKind(unbounded=True))}
    assert weights["cpu", SceneKind(unbounded=True)] == AROUND["cpu"]["air"]
