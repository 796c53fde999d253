"""What each loss of the hash-grid method adds to the target of a step; its formula is tested among the ops."""

from dataclasses import fields, replace

import pytest
import torch
from tiny import GRID, config, make, with_model

from nerf_pl.methods.ngp.losses import EMPTY_STEPS, LOSSES, OPAQUE, distortion, emptiness, noisy, smoothness
from nerf_pl.methods.ngp.options import NGPOptions
from nerf_pl.ops import Stride, Target
from nerf_pl.types import Batch, Rays, Samples

OFF = replace(GRID, distortion=0.0, smoothness=0.0, emptiness=0.0, density_noise=0.0)
STRIDES = {"box": Stride(0.25, 32, 2.0), "without end": Stride(0.25, 32, 2.0, linear=1.0)}


def target() -> Target:
    one = torch.ones(1, dtype=torch.int32)
    colours = torch.rand(2, 3), torch.rand(2, 3)
    return Target(*colours, one, one.repeat(6), one, 0 * one, torch.ones(1), share=0.5, clear=torch.ones(2))


def samples() -> Samples:
    return Samples.dense(torch.tensor([[0.5, 0.75, 1.0], [2.0, 4.0, 8.0]]), torch.full((2, 3), 0.125))


def changed(before: Target, after: Target) -> set[str]:
    return {f.name for f in fields(Target) if getattr(before, f.name) is not getattr(after, f.name)}


@pytest.mark.parametrize("add", LOSSES)
def test_without_weight_the_target_stays(add):
    given = target()
    after = add(given, samples(), STRIDES["box"], OFF)
    assert changed(given, after) <= {add.__name__, "clear"}
    assert not getattr(after, add.__name__)


@pytest.mark.parametrize("add", LOSSES)
def test_its_weight_is_the_option_of_its_name(add):
    """And it leaves the other losses alone."""
    options = replace(OFF, **{add.__name__: 0.25})
    given, others = target(), {other.__name__ for other in LOSSES if other is not add}
    after = add(given, samples(), STRIDES["box"], options)
    assert getattr(after, add.__name__) == 0.25
    assert add.__name__ in {f.name for f in fields(NGPOptions)}
    assert not changed(given, after) & others


@pytest.mark.parametrize("kind", STRIDES)
def test_distortion_tells_places(kind):
    """In sides of the unit cube, of which a step is 1/8; past the linear part all doublings of t are as long."""
    given, found = target(), samples()
    after = distortion(given, found, STRIDES[kind], replace(OFF, distortion=0.1))
    assert changed(given, after) == {"place", "width", "distortion"}
    assert (after.width, after.distortion) == (0.125, 0.1)
    place = after.place.view(2, 3)
    assert torch.allclose(place[0].diff(), torch.full((2,), 0.125))
    expected = torch.tensor([1.0, 2.0]) if kind == "box" else torch.full((2,), 2.0).log() / 2
    assert torch.allclose(place[1].diff(), expected)


def test_smoothness_tells_its_weight_alone():
    given = target()
    after = smoothness(given, samples(), STRIDES["box"], replace(OFF, smoothness=3e-3))
    assert changed(given, after) == {"smoothness"}


def test_emptiness_falls_to_nothing():
    given, options = target(), replace(OFF, emptiness=0.5)
    for step, weight in ((0, 0.5), (EMPTY_STEPS // 2, 0.25), (EMPTY_STEPS, 0.0), (2 * EMPTY_STEPS, 0.0)):
        now = replace(given, step=torch.tensor([step]))
        after = emptiness(now, samples(), STRIDES["box"], options)
        assert changed(now, after) == {"emptiness"}
        assert after.emptiness == weight
    unknown = replace(given, clear=None)
    assert emptiness(unknown, samples(), STRIDES["box"], options) == unknown
    assert emptiness(given, samples(), STRIDES["box"], OFF).clear is None


def test_noise_multiplies_the_density():
    found, noise = samples(), torch.randn(6)
    after = noisy(found, noise, replace(OFF, density_noise=0.5))
    assert torch.allclose(after.dt / found.dt, (0.5 * noise).exp())
    assert after.t is found.t
    assert after.offsets is found.offsets
    assert torch.equal(noisy(found, noise, OFF).dt, found.dt)


def test_light_that_noise_leaves_stays_on_the_last_sample_of_a_ray_that_ended():
    found, noise = samples(), torch.randn(6)
    options = replace(OFF, density_noise=0.5)
    ends, ended = found.offsets[1:], torch.tensor([i % 2 == 0 for i in range(len(found.offsets) - 1)])
    ratio = noisy(found, noise, options, ended).dt / noisy(found, noise, options).dt
    last = [
        int(end) - 1
        for end, begin, is_ended in zip(ends, found.offsets, ended, strict=False)
        if is_ended and end > begin
    ]
    assert last
    assert torch.allclose(ratio[last], torch.tensor(OPAQUE))
    assert (ratio == 1).sum() == len(ratio) - len(last)


def test_they_change_what_is_learned_and_not_the_error_that_is_told():
    """Noise changes both."""
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(40, 3), dim=1)
    rays = Rays(0.5 - 2 * directions, directions, directions, torch.full((40,), 0.1), torch.full((40,), 9.0))
    batch, found = Batch(rays, torch.rand(40, 3), torch.rand(40, 3), torch.full((40,), 2.0)), {}
    for name in ("", *(add.__name__ for add in LOSSES), "density_noise", "charbonnier"):
        options = {"distortion": 0.0, "smoothness": 0.0, "emptiness": 0.0, "density_noise": 0.0, "charbonnier": 0.0}
        options |= {"grad_share": 1.0, **({name: 0.5} if name else {})}
        model = make(with_model(config("ngp"), **options))
        with torch.no_grad():
            model.field.table.mul_(1e4)
        loss, error = model.loss(batch)
        loss.backward()
        found[name] = loss.item(), error.item(), model.field.table.grad
    for name, (loss, error, grad) in found.items():
        assert loss == error
        assert (loss == found[""][0]) == (name != "density_noise")
        assert torch.equal(grad, found[""][2]) == (not name), name
