"""The network under its paper names, and what it starts from."""

import math

import pytest
import torch

from nerf_pl.methods.nerf.field import MLPField
from nerf_pl.ops import Backend, MLPLayout

TWINS = Backend()
LAYOUTS = [MLPLayout(8, 32, 4), MLPLayout(2, 64, 1), MLPLayout(4, 32, 3)]


def random_layers(field: MLPField) -> dict:
    return {name: (torch.randn_like(w), torch.randn_like(b)) for name, (w, b) in field.layers().items()}


def by_the_paper(layers: dict, layout: MLPLayout, xyz: torch.Tensor, dirs: torch.Tensor):
    """Figure 7 of the paper, written out with the matrices of `layers`."""

    def encode(x: torch.Tensor, n: int) -> torch.Tensor:
        return torch.cat([x, *(wave(2.0**i * x) for i in range(n) for wave in (torch.sin, torch.cos))], 1)

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        weight, bias = layers[name]
        return x @ weight.double().T + bias.double()

    position, direction = encode(xyz.double(), 10), encode(dirs.double(), 4)
    h = position
    for i in range(layout.depth):
        h = torch.cat([position, h], 1) if i == layout.skip else h
        h = linear(f"density_{i}", h).relu()
    colour = linear("direction", torch.cat([linear("feature", h), direction], 1)).relu()
    return linear("sigma", h).squeeze(1), linear("rgb", colour).sigmoid()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layers_come_back_as_they_were_assigned(layout):
    field = MLPField(layout, TWINS)
    layers = random_layers(field)
    field.assign(layers)
    for name, (weight, bias) in field.layers().items():
        assert torch.equal(weight, layers[name][0])
        assert torch.equal(bias, layers[name][1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_field_is_the_network_of_the_paper(layout):
    field = MLPField(layout, TWINS)
    field.assign({name: (0.2 * w, 0.2 * b) for name, (w, b) in random_layers(field).items()})
    xyz, dirs = torch.randn(50, 3), torch.nn.functional.normalize(torch.randn(50, 3), dim=-1)
    sigma, rgb = field(xyz, dirs)
    expected_sigma, expected_rgb = by_the_paper(field.layers(), layout, xyz, dirs)
    assert torch.allclose(sigma.double(), expected_sigma, rtol=1e-3, atol=1e-3)
    assert torch.allclose(rgb.double(), expected_rgb, atol=1e-3)


def test_density_is_that_of_the_call():
    field = MLPField(LAYOUTS[0], TWINS)
    field.assign(random_layers(field))
    xyz, dirs = torch.randn(20, 3), torch.randn(20, 3)
    assert torch.equal(field.density(xyz), field(xyz, dirs)[0])


def test_other_layers_keep_their_values():
    field = MLPField(LAYOUTS[0], TWINS)
    before = field.layers()
    field.assign({"rgb": (torch.ones(3, 16), torch.ones(3))})
    after = field.layers()
    assert torch.equal(after["rgb"][0], torch.ones(3, 16))
    assert all(torch.equal(before[name][0], after[name][0]) for name in before if name != "rgb")


@pytest.mark.parametrize(
    ("name", "weight", "bias"), [("rgb", (3, 15), 3), ("sigma", (1, 32), 2), ("density_8", (32, 32), 32)]
)
def test_layers_that_do_not_fit_are_refused(name, weight, bias):
    field = MLPField(LAYOUTS[0], TWINS)
    before = field.params.clone()
    with pytest.raises(ValueError, match=f"layer {name} .* does not fit"):
        field.assign({name: (torch.zeros(weight), torch.zeros(bias))})
    assert torch.equal(before, field.params)


def test_reset_is_glorot_uniform():
    torch.manual_seed(0)
    field = MLPField(MLPLayout(8, 128, 4), TWINS)
    for name, (weight, bias) in field.layers().items():
        bound, n = math.sqrt(6 / sum(weight.shape)), weight.numel()
        assert not bias.any() or name == "sigma", name  # its bias is a choice of its own
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.9 * bound or n < 200
        assert abs(weight.mean()) < 5 * bound / math.sqrt(3 * n)
        assert abs(weight.var() - bound**2 / 3) < 5 * bound**2 * math.sqrt(4 / 45 / n)


def test_padding_is_zero_and_has_no_gradient():
    field = MLPField(LAYOUTS[0], TWINS)
    sigma, rgb = field(torch.randn(8, 3), torch.randn(8, 3))
    (sigma.sum() + rgb.sum()).backward()
    padding = torch.ones_like(field.params)
    held = MLPField(LAYOUTS[0], TWINS)
    with torch.no_grad():
        held.params.zero_()
    held.assign({name: (torch.ones_like(w), torch.ones_like(b)) for name, (w, b) in held.layers().items()})
    padding = held.params == 0
    assert padding.any()
    assert not field.params[padding].any()
    assert not field.params.grad[padding].any()
