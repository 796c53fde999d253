"""Adam, compiled for a CPU."""

import math

import numpy as np
from torch import Tensor

from nerf_pl.ops.adam.types import AdamStep
from nerf_pl.ops.numba_jit import compiled, in_parts

LEAST = 2**14  # numbers that are worth a thread of their own


@compiled
def _adam(p, g, m, v, betas, lr, eps, scale, decay, pull, sparse, begin, end):
    # slices, and values chosen without a branch, so that several numbers are taken at once
    p, g, m, v = p[begin:end], g[begin:end], m[begin:end], v[begin:end]
    for i in range(len(p)):
        grad = g[i] + pull * p[i]
        moves = (grad != 0) | (not sparse)
        first, second = m[i] + betas[0] * (grad - m[i]), v[i] + betas[1] * (grad * grad - v[i])
        moved = p[i] - lr * (decay * p[i] + first / (math.sqrt(second) * scale + eps))
        p[i], m[i], v[i] = moved if moves else p[i], first if moves else m[i], second if moves else v[i]


def adam(p: Tensor, g: Tensor, m: Tensor, v: Tensor, half: Tensor | None, ok: Tensor, how: AdamStep) -> None:
    if not bool(ok):
        return
    (beta1, beta2), f = how.betas, np.float32
    first, second = 1 - beta1**how.step, 1 - beta2**how.step
    rates = (f(1 - beta1), f(1 - beta2)), f(how.lr), f(first * how.eps), f(first / second**0.5)
    numbers = *rates, f(how.decay), f(how.pull)
    given = [values.detach().view(-1).numpy() for values in (p, g.contiguous(), m, v)]
    in_parts(lambda begin, end: _adam(*given, *numbers, how.sparse, begin, end), p.numel(), LEAST)
    if half is not None:
        half.copy_(p)
