"""The kernels that march rays through an occupancy grid.

One warp takes one ray, 32 steps at a time. Rays are walked twice, first to count, then to write, so that samples lie
packed in the order of their rays whatever the order in which the GPU works. Where rays end with their light, a walk in
between lowers the counts; see `triton_light`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_pl.ops.march.reference import EXPLORERS
from nerf_pl.ops.march.triton_advance import Advance
from nerf_pl.ops.march.triton_light import lower_counts
from nerf_pl.ops.march.triton_steps import LANES, PROGRAMS, box_of, ray_of, steps_of
from nerf_pl.ops.march.types import Budget, Light, March, Stride
from nerf_pl.types import Rays, Samples

__all__ = ["Advance", "march"]

SCAN = 8192  # rays that the scan takes at once


@triton.jit
def march_kernel(
    origins_ptr, directions_ptr, near_ptr, far_ptr, jitter_ptr, bits_ptr, visible_ptr, aabb_ptr, active_ptr,
    counts_ptr, firsts_ptr, offsets_ptr, t_ptr, dt_ptr, ray_ids_ptr, unit_ptr, cells_ptr, step, linear, scale, n_rays,
    SIZE: tl.constexpr, OPEN: tl.constexpr, BATCH: tl.constexpr, DETAIL: tl.constexpr, EXPLORERS: tl.constexpr,
    WRITE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Count the samples of each ray, and tell in which block of steps its first one lies; or WRITE them."""
    if BATCH:
        n_rays = tl.minimum(tl.load(active_ptr), n_rays)
    lx, ly, lz, sx, sy, sz = box_of(aabb_ptr, SIZE)
    for ray in range(tl.program_id(0), n_rays, tl.num_programs(0)):
        jitter = tl.load(jitter_ptr + ray)
        ox, oy, oz, dx, dy, dz, near, n_steps = ray_of(
            origins_ptr, directions_ptr, near_ptr, far_ptr, aabb_ptr, ray, step, linear, jitter, OPEN
        )
        position = tl.load(offsets_ptr + ray).to(tl.int32) if WRITE else 0
        end = tl.load(offsets_ptr + ray + 1).to(tl.int32) if WRITE else 2**31 - 1
        k, first = 0, -1
        if WRITE:
            k = tl.load(firsts_ptr + ray)
        while (k < n_steps) & (position < end):
            lane = k + tl.arange(0, LANES)
            t, dt, x, y, z, cell, part = steps_of(
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
                    hit = tl.where(at < end, hit, 0)  # the ray may end before its last step
                    tl.store(t_ptr + at, t, mask=hit == 1)
                    tl.store(dt_ptr + at, dt, mask=hit == 1)
                    tl.store(ray_ids_ptr + at, tl.zeros((LANES,), tl.int32) + ray, mask=hit == 1)
                    tl.store(unit_ptr + at * 3, x, mask=hit == 1)
                    tl.store(unit_ptr + at * 3 + 1, y, mask=hit == 1)
                    tl.store(unit_ptr + at * 3 + 2, z, mask=hit == 1)
                    tl.store(cells_ptr + at, part, mask=hit == 1)
            if not WRITE:
                first = tl.where((first < 0) & (n_hit > 0), k, first)
            position += n_hit
            k += LANES
        if not WRITE:
            tl.store(counts_ptr + ray, position)
            tl.store(firsts_ptr + ray, tl.maximum(first, 0))


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
    rays: Rays,
    bits: Tensor,
    aabb: Tensor,
    jitter: Tensor,
    stride: Stride,
    budget: Budget | None = None,
    light: Light | None = None,
) -> March:
    near = rays.near
    n, device = near.shape[0], near.device
    counts, firsts = (torch.empty(n, dtype=torch.int32, device=device) for _ in range(2))
    offsets = torch.zeros(n + 1, dtype=torch.int32, device=device)
    visible, active, kept = (counts,) * 3 if budget is None else (budget.visible, budget.active, budget.kept)
    given = rays.origins.contiguous(), rays.directions.contiguous(), near, rays.far, jitter, bits, visible, aabb
    number = active.clone()  # the second walk needs it as it was
    sizes = stride.step, stride.linear or 0.0, 1 / stride.side, n
    options: dict[str, int] = {
        "SIZE": stride.size, "OPEN": stride.linear is not None, "BATCH": budget is not None,
        "DETAIL": 1 if budget is None else budget.detail, "EXPLORERS": EXPLORERS, "LANES": LANES, "num_warps": 1,
    }  # fmt: skip
    programs, ended = min(n, PROGRAMS), None
    if n:
        march_kernel[(programs,)](
            *given, number, counts, firsts, offsets, near, near, counts, near, counts, *sizes, WRITE=False, **options,
        )  # fmt: skip
        if light is not None:
            met = counts.clone()
            same = {name: options[name] for name in ("SIZE", "OPEN", "EXPLORERS")}
            lower_counts((*given, number), light, counts, firsts, sizes[:3], same)
            ended = counts < met
        most = 2**31 - 1 if budget is None else budget.size
        scan_kernel[(1,)](
            counts, offsets, active, kept, n, most, SCAN=SCAN, ADAPT=budget is not None, num_warps=16,
        )  # fmt: skip
    room = int(offsets[-1]) if budget is None else budget.size
    t, dt, unit = near.new_zeros(room), near.new_zeros(room), near.new_empty(room, 3)
    ray_ids = torch.zeros(room, dtype=torch.int32, device=device)
    cells = torch.empty_like(ray_ids)
    if n and room:
        march_kernel[(programs,)](
            *given, number, counts, firsts, offsets, t, dt, ray_ids, unit, cells, *sizes, WRITE=True, **options,
        )  # fmt: skip
    return March(Samples(t, dt, ray_ids, offsets), unit, cells, ended)
