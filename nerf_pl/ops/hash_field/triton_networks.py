"""The two small networks behind a hash grid, each pass in one kernel; see `reference.field` for what they compute.

A program keeps all weights on chip and walks over blocks of samples; nothing but inputs and outputs travels. The
backward kernel computes the forward pass again and gathers the gradients of all weights in registers. Forward products
are in the type of the features (float16), backward ones in bfloat16, whose range needs no loss scaling; sums are
float32.
"""

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_pl.ops.hash_field.reference import MAX_RAW
from nerf_pl.ops.hash_field.types import Listed
from nerf_pl.ops.layout import FieldLayout

FORWARD, BACKWARD = (128, 4, 4), (128, 8, 1)  # samples of a block, warps, programs on a multiprocessor
NARROW = {FORWARD: (64, 8, 4), BACKWARD: (64, 8, 1)}
"""Where products accumulate in a tensor memory of 512 columns: on Blackwell GPUs in data centres. Larger blocks need
more (docs/log.md)."""
WITH_TENSOR_MEMORY = range(100, 120)  # Triton's numbers of architectures
REGISTERS = {80: {"maxnreg": 255}}
"""Of a thread of the backward kernel, where the assembler takes 32 unless it is told: on the A100 (docs/log.md)."""


@triton.jit
def matrix(params_ptr, OUT: tl.constexpr, IN: tl.constexpr, OUT_P: tl.constexpr, IN_P: tl.constexpr):
    """A weight matrix (OUT, IN), filled up with zeros."""
    row, column = tl.arange(0, OUT_P)[:, None], tl.arange(0, IN_P)[None, :]
    return tl.load(params_ptr + row * IN + column, mask=(row < OUT) & (column < IN), other=0.0)


