"""The twins of the hash-grid method: every op in plain PyTorch, short enough to check by eye, in float64 too.

They are the specification of the kernels, the truth of their tests and the path without a GPU.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nerf_pl.ops.layout import FieldLayout, GridLayout
from nerf_pl.ops.reference import composite, transmittance
from nerf_pl.types import Samples

# of the spatial hash, Mueller et al. 2022, eq. 4; the second is 2654435761, in 32 bits with a sign
PRIMES = (1, 2654435761 - 2**32, 805459861)


def hash_grid(xyz: Tensor, table: Tensor, layout: GridLayout) -> Tensor:
    """Points (N, 3) in the unit cube and entries (layout.total, features) -> features (N, layout.width).

    Every level interpolates between the eight vertices of the cell around the point (Mueller et al. 2022, section 3).
    Points outside are clamped. No gradient in xyz.
    """
    return interpolate(*vertices(xyz.detach(), layout), table)


def vertices(xyz: Tensor, layout: GridLayout) -> tuple[Tensor, Tensor]:
    """The eight vertices around each point on each level: their entries (levels, N, 8) in the table, and weights."""
    resolution, offset, size, _ = layout.table(xyz.device).unbind(1)  # (L,) each
    scaled = xyz.T.clamp(0, 1)[:, None] * resolution[:, None]  # (3, L, N): the longest dimension last, for vector units
    cell = torch.minimum(scaled.floor(), resolution[:, None] - 1)
    far = (scaled - cell).unbind(0)
    near = tuple(1 - weight for weight in far)
    low = cell.to(torch.int32).unbind(0)
    n_dense = sum(map(layout.is_dense, range(layout.levels)))  # the coarse levels come first
    side, mask = (resolution + 1)[:n_dense, None], (size - 1)[n_dense:, None]
    (dx, hx), (dy, hy), (dz, hz) = ((i[:n_dense], i[n_dense:]) for i in low)
    first, start = dx + offset[:n_dense, None], offset[n_dense:, None]
    # of both sides of the cell, along each axis; what is hashed is cut to the table's size in its parts
    dense_x, dense_y, dense_z = ((i, i + s) for i, s in ((first, 1), (dy * side, side), (dz * side**2, side**2)))
    hash_x, hash_y, hash_z = (((i * p) & mask, (i * p + p) & mask) for i, p in zip((hx, hy, hz), PRIMES, strict=True))
    entries = torch.empty(*far[0].shape, 8, dtype=torch.int32, device=xyz.device)
    weights = far[0].new_empty(*far[0].shape, 8)
    for yz in range(4):  # corner = x + 2 y + 4 z
        y, z = yz & 1, yz >> 1
        dense, hashed, weight = dense_y[y] + dense_z[z], hash_y[y] ^ hash_z[z], (near, far)[y][1] * (near, far)[z][2]
        for x in range(2):
            corner = 2 * yz + x
            torch.add(dense, dense_x[x], out=entries[:n_dense, :, corner])
            torch.add(hashed ^ hash_x[x], start, out=entries[n_dense:, :, corner])
            torch.mul((near, far)[x][0], weight, out=weights[:, :, corner])
    return entries, weights


def interpolate(entries: Tensor, weights: Tensor, table: Tensor) -> Tensor:
    """Features (N, levels F) from what `vertices` gives."""
    return _Interpolate.apply(entries, weights.to(table.dtype), table)  # pyright: ignore[reportReturnType]


class _Interpolate(torch.autograd.Function):
    """Sums of weighted entries. PyTorch's own gradient of it takes some ten times as long on a CPU."""

    @staticmethod
    def forward(ctx, entries, weights, table):
        ctx.save_for_backward(entries, weights)
        ctx.shape = table.shape
        bags, weights = entries.flatten(0, 1), weights.flatten(0, 1)
        values = F.embedding_bag(bags, table, mode="sum", per_sample_weights=weights)
        return values.view(*entries.shape[:2], ctx.shape[1]).transpose(0, 1).flatten(1)  # (N, L F)

    @staticmethod
    def backward(ctx, *grads):
        entries, weights = ctx.saved_tensors
        grad = grads[0].view(entries.shape[1], entries.shape[0], ctx.shape[1]).transpose(0, 1)  # (L, N, F)
        values = (weights[..., None] * grad[:, :, None]).view(-1, ctx.shape[1])
        return None, None, values.new_zeros(ctx.shape).index_add_(0, entries.reshape(-1).long(), values)


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


SEEN = 1e-3  # transmittance below which what lies there does not show
LEAST_OPACITY = 1e-6  # what colours are divided by, at least


@dataclass(frozen=True)
class Target:
    """What rendered rays are held against, and what is learned on the way.

    rgb: (P, 3) the pixels' colours. background: (P, 3) what is behind. kept: (1,) how many rays count. cells: (N,) the
    samples' cells. seen: where the cells that light reaches are marked with `step`. least: (1,) size of gradient from
    which a sample is sure to be listed for the backward pass; adapted so that a `share` of them is. share 1 lists all.
    distortion: weight of the loss of that name, for which samples have a `place` (N,) on the ray and a `width` there.
    smoothness: weight of the loss of that name.

    With P pixels for R = k P rays each pixel is the `mean_of_rays` of k rays after each other.
    """

    rgb: Tensor
    background: Tensor
    kept: Tensor
    cells: Tensor
    seen: Tensor
    step: Tensor
    least: Tensor
    share: float = 1.0
    place: Tensor | None = None
    width: float = 0.0
    distortion: float = 0.0
    smoothness: float = 0.0

    def rays_per_pixel(self, samples: Samples) -> int:
        return (samples.offsets.shape[0] - 1) // max(self.rgb.shape[0], 1)


