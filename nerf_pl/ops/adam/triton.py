"""The kernel of Adam: one launch for all that a step does to a parameter."""

import triton
import triton.language as tl
from torch import Tensor

from nerf_pl.ops.adam.types import AdamStep


@triton.jit
def adam_kernel(
    p_ptr, g_ptr, m_ptr, v_ptr, half_ptr, ok_ptr, n, lr, decay, pull, beta1, beta2, root_correction, eps,
    SPARSE: tl.constexpr, PULL: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    if tl.load(ok_ptr) > 0:
        i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        live = i < n
        g = tl.load(g_ptr + i, mask=live, other=0.0)
        if PULL:
            g += pull * tl.load(p_ptr + i, mask=live, other=0.0)
        if SPARSE:
            live = live & (g != 0)
        p = tl.load(p_ptr + i, mask=live, other=0.0)
        m = beta1 * tl.load(m_ptr + i, mask=live, other=0.0) + (1 - beta1) * g
        v = beta2 * tl.load(v_ptr + i, mask=live, other=0.0) + (1 - beta2) * g * g
        p = p - lr * (m / (tl.sqrt(v) * root_correction + eps) + decay * p)
        tl.store(p_ptr + i, p, mask=live)
        tl.store(m_ptr + i, m, mask=live)
        tl.store(v_ptr + i, v, mask=live)
        if HALF:
            tl.store(half_ptr + i, p, mask=live)


def adam(p: Tensor, g: Tensor, m: Tensor, v: Tensor, half: Tensor | None, ok: Tensor, how: AdamStep) -> None:
    n, (beta1, beta2) = p.numel(), how.betas
    first, second = 1 - beta1**how.step, 1 - beta2**how.step
    adam_kernel[(triton.cdiv(n, 1024),)](
        p, g, m, v, p if half is None else half, ok, n, how.lr / first, how.decay * first, how.pull, beta1, beta2,
        second**-0.5, how.eps, SPARSE=how.sparse, PULL=how.pull > 0, HALF=half is not None, BLOCK=1024, num_warps=4,
    )  # fmt: skip
