"""The hash-grid encoding and its gradient; see `reference.hash_grid` for what is computed.

A program takes a block of samples on one level, all eight vertices at once: adjacent lanes ask for neighbouring
entries, and the features of an entry travel as one vector, in the gradient's atomic additions too (on Hopper).
"""

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_pl.ops.layout import GridLayout

FORWARD, BACKWARD = (128, 4), (128, 4)  # samples and warps of a program
PROGRAMS = 2048  # on each level
CROWDED = 2**17  # levels of fewer entries get copies of their gradient


@triton.jit
def _vertices(xyz_ptr, rows, live, level_ptr):
    """Entries (BLOCK, 8) of the eight vertices around each point on a level, and their weights."""
    resolution = tl.load(level_ptr)
    offset = tl.load(level_ptr + 1)
    size = tl.load(level_ptr + 2)
    dense = tl.load(level_ptr + 3) == 1
    corner = tl.arange(0, 8)[None, :]
    weight = tl.full((1, 8), 1.0, tl.float32)
    hashed = tl.zeros((1, 8), tl.uint32)
    linear = tl.zeros((1, 8), tl.int32)
    stride = 1
    for axis in tl.static_range(3):
        p = tl.load(xyz_ptr + rows * 3 + axis, mask=live, other=0.0)
        scaled = tl.minimum(tl.maximum(p, 0.0), 1.0) * resolution.to(tl.float32)
        cell = tl.minimum(tl.floor(scaled), resolution.to(tl.float32) - 1)
        fraction = (scaled - cell)[:, None]
        bit = (corner >> axis) & 1
        weight = weight * tl.where(bit == 1, fraction, 1 - fraction)
        vertex = cell.to(tl.int32)[:, None] + bit
        if axis == 0:
            hashed = vertex.to(tl.uint32)
        elif axis == 1:
            hashed = hashed ^ (vertex.to(tl.uint32) * 2654435761)
        else:
            hashed = hashed ^ (vertex.to(tl.uint32) * 805459861)
        linear = linear + vertex * stride
        stride = stride * (resolution + 1)
    entry = tl.where(dense, linear, (hashed & (size - 1).to(tl.uint32)).to(tl.int32))
    return entry + offset, weight