def mean_of_rays(rgb: Tensor, opacity: Tensor) -> tuple[Tensor, Tensor]:
    """Colour (P, 3) and opacity (P,) of pixels made of k rays each: rgb (P, k, 3), opacity (P, k). Both colours are in
    sRGB and premultiplied.

    Light adds up, the values that a picture stores for it do not: so the mean is that of linear light, weighed by
    opacity, as renderers and cameras take it before they encode it.
    """
    if rgb.shape[1] == 1:
        return rgb[:, 0], opacity[:, 0]
    light = opacity[..., None] * linear(rgb / opacity[..., None].clamp(min=LEAST_OPACITY))
    mean = opacity.mean(1)
    return mean[:, None] * srgb(light.sum(1) / opacity.sum(1)[:, None].clamp(min=LEAST_OPACITY)), mean


def linear(x: Tensor) -> Tensor:
    """Linear light of sRGB values in [0, 1] (IEC 61966-2-1)."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp(min=0.04) + 0.055) / 1.055) ** 2.4)


def srgb(x: Tensor) -> Tensor:
    """The inverse of `linear`."""
    return torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.clamp(min=0.003) ** (1 / 2.4) - 0.055)


def photometric(sigmas: Tensor, rgbs: Tensor, samples: Samples, aim: Target) -> Tensor:
    """Mean squared error of the pixels of the first `kept` rays, composited in front of the background.

    With a place for each sample its gradient is that of `distortion` times the mean over rays of

        sum_ij w_i w_j |s_i - s_j| + width / 3 sum_i w_i^2                      Barron et al. 2022, eq. 15

    more, while the value stays the error. Cells of samples that light reaches are marked with the step in `seen`, in
    place.
    """
    k = aim.rays_per_pixel(samples)
    pixels, n = composite(sigmas, rgbs, samples), int(aim.kept) // k * k
    rgb, opacity = mean_of_rays(pixels.rgb.view(-1, k, 3), pixels.opacity.view(-1, k))
    rgb = rgb + (1 - opacity)[:, None] * aim.background
    with torch.no_grad():
        front = transmittance(sigmas * samples.dt, samples, samples.offsets.shape[0] - 1)
        aim.seen[aim.cells[front > SEEN].long()] = aim.step.to(aim.seen.dtype)
    error = torch.mean((rgb[: n // k] - aim.rgb[: n // k]) ** 2)
    if aim.place is None:
        return error
    last = int(samples.offsets[n])
    w, s, ids = pixels.weights[:last], aim.place[:last], samples.ray_ids[:last]
    first = samples.offsets[ids]
    nearer, nearer_s = (F.pad(v.cumsum(0), (1, 0)) for v in (w, w * s))
    pairs = w * (s * (nearer[:-1] - nearer[first]) - (nearer_s[:-1] - nearer_s[first]))
    spread = aim.distortion * (2 * pairs.sum() + aim.width / 3 * (w * w).sum()) / n
    return error + (spread - spread.detach())


def field_loss(
    unit: Tensor,
    view: Tensor,
    samples: Samples,
    table: Tensor,
    params: Tensor,
    grid: GridLayout,
    networks: FieldLayout,
    aim: Target,
) -> Tensor:
    """`photometric` of what `hash_field` says of the samples. Its gradient is that of `aim.smoothness` times the
    `roughness` at the samples more, while the value stays the error."""
    sigma, rgb = hash_field(unit, view, samples.ray_ids, table, params, grid, networks)
    loss = photometric(sigma, rgb, samples, aim)
    if not aim.smoothness:
        return loss
    rough = aim.smoothness * roughness(vertices(unit, grid)[0], table)
    return loss + (rough - rough.detach())


def roughness(entries: Tensor, table: Tensor) -> Tensor:
    """How unlike each other the entries of a cell are, on average over N points:  1/2 sum_l sum_c |v_c - v|^2, v being
    the mean of the eight entries v_c around the point on level l. entries: (levels, N, 8), from `vertices`."""
    held = table[entries.long()]  # (L, N, 8, F)
    return 0.5 * ((held - held.mean(2, keepdim=True)) ** 2).sum() / max(entries.shape[1], 1)


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
    moved = (g != 0) if sparse else None
    for moment, value, beta in ((m, g, betas[0]), (v, g * g, betas[1])):
        changed = moment.lerp(value, 1 - beta)
        moment.copy_(changed if moved is None else torch.where(moved, changed, moment))
    scale = v.sqrt().mul_(first / second**0.5).add_(first * eps)
    if decay:
        p.sub_(p if moved is None else p * moved, alpha=lr * decay)
    p.addcdiv_(m if moved is None else m * moved, scale, value=-lr)
