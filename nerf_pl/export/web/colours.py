"""The colours of a grid's points: diffuse ones, and what depends on the direction of view, with few numbers each.

    colour(d) = base + sum_k f_k G_k(d),    G_k(d) = sum_j g_kj Y_j(d)

base (3) and f (FEATURES) belong to a point, and g is one table for the whole scene. Y are spherical harmonics. Along a
ray d stays the same, so base and f are composited like colours, and the sum over k is made once for each pixel, as in
SNeRG (Hedman et al. 2021), here with a linear map in place of a network.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nerf_pl.export.web.grid import FEATURES
from nerf_pl.methods.model import Model
from nerf_pl.ops import Backend, spherical_harmonics
from nerf_pl.sights import Sight, seen_from

HARMONICS = 16  # bands 0 to 3; the first, which is constant, is left to the diffuse colour
RIDGE = 0.002  # views of strength one that say that nothing depends on the direction
ROUNDS = 6  # of the fit of the table
EXAMPLES = 2**13  # points that the table is fitted to


@dataclass(frozen=True)
class Looks:
    """What views show of points: colours (N, V, 3) in [0, 1], along directions (N, V, 3); seen (N, V): by which."""

    rgb: Float[Tensor, "N V 3"]
    directions: Float[Tensor, "N V 3"]
    seen: Bool[Tensor, "N V"]


@torch.no_grad()
def looks(
    model: Model, sights: Sequence[Sight], points: Float[Tensor, "N 3"], tolerance: Float[Tensor, "N"], most: int
) -> Looks:
    """What up to `most` of the cameras that see points see there. A point that none sees is looked at by any."""
    seen, directions = (torch.stack(part, 1) for part in zip(*seen_from(sights, points, tolerance), strict=True))
    seen |= ~seen.any(1, keepdim=True)
    if most < seen.shape[1]:
        generator = torch.Generator(points.device).manual_seed(0)
        chance = torch.rand(seen.shape, generator=generator, device=points.device)
        drawn = chance.masked_fill(~seen, -1).topk(most, 1).indices
        seen, directions = seen.gather(1, drawn), directions.gather(1, drawn[..., None].expand(-1, -1, 3))
    rgb = torch.zeros_like(directions)
    rows, views = seen.nonzero(as_tuple=True)
    for part in torch.arange(len(rows), device=rows.device).split(2**20):
        _, colours = model.radiance(points[rows[part]], directions[rows[part], views[part]])
        rgb[rows[part], views[part]] = colours.float()
    return Looks(rgb, directions, seen)


def shown(table: Float[Tensor, "K J 3"], directions: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape K 3"]:
    """G_k(d) along directions."""
    flat = directions.reshape(-1, 3)
    basis = harmonics(flat)
    return torch.einsum("nj,kjc->nkc", basis, table).view(*directions.shape[:-1], len(table), 3)


def harmonics(directions: Float[Tensor, "N 3"]) -> Float[Tensor, "N J"]:
    """Spherical harmonics of unit directions, without the constant one."""
    return spherical_harmonics(directions, backend=Backend())[:, 1:HARMONICS].float()


def fit_points(found: Looks, table: Float[Tensor, "K J 3"]) -> Float[Tensor, "N 3+K"]:
    """base and f of points that are seen like this, by least squares."""
    k, n = len(table), len(found.rgb)
    part = shown(table, found.directions)  # (N, V, K, 3)
    weight = found.seen.float()
    system = found.rgb.new_zeros(n, 3 + k, 3 + k)
    right = found.rgb.new_zeros(n, 3 + k)
    sums = torch.einsum("nv,nvkc->nkc", weight, part)
    system[:, range(3), range(3)] = weight.sum(1)[:, None] + 1e-4
    system[:, 3:, :3], system[:, :3, 3:] = sums, sums.mT
    system[:, 3:, 3:] = torch.einsum("nv,nvkc,nvlc->nkl", weight, part, part)
    system[:, range(3, 3 + k), range(3, 3 + k)] += RIDGE
    right[:, :3] = torch.einsum("nv,nvc->nc", weight, found.rgb)
    right[:, 3:] = torch.einsum("nv,nvkc,nvc->nk", weight, part, found.rgb)
    return torch.linalg.solve(system, right)


def fit_table(found: Looks) -> Float[Tensor, "K J 3"]:
    """The table that lets few features say most of how colours depend on directions: by alternating least squares,
    from the principal components of a fit of harmonics to each point."""
    table = _start(found)
    weight = found.seen.float()
    basis = harmonics(found.directions.reshape(-1, 3)).view(*found.seen.shape, -1)
    for _ in range(ROUNDS):
        own = fit_points(found, table)
        rest = found.rgb - own[:, None, :3]
        columns = (own[:, None, 3:, None] * basis[:, :, None]).flatten(2)  # (N, V, K J)
        both = torch.einsum("nv,nvi,nvj->ij", weight, columns, columns)
        both += 1e-3 * both.diagonal().mean() * torch.eye(len(both), device=both.device)
        right = torch.einsum("nv,nvi,nvc->ic", weight, columns, rest)
        table = torch.linalg.solve(both, right).view(*table.shape)
        own = fit_points(found, table)  # features of about one size, so that the ridge means the same for all
        table = table * own[:, 3:].pow(2).mean(0).sqrt().clamp(min=1e-4)[:, None, None]
    return table


def _start(found: Looks) -> Float[Tensor, "K J 3"]:
    weight = found.seen.float()
    basis = harmonics(found.directions.reshape(-1, 3)).view(*found.seen.shape, -1)
    full = torch.cat([torch.ones_like(basis[..., :1]), basis], 2)
    system = torch.einsum("nv,nvi,nvj->nij", weight, full, full)
    system += torch.eye(full.shape[2], device=full.device) * 0.1
    own = torch.linalg.solve(system, torch.einsum("nv,nvi,nvc->nic", weight, full, found.rgb))[:, 1:]  # (N, J, 3)
    rows = torch.nn.functional.pad(own.flatten(1), (0, 0, 0, max(FEATURES - len(own), 0)))  # few points have few
    _, _, components = torch.linalg.svd(rows, full_matrices=False)
    return components[:FEATURES].reshape(FEATURES, *own.shape[1:])
