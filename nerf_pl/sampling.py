"""Where along each ray the field is asked: stratified first, then where the weights are."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl.ops import Backend, resample
from nerf_pl.types import Rays, Samples

FAR_AWAY = 1e10
"""dt of the last sample. Any density there makes the ray opaque (classic)."""
LATTICE = 0.7548776662466927, 0.5698402909980532
"""Steps, modulo 1, that spread points evenly over a square, however many they are (Roberts 2018)."""
FIRST = 0.1  # where the circle of `pixel_places` begins, so that no two places are in one row or column


def pixel_places(n: int, turn: float = 0.0) -> list[tuple[float, float]]:
    """n places in a pixel, in columns and rows from its middle: the middle first, the others on a circle around it. Two
    are opposite each other.

    Their mean is the middle, and they vary along each axis as much as the pixel does, by 1/12. turn: of the circle, as
    a share of the way from one place to the next.
    """
    if n == 1:
        return [(0.0, 0.0)]
    inside = 0 if n == 2 else 1
    around = n - inside
    radius = math.sqrt(n / (6 * around))
    angles = [2 * math.pi * (FIRST + turn + i) / around for i in range(around)]
    return [(0.0, 0.0)] * inside + [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def with_intervals(t: Float[Tensor, "R S"]) -> Samples:
    """Samples at the left edges t of their intervals. An interval ends at the next sample, the last one at FAR_AWAY. A
    ray all of whose samples are in one place has no length, and sees nothing."""
    last = (t[:, -1:] > t[:, :1] * (1 + 1e-5)) * FAR_AWAY
    return Samples.dense(t, torch.cat([t[:, 1:] - t[:, :-1], last], 1))


def stratified(
    rays: Rays, n_samples: int, jitter: Float[Tensor, "R S"] | None = None, use_disp: bool = False
) -> Samples:
    """n samples per ray, evenly spaced from near to far in depth or, with use_disp, in disparity. NeRF 2020, eq. 2

    jitter: in [0, 1). It moves each sample inside the interval between the midpoints to its neighbours; 0.5 is the
    middle of that interval.
    """
    u = torch.linspace(0, 1, n_samples, device=rays.near.device)
    near, far = rays.near[:, None], rays.far[:, None]
    # written as a blend, not as near + u (far - near): the rounding matters under a frequency of 2^9
    t = 1 / (1 / near * (1 - u) + 1 / far * u) if use_disp else near * (1 - u) + far * u
    if jitter is not None:
        middle = (t[:, 1:] + t[:, :-1]) / 2
        upper, lower = torch.cat([middle, t[:, -1:]], 1), torch.cat([t[:, :1], middle], 1)
        t = lower + (upper - lower) * jitter
    return with_intervals(t)


def hierarchical(
    samples: Samples, weights: Float[Tensor, "N"], u: Float[Tensor, "R M"], *, backend: Backend
) -> Samples:
    """The samples and M more per ray, drawn from the weights by inverting their distribution at u in [0, 1]; sorted.

    No gradient flows through the new positions. NeRF 2020, section 5.2. Raises ValueError for samples that are not
    dense.
    """
    if samples.per_ray is None:
        raise ValueError("hierarchical sampling needs the same number of samples on every ray")
    t = samples.t.view(-1, samples.per_ray)
    return with_intervals(resample(t, weights.detach().view_as(t), u, backend=backend))
