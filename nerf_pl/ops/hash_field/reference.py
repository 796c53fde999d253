"""The twins of the hash-grid field, in plain PyTorch on any device, in float64 too.

What each computes stands in its public op, of the same name; the terms of the loss are in `losses`.
"""

import functools
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nerf_pl.ops.hash_field import losses
from nerf_pl.ops.hash_field.types import HashWeights, Listed, Normals, Target
from nerf_pl.ops.layout import PRIMES, FieldLayout, GridLayout
from nerf_pl.ops.rays.reference import MASK, composite, mix, transmittance
from nerf_pl.types import Samples

SIGNED = tuple(prime if prime < 2**31 else prime - 2**32 for prime in PRIMES)
"""Of the spatial hash, in 32 bits with a sign."""
MAX_RAW = 11.0  # exp of it is opaque within a thousandth of any scene; beyond, the density stays
LEAST_NORMAL = 1e-6  # length below which a normal counts as unknown
BLOCK = 4096  # points at a time without a gradient on a CPU, so that what lies between two layers stays in its caches
SEEN = 1e-3  # transmittance below which what lies there does not show


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
    hash_x, hash_y, hash_z = (((i * p) & mask, (i * p + p) & mask) for i, p in zip((hx, hy, hz), SIGNED, strict=True))
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


def spherical_harmonics(dirs: Tensor, count: Tensor | None = None) -> Tensor:
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


@torch.no_grad()
def mirrored_harmonics(
    unit: Tensor, dirs: Tensor, ray_ids: Tensor, normals: Normals, count: Tensor | None = None
) -> Tensor:
    d = dirs.index_select(0, ray_ids)
    n = F.normalize(_between_cells(unit, normals), dim=1, eps=LEAST_NORMAL)
    mirrored = d - 2 * (d * n).sum(1, keepdim=True) * n
    return torch.cat([spherical_harmonics(d), spherical_harmonics(mirrored)], 1)


def _between_cells(unit: Tensor, normals: Normals) -> Tensor:
    """The values of the eight cells around each point, (N, 3), weighed by how near their middles are. A point that is
    not a number lies at 0."""
    size = len(normals.values)
    place = (unit * normals.scale - 0.5).nan_to_num(0).clamp(0, size - 1)
    low = place.floor().clamp(max=size - 2).long()
    far, found = place - low, unit.new_zeros(len(unit), 3)
    for corner in range(8):
        bits = [corner >> axis & 1 for axis in range(3)]
        x, y, z = (low[:, axis] + bit for axis, bit in enumerate(bits))
        shares = (far[:, axis] if bit else 1 - far[:, axis] for axis, bit in enumerate(bits))
        found += functools.reduce(torch.mul, shares)[:, None] * normals.values[z, y, x, :3].to(unit.dtype)
    return found


def field(
    features: Tensor, view: Tensor | None, ray_ids: Tensor | None, params: Tensor, layout: FieldLayout
) -> tuple[Tensor, Tensor | None]:
    """The networks behind a hash grid: density (N,) > 0 and colour (N, 3) in [0, 1].

    features: (N, inputs); view: encoded directions (R, view) of the rays, ray_ids (N,) says which ray a sample is on.
    ray_ids None: each sample has a row of `view` for itself. view None asks for density alone, which is exp(raw) with
    raw held to MAX_RAW.
    """
    if torch.is_grad_enabled() or features.device.type != "cpu" or len(features) <= BLOCK:
        return _networks(features, view, ray_ids, params, layout)
    parts = [slice(i, i + BLOCK) for i in range(0, len(features), BLOCK)]
    found = [_networks(features[part], *_of_part(view, ray_ids, part), params, layout) for part in parts]
    rgbs = [rgb for _, rgb in found if rgb is not None]
    return torch.cat([sigma for sigma, _ in found]), torch.cat(rgbs) if rgbs else None


def _of_part(view: Tensor | None, ray_ids: Tensor | None, part: slice) -> tuple[Tensor | None, Tensor | None]:
    """What `_networks` takes of a part of the samples: their own directions if there are more rays than samples."""
    if view is None:
        return None, None
    if ray_ids is None:
        return view[part], None
    return (view, ray_ids[part]) if len(view) <= BLOCK else (view.index_select(0, ray_ids[part]), None)


def _networks(
    features: Tensor, view: Tensor | None, ray_ids: Tensor | None, params: Tensor, layout: FieldLayout
) -> tuple[Tensor, Tensor | None]:
    """See `field`."""
    p = layout.parts(params)
    out = F.linear(F.linear(features, p["density_0"]).relu_(), p["density_1"])
    sigma = out[:, 0].clamp(max=MAX_RAW).exp()
    if view is None:
        return sigma, None
    of_rays = F.linear(view, p["view"])
    if ray_ids is not None:
        of_rays = of_rays.index_select(0, ray_ids)  # indexing would add up gradients in chance order
    h = torch.addmm(of_rays, out, p["colour_0"].T).relu_()
    return sigma, F.linear(F.linear(h, p["colour_1"]).relu_(), p["colour_2"]).sigmoid_()


