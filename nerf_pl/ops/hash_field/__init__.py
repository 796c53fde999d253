"""The field of Instant-NGP (Mueller et al. 2022): a multiresolution hash grid, two small networks, and its loss."""

from jaxtyping import Float, Int
from torch import Tensor

from nerf_pl.ops.backend import Backend
from nerf_pl.ops.hash_field.losses import mean_of_rays
from nerf_pl.ops.hash_field.types import HashWeights, Normals, Target
from nerf_pl.types import Samples

__all__ = [
    "HashWeights",
    "Normals",
    "Target",
    "field_loss",
    "hash_density",
    "hash_field",
    "mean_of_rays",
    "mirrored_harmonics",
    "spherical_harmonics",
]


def spherical_harmonics(
    dirs: Float[Tensor, "R 3"], count: Int[Tensor, "1"] | None = None, *, backend: Backend
) -> Float[Tensor, "R 16"]:
    """Real spherical harmonics of degrees 0 to 3 of unit directions, orthonormal on the sphere.

    The kernel gives float16. count: only the first so many directions matter; the kernel leaves the rest unset.

        >>> import torch
        >>> from nerf_pl.ops import Backend
        >>> found = spherical_harmonics(torch.tensor([[0.0, 0.0, 1.0]]), backend=Backend())
        >>> tuple(found.shape), round(float(found[0, 0]), 4)  # the first one is 1 / (2 sqrt(pi)) everywhere
        ((1, 16), 0.2821)
    """
    return backend.module("hash_field").spherical_harmonics(dirs, count)


def mirrored_harmonics(
    unit: Float[Tensor, "N 3"],
    dirs: Float[Tensor, "R 3"],
    ray_ids: Int[Tensor, "N"],
    normals: Normals,
    count: Int[Tensor, "1"] | None = None,
    *,
    backend: Backend,
) -> Float[Tensor, "N 32"]:
    """`spherical_harmonics` of the direction d in which each point is seen, and of the one in which a mirror with the
    normal n there would send that look on:

        r = d - 2 (d . n) n

    (Verbin et al. 2022, eq. 4, for looks that go into the scene.) n is read between the eight cells around the point,
    and r is d where it is 0. Points outside have the normal of the cube's face. The kernel gives float16. No gradient.
    count: only the first so many points matter.
    """
    return backend.module("hash_field").mirrored_harmonics(unit, dirs, ray_ids, normals, count)


def hash_field(
    unit: Float[Tensor, "N 3"],
    view: Float[Tensor, "R V"],
    ray_ids: Int[Tensor, "N"] | None,
    weights: HashWeights,
    count: Int[Tensor, "1"] | None = None,
    *,
    backend: Backend,
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 3"]]:
    """Density per side of the cube, > 0, and colour in [0, 1] at points of the unit cube, seen along rays.

    view: encoded directions of the rays, from `spherical_harmonics`; ray_ids says which one a point is on. With ray_ids
    None view has a row for each point, such as from `mirrored_harmonics`. Points outside are asked for on the cube's
    face. count: as in `spherical_harmonics`. Only the twin is differentiable, in the table and params; for training see
    `field_loss`.
    """
    return backend.module("hash_field").hash_field(unit, view, ray_ids, weights, count)


def hash_density(unit: Float[Tensor, "N 3"], weights: HashWeights, *, backend: Backend) -> Float[Tensor, "N"]:
    """The density of `hash_field` alone."""
    return backend.module("hash_field").hash_density(unit, weights)


def field_loss(
    unit: Float[Tensor, "N 3"],
    view: Float[Tensor, "R V"],
    samples: Samples,
    weights: HashWeights,
    target: Target,
    of_samples: bool = False,
    *,
    backend: Backend,
) -> Float[Tensor, ""]:
    """Mean squared error of the pixels that `hash_field` gives at the samples. `Target` lists the buffers that it
    updates. of_samples: view has a row for each sample, in place of one for each ray.

    Its gradient is that of all terms in `losses`, while the value stays the error alone. Differentiable in the table
    and params of the weights. For the end of a graph: the gradient that comes from above is taken for 1.
    """
    return backend.module("hash_field").field_loss(unit, view, samples, weights, target, of_samples)