@triton.jit
def _rows(ptr, rows, live, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    column = tl.arange(0, PADDED)[None, :]
    return tl.load(ptr + rows[:, None] * WIDTH + column, mask=live[:, None] & (column < WIDTH), other=0.0)


@triton.jit
def _view(view_ptr, ray_ptr, samples, live, VIEW: tl.constexpr, OWN: tl.constexpr):
    """The encoded directions of samples: those of their rays, unless each sample has its OWN."""
    rows = samples
    if not OWN:
        rows = tl.load(ray_ptr + samples, mask=live, other=0)
    return _rows(view_ptr, rows, live, VIEW, VIEW)


@triton.jit
def _dot(a, b):
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def field_kernel(
    x_ptr, view_ptr, ray_ptr, params_ptr, sigma_ptr, rgb_ptr, count_ptr, n, MAX: tl.constexpr,
    INPUTS: tl.constexpr, PADDED: tl.constexpr, HIDDEN: tl.constexpr, OUTPUTS: tl.constexpr, VIEW: tl.constexpr,
    COLOUR: tl.constexpr, AT_D1: tl.constexpr, AT_C0: tl.constexpr, AT_V: tl.constexpr, AT_C1: tl.constexpr,
    AT_C2: tl.constexpr, WITH_COLOUR: tl.constexpr, COUNTED: tl.constexpr, OWN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    half = x_ptr.dtype.element_ty
    if COUNTED:
        n = tl.minimum(tl.load(count_ptr).to(tl.int32), n)
    d0 = matrix(params_ptr, HIDDEN, INPUTS, HIDDEN, PADDED).to(half)
    d1 = matrix(params_ptr + AT_D1, OUTPUTS, HIDDEN, OUTPUTS, HIDDEN).to(half)
    if WITH_COLOUR:
        c0 = matrix(params_ptr + AT_C0, COLOUR, OUTPUTS, COLOUR, OUTPUTS).to(half)
        v = matrix(params_ptr + AT_V, COLOUR, VIEW, COLOUR, VIEW).to(half)
        c1 = matrix(params_ptr + AT_C1, COLOUR, COLOUR, COLOUR, COLOUR).to(half)
        c2 = matrix(params_ptr + AT_C2, 3, COLOUR, 16, COLOUR).to(half)
    for start in range(tl.program_id(0) * BLOCK, n, tl.num_programs(0) * BLOCK):
        rows = start + tl.arange(0, BLOCK)
        live = rows < n
        x = _rows(x_ptr, rows, live, INPUTS, PADDED)
        h = tl.maximum(_dot(x, tl.trans(d0)), 0.0).to(half)
        out = _dot(h, tl.trans(d1))  # (BLOCK, OUTPUTS)
        raw = tl.sum(tl.where(tl.arange(0, OUTPUTS)[None, :] == 0, out, 0.0), 1)
        tl.store(sigma_ptr + rows, tl.exp(tl.minimum(raw, MAX)), mask=live)
        if WITH_COLOUR:
            view = _view(view_ptr, ray_ptr, rows, live, VIEW, OWN)
            h = tl.maximum(_dot(out.to(half), tl.trans(c0)) + _dot(view, tl.trans(v)), 0.0).to(half)
            h = tl.maximum(_dot(h, tl.trans(c1)), 0.0).to(half)
            rgb = tl.sigmoid(_dot(h, tl.trans(c2)))  # (BLOCK, 16), of which 3
            column = tl.arange(0, 16)[None, :]
            tl.store(rgb_ptr + rows[:, None] * 3 + column, rgb, mask=live[:, None] & (column < 3))


@triton.jit
def field_backward_kernel(
    x_ptr, view_ptr, ray_ptr, params_ptr, order_ptr, d_sigma_ptr, d_rgb_ptr, dx_ptr, parts_ptr, count_ptr, n,
    MAX: tl.constexpr, INPUTS: tl.constexpr, PADDED: tl.constexpr, HIDDEN: tl.constexpr, OUTPUTS: tl.constexpr,
    VIEW: tl.constexpr, COLOUR: tl.constexpr, AT_D1: tl.constexpr, AT_C0: tl.constexpr, AT_V: tl.constexpr,
    AT_C1: tl.constexpr, AT_C2: tl.constexpr, TOTAL: tl.constexpr, OWN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    half = x_ptr.dtype.element_ty
    wide = dx_ptr.dtype.element_ty
    n = tl.minimum(tl.load(count_ptr).to(tl.int32), n)
    d0 = matrix(params_ptr, HIDDEN, INPUTS, HIDDEN, PADDED)
    d1 = matrix(params_ptr + AT_D1, OUTPUTS, HIDDEN, OUTPUTS, HIDDEN)
    c0 = matrix(params_ptr + AT_C0, COLOUR, OUTPUTS, COLOUR, OUTPUTS)
    v = matrix(params_ptr + AT_V, COLOUR, VIEW, COLOUR, VIEW).to(half)
    c1 = matrix(params_ptr + AT_C1, COLOUR, COLOUR, COLOUR, COLOUR)
    c2 = matrix(params_ptr + AT_C2, 3, COLOUR, 16, COLOUR)
    d0_half, d1_half, c0_half, c1_half, c2_half = d0.to(half), d1.to(half), c0.to(half), c1.to(half), c2.to(half)
    d0, d1, c0, c1, c2 = d0.to(wide), d1.to(wide), c0.to(wide), c1.to(wide), c2.to(wide)
    g_d0 = tl.zeros((HIDDEN, PADDED), tl.float32)
    g_d1 = tl.zeros((HIDDEN, OUTPUTS), tl.float32)  # transposed, since tensor cores want many rows
    # these two have so few rows that their products need no descriptors of shared memory. In those, the assembler of
    # Triton 3.6 reads an address that is not there, where directions are 32 wide and COLOUR is 128 (docs/log.md)
    g_c0 = tl.zeros((OUTPUTS, COLOUR), tl.float32)
    g_v = tl.zeros((VIEW, COLOUR), tl.float32)
    g_c1 = tl.zeros((COLOUR, COLOUR), tl.float32)
    g_c2 = tl.zeros((COLOUR, 16), tl.float32)  # transposed
    # addresses that the compiler works out before the loop would take registers all through it
    for start in tl.range(tl.program_id(0) * BLOCK, n, tl.num_programs(0) * BLOCK, disable_licm=True):
        rows = start + tl.arange(0, BLOCK)
        live = rows < n
        sample = tl.load(order_ptr + rows, mask=live, other=0)
        x = _rows(x_ptr, sample, live, INPUTS, PADDED)
        h = tl.maximum(_dot(x, tl.trans(d0_half)), 0.0).to(half)
        out = _dot(h, tl.trans(d1_half))
        first = tl.arange(0, OUTPUTS)[None, :] == 0
        raw = tl.sum(tl.where(first, out, 0.0), 1)
        geo = out.to(half)
        view = _view(view_ptr, ray_ptr, sample, live, VIEW, OWN)
        h0 = tl.maximum(_dot(geo, tl.trans(c0_half)) + _dot(view, tl.trans(v)), 0.0).to(half)
        h1 = tl.maximum(_dot(h0, tl.trans(c1_half)), 0.0).to(half)
        rgb = tl.sigmoid(_dot(h1, tl.trans(c2_half)))

        d_rgb = _rows(d_rgb_ptr, rows, live, 3, 16)
        g = (d_rgb * rgb * (1 - rgb)).to(wide)  # (BLOCK, 16)
        g_c2 = tl.dot(tl.trans(h1.to(wide)), g, g_c2, input_precision="ieee")
        g = tl.where(h1 > 0, _dot(g, c2), 0.0).to(wide)
        # h0, and below h, are computed again: kept until here they would not fit into the registers. Without the
        # barrier the compiler would take what is loaded for what it has. The sum is in another order than above, or it
        # would keep the product of geo
        tl.debug_barrier()
        sample = tl.load(order_ptr + rows, mask=live, other=0)
        view = _view(view_ptr, ray_ptr, sample, live, VIEW, OWN)
        h0 = tl.maximum(_dot(view, tl.trans(v)) + _dot(geo, tl.trans(c0_half)), 0.0).to(half)
        g_c1 = tl.dot(tl.trans(g), h0.to(wide), g_c1, input_precision="ieee")
        g = tl.where(h0 > 0, _dot(g, c1), 0.0).to(wide)
        g_v = tl.dot(tl.trans(view.to(wide)), g, g_v, input_precision="ieee")
        g_c0 = tl.dot(tl.trans(geo.to(wide)), g, g_c0, input_precision="ieee")
        # exp is its own derivative, and past MAX the density stays
        d_raw = tl.load(d_sigma_ptr + rows, mask=live, other=0.0) * tl.where(raw < MAX, tl.exp(raw), 0.0)
        g = (_dot(g, c0) + tl.where(first, d_raw[:, None], 0.0)).to(wide)  # (BLOCK, OUTPUTS)
        tl.debug_barrier()  # as above
        sample = tl.load(order_ptr + rows, mask=live, other=0)
        x = _rows(x_ptr, sample, live, INPUTS, PADDED)
        h = tl.maximum(_dot(x, tl.trans(d0_half)), 0.0).to(half)
        g_d1 = tl.dot(tl.trans(h.to(wide)), g, g_d1, input_precision="ieee")
        g = tl.where(h > 0, _dot(g, d1), 0.0).to(wide)
        g_d0 = tl.dot(tl.trans(g), x.to(wide), g_d0, input_precision="ieee")
        dx = _dot(g, d0)
        column = tl.arange(0, PADDED)[None, :]
        tl.store(dx_ptr + rows[:, None] * INPUTS + column, dx, mask=live[:, None] & (column < INPUTS))
    parts_ptr += tl.program_id(0) * TOTAL
    hidden, column = tl.arange(0, HIDDEN)[:, None], tl.arange(0, PADDED)[None, :]
    tl.store(parts_ptr + hidden * INPUTS + column, g_d0, mask=column < INPUTS)
    output = tl.arange(0, OUTPUTS)[None, :]
    tl.store(parts_ptr + AT_D1 + output * HIDDEN + hidden, g_d1)
    row, across = tl.arange(0, COLOUR)[:, None], tl.arange(0, COLOUR)[None, :]
    tl.store(parts_ptr + AT_C0 + across * OUTPUTS + tl.arange(0, OUTPUTS)[:, None], g_c0)
    tl.store(parts_ptr + AT_V + across * VIEW + tl.arange(0, VIEW)[:, None], g_v)
    tl.store(parts_ptr + AT_C1 + row * COLOUR + across, g_c1)
    channel = tl.arange(0, 16)[None, :]
    tl.store(parts_ptr + AT_C2 + channel * COLOUR + row, g_c2, mask=channel < 3)


def _tile(usual: tuple[int, int, int]) -> tuple[int, int, int]:
    """Samples of a block, warps and programs on a multiprocessor of this GPU."""
    return NARROW[usual] if _architecture() in WITH_TENSOR_MEMORY else usual


def _architecture() -> int | str | None:
    """Triton's number or name of this GPU; None if kernels are interpreted."""
    compiled = isinstance(field_kernel, triton.JITFunction)
    return triton.runtime.driver.active.get_current_target().arch if compiled else None


def _programs(device: torch.device, n: int, block: int, each: int) -> int:
    """As many programs as run at a time: more would load the weights more often."""
    return max(min(each * multiprocessors(device), triton.cdiv(n, block)), 1)


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """How many a GPU has; 1 if kernels are interpreted."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def density_sizes(layout: FieldLayout) -> dict[str, int]:
    """What a kernel must know of the network in front of the colours."""
    return {"INPUTS": layout.inputs, "HIDDEN": layout.hidden, "MAX": MAX_RAW, "AT_D1": layout.offsets["density_1"]}


def _sizes(layout: FieldLayout) -> dict[str, int]:
    at = layout.offsets
    return {
        "MAX": MAX_RAW, "INPUTS": layout.inputs, "PADDED": max(triton.next_power_of_2(layout.inputs), 16),
        "HIDDEN": layout.hidden, "OUTPUTS": layout.outputs, "VIEW": layout.view, "COLOUR": layout.colour_hidden,
        "AT_D1": at["density_1"], "AT_C0": at["colour_0"], "AT_V": at["view"], "AT_C1": at["colour_1"],
        "AT_C2": at["colour_2"],
    }  # fmt: skip


def forward(features, view, ray_ids, params, layout, count) -> tuple[Tensor, Tensor | None]:
    """Densities (N,) and, unless `view` is None, colours (N, 3). view: of rays; of samples if ray_ids is None."""
    n, device = features.shape[0], features.device
    sigma = torch.empty(n, device=device)
    rgb = None if view is None else torch.empty(n, 3, device=device)
    if n:
        given = features if view is None else view
        block, warps, each = _tile(FORWARD)
        field_kernel[(_programs(device, n, block, each),)](
            features, given, features if ray_ids is None else ray_ids, params, sigma, sigma if rgb is None else rgb,
            features if count is None else count, n, WITH_COLOUR=rgb is not None, COUNTED=count is not None,
            OWN=ray_ids is None, BLOCK=block, num_warps=warps, num_stages=1, **_sizes(layout),
        )  # fmt: skip
    return sigma, rgb


def backward(features, view, ray_ids, params, layout, listed: Listed) -> tuple[Tensor, Tensor]:
    """Gradients of the features of the listed samples (M, inputs), in bfloat16 if features are in half precision, and
    of the weights. view: see `forward`."""
    n, device = listed.order.shape[0], features.device
    wide = torch.float32 if features.dtype == torch.float32 else torch.bfloat16
    d_features = torch.empty(n, layout.inputs, dtype=wide, device=device)
    block, warps, each = _tile(BACKWARD)
    programs = _programs(device, n, block, each)
    parts = torch.empty(programs, layout.total, device=device)
    rays = listed.order if ray_ids is None else ray_ids
    field_backward_kernel[(programs,)](
        features, view, rays, params, listed.order, listed.d_sigma, listed.d_rgb, d_features, parts, listed.count, n,
        TOTAL=layout.total, OWN=ray_ids is None, BLOCK=block, num_warps=warps, num_stages=1, **_sizes(layout),
        **REGISTERS.get(_architecture(), {}),
    )  # fmt: skip
    return d_features, parts.sum(0)
