"""From samples to pixels, against closed forms."""

import math
from dataclasses import replace

import pytest
import torch

from nerf_pl.cameras import Cameras, View
from nerf_pl.ops import Backend
from nerf_pl.rendering import (
    CPU_CHUNK,
    edges,
    evaluating,
    lattice,
    over,
    render_lattice,
    render_rays,
    render_samples,
    render_view,
)
from nerf_pl.sampling import stratified
from nerf_pl.types import Pixels, Rays, Samples

TWINS = Backend()


class Slab:
    """Density `sigma` where low <= z <= high, of one colour."""

    def __init__(self, sigma: float, low: float, high: float, colour=(0.2, 0.4, 0.8)):
        self.sigma, self.low, self.high, self.colour = sigma, low, high, torch.tensor(colour)

    def density(self, xyz):
        return torch.where((xyz[:, 2] >= self.low) & (xyz[:, 2] < self.high), self.sigma, -1.0)

    def __call__(self, xyz, dirs):
        return self.density(xyz), self.colour.expand(len(xyz), 3)


def rays(n: int = 4) -> Rays:
    """From the origin along z."""
    directions = torch.tensor([0.0, 0, 1]).expand(n, 3)
    return Rays(torch.zeros(n, 3), directions, directions, torch.full((n,), 1.0), torch.full((n,), 5.0))


def test_a_slab_of_constant_density():
    slab = Slab(0.7, 2.0, 3.5)
    pixels = render_samples(slab, rays(), stratified(rays(), 4001), backend=TWINS)
    opacity = 1 - math.exp(-0.7 * 1.5)
    assert torch.allclose(pixels.opacity, torch.tensor(opacity), atol=2e-3)
    assert torch.allclose(pixels.rgb, opacity * slab.colour, atol=2e-3)
    # the mean of t under the density of the first hit, which is an exponential distribution cut off at the far side
    mean = 2.0 * opacity + 1 / 0.7 - math.exp(-0.7 * 1.5) * (1 / 0.7 + 1.5)
    assert torch.allclose(pixels.depth, torch.tensor(mean), atol=5e-3)


def test_an_opaque_slab_hides_what_is_behind():
    pixels = render_samples(Slab(1e4, 2.0, 6.0), rays(), stratified(rays(), 41), backend=TWINS)
    assert torch.allclose(pixels.opacity, torch.ones(4))
    assert torch.allclose(pixels.depth, torch.full((4,), 2.0), atol=0.11)


def test_density_alone_gives_the_same_weights():
    slab, samples = Slab(0.7, 2.0, 3.5), stratified(rays(), 32)
    whole, bare = (render_samples(slab, rays(), samples, colour=colour, backend=TWINS) for colour in (True, False))
    assert torch.equal(whole.weights, bare.weights)
    assert not bare.rgb.any()


def test_noise_comes_before_the_rectifier():
    samples = stratified(rays(1), 5)
    noise = torch.tensor([0.0, 3, 0, 0, 0])  # -1 + 3 is a density of 2; -1 is none
    pixels = render_samples(Slab(0.0, 9.0, 9.0), rays(1), samples, noise, backend=TWINS)
    assert torch.allclose(pixels.opacity, torch.tensor(1 - math.exp(-2.0)))


@pytest.mark.parametrize("background", [(1.0, 1.0, 1.0), (0.1, 0.5, 0.9), (0.0, 0.0, 0.0), None])
def test_over_a_background(background):
    pixels = Pixels(torch.full((2, 3), 0.3), torch.ones(2), torch.tensor([0.25, 1.0]), torch.ones(2))
    colour = torch.tensor(background or (0.0, 0, 0))
    rgb = over(pixels, background).rgb
    assert torch.allclose(rgb[0], 0.3 + 0.75 * colour)
    assert torch.allclose(rgb[1], torch.full((3,), 0.3))


class Still:
    """A model that does not learn."""

    step, training, rays_per_pixel = torch.zeros(1, dtype=torch.int64), True, 1

    def train(self, mode: bool = True):
        self.training = mode

    def render(self, batch, background):
        raise torch.OutOfMemoryError("no room")


def test_chunks_do_not_show():
    class Model(Still):
        def render(self, batch, background):
            assert not torch.is_grad_enabled()
            assert background == (0.5, 0.5, 0.5)
            return Pixels(2 * batch.origins, batch.far, batch.near, torch.ones(len(batch)))

    batch = Rays(torch.rand(10, 3), *(torch.rand(10, 3) for _ in range(2)), torch.rand(10), torch.rand(10))
    given = Model(), batch, (0.5, 0.5, 0.5)
    whole = render_rays(*given, 10)
    assert whole[0].max() == 1  # colours are clipped
    for chunk in (1, 3, 9, 1000):
        assert all(map(torch.equal, whole, render_rays(*given, chunk)))


@pytest.mark.parametrize(("kind", "most"), [({}, CPU_CHUNK), ({"cpu_chunk": 3000}, 3000)])
def test_a_cpu_renders_so_many_rays_at_once_as_the_model_says(kind, most):
    asked = []

    class Model(Still):
        def render(self, batch, background):
            asked.append(len(batch))
            return Pixels(batch.origins, batch.far, batch.near, torch.ones(len(batch)))

    batch = Rays(*(torch.rand(4000, 3) for _ in range(3)), torch.rand(4000), torch.rand(4000))
    render_rays(type("Kind", (Model,), kind)(), batch, None, 3500)
    assert (max(asked), sum(asked)) == (most, 4000)