@triton.jit
def encode_kernel(
    xyz_ptr, table_ptr, levels_ptr, out_ptr, count_ptr, n, width,
    FEATURES: tl.constexpr, COUNTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    level = tl.program_id(1)
    if COUNTED:
        n = tl.minimum(tl.load(count_ptr).to(tl.int32), n)
    # a program that finds nothing to do costs as well, so each takes several blocks where n is an upper bound
    for start in range(tl.program_id(0) * BLOCK, n, tl.num_programs(0) * BLOCK):
        rows = start + tl.arange(0, BLOCK)
        live = rows < n
        entry, weight = _vertices(xyz_ptr, rows, live, levels_ptr + level * 6)
        feature = tl.arange(0, FEATURES)
        at = entry[:, :, None] * FEATURES + feature[None, None, :]
        values = tl.load(table_ptr + at, mask=live[:, None, None]).to(tl.float32)
        encoded = tl.sum(values * weight[:, :, None], 1)  # (BLOCK, FEATURES)
        out = out_ptr + rows[:, None] * width + level * FEATURES + feature[None, :]
        tl.store(out, encoded, mask=live[:, None])


@triton.jit
def encode_backward_kernel(
    xyz_ptr, order_ptr, grad_ptr, values_ptr, levels_ptr, d_table_ptr, count_ptr, n, width, smoothness,
    SMOOTH: tl.constexpr, FEATURES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    level = tl.program_id(1)
    n = tl.minimum(tl.load(count_ptr).to(tl.int32), n)
    for start in range(tl.program_id(0) * BLOCK, n, tl.num_programs(0) * BLOCK):
        rows = start + tl.arange(0, BLOCK)
        live = rows < n
        feature = tl.arange(0, FEATURES)
        at = rows[:, None] * width + level * FEATURES + feature[None, :]
        grad = tl.load(grad_ptr + at, mask=live[:, None], other=0.0).to(tl.float32)
        sample = tl.load(order_ptr + rows, mask=live, other=0)
        entry, weight = _vertices(xyz_ptr, sample, live, levels_ptr + level * 6)
        value = weight[:, :, None] * grad[:, None, :]
        if SMOOTH:
            at = entry[:, :, None] * FEATURES + feature[None, None, :]
            held = tl.load(values_ptr + at, mask=live[:, None, None], other=0.0).to(tl.float32)
            value += (held - tl.sum(held, 1)[:, None, :] / 8) * (smoothness / n)
        # programs share out the copies of a small level, lest all of them add to the same few entries
        copy = tl.program_id(0) & (tl.load(levels_ptr + level * 6 + 5) - 1)
        entry += tl.load(levels_ptr + level * 6 + 4) + copy * tl.load(levels_ptr + level * 6 + 2)
        at = entry[:, :, None] * FEATURES + feature[None, None, :]
        tl.atomic_add(d_table_ptr + at, value, mask=live[:, None, None], sem="relaxed")


def _copies(layout: GridLayout) -> list[int]:
    """Copies of the gradient of each level: atomic additions to one address wait for each other."""
    return [min(16, 2 ** max((CROWDED // size).bit_length() - 1, 0)) for size in layout.sizes]


@functools.cache
def level_table(layout: GridLayout, device: torch.device) -> Tensor:
    """(levels, 6) int32: `GridLayout.table`, then how much further the copies lie than the entries, and their number.
    The copies of all levels that have some follow the table."""
    table, end, rows = layout.table(torch.device("cpu")), layout.total, []
    for level, copies in enumerate(_copies(layout)):
        rows.append([end - layout.offsets[level] if copies > 1 else 0, copies])
        end += copies * layout.sizes[level] if copies > 1 else 0
    return torch.cat([table, torch.tensor(rows, dtype=torch.int32)], 1).to(device)


def encode(xyz: Tensor, values: Tensor, layout: GridLayout, count: Tensor | None) -> Tensor:
    """Features of points (N, 3), in the type of the entries `values`."""
    n, (block, warps) = xyz.shape[0], FORWARD
    out = torch.empty(n, layout.width, dtype=values.dtype, device=xyz.device)
    if n:
        encode_kernel[(min(triton.cdiv(n, block), PROGRAMS), layout.levels)](
            xyz, values, level_table(layout, xyz.device), out, xyz if count is None else count, n, layout.width,
            FEATURES=layout.features, COUNTED=count is not None, BLOCK=block, num_warps=warps,
        )  # fmt: skip
    return out


def encode_backward(
    xyz: Tensor, order: Tensor, grad: Tensor, layout: GridLayout, count: Tensor, values: Tensor, smoothness: float
) -> Tensor:
    """The gradient of the table (total, features), in float32.

    grad: (M, width), of which the first `count` rows belong to the points that `order` names. That of `smoothness`
    times the unweighted `losses.smoothness` of the entries `values` at these points is added.
    """
    n, (block, warps) = order.shape[0], BACKWARD
    copies = _copies(layout)
    extra = sum(c * size for c, size in zip(copies, layout.sizes, strict=True) if c > 1)
    d_table = torch.zeros(layout.total + extra, layout.features, device=xyz.device)
    if n:
        encode_backward_kernel[(min(triton.cdiv(n, block), PROGRAMS), layout.levels)](
            xyz, order, grad, values, level_table(layout, xyz.device), d_table, count, n, layout.width, smoothness,
            SMOOTH=smoothness > 0, FEATURES=layout.features, BLOCK=block, num_warps=warps,
        )  # fmt: skip
    at = layout.total
    for level, size in enumerate(layout.sizes):
        if copies[level] > 1:
            own = d_table[layout.offsets[level] : layout.offsets[level] + size]
            torch.sum(d_table[at : at + copies[level] * size].view(-1, size, layout.features), 0, out=own)
            at += copies[level] * size
    return d_table[: layout.total]
