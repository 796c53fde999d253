"""Steps along rays through an occupancy grid, as marching and rendering both take them; for use in their kernels."""

import triton
import triton.language as tl

LANES = 32  # steps at a time
PROGRAMS = 4096  # a program that finds nothing to do costs as much as a short ray, so each takes many


@triton.jit
def _clip(origin, direction, low, high, near, far):
    """near and far of the part of a ray that lies between two planes across one axis."""
    inverse = 1 / tl.where(tl.abs(direction) < 1e-9, 1e-9, direction)
    a, b = (low - origin) * inverse, (high - origin) * inverse
    return tl.maximum(near, tl.minimum(a, b)), tl.minimum(far, tl.maximum(a, b))


@triton.jit
def ray_of(
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
def steps_of(
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
def box_of(aabb_ptr, SIZE: tl.constexpr):
    """Lowest corner of the box, and SIZE over its sides."""
    lx, ly, lz = tl.load(aabb_ptr), tl.load(aabb_ptr + 1), tl.load(aabb_ptr + 2)
    sx, sy = SIZE / (tl.load(aabb_ptr + 3) - lx), SIZE / (tl.load(aabb_ptr + 4) - ly)
    return lx, ly, lz, sx, sy, SIZE / (tl.load(aabb_ptr + 5) - lz)
