"""The twins: every op in plain PyTorch, short enough to check by eye, on any device, in float64 too.

They are the specification of the kernels, the truth of their tests and the path without a GPU.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nerf_pl.ops.layout import FieldLayout, GridLayout, MLPLayout, encoded_width
from nerf_pl.types import Pixels, Samples


def random_bits(seed: int, step: Tensor, stream: int, n: int) -> Tensor:
    """n integers in [0, 2^32) that depend on (seed, step, stream, position) alone.

    Counter-based, so the same draws come on every device and after a resume. Each word goes through two rounds of the
    "lowbias32" mixer (C. Wellons, hash-prospector, 2018). step: int64 tensor of one element.
    """
    key = _mix(_mix(_mix(torch.full_like(step, seed & _MASK)) ^ (step & _MASK)) ^ stream)
    return _mix(_mix(torch.arange(n, device=step.device) ^ key) + key & _MASK)


_MASK = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    x = (x ^ (x >> 16)) * 0x21F0AAAD & _MASK
    x = (x ^ (x >> 15)) * 0x735A2D97 & _MASK
    return x ^ (x >> 15)


def frequency(x: Tensor, n_freqs: int) -> Tensor:
    """(N, 3) -> (N, encoded_width): x, sin(2^0 x), cos(2^0 x), ..., cos(2^(n-1) x), then zeros.  NeRF 2020, eq. 4

    Without the paper's factor pi, as its released code and the classic implementation have it.
    """
    scaled = x[:, None] * 2.0 ** torch.arange(n_freqs, device=x.device, dtype=x.dtype)[:, None]  # (N, n_freqs, 3)
    waves = torch.stack([scaled.sin(), scaled.cos()], 2).flatten(1)  # (N, 6 n_freqs)
    encoded = torch.cat([x, waves], 1)
    return F.pad(encoded, (0, encoded_width(n_freqs) - encoded.shape[1]))


def nerf_mlp(xyz: Tensor, dirs: Tensor | None, params: Tensor, layout: MLPLayout) -> tuple[Tensor, Tensor | None]:
    """The 2020 network on encoded inputs: raw density (N,), before its rectifier, and colour (N, 3) in [0, 1].

    xyz: (N, xyz_width), dirs: (N, dir_width), params: the flat vector of `layout`. dirs None asks for density alone.
    """
    p = layout.parts(params)
    h = F.relu(F.linear(xyz, p["first"], p["b_hidden"][0]))
    for i in range(1, layout.depth):
        pre = F.linear(h, p["hidden"][i - 1], p["b_hidden"][i])
        h = F.relu(pre + F.linear(xyz, p["skip"]) if i == layout.skip else pre)
    sigma = F.linear(h, p["sigma"][None], p["b_sigma"]).squeeze(-1)
    if dirs is None:
        return sigma, None
    feature = F.linear(h, p["hidden"][-1], p["b_hidden"][-1])
    h = F.relu(F.linear(feature, p["dir"], p["b_dir"]) + F.linear(dirs, p["view"]))
    return sigma, torch.sigmoid(F.linear(h, p["rgb"], p["b_rgb"]))


def composite(sigmas: Tensor, rgbs: Tensor | None, samples: Samples) -> Pixels:
    """Blend the samples of each ray, front to back, into one colour.

        w_i = T_i (1 - exp(-sigma_i dt_i)),   T_i = exp(-sum_{j<i} sigma_j dt_j)        NeRF 2020, eq. 3

    sigmas: (N,) density per world length, >= 0. rgbs: (N, 3), None gives rgb = 0. The background is not added here; see
    `rendering.over`. A ray without samples gives zeros; the last dt may be 1e10. Differentiable in sigmas and rgbs.
    Raises ValueError if the samples and their values differ in number.
    """
    n_rays = samples.offsets.shape[0] - 1
    if sigmas.shape[0] != len(samples):
        raise ValueError(f"{sigmas.shape[0]} densities for {len(samples)} samples")
    weights = _weights(sigmas * samples.dt, samples, n_rays)

    def total(values: Tensor) -> Tensor:
        if samples.per_ray is not None:
            return values.view(n_rays, samples.per_ray, *values.shape[1:]).sum(1)
        return values.new_zeros(n_rays, *values.shape[1:]).index_add(0, samples.ray_ids, values)

    rgb = sigmas.new_zeros(n_rays, 3) if rgbs is None else total(weights[:, None] * rgbs)
    return Pixels(rgb, total(weights * samples.t), total(weights), weights)


def _weights(tau: Tensor, samples: Samples, n_rays: int) -> Tensor:
    return _transmittance(tau, samples, n_rays) * (1 - (-tau).exp())


def _transmittance(tau: Tensor, samples: Samples, n_rays: int) -> Tensor:
    """Light that reaches each sample."""
    if samples.per_ray is not None:
        return (-F.pad(tau.view(n_rays, samples.per_ray).cumsum(1), (1, 0))[:, :-1]).exp().reshape(-1)
    # one ray per row of a padded grid: a running sum over all rays at once would lose the small terms of late rays
    counts = samples.offsets.diff()
    slots = torch.arange(tau.shape[0], device=tau.device) - samples.offsets[samples.ray_ids]
    grid = tau.new_zeros(n_rays, int(counts.max()) if n_rays else 0).index_put((samples.ray_ids, slots), tau)
    return (-F.pad(grid.cumsum(1), (1, 0))[samples.ray_ids, slots]).exp()


def resample(t: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Hierarchical sampling: t (R, S) with its weights (R, S) and u (R, M) in [0, 1] -> (R, S + M), sorted.

    The new distances follow the piecewise-constant density that the inner weights spread over the intervals between
    the midpoints of t (NeRF 2020, section 5.2), found by inverting its cumulative sum; the old ones are kept.
    """
    bins = (t[:, 1:] + t[:, :-1]) / 2  # (R, S-1)
    w = weights[:, 1:-1] + 1e-5
    cdf = F.pad((w / w.sum(-1, keepdim=True)).cumsum(-1), (1, 0))  # (R, S-1)
    above = torch.searchsorted(cdf, u.contiguous(), right=True)
    below = (above - 1).clamp(min=0)
    above = above.clamp(max=cdf.shape[-1] - 1)
    cdf_below, cdf_above = cdf.gather(1, below), cdf.gather(1, above)
    width = cdf_above - cdf_below
    fraction = (u - cdf_below) / torch.where(width < 1e-5, torch.ones_like(width), width)
    new = bins.gather(1, below) + fraction * (bins.gather(1, above) - bins.gather(1, below))
    return torch.cat([t, new], 1).sort(1).values


