"""What a model says of points of the world is what its pictures show, whatever space it lives in."""

import math
from dataclasses import replace

import pytest
import torch
from tiny import config, make, with_model
from torch import Tensor, nn

from nerf_pl.cameras import ndc_rays
from nerf_pl.methods.nerf.model import NeRF
from nerf_pl.methods.nerf.options import NeRFOptions
from nerf_pl.methods.ngp import model as model_of_ngp
from nerf_pl.methods.ngp.model import NGP
from nerf_pl.methods.ngp.visibility import ENOUGH
from nerf_pl.ops import Backend, composite, march
from nerf_pl.types import Pixels, Rays, Samples

TWINS, NDC, RAYS = Backend(), (1.7, 2.3), 200
AHEAD = torch.tensor([0.0, 0.0, -1.0])


@pytest.fixture(autouse=True)
def _all_light(monkeypatch):
    """Rays go on until next to nothing of their light is left."""
    monkeypatch.setattr(model_of_ngp, "STOP", 1e-4)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def through_the_middle(n: int = RAYS, far: float = 6.0) -> Rays:
    """Rays from all around that pass near the origin."""
    directions = torch.nn.functional.normalize(uniform(n, 3) - 0.5, dim=1)
    origins = 1.4 * (uniform(n, 3, seed=1) - 0.5) - 3 * directions
    return Rays(origins, directions, directions, torch.full((n,), 0.5), torch.full((n,), far))


def forward(n: int = RAYS) -> Rays:
    """Rays that start on the plane z = -1 and look roughly along -z."""
    directions = torch.nn.functional.normalize(0.4 * (uniform(n, 3) - 0.5) + AHEAD, dim=1)
    origins = 0.6 * (uniform(n, 3, seed=1) - 0.5)
    origins[:, 2] = -1
    return Rays(origins, directions, directions, torch.zeros(n), torch.full((n,), 50.0))


def world(ndc: Tensor) -> Tensor:
    """The inverse of the projection, NeRF 2020, eq. 13 and on."""
    x, y, z = ndc.unbind(-1)
    depth = 2 / (1 - z)
    return torch.stack([x * depth / NDC[0], y * depth / NDC[1], -depth], -1)


def blend(model: NGP | NeRF, xyz: Tensor, dirs: Tensor, samples: Samples) -> Pixels:
    """The pixels that `radiance` at world points makes up; dt of the samples in world lengths."""
    sigma, rgb = model.radiance(xyz, dirs)
    return composite(sigma, rgb, samples, backend=TWINS)


# ---- ngp: at the very samples that render takes ----------------------------------------------------------------------


def ngp(**options: object) -> NGP:
    """Four fifths of its cells are occupied, and light reached two thirds of their parts. So thin that no ray ends."""
    model = make(with_model(config("ngp"), **options))
    grid = model.occupancy
    sides = [1.0, 0.8, 0.6] if model.options.unbounded is False and options.get("ndc") is None else [1.0] * 3
    grid.aabb.copy_(torch.tensor([[-side for side in sides], sides]))
    model.load_state_dict(model.state_dict())  # which takes its lengths from the box
    grid.restrict(uniform(*3 * (grid.size,), seed=2) < 0.8)
    grid.seen.copy_((uniform(len(grid.seen), seed=3) < 2 / 3).int() * ENOUGH)
    grid.forget_shown()
    with torch.no_grad():
        torch.manual_seed(0)
        model.field.table.uniform_(-2, 2)
    return model


def all_steps(model: NGP, rays: Rays) -> Samples:
    """Those of render, also where nothing shows; dt in lengths of the model's space."""
    grid, stride = model.occupancy, model.stride
    half, bits = torch.full_like(rays.near, 0.5), torch.full_like(grid.bits, -1)
    samples = march(rays, bits, grid.aabb, half, stride, backend=TWINS).samples
    growth = 1.0 if stride.linear is None else (samples.t / stride.linear).clamp(min=1)
    return replace(samples, dt=stride.step * growth * torch.ones_like(samples.t))


def assert_alike(ours: Pixels, rendered: Pixels) -> None:
    assert rendered.opacity.max() > 0.3
    assert rendered.opacity.max() < 0.9999  # no ray ended early
    for name in ("rgb", "opacity"):
        error = (getattr(ours, name) - getattr(rendered, name)).abs().view(RAYS, -1).amax(1)
        # a sample on the very face of a cell may fall to either side
        assert (error > 1e-4).float().mean() < 0.03, name
        assert error.mean() < 1e-4, name


