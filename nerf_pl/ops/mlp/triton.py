"""The kernels of the 2020 network: the frequency encoding, and the fused network as one differentiable op.

The network's forward pass keeps no activations. Its backward pass computes the samples that it visits (see `visiting`)
again, with activations kept, and differentiates them, a chunk at a time. Memory stays small and bounded, and no launch
depends on the number of listed samples, so that a CUDA graph can hold it all.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from nerf_pl.ops.layout import MLPLayout, encoded_width
from nerf_pl.ops.mlp import FUSED_WIDTHS
from nerf_pl.ops.mlp import triton_mlp as kernels
from nerf_pl.ops.mlp.visiting import drawn, listed

BLOCK = 128  # rows of a tile
CHUNK = 33024  # rows whose activations and gradients exist at the same time: 320 MB at full width
SPLITS = 6  # shares of the weight gradients' reduction: with 22 jobs of the full network, one wave on 132 processors


@triton.jit
def _sine(x, quarter_turns):
    """sin(x + quarter_turns pi / 2) to a few 1e-7, for |x| up to some 10^4; no branch, unlike the library's.

    x is reduced by multiples of pi/2 in three pieces (Cody and Waite 1980), then one of two short polynomials serves
    (coefficients of the Cephes library, single precision).
    """
    turns = tl.floor(x * 0.6366197723675814 + 0.5)
    r = ((x - turns * 1.5703125) - turns * 4.837512969970703e-4) - turns * 7.549789954891882e-8
    r2 = r * r
    sine = r + r * r2 * (-1.6666654611e-1 + r2 * (8.3321608736e-3 - r2 * 1.9515295891e-4))
    cosine = 1 - 0.5 * r2 + r2 * r2 * (4.166664568298827e-2 + r2 * (-1.388731625493765e-3 + r2 * 2.443315711809948e-5))
    quadrant = turns.to(tl.int32) + quarter_turns
    value = tl.where((quadrant & 1) == 1, cosine, sine)
    return tl.where((quadrant & 2) == 2, -value, value)


@triton.jit
def frequency_kernel(x_ptr, out_ptr, n, row_stride, FREQS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.arange(0, WIDTH)
    # Column 3 + 6 k + 3 [cos] + coordinate. In floats, since Triton 3.6 was seen to compile integer division by 6
    # wrongly here (for n divisible by 16); columns 0 to 2 come out as coordinates 0 to 2, too.
    wave = column.to(tl.float32) - 3
    k = tl.floor((wave + 0.5) * 0.16666667)
    place = wave - 6 * k
    quarter_turns = tl.where(place > 2.5, 1, 0)
    coordinate = place.to(tl.int32) - 3 * quarter_turns
    # a kernel's block is a power of two; the rest of it lies beyond the row
    mask = (rows < n)[:, None] & (column < row_stride)[None, :]
    x = tl.load(x_ptr + rows[:, None] * 3 + coordinate[None, :], mask=mask, other=0.0)
    encoded = _sine(x * tl.exp2(k)[None, :], quarter_turns[None, :])
    encoded = tl.where((column < 3)[None, :], x, encoded)
    encoded = tl.where((column < 3 + 6 * FREQS)[None, :], encoded, 0.0)
    tl.store(out_ptr + rows.to(tl.int64)[:, None] * row_stride + column[None, :], encoded, mask=mask)


def frequency(x: Tensor, n_freqs: int, dtype: torch.dtype) -> Tensor:
    if x.requires_grad:
        raise ValueError("the kernel of the frequency encoding gives no gradient of x: use NERF_PL_OPS=reference")
    width = encoded_width(n_freqs)
    out = torch.empty(x.shape[0], width, dtype=dtype, device=x.device)
    if x.shape[0]:
        frequency_kernel[(triton.cdiv(x.shape[0], 64),)](
            x.contiguous(), out, x.shape[0], width, n_freqs, triton.next_power_of_2(width), BLOCK=64
        )
    return out


def nerf_mlp(
    xyz: Tensor, dirs: Tensor | None, params: Tensor, layout: MLPLayout, visited: float = 1.0
) -> tuple[Tensor, Tensor | None]:
    if xyz.requires_grad or (dirs is not None and dirs.requires_grad):
        raise ValueError("the fused network gives no gradient of its inputs: use NERF_PL_OPS=reference")
    if layout.width not in FUSED_WIDTHS:
        raise ValueError(f"the fused network needs a width in {FUSED_WIDTHS}, not {layout.width}")
    if dirs is None:
        if torch.is_grad_enabled() and params.requires_grad:
            raise ValueError("density alone has no gradient in the fused network: call it under torch.no_grad()")
        xyz, weights = _operands(xyz, params)
        return _forward(xyz, None, weights, params, layout)[0], None
    return _NerfMLP.apply(xyz, dirs, params, layout, visited)


def _operands(*tensors: Tensor) -> list[Tensor]:
    """In the precision of the products. Triton's interpreter has no bf16 products, so there it is fp32."""
    is_compiled = isinstance(kernels.forward_kernel, triton.JITFunction)
    dtype = torch.bfloat16 if is_compiled else torch.float32
    return [t.detach().to(dtype).contiguous() for t in tensors]