PRIMES = (1, 2654435761, 805459861)  # of the spatial hash; Mueller et al. 2022, eq. 4


def hash_grid(xyz: Tensor, table: Tensor, layout: GridLayout) -> Tensor:
    """Points (N, 3) in the unit cube and entries (layout.total, features) -> features (N, layout.width).

    Every level interpolates between the eight vertices of the cell around the point (Mueller et al. 2022, section 3).
    Points outside are clamped. No gradient in xyz.
    """
    columns = []
    for level in range(layout.levels):
        indices, weights = grid_corners(xyz, layout, level)
        columns.append((table[indices] * weights[..., None].to(table.dtype)).sum(1))
    return torch.cat(columns, 1)


def grid_corners(xyz: Tensor, layout: GridLayout, level: int) -> tuple[Tensor, Tensor]:
    """The eight vertices around each point on one level: their entries (N, 8) in the table, and weights (N, 8)."""
    resolution = layout.resolutions[level]
    scaled = xyz.detach().clamp(0, 1) * resolution
    cell = scaled.floor().clamp(max=resolution - 1)
    fraction = scaled - cell
    corner = torch.arange(8, device=xyz.device)
    bits = torch.stack([corner >> axis & 1 for axis in range(3)], 1)  # (8, 3)
    x, y, z = (cell.long()[:, None] + bits).unbind(-1)  # (N, 8) each
    weights = torch.where(bits == 1, fraction[:, None], 1 - fraction[:, None]).prod(-1)
    if layout.is_dense(level):
        n = resolution + 1
        entry = x + n * (y + n * z)
    else:
        entry = (x * PRIMES[0] ^ y * PRIMES[1] ^ z * PRIMES[2]) & (layout.sizes[level] - 1)
    return entry + layout.offsets[level], weights


