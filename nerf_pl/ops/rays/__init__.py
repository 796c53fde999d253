"""What every method does along rays: random numbers, compositing and hierarchical sampling."""

from jaxtyping import Float, Int
from torch import Tensor

from nerf_pl.ops.backend import Backend
from nerf_pl.types import Pixels, Samples


def random_bits(seed: int, step: Int[Tensor, "1"], stream: int, n: int, *, backend: Backend) -> Int[Tensor, "{n}"]:
    """n integers in [0, 2^32) that depend on (seed, step, stream, position) alone.

    They are counter-based, so the same draws come on every device and after a resume. Each word goes through two rounds
    of the "lowbias32" mixer (C. Wellons, hash-prospector, 2018).
    """
    return backend.module("rays").random_bits(seed, step, stream, n)


def composite(
    sigmas: Float[Tensor, "N"], rgbs: Float[Tensor, "N 3"] | None, samples: Samples, *, backend: Backend
) -> Pixels:
    """Blend the samples of each ray, front to back, into one colour.

        w_i = T_i (1 - exp(-sigma_i dt_i)),   T_i = exp(-sum_{j<i} sigma_j dt_j)        NeRF 2020, eq. 3

    sigmas: density per unit of dt, >= 0. rgbs: None gives rgb = 0. The background is not added here; see
    `rendering.over`. A ray without samples gives zeros; the last dt may be 1e10. Differentiable in sigmas and rgbs.
    Raises ValueError if the samples and their values differ in number.

        >>> import torch
        >>> from nerf_pl.ops import Backend
        >>> samples = Samples.dense(torch.tensor([[2.0, 3.0]]), torch.ones(1, 2))
        >>> sigmas, rgbs = torch.tensor([0.0, 1e3]), torch.tensor([[1.0, 0, 0], [0, 1, 0]])
        >>> pixels = composite(sigmas, rgbs, samples, backend=Backend())
        >>> pixels.rgb.tolist(), pixels.depth.tolist()  # nothing at 2, a green wall at 3
        ([[0.0, 1.0, 0.0]], [3.0])
    """
    if sigmas.shape[0] != len(samples):
        raise ValueError(f"{sigmas.shape[0]} densities for {len(samples)} samples")
    return backend.module("rays").composite(sigmas, rgbs, samples)


def resample(
    t: Float[Tensor, "R S"], weights: Float[Tensor, "R S"], u: Float[Tensor, "R M"], *, backend: Backend
) -> Float[Tensor, "R S+M"]:
    """Hierarchical sampling: the distances t and M more on each ray, sorted.

    The new distances follow the piecewise-constant density that the inner weights spread over the intervals between
    the midpoints of t (NeRF 2020, section 5.2); its cumulative sum is inverted at u in [0, 1].
    """
    return backend.module("rays").resample(t, weights, u)
