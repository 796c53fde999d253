"""The air that cameras stand in, and the loss on density there."""

from dataclasses import replace
from typing import Any

import photo_world
import pytest
import torch
from tiny import batches, config, make, with_model

from nerf_pl.errors import UserError
from nerf_pl.methods import METHODS
from nerf_pl.methods.ngp.losses import EMPTY_STEPS, air
from nerf_pl.methods.ngp.model import NGP
from nerf_pl.methods.ngp.options import AROUND, NGPOptions
from nerf_pl.options import Config, SceneKind
from nerf_pl.scenes import Request, Scene, load_scene
from nerf_pl.scenes.air import NUMBERS, SHARE, Air, air_of
from nerf_pl.scenes.normalize import AHEAD
from nerf_pl.scenes.placing import begun

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


def seen(points: torch.Tensor, scene: Scene) -> torch.Tensor:
    """Distances from the target."""
    return (points - torch.tensor(scene.target)).norm(dim=1)


def test_less_is_air_where_points_are_nearer(capture):
    numbers = torch.rand(500, NUMBERS)
    (usual, length), (less, shorter) = (air_in(begun(capture, share))(numbers) for share in (AHEAD, AHEAD / 4))
    assert torch.allclose(shorter, length / 4)
    assert float(seen(less, capture).min()) > float(seen(usual, capture).min())


def test_cameras_that_look_elsewhere_do_not_count(capture):
    c2w = capture.cameras.c2w.clone()
    c2w[2, :, :3] = c2w[2, :, :3] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0]))  # it looks back
    turned = replace(capture, cameras=replace(capture.cameras, c2w=c2w))
    found = air_in(turned)
    assert 2 not in found.inward
    assert not bool((found.neighbours() == 2).any())
    points, _ = found(torch.rand(2000, NUMBERS))
    ways = (c2w[:, :, 3] - torch.tensor(capture.target)).norm(dim=1)
    assert bool((seen(points, capture) < 1.6 * ways.max()).all())


def test_pixels_are_those_of_a_photo_and_not_of_its_canvas(capture):
    """Of a photo that fills a corner of the canvas."""
    small = torch.tensor([[8, 6]]).repeat(len(capture), 1)
    numbers = torch.rand(300, NUMBERS, generator=torch.Generator().manual_seed(2))
    numbers[:, 10], numbers[:, 5:7] = 0.999, 0.999
    corner = torch.tensor([8.0, 6.0]) / torch.tensor(capture.cameras.size(0))
    whole = numbers.clone()
    whole[:, 5:7] = 0.999 * corner
    cut = replace(capture, cameras=replace(capture.cameras, sizes=small))
    assert torch.allclose(air_in(cut)(numbers)[0], air_in(capture)(whole)[0], atol=1e-5)


def test_other_scenes_have_none(capture):
    assert air_of(replace(capture, ahead=0.0)) is None  # cameras that look nowhere in common, or --ahead 0
    assert air_of(replace(capture, unbounded=False)) is None
    one = replace(capture, cameras=capture.cameras[:1], images=capture.images[:1], names=(), seen=None)
    assert air_of(one) is None
    two = replace(capture, cameras=capture.cameras[:2], images=capture.images[:2], names=(), seen=None)
    assert bool(air_in(two)(torch.rand(9, NUMBERS))[0].isfinite().all())


@pytest.mark.parametrize("step", [0, 2 * EMPTY_STEPS])  # a graph cannot ask whether it is late enough
def test_the_kernels_of_a_gpu_train_without_it_and_show_a_run_that_had_it(capture, monkeypatch, step):
    options = with_model(config("ngp"), air=0.25, unbounded=True)
    model: Any = make(options).train()
    model.fit(capture)
    model.go_on(step)
    drawn = batches(model, capture, 64)
    monkeypatch.setattr(NGP, "can_be_captured", True)
    with pytest.raises(
        UserError,
        match=r"--air 0\.25, with which a CPU trains, is not for the GPU kernels: give --air 0, or --precision fp32",
    ):
        model.loss(drawn(model.step))
    monkeypatch.setenv("NERF_PL_OPS", "kernel")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    assert METHODS["ngp"].make(options, torch.device("cuda")).can_be_captured


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