BOXES = {
    "parts of cells": {"seen_detail": 2},
    "stand-ins": {"extended": True},
    "without end": {"unbounded": True, "seen_detail": 2},
    "without end, stand-ins": {"unbounded": True, "extended": True},
}


@pytest.mark.parametrize("kind", BOXES)
def test_radiance_of_ngp_makes_up_its_pixels(kind):
    model = ngp(**BOXES[kind])
    rays = through_the_middle(far=40.0 if model.options.unbounded else 6.0)
    samples = all_steps(model, rays)
    xyz, dirs = samples.points(rays)
    assert_alike(blend(model, xyz, dirs, samples), model.render(rays, None))
    shown = model.density(xyz) > 0
    if kind == "parts of cells":
        assert 0.4 < shown.float().mean() < 0.6  # two thirds of four fifths
    assert torch.equal(model.density(xyz), model.radiance(xyz, dirs)[0])


@pytest.mark.parametrize("kind", ["parts of cells", "stand-ins"])
def test_radiance_of_ngp_makes_up_its_pixels_in_ndc(kind):
    model = ngp(**BOXES[kind])
    model.occupancy.aabb.copy_(torch.tensor([[-1.0] * 3, [1.0] * 3]))
    model.load_state_dict(model.state_dict())
    model.ndc, rays = NDC, forward()
    bent = ndc_rays(rays, NDC)
    bent = replace(bent, far=0.9 * bent.far)  # the rest is too far away for 32 bits
    samples = all_steps(model, bent)
    exact = Rays(*(value.double() for value in vars(bent).values()))

    def at(shift: float) -> Tensor:
        return world(replace(samples, t=samples.t.double() + shift).points(exact)[0])

    stretch = (at(1e-5) - at(-1e-5)).norm(dim=1) / 2e-5  # world length for one there
    _, dirs = samples.points(rays)
    ours = blend(model, at(0).float(), dirs, replace(samples, dt=samples.dt * stretch.float()))
    assert_alike(ours, model.render(bent, None))


def test_the_density_of_ngp_in_ndc_is_that_seen_ahead():
    model = ngp(extended=True)
    model.ndc = NDC
    xyz = world(1.6 * uniform(500, 3) - 0.8)
    ahead, sideways = AHEAD.expand(500, 3), torch.tensor([1.0, 0, 0]).expand(500, 3)
    assert model.density(xyz).any()
    assert torch.equal(model.density(xyz), model.radiance(xyz, ahead)[0])
    assert not torch.allclose(model.density(xyz), model.radiance(xyz, sideways)[0])


@pytest.mark.parametrize("kind", ["parts of cells", "stand-ins"])
def test_nothing_is_outside_the_box_of_ngp(kind):
    model = ngp(**BOXES[kind])
    model.occupancy.bits.fill_(-1)
    model.occupancy.seen.fill_(ENOUGH)
    model.occupancy.forget_shown()
    xyz = 3 * (uniform(2000, 3) - 0.5)
    low, high = model.occupancy.aabb
    inside = ((xyz > low) & (xyz < high)).all(1)
    for sigma in (model.density(xyz), model.radiance(xyz, torch.nn.functional.normalize(xyz, dim=1))[0]):
        assert (sigma[inside] > 0).all()
        assert not sigma[~inside].any()
    model.ndc = NDC
    for z in (0.0, 1.0):  # beside and behind the cameras
        points = torch.tensor([[0.1, 0.2, z]])
        for sigma in (model.density(points), model.radiance(points, AHEAD[None])[0]):
            assert not sigma.any()


def test_nothing_is_where_ngp_shows_nothing():
    model = ngp()
    model.occupancy.bits.zero_()
    model.occupancy.forget_shown()
    xyz = uniform(500, 3) - 0.5
    for sigma in (model.density(xyz), model.radiance(xyz, xyz)[0]):
        assert not sigma.any()


# ---- nerf: at dense points, of a smooth field ------------------------------------------------------------------------


class Cloud(nn.Module):
    """A paraboloid of density, 2 in the middle and 0 from a distance of 0.8 on; its colours depend on where it is and
    from where it is seen."""

    def density(self, xyz):
        return 2 * (1 - (xyz / 0.8).square().sum(1))

    def forward(self, xyz, dirs):
        return self.density(xyz), torch.sigmoid(2 * xyz + dirs)


