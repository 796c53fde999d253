"""Counting the samples of rays that end where their light does: a walk that asks the field as it goes.

One warp takes one ray, 16 steps at a time, and asks for the densities of those in occupied cells. Nothing but the
counts leaves the chip. The field takes many registers, so few warps run at a time: `march_kernel` has found the rays
that meet no cell, and where the others meet their first one.
"""

import math

import triton
import triton.language as tl
from torch import Tensor

from nerf_pl.ops.hash_field.triton_grid import level_table
from nerf_pl.ops.hash_field.triton_networks import density_sizes, matrix, multiprocessors
from nerf_pl.ops.march.triton_steps import box_of, ray_of, steps_of
from nerf_pl.ops.march.types import Light

EACH = 16  # programs of one warp on a multiprocessor
STEPS = 16  # at a time, of which few are in occupied cells; 32 would take twice the registers


@triton.jit
def _axis(p, resolution):
    """Cells (LANES, LEVELS) along an axis, and how far into them p lies; see `triton_grid._vertices`."""
    scaled = tl.minimum(tl.maximum(p, 0.0), 1.0)[:, None] * resolution.to(tl.float32)
    cell = tl.minimum(tl.floor(scaled), resolution.to(tl.float32) - 1)
    return cell.to(tl.int32), scaled - cell


@triton.jit
def _features(
    values_ptr, levels_ptr, x, y, z, hit, LEVELS: tl.constexpr, ROOM: tl.constexpr, FEATURES: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    """The encoding (LANES, ROOM FEATURES) of points, ROOM levels at once, of which LEVELS are there."""
    level = tl.arange(0, ROOM)[None, :]
    there = level < LEVELS
    resolution = tl.load(levels_ptr + level * 6, mask=there, other=1)
    first = tl.load(levels_ptr + level * 6 + 1, mask=there, other=0)
    last = tl.load(levels_ptr + level * 6 + 2, mask=there, other=1) - 1
    dense = tl.load(levels_ptr + level * 6 + 3, mask=there, other=1) == 1
    a, u = _axis(x, resolution)
    b, v = _axis(y, resolution)
    c, w = _axis(z, resolution)
    feature = tl.arange(0, FEATURES)[None, None, :]
    asked = (hit[:, None] & there)[:, :, None]
    found = tl.zeros((LANES, ROOM, FEATURES), tl.float32)
    for corner in tl.static_range(8):
        i, j, k = a + (corner & 1), b + ((corner >> 1) & 1), c + (corner >> 2)
        share = (u if corner & 1 else 1 - u) * (v if corner & 2 else 1 - v) * (w if corner & 4 else 1 - w)
        hashed = i.to(tl.uint32) ^ (j.to(tl.uint32) * 2654435761) ^ (k.to(tl.uint32) * 805459861)
        linear = i + (resolution + 1) * (j + (resolution + 1) * k)
        entry = first + tl.where(dense, linear, (hashed & last.to(tl.uint32)).to(tl.int32))
        at = entry[:, :, None] * FEATURES + feature
        found += share[:, :, None] * tl.load(values_ptr + at, mask=asked, other=0.0).to(tl.float32)
    return tl.reshape(found, (LANES, ROOM * FEATURES))


@triton.jit
def count_kernel(
    origins_ptr, directions_ptr, near_ptr, far_ptr, jitter_ptr, bits_ptr, visible_ptr, aabb_ptr, active_ptr,
    values_ptr, levels_ptr, params_ptr, counts_ptr, firsts_ptr, step, linear, scale, most, n_rays,
    SIZE: tl.constexpr, OPEN: tl.constexpr, EXPLORERS: tl.constexpr, LEVELS: tl.constexpr, ROOM: tl.constexpr,
    FEATURES: tl.constexpr, INPUTS: tl.constexpr, HIDDEN: tl.constexpr, MAX: tl.constexpr, AT_D1: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    """Of the samples of each ray, leave those that lie in front of the optical depth `most`."""
    half = values_ptr.dtype.element_ty
    n_rays = tl.minimum(tl.load(active_ptr), n_rays)
    lx, ly, lz, sx, sy, sz = box_of(aabb_ptr, SIZE)
    first = tl.trans(matrix(params_ptr, HIDDEN, INPUTS, HIDDEN, ROOM * FEATURES).to(half))
    second = tl.load(params_ptr + AT_D1 + tl.arange(0, HIDDEN)).to(half).to(tl.float32)[None, :]
    for ray in range(tl.program_id(0), n_rays, tl.num_programs(0)):
        jitter = tl.load(jitter_ptr + ray)
        ox, oy, oz, dx, dy, dz, near, n_steps = ray_of(
            origins_ptr, directions_ptr, near_ptr, far_ptr, aabb_ptr, ray, step, linear, jitter, OPEN
        )
        k, count, before = tl.load(firsts_ptr + ray), 0, 0.0
        met = tl.load(counts_ptr + ray)  # samples, of which some are left
        left = met
        while (k < n_steps) & (left > 0) & (before < most):
            lane = k + tl.arange(0, LANES)
            _, dt, x, y, z, cell, _ = steps_of(
                lane, near, step, linear, jitter, ox, oy, oz, dx, dy, dz, lx, ly, lz, sx, sy, sz, scale, SIZE, OPEN, 1
            )
            live = lane < n_steps
            word = tl.load(visible_ptr + (cell >> 5), mask=live & (ray % EXPLORERS != 0), other=0)
            word |= tl.load(bits_ptr + (cell >> 5), mask=live & (ray % EXPLORERS == 0), other=0)
            hit = live & (((word >> (cell & 31)) & 1) == 1)
            n_hit = tl.sum(hit.to(tl.int32), 0)
            left -= n_hit
            if n_hit > 0:
                encoded = _features(values_ptr, levels_ptr, x, y, z, hit, LEVELS, ROOM, FEATURES, LANES).to(half)
                h = tl.dot(encoded, first, input_precision="ieee")
                h = tl.where(h < 0, 0.0, h).to(half)  # nan stays, which tl.maximum takes for the lesser one
                raw = tl.sum(h.to(tl.float32) * second, 1)
                depth = tl.where(hit & (raw == raw), tl.exp(tl.minimum(raw, MAX)) * dt, 0.0)
                in_front = before + tl.cumsum(depth, 0) - depth
                count += tl.sum((hit & (in_front < most)).to(tl.int32), 0)
                before += tl.sum(depth, 0)
            k += LANES
        tl.store(counts_ptr + ray, tl.minimum(count, met))  # rounding must not add any


def lower_counts(
    way: tuple[Tensor, ...], light: Light, counts: Tensor, firsts: Tensor, sizes: tuple, options: dict[str, int]
) -> None:
    """Lower `counts`. way: what `march_kernel` takes, up to the number of active rays; sizes, options: likewise."""
    weights, n, device = light.weights, counts.shape[0], counts.device
    grid, values = weights.grid, weights.read()
    room = max(triton.next_power_of_2(grid.levels), 16 // grid.features)
    most = -math.log(light.least)
    count_kernel[(min(n, EACH * multiprocessors(device)),)](
        *way, values, level_table(grid, device), weights.params, counts, firsts, *sizes, most, n, **options,
        LEVELS=grid.levels, ROOM=room, FEATURES=grid.features, LANES=STEPS, num_warps=1,
        **density_sizes(weights.networks),
    )  # fmt: skip
