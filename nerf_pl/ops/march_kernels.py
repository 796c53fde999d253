# pyright: reportCallIssue=false
"""Marching rays through an occupancy grid; see `march_reference.march` for what is computed.

One warp takes one ray, 32 steps at a time. Rays are walked twice, first to count, then to write, so that samples lie
packed in the order of their rays whatever the order in which the GPU works.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_pl.ops.march_reference import EXPLORERS, Batch, Stride

LANES = 32
SCAN = 8192  # rays that the scan takes at once
PROGRAMS = 4096  # a program that finds nothing to do costs as much as a short ray, so each takes many


@triton.jit
def _clip(origin, direction, low, high, near, far):
    """near and far of the part of a ray that lies between two planes across one axis."""
    inverse = 1 / tl.where(tl.abs(direction) < 1e-9, 1e-9, direction)
    a, b = (low - origin) * inverse, (high - origin) * inverse
    return tl.maximum(near, tl.minimum(a, b)), tl.minimum(far, tl.maximum(a, b))


@triton.jit
def _ray(
    origins_ptr, directions_ptr, near_ptr, far_ptr, aabb_ptr, ray, step, linear, jitter, OPEN: tl.constexpr,
):  # fmt: skip
    """Origin and direction of a ray, where it starts, in lengths that count steps, and how many steps it has."""
    ox, oy = tl.load(origins_ptr + ray * 3), tl.load(origins_ptr + ray * 3 + 1)
    oz = tl.load(origins_ptr + ray * 3 + 2)
    dx, dy = tl.load(directions_ptr + ray * 3), tl.load(directions_ptr + ray * 3 + 1)
    dz = tl.load(directions_ptr + ray * 3 + 2)
    near, far = tl.load(near_ptr + ray), tl.load(far_ptr + ray)
    if OPEN:
        near = tl.where(near > linear, linear * (1 + tl.log(near / linear)), near)
        far = tl.where(far > linear, linear * (1 + tl.log(far / linear)), far)
    else:
        near, far = _clip(ox, dx, tl.load(aabb_ptr), tl.load(aabb_ptr + 3), near, far)
        near, far = _clip(oy, dy, tl.load(aabb_ptr + 1), tl.load(aabb_ptr + 4), near, far)
        near, far = _clip(oz, dz, tl.load(aabb_ptr + 2), tl.load(aabb_ptr + 5), near, far)
    return ox, oy, oz, dx, dy, dz, near, tl.ceil((far - near) / step - jitter).to(tl.int32)


@triton.jit
def _cell(x, SIZE: tl.constexpr):
    """Which of SIZE cells along an axis x, in cells, lies in."""
    return tl.minimum(tl.maximum(tl.floor(x), 0.0), SIZE - 1.0).to(tl.int32)


@triton.jit
def _steps(
    lane, near, step, linear, jitter, ox, oy, oz, dx, dy, dz, lx, ly, lz, sx, sy, sz, scale, SIZE: tl.constexpr,
    OPEN: tl.constexpr, DETAIL: tl.constexpr,
):  # fmt: skip
    """t, dt, points in the unit cube, cells and parts of them, of some steps. l: lowest corner of the box; s: SIZE over
    its sides."""
    t = near + (lane.to(tl.float32) + jitter) * step
    dt = tl.zeros_like(t) + step * scale
    if OPEN:
        t = tl.where(t > linear, linear * tl.exp(t / linear - 1), t)
        dt = step * scale * tl.maximum(t / linear, 1.0)
    x, y, z = ox + t * dx - lx, oy + t * dy - ly, oz + t * dz - lz
    if OPEN:
        x, y, z = x * sx * (2 / SIZE) - 1, y * sy * (2 / SIZE) - 1, z * sz * (2 / SIZE) - 1
        m = tl.maximum(tl.maximum(tl.maximum(tl.abs(x), tl.abs(y)), tl.abs(z)), 1.0)
        shrink = (2 - 1 / m) / m * 0.25
        x, y, z, dt = x * shrink + 0.5, y * shrink + 0.5, z * shrink + 0.5, dt / m
        sx, sy, sz = SIZE * 1.0, SIZE * 1.0, SIZE * 1.0
    i, j, k = _cell(x * sx, SIZE), _cell(y * sy, SIZE), _cell(z * sz, SIZE)
    cell = i + SIZE * (j + SIZE * k)
    part = cell
    if DETAIL > 1:
        a = _cell(x * sx * DETAIL, SIZE * DETAIL) - i * DETAIL
        b = _cell(y * sy * DETAIL, SIZE * DETAIL) - j * DETAIL
        c = _cell(z * sz * DETAIL, SIZE * DETAIL) - k * DETAIL
        part = cell * (DETAIL * DETAIL * DETAIL) + a + DETAIL * (b + DETAIL * c)
    if not OPEN:
        x, y, z = x * scale, y * scale, z * scale
    return t, dt, x, y, z, cell, part


@triton.jit
def _box(aabb_ptr, SIZE: tl.constexpr):
    """Lowest corner of the box, and SIZE over its sides."""
    lx, ly, lz = tl.load(aabb_ptr), tl.load(aabb_ptr + 1), tl.load(aabb_ptr + 2)
    sx, sy = SIZE / (tl.load(aabb_ptr + 3) - lx), SIZE / (tl.load(aabb_ptr + 4) - ly)
    return lx, ly, lz, sx, sy, SIZE / (tl.load(aabb_ptr + 5) - lz)


@triton.jit
def march_kernel(
    origins_ptr, directions_ptr, near_ptr, far_ptr, jitter_ptr, bits_ptr, visible_ptr, aabb_ptr, active_ptr,
    counts_ptr, offsets_ptr, t_ptr, dt_ptr, ray_ids_ptr, unit_ptr, cells_ptr, step, linear, scale, n_rays,
    SIZE: tl.constexpr, OPEN: tl.constexpr, BATCH: tl.constexpr, DETAIL: tl.constexpr, EXPLORERS: tl.constexpr,
    WRITE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    if BATCH:
        n_rays = tl.minimum(tl.load(active_ptr), n_rays)
    lx, ly, lz, sx, sy, sz = _box(aabb_ptr, SIZE)
    for ray in range(tl.program_id(0), n_rays, tl.num_programs(0)):
        jitter = tl.load(jitter_ptr + ray)
        ox, oy, oz, dx, dy, dz, near, n_steps = _ray(
            origins_ptr, directions_ptr, near_ptr, far_ptr, aabb_ptr, ray, step, linear, jitter, OPEN
        )
        position = tl.load(offsets_ptr + ray).to(tl.int32) if WRITE else 0
        end = tl.load(offsets_ptr + ray + 1).to(tl.int32) if WRITE else 1
        if position < end:
            for k in range(0, n_steps, LANES):
                lane = k + tl.arange(0, LANES)
                t, dt, x, y, z, cell, part = _steps(
                    lane, near, step, linear, jitter, ox, oy, oz, dx, dy, dz, lx, ly, lz, sx, sy, sz, scale, SIZE, OPEN,
                    DETAIL,
                )  # fmt: skip
                live = lane < n_steps
                if BATCH:
                    word = tl.load(visible_ptr + (cell >> 5), mask=live & (ray % EXPLORERS != 0), other=0)
                    word |= tl.load(bits_ptr + (cell >> 5), mask=live & (ray % EXPLORERS == 0), other=0)
                else:
                    word = tl.load(bits_ptr + (cell >> 5), mask=live, other=0)
                hit = tl.where(live, (word >> (cell & 31)) & 1, 0)
                n_hit = tl.sum(hit, 0)
                if WRITE:  # noqa: SIM102, since only this is known when compiling
                    if n_hit > 0:
                        at = position + tl.cumsum(hit, 0) - 1
                        tl.store(t_ptr + at, t, mask=hit == 1)
                        tl.store(dt_ptr + at, dt, mask=hit == 1)
                        tl.store(ray_ids_ptr + at, tl.zeros((LANES,), tl.int32) + ray, mask=hit == 1)
                        tl.store(unit_ptr + at * 3, x, mask=hit == 1)
                        tl.store(unit_ptr + at * 3 + 1, y, mask=hit == 1)
                        tl.store(unit_ptr + at * 3 + 2, z, mask=hit == 1)
                        tl.store(cells_ptr + at, part, mask=hit == 1)
                position += n_hit
        if not WRITE:
            tl.store(counts_ptr + ray, position)


@triton.jit
def scan_kernel(counts_ptr, offsets_ptr, active_ptr, kept_ptr, n_rays, budget, SCAN: tl.constexpr, ADAPT: tl.constexpr):
    """Offsets from counts. Rays past the budget get no samples; with ADAPT the number of active rays follows."""
    active = n_rays
    if ADAPT:
        active = tl.minimum(tl.load(active_ptr), n_rays)
    tl.store(offsets_ptr, 0)
    total, kept_samples, kept_rays = 0, 0, 0
    for start in range(0, n_rays, SCAN):
        i = start + tl.arange(0, SCAN)
        if start < active:
            count = tl.load(counts_ptr + i, mask=i < active, other=0)
            sums = total + tl.cumsum(count, 0)
            total += tl.sum(count, 0)
            fits = sums <= budget
            kept_samples = tl.maximum(kept_samples, tl.max(tl.where(fits, sums, 0), 0))
            kept_rays += tl.sum((fits & (i < active)).to(tl.int32), 0)
            tl.store(offsets_ptr + 1 + i, tl.where(fits, sums, kept_samples), mask=i < n_rays)
        else:
            tl.store(offsets_ptr + 1 + i, tl.zeros((SCAN,), tl.int32) + kept_samples, mask=i < n_rays)
    if ADAPT:
        tl.store(kept_ptr, kept_rays)
        # aim a little below the budget, since past it whole rays are lost
        wanted = active.to(tl.float32) * (budget * 0.98 / tl.maximum(total, 1).to(tl.float32))
        wanted = tl.minimum(tl.maximum(wanted, 64.0), n_rays.to(tl.float32))
        tl.store(active_ptr, wanted.to(tl.int32))


def march(
    origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, bits: Tensor, aabb: Tensor, jitter: Tensor,
    stride: Stride, batch: Batch | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    n, device = near.shape[0], near.device
    counts = torch.empty(n, dtype=torch.int32, device=device)
    offsets = torch.zeros(n + 1, dtype=torch.int32, device=device)
    visible, active, kept = (counts,) * 3 if batch is None else (batch.visible, batch.active, batch.kept)
    given = (origins.contiguous(), directions.contiguous(), near, far, jitter, bits, visible, aabb)
    number = active.clone()  # the second walk needs it as it was
    sizes = stride.step, stride.linear or 0.0, 1 / stride.side, n
    options: dict = {
        "SIZE": stride.size, "OPEN": stride.linear is not None, "BATCH": batch is not None,
        "DETAIL": 1 if batch is None else batch.detail, "EXPLORERS": EXPLORERS, "LANES": LANES, "num_warps": 1,
    }  # fmt: skip
    programs = min(n, PROGRAMS)
    if n:
        march_kernel[(programs,)](
            *given, number, counts, offsets, near, near, counts, near, counts, *sizes, WRITE=False, **options,
        )  # fmt: skip
        budget = 2**31 - 1 if batch is None else batch.budget
        scan_kernel[(1,)](
            counts, offsets, active, kept, n, budget, SCAN=SCAN, ADAPT=batch is not None, num_warps=16,
        )  # fmt: skip
    room = int(offsets[-1]) if batch is None else batch.budget
    t, dt, unit = near.new_zeros(room), near.new_zeros(room), near.new_empty(room, 3)
    ray_ids = torch.zeros(room, dtype=torch.int32, device=device)
    cells = torch.empty_like(ray_ids)
    if n and room:
        march_kernel[(programs,)](
            *given, number, counts, offsets, t, dt, ray_ids, unit, cells, *sizes, WRITE=True, **options,
        )  # fmt: skip
    return t, dt, ray_ids, offsets, unit, cells