def clouds(n_samples: int = 400) -> NeRF:
    model = NeRF(NeRFOptions(n_samples, 8, net_depth=2, net_width=32, net_skip=1), TWINS).eval()
    model.coarse, model.fine = Cloud(), Cloud()
    return model


@pytest.mark.parametrize("ndc", [None, NDC])
def test_radiance_of_nerf_makes_up_its_pixels(ndc):
    """Sums over intervals of a length h stray from the integral by no more than h / 2 times what the optical depth
    rises and falls by: 2 x 2 x h / 2 = 0.02 for h = 4 / 400; the falls cancel the rises but for second order."""
    rays, model = through_the_middle() if ndc is None else forward(), clouds()
    model.ndc = ndc
    n, near, far = 1000, *((0.5, 6.0) if ndc is None else (0.0, 15.0))
    t = near + (torch.arange(n) + 0.5) / n * (far - near)
    dt = (far - near) / n
    samples = Samples.dense(t.expand(RAYS, n), torch.full((RAYS, n), dt))
    ours = blend(model, *samples.points(rays), samples)
    rendered = model.render(rays if ndc is None else ndc_rays(rays, ndc), None)
    assert rendered.opacity.min() < 0.5
    assert rendered.opacity.max() > 0.7
    assert torch.allclose(ours.rgb, rendered.rgb, atol=2e-3)
    assert torch.allclose(ours.opacity, rendered.opacity, atol=2e-3)


@pytest.mark.parametrize("ndc", [None, NDC])
def test_the_density_of_nerf_is_that_of_its_radiance(ndc):
    model = clouds()
    model.ndc = ndc
    xyz = 2 * uniform(500, 3) - 1 if ndc is None else world(1.6 * uniform(500, 3) - 0.8)
    ahead, sideways = AHEAD.expand(500, 3), torch.tensor([1.0, 0, 0]).expand(500, 3)
    density = model.density(xyz)
    assert (density >= 0).all()  # rectified
    assert 0.1 < (density > 0).float().mean() < 0.9
    assert torch.equal(density, model.radiance(xyz, ahead)[0])
    assert torch.equal(density, model.radiance(xyz, sideways)[0]) == (ndc is None)
    if ndc is not None:
        # the optical depth along -z from the near plane to infinity is that of the way in the cube, which has length 2
        depth = 1 / (1 - (torch.arange(4000).double() + 0.5) / 4000)
        points = torch.stack([0 * depth, 0 * depth, -depth], 1).float()
        tau = (model.density(points) * (depth**2 / 4000)).sum()
        assert float(tau) == pytest.approx(2 * 2 / 3 * 1.6, rel=1e-3)  # of a parabola


def test_without_a_fine_network_the_coarse_one_is_shown():
    model = NeRF(NeRFOptions(8, 0, net_depth=2, net_width=32, net_skip=1), TWINS)
    model.coarse = Cloud()
    assert float(model.density(torch.zeros(1, 3))) == 2
    assert math.isclose(float(model.radiance(torch.zeros(1, 3), torch.zeros(1, 3))[1].mean()), 0.5)


@pytest.mark.parametrize("stop", [1e-2, 0.1])
def test_what_a_ray_has_met_stands_for_the_rest_of_its_light(monkeypatch, stop):
    """A ray that ends is opaque, and within `stop` of what it would show."""
    model, rays = ngp(), through_the_middle()
    monkeypatch.setattr(model_of_ngp, "STOP", 1e-6)
    with torch.no_grad():
        model.field.params.mul_(4)  # dense enough
    whole = model.render(rays, None)
    monkeypatch.setattr(model_of_ngp, "STOP", stop)
    ended = model.render(rays, None)
    dense, thin = whole.opacity > 1 - stop / 4, whole.opacity < 1 - 2 * stop
    assert dense.sum() > 20
    assert thin.sum() > 20
    assert torch.equal(ended.opacity[dense], torch.ones_like(ended.opacity[dense]))
    assert torch.allclose(ended.rgb[dense], whole.rgb[dense], atol=2 * stop)
    assert torch.allclose(ended.depth[dense], whole.depth[dense], rtol=4 * stop)
    for name in ("rgb", "depth", "opacity"):
        assert torch.equal(getattr(ended, name)[thin], getattr(whole, name)[thin])
