# pyright: reportCallIssue=false
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
PROGRAMS = 2048  # on each level, of the encoding


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
        entry, weight = _vertices(xyz_ptr, rows, live, levels_ptr + level * 4)
        feature = tl.arange(0, FEATURES)
        at = entry[:, :, None] * FEATURES + feature[None, None, :]
        values = tl.load(table_ptr + at, mask=live[:, None, None]).to(tl.float32)
        encoded = tl.sum(values * weight[:, :, None], 1)  # (BLOCK, FEATURES)
        out = out_ptr + rows[:, None] * width + level * FEATURES + feature[None, :]
        tl.store(out, encoded, mask=live[:, None])


@triton.jit
def encode_backward_kernel(
    xyz_ptr, grad_ptr, levels_ptr, d_table_ptr, count_ptr, n, width,
    FEATURES: tl.constexpr, COUNTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    level = tl.program_id(1)
    if COUNTED:
        n = tl.minimum(tl.load(count_ptr).to(tl.int32), n)
    start = tl.program_id(0) * BLOCK
    if start < n:
        rows = start + tl.arange(0, BLOCK)
        live = rows < n
        feature = tl.arange(0, FEATURES)
        grad = tl.load(
            grad_ptr + rows[:, None] * width + level * FEATURES + feature[None, :], mask=live[:, None], other=0.0
        ).to(tl.float32)
        # most samples in front of or behind a surface carry no gradient worth an atomic addition
        live = live & (tl.max(tl.abs(grad), 1) > 0)
        entry, weight = _vertices(xyz_ptr, rows, live, levels_ptr + level * 4)
        at = entry[:, :, None] * FEATURES + feature[None, None, :]
        value = weight[:, :, None] * grad[:, None, :]
        tl.atomic_add(d_table_ptr + at, value, mask=live[:, None, None], sem="relaxed")


@functools.cache
def _levels(layout: GridLayout, device: torch.device) -> Tensor:
    return layout.table(device)


def encode(xyz: Tensor, values: Tensor, layout: GridLayout, count: Tensor | None) -> Tensor:
    """Features of points (N, 3), in the type of the entries `values`."""
    n, (block, warps) = xyz.shape[0], FORWARD
    out = torch.empty(n, layout.width, dtype=values.dtype, device=xyz.device)
    if n:
        encode_kernel[(min(triton.cdiv(n, block), PROGRAMS), layout.levels)](
            xyz, values, _levels(layout, xyz.device), out, xyz if count is None else count, n, layout.width,
            FEATURES=layout.features, COUNTED=count is not None, BLOCK=block, num_warps=warps,
        )  # fmt: skip
    return out


def encode_backward(xyz: Tensor, grad: Tensor, shape: torch.Size, layout: GridLayout, count: Tensor | None) -> Tensor:
    """The gradient of the table, of this shape, in float32."""
    n, (block, warps) = xyz.shape[0], BACKWARD
    d_table = torch.zeros(shape, device=xyz.device)
    if n:
        encode_backward_kernel[(triton.cdiv(n, block), layout.levels)](
            xyz, grad, _levels(layout, xyz.device), d_table, xyz if count is None else count, n, layout.width,
            FEATURES=layout.features, COUNTED=count is not None, BLOCK=block, num_warps=warps,
        )  # fmt: skip
    return d_table


class _HashGrid(torch.autograd.Function):
    @staticmethod
    def forward(ctx, xyz, table, layout):
        ctx.save_for_backward(xyz)
        ctx.layout, ctx.shape = layout, table.shape
        return encode(xyz, table, layout, None)

    @staticmethod
    def backward(ctx, *grads):
        (xyz,) = ctx.saved_tensors
        return None, encode_backward(xyz, grads[0].contiguous(), ctx.shape, ctx.layout, None), None


def hash_grid(xyz: Tensor, table: Tensor, layout: GridLayout) -> Tensor:
    return _HashGrid.apply(xyz.contiguous(), table, layout)  # pyright: ignore[reportReturnType]