def test_packed_samples_give_the_same_pixels():
    slab, dense = Slab(0.7, 2.0, 3.5), stratified(rays(), 16)
    packed = Samples(dense.t, dense.dt, dense.ray_ids, dense.offsets)
    ours, theirs = (render_samples(slab, rays(), samples, backend=TWINS) for samples in (packed, dense))
    assert torch.allclose(ours.rgb, theirs.rgb)
    assert torch.allclose(ours.depth, theirs.depth)


class HalfPlane(Still):
    """White to the right of a vertical edge, black to its left, at the distance 1 of cameras that look along -z."""

    def __init__(self, edge: float, rays_per_pixel: int):
        self.edge, self.rays_per_pixel, self.asked = edge, rays_per_pixel, 0

    def render(self, batch, background):
        assert not self.training
        self.asked += len(batch)
        x = batch.directions[:, 0] / -batch.directions[:, 2]
        white = (x > self.edge).float()
        return Pixels(white[:, None].expand(-1, 3), 2 * white, white, torch.ones(0))


def front(width: int = 8, height: int = 8) -> View:
    """Along -z, with pixels of a width of 1/4."""
    K = torch.tensor([[[4.0, 0, width / 2], [0, 4, height / 2], [0, 0, 1]]])
    return View(Cameras(torch.eye(3, 4)[None], K, width, height), 0.1, 9.0)


@pytest.mark.parametrize(("rays_per_pixel", "wrong"), [(1, 0.51), (4, 0.26), (16, 0.07)])
def test_rays_of_a_pixel_smooth_its_edges(rays_per_pixel, wrong):
    """The pixel with the edge shows how much of it is white, the better the more rays there are."""
    for share in (0.2, 0.5, 0.8):
        model = HalfPlane((1 - share) / 4, rays_per_pixel)
        image = render_view(model, front(), chunk=7)
        assert model.training
        row = image.rgb[3, :, 0]
        assert torch.equal(row[:4], torch.zeros(4))
        assert torch.allclose(row[5:], torch.ones(3))
        assert abs(float(row[4]) - share) < wrong
        assert torch.allclose(image.opacity[3], row, atol=1e-6)
        assert torch.allclose(image.depth[3], 2 * row, atol=1e-6)
        # the others where the first ones differ from those of a neighbour: along two columns
        assert model.asked == 64 + 2 * 8 * (rays_per_pixel - 1)


def test_a_view_without_edges_needs_no_further_rays():
    """Such as one of nothing but background."""
    model = HalfPlane(9.0, 4)
    image = render_view(model, front())
    assert not image.rgb.any()
    assert model.asked == 64


def test_a_background_stands_behind_the_picture():
    image = render_view(HalfPlane(0.0, 1), replace(front(), background=(0.2, 0.4, 1.0)))
    assert torch.allclose(image.rgb[:, :4], torch.tensor([0.2, 0.4, 1.0]).expand(8, 4, 3))
    assert (image.rgb[:, 4:] == 1).all()


class Gradient(Still):
    """Its pixels tell where their rays go."""

    def render(self, batch, background):
        return Pixels(batch.directions / 2 + 0.5, batch.far, batch.directions[:, 0].abs(), torch.ones(0))


@pytest.mark.parametrize(("every", "size"), [(1, (8, 6)), (2, (4, 3)), (3, (3, 2)), (5, (2, 1)), (16, (1, 1))])
@pytest.mark.parametrize("background", [None, (1.0, 1.0, 1.0)])
def test_a_lattice_shows_the_pixels_of_the_whole(every, size, background):
    view, model = replace(front(8, 6), background=background), Gradient()
    whole, some = render_view(model, view), render_lattice(model, view, every, chunk=3)
    assert model.training
    assert some.opacity.shape == size[::-1]
    for name, picture in vars(whole).items():
        assert torch.equal(getattr(some, name), lattice(picture, every)), name


def test_a_lattice_takes_one_ray_for_a_pixel():
    model = HalfPlane(0.0, 16)
    render_lattice(model, front(), 2)
    assert model.asked == 16


@pytest.mark.parametrize("was_training", [True, False])
def test_evaluation_puts_the_mode_back(was_training):
    """After an error, too."""
    model = Still()
    model.train(was_training)
    with evaluating(model):
        assert not model.training
    assert model.training == was_training

    def fail():
        with evaluating(model):
            assert not model.training
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert model.training == was_training

    for picture in (render_view, lambda *given: render_lattice(given[0], given[1], 2, given[2])):
        with pytest.raises(torch.OutOfMemoryError, match="while rendering 7 rays: lower --chunk"):
            picture(model, front(), 7)
        assert model.training == was_training


def test_edges():
    rgb = torch.rand(6, 7, 3, generator=torch.Generator().manual_seed(0)).sub(0.5).mul(0.02).add(0.5)
    rgb[1, 2, 1] += 0.1
    rgb[5, 6, 0] -= 0.1
    expected = {(row, column) for row in (0, 1, 2) for column in (1, 2, 3)} | {(4, 5), (4, 6), (5, 5), (5, 6)}
    assert set(edges(rgb).tolist()) == {row * 7 + column for row, column in expected}