def hash_field(
    unit: Tensor, view: Tensor, ray_ids: Tensor | None, weights: HashWeights, count: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    features = hash_grid(unit, weights.table, weights.grid)
    sigma, rgb = field(features, view, ray_ids, weights.params, weights.networks)
    assert rgb is not None
    return sigma, rgb


def hash_density(unit: Tensor, weights: HashWeights) -> Tensor:
    features = hash_grid(unit, weights.table, weights.grid)
    return field(features, None, None, weights.params, weights.networks)[0]


def field_loss(
    unit: Tensor, view: Tensor, samples: Samples, weights: HashWeights, target: Target, of_samples: bool
) -> Tensor:
    ray_ids = None if of_samples else samples.ray_ids
    if target.share < 1 and len(samples):
        given = unit, view, ray_ids, samples, weights, target
        return _Visited.apply(weights.table, weights.params, target.rgb, *given)  # pyright: ignore[reportReturnType]
    sigma, rgb = hash_field(unit, view, ray_ids, weights)
    loss = pixel_loss(sigma, rgb, samples, target)
    if target.smoothness:
        entries = vertices(unit, weights.grid)[0]
        loss = loss + losses.gradient_of(losses.smoothness(entries, weights.table, target.smoothness))
    return loss


def pixel_loss(sigma: Tensor, rgb: Tensor, samples: Samples, target: Target) -> Tensor:
    """The terms that follow from density (N,) and colour (N, 3) at the samples. Cells that light reaches are marked."""
    if target.close_range:
        share = (samples.t / target.close_range).clamp(max=1) ** 2
        sigma, rgb = _scaled_gradient(sigma, share), _scaled_gradient(rgb, share[:, None])
    pixels = composite(sigma, rgb, samples)
    with torch.no_grad():
        front = transmittance(sigma * samples.dt, samples)
        target.seen[target.cells[front > SEEN].long()] = target.step.to(target.seen.dtype)
    loss = losses.photometric(pixels, samples, target)
    if target.place is not None:
        loss = loss + losses.gradient_of(losses.distortion(pixels.weights, samples, target))
    if target.clear is not None:
        loss = loss + losses.gradient_of(losses.emptiness(pixels.weights, samples, target))
    return loss


def listed(sigma: Tensor, d_sigma: Tensor, d_rgb: Tensor, target: Target) -> Listed:
    """List each sample with the probability min(1, s / least), and divide its gradients by that: an unbiased estimate
    of the gradient, from a share of the samples.

    s is the size of its gradient: in the raw density, whose exponential sigma is, and in the colours. The random number
    that decides follows from the sample's place in the batch and from the step. `least` is then set so that with the
    same gradients as many would be listed as `share` says, by a factor between 1/8 and 8.
    """
    n, device = len(sigma), sigma.device
    size = (d_sigma * sigma).abs() + d_rgb.abs().sum(1)
    words = mix(mix(torch.arange(n, device=device)) ^ (target.step & MASK))
    order = ((words >> 8) * 2.0**-24 * target.least < size).nonzero()[:, 0]
    scale = (target.least / size[order]).clamp(min=1)
    count = torch.tensor([len(order)], device=device)
    adapt(target, count, n)
    return Listed(order, count, d_sigma[order] * scale, d_rgb[order] * scale[:, None])


def of_listed(view: Tensor, ray_ids: Tensor | None, rows: Tensor) -> tuple[Tensor, Tensor | None]:
    """The encoded directions of some samples, see `field`."""
    return (view[rows], None) if ray_ids is None else (view, ray_ids[rows])


def adapt(target: Target, count: Tensor, n: int) -> None:
    """Set `least` after count of n samples were listed."""
    target.least.mul_((count / max(target.share * n, 1.0)).clamp(1 / 8, 8)).clamp_(1e-20, 1e20)


def _scaled_gradient(values: Tensor, factor: Tensor) -> Tensor:
    """The values, whose gradient is multiplied by the factor."""
    return values * factor + (values * (1 - factor)).detach()


class _Visited(torch.autograd.Function):
    """The loss, whose backward pass computes a share of the samples again and differentiates those alone; it is these
    that are smoothed."""

    @staticmethod
    def forward(ctx, table, params, rgb_target, unit, view, ray_ids, samples, weights, target):
        entries, shares = vertices(unit, weights.grid)
        sigma, rgb = field(interpolate(entries, shares, table), view, ray_ids, params, weights.networks)
        assert rgb is not None
        with torch.enable_grad():
            leaves = sigma.requires_grad_(), rgb.requires_grad_(), rgb_target.detach().requires_grad_()
            loss = pixel_loss(*leaves[:2], samples, replace(target, rgb=leaves[2]))
            d_sigma, d_rgb, ctx.d_target = torch.autograd.grad(loss, leaves)
        rows, _, *grads = listed(sigma.detach(), d_sigma, d_rgb, target)
        view, ray_ids = of_listed(view, ray_ids, rows)
        ctx.save_for_backward(table, params, entries[:, rows], shares[:, rows], view, ray_ids, *grads)
        ctx.networks, ctx.smoothness = weights.networks, target.smoothness
        return loss.detach()

    @staticmethod
    def backward(ctx, *grad_outputs):
        table, params, entries, shares, view, ray_ids, *grads = ctx.saved_tensors
        with torch.enable_grad():
            table, params = table.detach().requires_grad_(), params.detach().requires_grad_()
            sigma, rgb = field(interpolate(entries, shares, table), view, ray_ids, params, ctx.networks)
            assert rgb is not None
            outputs = [sigma, rgb]
            if ctx.smoothness:
                outputs.append(losses.smoothness(entries, table, ctx.smoothness))
                grads.append(torch.ones_like(outputs[-1]))
            d_table, d_params = torch.autograd.grad(outputs, (table, params), grads)
        return d_table, d_params, ctx.d_target, None, None, None, None, None, None
