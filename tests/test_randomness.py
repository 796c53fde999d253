"""Random numbers: even, normal where asked, and the same for the same seed, step and stream."""

import math

import torch

from nerf_pl.ops import Backend
from nerf_pl.randomness import Stream, normal, uniform

STEP = torch.zeros(1, dtype=torch.int64)
TWINS = Backend()


def test_uniform_numbers():
    x = uniform(3, STEP, Stream.JITTER, (100, 1000), backend=TWINS)
    n = x.numel()
    assert x.min() >= 0
    assert x.max() < 1
    assert abs(x.mean() - 0.5) < 5 * math.sqrt(1 / 12 / n)
    counts = torch.histc(x, 100, 0, 1)
    chi2 = ((counts - n / 100) ** 2 / (n / 100)).sum()
    assert chi2 < 99 + 5 * math.sqrt(2 * 99)
    neighbours = torch.corrcoef(torch.stack([x.flatten()[:-1], x.flatten()[1:]]))[0, 1]
    assert abs(neighbours) < 5 / math.sqrt(n)


def test_normal_numbers():
    x = normal(3, STEP, Stream.NOISE, 100_000, backend=TWINS)
    n = len(x)
    assert x.isfinite().all()
    assert abs(x.mean()) < 5 / math.sqrt(n)
    assert abs(x.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((x**4).mean() - 3) < 5 * math.sqrt(96 / n)
    assert abs((x.abs() < 1).float().mean() - 0.6827) < 5 * math.sqrt(0.25 / n)


def test_numbers_depend_on_seed_step_and_stream_alone():
    def draw(seed: int, step: int, stream: Stream, n: int = 1000) -> torch.Tensor:
        return uniform(seed, torch.tensor([step]), stream, (n,), backend=TWINS)

    base = draw(1, 2, Stream.PIXELS)
    assert torch.equal(base, draw(1, 2, Stream.PIXELS))
    others = [draw(1, 2, stream) for stream in Stream if stream is not Stream.PIXELS]
    for other in (draw(2, 2, Stream.PIXELS), draw(1, 3, Stream.PIXELS), *others):
        assert abs(torch.corrcoef(torch.stack([base, other]))[0, 1]) < 5 / math.sqrt(1000)
    assert torch.equal(base[:10], draw(1, 2, Stream.PIXELS, 10))