def spherical_harmonics(dirs: Tensor) -> Tensor:
    """Unit directions (N, 3) -> the real spherical harmonics of degrees 0 to 3, (N, 16), orthonormal on the sphere."""
    x, y, z = dirs.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    values = [torch.full_like(x, 0.28209479177387814)]
    values += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    values += [1.0925484305920792 * x * y, -1.0925484305920792 * y * z, 0.31539156525252005 * (3 * zz - 1)]
    values += [-1.0925484305920792 * x * z, 0.5462742152960396 * (xx - yy)]
    values += [-0.5900435899266435 * y * (3 * xx - yy), 2.890611442640554 * x * y * z]
    values += [-0.4570457994644658 * y * (5 * zz - 1), 0.3731763325901154 * z * (5 * zz - 3)]
    values += [-0.4570457994644658 * x * (5 * zz - 1), 1.445305721320277 * z * (xx - yy)]
    values += [-0.5900435899266435 * x * (xx - 3 * yy)]
    return torch.stack(values, -1)


MAX_RAW = 11.0  # exp of it is opaque within a thousandth of any scene; beyond, the density stays


def field(
    features: Tensor, view: Tensor | None, ray_ids: Tensor | None, params: Tensor, layout: FieldLayout
) -> tuple[Tensor, Tensor | None]:
    """The networks behind a hash grid: density (N,) > 0 and colour (N, 3) in [0, 1].

    features: (N, inputs); view: encoded directions (R, view) of the rays, ray_ids (N,) says which ray a sample is on.
    view None asks for density alone, which is exp(raw) with raw held to MAX_RAW.
    """
    p = layout.parts(params)
    out = F.linear(F.relu(F.linear(features, p["density_0"])), p["density_1"])
    sigma = out[:, 0].clamp(max=MAX_RAW).exp()
    if view is None or ray_ids is None:
        return sigma, None
    h = F.relu(F.linear(out, p["colour_0"]) + F.linear(view, p["view"])[ray_ids])
    return sigma, torch.sigmoid(F.linear(F.relu(F.linear(h, p["colour_1"])), p["colour_2"]))


def hash_field(
    unit: Tensor,
    view: Tensor,
    ray_ids: Tensor,
    table: Tensor,
    params: Tensor,
    grid: GridLayout,
    networks: FieldLayout,
) -> tuple[Tensor, Tensor]:
    """Density (N,) and colour (N, 3) at points of the unit cube, seen along the rays that ray_ids names."""
    sigma, rgb = field(hash_grid(unit, table, grid), view, ray_ids, params, networks)
    assert rgb is not None
    return sigma, rgb


EXPLORERS = 32  # one ray in so many also marches through cells that no ray has seen of late


@dataclass(frozen=True)
class Batch:
    """How a training batch marches: at most `budget` samples.

    active: (1,) int32, how many of the rays march; it is set to the number that would fill the budget next time.
    kept: (1,) int32, set to the number of rays that found room. visible: bits of the occupied cells that were seen of
    late, where most rays march.
    """

    budget: int
    active: Tensor
    kept: Tensor
    visible: Tensor


