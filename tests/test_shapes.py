"""The checks of shapes and types that all tests run under do check."""

import importlib
import sys

import pytest

pytest.importorskip("beartype")

from conftest import SHAPES_CHECKED
from shapes import check_shapes

SOURCE = """
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from nowhere import Unknown

@dataclass
class Pair:
    a: Float[Tensor, "N 3"]
    b: Float[Tensor, "N"]

    @property
    def both(self) -> Float[Tensor, "N 4"]:
        return torch.cat([self.a, self.b[:, None]], 1)

    @staticmethod
    def of(n: int, m: float) -> "Pair":
        return Pair(torch.zeros(n, 3), torch.zeros(int(m)))

def total(x: Float[Tensor, "N 3"], y: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    return (x + y).sum(1)

def wrong(x: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    return x.sum(0)

def zeros(n: int) -> Float[Tensor, "{n}"]:
    return torch.zeros(n + 1)

def named(x: "Float[Tensor, 'N 3']", other: "Unknown | None" = None) -> int:
    return len(x)

def each(x: Float[Tensor, "N 3"]) -> Iterator[Float[Tensor, "3"]]:
    yield from x

def inside(x: Float[Tensor, "N 3"]) -> bool:
    return isinstance(x[1:], Float[Tensor, "M 3"]) and outside(x[1:])

def outside(x: object) -> bool:
    return isinstance(x, Float[Tensor, "N 3"])
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    (folder / "made_for_shapes.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        before = list(sys.meta_path)
        check_shapes("made_for_shapes", without=set())
        yield importlib.import_module("made_for_shapes")
        sys.meta_path[:] = before
        del sys.modules["made_for_shapes"]


def test_what_fits_passes(made):
    x = made.torch.zeros(5, 3)
    assert made.total(x, x).shape == (5,)
    assert made.named(x) == 5
    assert len(list(made.each(x))) == 5
    assert made.inside(x)  # where another function is called, names of axes mean other sizes
    assert made.Pair.of(2, 2).both.shape == (2, 4)  # an int stands for a float


@pytest.mark.parametrize(
    "call",
    [
        lambda m, x: m.total(x, x[1:]), lambda m, x: m.total(x, x[:, :2]), lambda m, x: m.total(x, x.int()),
        lambda m, x: m.total(x, None), lambda m, x: m.wrong(x), lambda m, x: m.zeros(3), lambda m, x: m.named(x[0]),
        lambda m, x: m.each(x[0]), lambda m, x: m.Pair(x, x), lambda m, x: m.Pair(x, x[1:, 0]),
        lambda m, x: m.Pair.of("2", 2.0), lambda m, x: m.Pair.of(2, 3),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(made, call):
    with pytest.raises(TypeError):
        call(made, made.torch.zeros(5, 3))


def test_the_package_is_checked():
    from nerf_pl.ops import Backend, composite

    assert SHAPES_CHECKED
    with pytest.raises(TypeError):
        composite(1, 2, 3, backend=Backend())