def _forward(
    xyz: Tensor, dirs: Tensor | None, weights: Tensor, params: Tensor, layout: MLPLayout
) -> tuple[Tensor, Tensor]:
    n = xyz.shape[0]
    sigma = torch.empty(n, device=xyz.device)
    rgb = torch.empty(n, 3, device=xyz.device) if dirs is not None else sigma
    if n:
        _launch_forward(xyz, dirs, weights, params, layout, (sigma, rgb))
    return sigma, rgb


def _launch_forward(xyz, dirs, weights, params, layout, outputs, first=0, kept=None) -> None:
    """Density and colour into `outputs`, of the rows from `first` on. kept: of the listed ones, and what to keep."""
    (sigma, rgb), at = outputs, layout.offsets
    n = sigma.shape[0]
    hidden = _hidden(weights, layout)
    order, count, kept_xyz, kept_dirs, acts, planes = kept or (*(xyz,) * 5, hidden)
    kernels.forward_kernel[(-(-n // BLOCK),)](
        xyz, xyz if dirs is None else dirs, weights, hidden, params, order, count, kept_xyz, kept_dirs, acts, planes,
        sigma, rgb, first, n, at["first"], at["skip"], at["dir"], at["view"], at["sigma"], at["rgb"], at["b_hidden"],
        at["b_dir"], at["b_sigma"], at["b_rgb"], layout.depth, layout.width, layout.xyz_width, layout.dir_width,
        layout.skip, SAVE=kept is not None, COLOUR=dirs is not None, BLOCK=BLOCK, STAGES=2, num_warps=8,
    )  # fmt: skip


def _hidden(weights: Tensor, layout: MLPLayout) -> TensorDescriptor:
    """The hidden matrices one below the other, in blocks as the kernels multiply them."""
    start, W = layout.offsets["hidden"], layout.width
    return _planes(weights[start : start + layout.depth * W * W], W, min(W, 128))


def _planes(data: Tensor, width: int, rows: int) -> TensorDescriptor:
    return TensorDescriptor.from_tensor(data.view(-1, width), [rows, min(width, 128)])


class _NerfMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx, xyz, dirs, params, layout, visited):
        xyz, dirs, weights = _operands(xyz, dirs, params)
        ctx.save_for_backward(xyz, dirs, weights, params)
        ctx.layout, ctx.visited = layout, visited
        return _forward(xyz, dirs, weights, params, layout)

    @staticmethod
    def backward(ctx, *grad_outputs):
        xyz, dirs, weights, params = ctx.saved_tensors
        layout: MLPLayout = ctx.layout
        n, device, dtype = xyz.shape[0], xyz.device, weights.dtype
        at, W, H = layout.offsets, layout.width, layout.half
        if n == 0:
            return None, None, torch.zeros_like(params), None, None
        d_sigma, d_rgb = (g.contiguous() for g in grad_outputs)
        if ctx.visited < 1:
            order, count, d_sigma, d_rgb = drawn(d_sigma, d_rgb, ctx.visited)
        else:
            order, count = listed(d_sigma, d_rgb)
        most = order.shape[0]
        size = min(-(-most // BLOCK) * BLOCK, CHUNK)
        kept_xyz, kept_dirs = (torch.empty(size, t.shape[1], dtype=dtype, device=device) for t in (xyz, dirs))
        full = size * (layout.depth + 1) * W  # then the colour branch
        acts, grads = torch.empty(2, full + size * H, dtype=dtype, device=device)
        sigma, rgb = torch.empty(size, device=device), torch.empty(size, 3, device=device)
        heads = torch.zeros(-(-most // BLOCK), W + 3 * H + 4, device=device)
        parts = torch.zeros(SPLITS, layout.total, device=device)
        jobs = (layout.depth + 2) * max(W // 128, 1) + 2
        kept = (order, count, kept_xyz, kept_dirs, acts, _planes(acts[:full], W, BLOCK))
        for first in range(0, most, size):
            _launch_forward(xyz, dirs, weights, params, layout, (sigma, rgb), first, kept)
            kernels.backward_kernel[(-(-size // BLOCK),)](
                weights, _hidden(weights, layout), order, count, acts, rgb, d_sigma, d_rgb, grads,
                heads[first // BLOCK :], first, size, at["dir"], at["sigma"], at["rgb"], layout.depth, W,
                BLOCK=BLOCK, STAGES=2, num_warps=8,
            )  # fmt: skip
            kernels.weight_gradient_kernel[(jobs, SPLITS)](
                kept_xyz, kept_dirs, acts, grads, count, parts, first, size,
                at["first"], at["hidden"], at["skip"], at["dir"], at["view"], at["b_hidden"], at["b_dir"],
                layout.total, layout.depth, W, layout.xyz_width, layout.dir_width, layout.skip,
                SPLITS=SPLITS, STEP=128, STAGES=2, num_warps=8,
            )  # fmt: skip
        grad, head = parts.sum(0), heads.sum(0)
        grad[at["sigma"] : at["sigma"] + W] = head[:W]
        grad[at["rgb"] : at["rgb"] + 3 * H] = head[W + 1 : W + 1 + 3 * H]
        grad[at["b_sigma"] : at["b_sigma"] + 1] = head[W : W + 1]
        grad[at["b_rgb"] : at["b_rgb"] + 3] = head[W + 1 + 3 * H :]
        return None, None, grad, None, None
