# pyright: reportCallIssue=false
"""Marching rays through an occupancy grid; see `reference.march` for what is computed.

One warp takes one ray, 32 steps at a time. Rays are walked twice, first to count, then to write, so that samples lie
packed in the order of their rays whatever the order in which the GPU works.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

LANES = 32
SCAN = 8192  # rays that the scan takes at once


@triton.jit
def _clip(origin, direction, low, high, near, far):
    """near and far of the part of a ray that lies between two planes across one axis."""
    inverse = 1 / tl.where(tl.abs(direction) < 1e-9, 1e-9, direction)
    a, b = (low - origin) * inverse, (high - origin) * inverse
    return tl.maximum(near, tl.minimum(a, b)), tl.minimum(far, tl.maximum(a, b))


@triton.jit
def march_kernel(
    origins_ptr, directions_ptr, near_ptr, far_ptr, jitter_ptr, bits_ptr, aabb_ptr, active_ptr, counts_ptr,
    offsets_ptr, t_ptr, ray_ids_ptr, xyz_ptr, step, n_rays,
    SIZE: tl.constexpr, ACTIVE: tl.constexpr, WRITE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    ray = tl.program_id(0)
    if ACTIVE:
        n_rays = tl.load(active_ptr)
    if ray < n_rays:
        near, far = tl.load(near_ptr + ray), tl.load(far_ptr + ray)
        jitter = tl.load(jitter_ptr + ray)
        ox, oy = tl.load(origins_ptr + ray * 3), tl.load(origins_ptr + ray * 3 + 1)
        oz = tl.load(origins_ptr + ray * 3 + 2)
        dx, dy = tl.load(directions_ptr + ray * 3), tl.load(directions_ptr + ray * 3 + 1)
        dz = tl.load(directions_ptr + ray * 3 + 2)
        lx, ly, lz = tl.load(aabb_ptr), tl.load(aabb_ptr + 1), tl.load(aabb_ptr + 2)
        sx = SIZE / (tl.load(aabb_ptr + 3) - lx)
        sy = SIZE / (tl.load(aabb_ptr + 4) - ly)
        sz = SIZE / (tl.load(aabb_ptr + 5) - lz)
        near, far = _clip(ox, dx, lx, tl.load(aabb_ptr + 3), near, far)
        near, far = _clip(oy, dy, ly, tl.load(aabb_ptr + 4), near, far)
        near, far = _clip(oz, dz, lz, tl.load(aabb_ptr + 5), near, far)
        n_steps = tl.ceil((far - near) / step - jitter).to(tl.int32)
        position = tl.load(offsets_ptr + ray).to(tl.int32) if WRITE else 0
        end = tl.load(offsets_ptr + ray + 1).to(tl.int32) if WRITE else 1
        if position < end:
            for k in range(0, n_steps, LANES):
                lane = k + tl.arange(0, LANES)
                t = near + (lane.to(tl.float32) + jitter) * step
                x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
                i = tl.minimum(tl.maximum(tl.floor((x - lx) * sx), 0.0), SIZE - 1.0).to(tl.int32)
                j = tl.minimum(tl.maximum(tl.floor((y - ly) * sy), 0.0), SIZE - 1.0).to(tl.int32)
                m = tl.minimum(tl.maximum(tl.floor((z - lz) * sz), 0.0), SIZE - 1.0).to(tl.int32)
                cell = i + SIZE * (j + SIZE * m)
                live = (lane < n_steps) & (t < far)
                word = tl.load(bits_ptr + (cell >> 5), mask=live, other=0)
                hit = tl.where(live, (word >> (cell & 31)) & 1, 0)
                n_hit = tl.sum(hit, 0)
                if WRITE:
                    if n_hit > 0:
                        at = position + tl.cumsum(hit, 0) - 1
                        tl.store(t_ptr + at, t, mask=hit == 1)
                        tl.store(ray_ids_ptr + at, tl.zeros((LANES,), tl.int32) + ray, mask=hit == 1)
                        tl.store(xyz_ptr + at * 3, x, mask=hit == 1)
                        tl.store(xyz_ptr + at * 3 + 1, y, mask=hit == 1)
                        tl.store(xyz_ptr + at * 3 + 2, z, mask=hit == 1)
                position += n_hit
        if not WRITE:
            tl.store(counts_ptr + ray, position)


@triton.jit
def scan_kernel(
    counts_ptr, offsets_ptr, active_ptr, kept_ptr, n_rays, budget, SCAN: tl.constexpr, ADAPT: tl.constexpr
):
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
    step: float, size: int, budget: int | None = None, active: Tensor | None = None, kept: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """t, ray_ids, offsets and points. With a budget the first three have that length, of which offsets[-1] are used.

    active: number of rays to march, int32 on the device; it is set for the next call so that the budget is filled, and
    `kept` to the number of rays that found room in this one.
    """
    n, device = near.shape[0], near.device
    counts = torch.zeros(n, dtype=torch.int32, device=device)
    offsets = torch.zeros(n + 1, dtype=torch.int32, device=device)
    given = (origins.contiguous(), directions.contiguous(), near, far, jitter, bits, aabb)
    number = counts if active is None else active.clone()  # the second walk needs it as it was
    options = {"SIZE": size, "ACTIVE": active is not None, "LANES": LANES, "num_warps": 1}
    if n:
        march_kernel[(n,)](
            *given, number, counts, offsets, near, counts, near, step, n, WRITE=False, **options,
        )  # fmt: skip
        scan_kernel[(1,)](
            counts, offsets, counts if active is None else active, counts if kept is None else kept, n,
            2**31 - 1 if budget is None else budget, SCAN=SCAN, ADAPT=active is not None, num_warps=16,
        )  # fmt: skip
    room = int(offsets[-1]) if budget is None else budget
    t, ray_ids = near.new_zeros(room), torch.zeros(room, dtype=torch.int32, device=device)
    xyz = near.new_empty(room, 3)
    if n and room:
        march_kernel[(n,)](
            *given, number, counts, offsets, t, ray_ids, xyz, step, n, WRITE=True, **options,
        )  # fmt: skip
    return t, ray_ids, offsets, xyz
