"""Rendering a hash-grid field with early stop: rays advance a few samples at a time, and those that light no longer
passes leave. Lists of rays and their lengths stay on the device, so that nothing waits for the host.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_pl.ops.march.triton_steps import LANES, PROGRAMS, box_of, ray_of, steps_of
from nerf_pl.ops.march.types import Stride
from nerf_pl.types import Rays


@triton.jit
def _hits(bits_ptr, cell, live):
    """Whether cells are occupied."""
    word = tl.load(bits_ptr + (cell >> 5), mask=live, other=0)
    return tl.where(live, (word >> (cell & 31)) & 1, 0)


@triton.jit
def find_kernel(
    origins_ptr, directions_ptr, near_ptr, far_ptr, bits_ptr, aabb_ptr, next_ptr, n_rays, step, linear, scale, jitter,
    SIZE: tl.constexpr, OPEN: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """The first block of steps with a sample in it, or -1."""
    lx, ly, lz, sx, sy, sz = box_of(aabb_ptr, SIZE)
    for ray in range(tl.program_id(0), n_rays, tl.num_programs(0)):
        ox, oy, oz, dx, dy, dz, near, n_steps = ray_of(
            origins_ptr, directions_ptr, near_ptr, far_ptr, aabb_ptr, ray, step, linear, jitter, OPEN
        )
        k, n_hit = 0, 0
        while (n_hit == 0) & (k < n_steps):
            lane = k + tl.arange(0, LANES)
            cell = steps_of(
                lane, near, step, linear, jitter, ox, oy, oz, dx, dy, dz, lx, ly, lz, sx, sy, sz, scale, SIZE, OPEN, 1
            )[5]
            n_hit = tl.sum(_hits(bits_ptr, cell, lane < n_steps), 0)
            k += LANES
        tl.store(next_ptr + ray, tl.where(n_hit > 0, k - LANES, -1))


@triton.jit
def list_kernel(next_ptr, list_ptr, number_ptr, n_rays, BLOCK: tl.constexpr):
    """The rays that have a sample."""
    ray = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    found = (tl.load(next_ptr + ray, mask=ray < n_rays, other=-1) >= 0).to(tl.int32)
    base = tl.atomic_add(number_ptr, tl.sum(found, 0))
    tl.store(list_ptr + base + tl.cumsum(found, 0) - 1, ray, mask=found == 1)


@triton.jit
def fill_kernel(
    origins_ptr, directions_ptr, near_ptr, far_ptr, bits_ptr, aabb_ptr, list_ptr, number_ptr, onward_number_ptr,
    next_ptr, source_ptr, t_ptr, dt_ptr, ray_ids_ptr, unit_ptr, count_ptr, room, step, linear, scale, jitter,
    K: tl.constexpr, MOVED: tl.constexpr, SIZE: tl.constexpr, OPEN: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """The next K samples of each listed ray, in the unit cube; t is negative where it has no more. Empties the list of
    the rays that go on, which `blend_kernel` fills."""
    number = tl.minimum(tl.load(number_ptr), room)
    if tl.program_id(0) == 0:
        tl.store(count_ptr, number * K)
        tl.store(onward_number_ptr, 0)
    lx, ly, lz, sx, sy, sz = box_of(aabb_ptr, SIZE)
    wx, wy, wz = scale / sx, scale / sy, scale / sz  # sides of a cell in the unit cube
    if OPEN:
        wx, wy, wz = 1 / SIZE, 1 / SIZE, 1 / SIZE
    for slot in range(tl.program_id(0), number, tl.num_programs(0)):
        ray = tl.load(list_ptr + slot)
        ox, oy, oz, dx, dy, dz, near, n_steps = ray_of(
            origins_ptr, directions_ptr, near_ptr, far_ptr, aabb_ptr, ray, step, linear, jitter, OPEN
        )
        k, found, after = tl.load(next_ptr + ray), 0, n_steps
        while (found < K) & (k < n_steps):
            lane = k + tl.arange(0, LANES)
            t, dt, x, y, z, cell, _ = steps_of(
                lane, near, step, linear, jitter, ox, oy, oz, dx, dy, dz, lx, ly, lz, sx, sy, sz, scale, SIZE, OPEN, 1
            )
            hit = _hits(bits_ptr, cell, lane < n_steps)
            rank = found + tl.cumsum(hit, 0) - 1
            write = (hit == 1) & (rank < K)
            at = slot * K + rank
            tl.store(t_ptr + at, t, mask=write)
            tl.store(dt_ptr + at, dt, mask=write)
            tl.store(ray_ids_ptr + at, tl.zeros((LANES,), tl.int32) + ray, mask=write)
            if MOVED:
                other = tl.load(source_ptr + cell, mask=write, other=0).to(tl.int32)
                x += (other % SIZE - cell % SIZE).to(tl.float32) * wx
                y += (other // SIZE % SIZE - cell // SIZE % SIZE).to(tl.float32) * wy
                z += (other // (SIZE * SIZE) - cell // (SIZE * SIZE)).to(tl.float32) * wz
            tl.store(unit_ptr + at * 3, x, mask=write)
            tl.store(unit_ptr + at * 3 + 1, y, mask=write)
            tl.store(unit_ptr + at * 3 + 2, z, mask=write)
            last = tl.max(tl.where(write & (rank == K - 1), lane + 1, 0), 0)
            after = tl.where(last > 0, last, after)
            found += tl.sum(hit, 0)
            k += LANES
        tl.store(next_ptr + ray, after)
        for j in range(0, K, LANES):
            rank = j + tl.arange(0, LANES)
            empty = (rank >= found) & (rank < K)
            at = slot * K + rank
            tl.store(t_ptr + at, tl.zeros((LANES,), tl.float32) - 1, mask=empty)
            tl.store(ray_ids_ptr + at, tl.zeros((LANES,), tl.int32) + ray, mask=empty)
            for axis in tl.static_range(3):
                tl.store(unit_ptr + at * 3 + axis, tl.zeros((LANES,), tl.float32), mask=empty)


@triton.jit
def blend_kernel(
    sigma_ptr, rgb_ptr, t_ptr, dt_ptr, list_ptr, number_ptr, onward_ptr, onward_number_ptr, passed_ptr, out_rgb_ptr,
    depth_ptr, room, stop, K: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """Add the samples to the pixels, and list the rays that go on."""
    number = tl.load(number_ptr)
    for first in range(tl.program_id(0) * SLOTS, number, tl.num_programs(0) * SLOTS):
        slot = first + tl.arange(0, SLOTS)
        here = slot < tl.minimum(number, room)
        waiting = (slot >= room) & (slot < number)
        ray = tl.load(list_ptr + slot, mask=slot < number, other=0)
        at = slot[:, None] * K + tl.arange(0, K)[None, :]
        t = tl.load(t_ptr + at, mask=here[:, None], other=-1.0)
        live = t >= 0
        tau = tl.load(sigma_ptr + at, mask=live, other=0.0) * tl.load(dt_ptr + at, mask=live, other=0.0)
        front = tl.load(passed_ptr + ray, mask=here, other=0.0)
        w = front[:, None] * tl.exp(tau - tl.cumsum(tau, 1)) * (1 - tl.exp(-tau))
        w = tl.where(live, w, 0.0)
        passed = front * tl.exp(-tl.sum(tau, 1))
        tl.store(passed_ptr + ray, passed, mask=here)
        for channel in tl.static_range(3):
            colour = tl.load(rgb_ptr + at * 3 + channel, mask=live, other=0.0)
            sum_ptr = out_rgb_ptr + ray * 3 + channel
            tl.store(sum_ptr, tl.load(sum_ptr, mask=here, other=0.0) + tl.sum(w * colour, 1), mask=here)
        depth = tl.load(depth_ptr + ray, mask=here, other=0.0) + tl.sum(w * t, 1)
        tl.store(depth_ptr + ray, depth, mask=here)
        full = tl.sum(live.to(tl.int32), 1) == K  # fewer samples mean that the ray is at its end
        onward = ((here & full & (passed > stop)) | waiting).to(tl.int32)
        base = tl.atomic_add(onward_number_ptr, tl.sum(onward, 0))
        tl.store(onward_ptr + base + tl.cumsum(onward, 0) - 1, ray, mask=onward == 1)


class Advance:
    """See `types.Way`. What is past the room of a pass waits for the next one."""

    passes: tuple[int, ...] = (4, 4, 8, 16, 32, 64)  # most rays end soon, a few go on

    def __init__(self, rays: Rays, bits: Tensor, aabb: Tensor, stride: Stride, room: int, source: Tensor | None = None):
        n, device = len(rays), rays.near.device
        self.rays = rays.origins.contiguous(), rays.directions.contiguous(), rays.near, rays.far
        self.grid, self.source = (bits, aabb), source
        self.room = room
        self.stride = stride.step, stride.linear or 0.0, 1 / stride.side, 0.5
        self.options: dict[str, int] = {
            "SIZE": stride.size,
            "OPEN": stride.linear is not None,
            "LANES": LANES,
            "num_warps": 1,
        }
        self.next = torch.empty(n, dtype=torch.int32, device=device)
        self.lists = [torch.empty(n, dtype=torch.int32, device=device) for _ in range(2)]
        self.numbers = [torch.zeros(1, dtype=torch.int32, device=device) for _ in range(2)]
        self.passed, self.rgb = torch.ones(n, device=device), torch.zeros(n, 3, device=device)
        self.depth = torch.zeros(n, device=device)
        self.t, self.dt = torch.empty(room, device=device), torch.empty(room, device=device)
        self.unit = torch.empty(room, 3, device=device)
        self.ray_ids = torch.zeros(room, dtype=torch.int32, device=device)
        self.count = torch.zeros(1, dtype=torch.int32, device=device)
        if n:
            find_kernel[(min(n, 4 * PROGRAMS),)](*self.rays, *self.grid, self.next, n, *self.stride, **self.options)
            list_kernel[(triton.cdiv(n, 1024),)](self.next, self.lists[0], self.numbers[0], n, BLOCK=1024, num_warps=4)

    def fill(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        fill_kernel[(min(len(self.next), PROGRAMS),)](
            *self.rays, *self.grid, self.lists[0], *self.numbers, self.next,
            self.lists[0] if self.source is None else self.source, self.t, self.dt, self.ray_ids, self.unit, self.count,
            self.room // k, *self.stride, K=k, MOVED=self.source is not None, **self.options,
        )  # fmt: skip
        return self.unit, self.ray_ids, self.count

    def blend(self, sigma: Tensor, rgb: Tensor, k: int, stop: float) -> None:
        slots = max(128 // k, 1)
        blend_kernel[(min(triton.cdiv(len(self.next), slots), PROGRAMS),)](
            sigma, rgb, self.t, self.dt, self.lists[0], self.numbers[0], self.lists[1], self.numbers[1], self.passed,
            self.rgb, self.depth, self.room // k, stop, K=k, SLOTS=slots, num_warps=4,
        )  # fmt: skip
        self.lists.reverse()
        self.numbers.reverse()

    def left(self) -> int:
        return int(self.numbers[0])