def march(
    origins: Tensor,
    directions: Tensor,
    near: Tensor,
    far: Tensor,
    bits: Tensor,
    aabb: Tensor,
    jitter: Tensor,
    step: float,
    size: int,
    batch: Batch | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Steps of one length along each ray, through the box from near to far, that fall into occupied cells.

        t_k = t_near + (k + jitter) step < t_far,   k = 0, 1, ...

    bits: a bit for each of size^3 cells of the box, see `pack_bits`. jitter: (R,) in [0, 1).
    Returns t (N,), ray_ids (N,), offsets (R + 1,), the points (N, 3) and their cells (N,).
    """
    n_rays, n = near.shape[0], near.shape[0] if batch is None else min(int(batch.active), near.shape[0])
    near, far = clip(origins[:n], directions[:n], near[:n], far[:n], aabb)
    t, ray_ids = near.new_zeros(0), torch.zeros(0, dtype=torch.int64, device=near.device)
    n_steps = int(((far - near) / step - jitter[:n]).ceil().clamp(min=0).max()) if n else 0
    if n_steps:
        grid = near[:, None] + (torch.arange(n_steps, device=near.device) + jitter[:n, None]) * step  # (R, S)
        ray_ids, k = (grid < far[:, None]).nonzero(as_tuple=True)
        t = grid[ray_ids, k]
    xyz = origins[ray_ids] + t[:, None] * directions[ray_ids]
    cells = cell_of(xyz, aabb, size)
    words = bits[cells >> 5]
    if batch is not None:
        words = torch.where(ray_ids % EXPLORERS == 0, words, batch.visible[cells >> 5])
    hit = (words >> (cells & 31) & 1).bool()
    t, ray_ids, xyz, cells = t[hit], ray_ids[hit], xyz[hit], cells[hit]
    offsets = F.pad(torch.bincount(ray_ids, minlength=n_rays).cumsum(0), (1, 0))
    if batch is None:
        return t, ray_ids, offsets, xyz, cells
    total, room = int(offsets[-1]), int(offsets[offsets <= batch.budget][-1])
    batch.kept.fill_(int((offsets[1 : n + 1] <= batch.budget).sum()))
    # aim a little below the budget, since past it whole rays are lost
    batch.active.fill_(min(max(int(n * 0.98 * batch.budget / max(total, 1)), 64), n_rays))
    return t[:room], ray_ids[:room], offsets.clamp(max=room), xyz[:room], cells[:room]


def clip(origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, aabb: Tensor) -> tuple[Tensor, Tensor]:
    """near and far (R,) of the part of each ray that lies in the box; far < near for a ray that misses it."""
    inverse = 1 / torch.where(directions.abs() < 1e-9, 1e-9, directions)
    a, b = (aabb[0] - origins) * inverse, (aabb[1] - origins) * inverse  # (R, 3)
    return torch.maximum(near, torch.minimum(a, b).amax(1)), torch.minimum(far, torch.maximum(a, b).amin(1))


def cell_of(xyz: Tensor, aabb: Tensor, size: int) -> Tensor:
    """Number (N,) of the cell of a grid of size^3 over the box, x fastest; points outside belong to the nearest."""
    cell = ((xyz - aabb[0]) * (size / (aabb[1] - aabb[0]))).floor().clamp(0, size - 1).long()
    return cell[:, 0] + size * (cell[:, 1] + size * cell[:, 2])


def pack_bits(flags: Tensor) -> Tensor:
    """(32 n,) bool -> (n,) int32, the first flag in the lowest bit."""
    powers = 1 << torch.arange(32, device=flags.device)
    return (flags.view(-1, 32) * powers).sum(1).to(torch.int32)  # the highest bit wraps to the sign


SEEN = 1e-3  # transmittance below which what lies there does not show


def photometric(
    sigmas: Tensor,
    rgbs: Tensor,
    samples: Samples,
    background: Tensor,
    target: Tensor,
    kept: Tensor,
    cells: Tensor,
    seen: Tensor,
    step: Tensor,
) -> Tensor:
    """Mean squared error of the first `kept` pixels: composited, in front of the background (R, 3), against target.

    Cells (N,) of samples that light reaches are marked with the step in `seen`, in place.
    """
    pixels, n = composite(sigmas, rgbs, samples), int(kept)
    rgb = pixels.rgb + (1 - pixels.opacity)[:, None] * background
    with torch.no_grad():
        front = _transmittance(sigmas * samples.dt, samples, samples.offsets.shape[0] - 1)
        seen[cells[front > SEEN].long()] = step.to(seen.dtype)
    return torch.mean((rgb[:n] - target[:n]) ** 2)


def adam(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    ok: Tensor,
    lr: float,
    decay: float,
    betas: tuple[float, float],
    step: int,
    eps: float,
    sparse: bool,
) -> None:
    """One step of Adam (Kingma and Ba 2015) in place, with decoupled decay (Loshchilov and Hutter 2019).

    m and v hold the moments; step counts from 1. sparse: entries without gradient stay as they are, moments and all
    (as in Instant-NGP). ok 0 skips the step.
    """
    if not bool(ok):
        return
    first, second = 1 - betas[0] ** step, 1 - betas[1] ** step
    changed = m.lerp(g, 1 - betas[0]), v.lerp(g * g, 1 - betas[1])
    if sparse:
        touched = g != 0
        changed = torch.where(touched, changed[0], m), torch.where(touched, changed[1], v)
    m.copy_(changed[0])
    v.copy_(changed[1])
    move = m / first / ((v / second).sqrt() + eps) + decay * p
    p.sub_(torch.where(g != 0, move, 0.0) if sparse else move, alpha=lr)
