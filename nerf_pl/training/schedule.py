"""The learning-rate schedule."""

import math

from nerf_pl.errors import UserError
from nerf_pl.options import OptimOptions

FLAT = 0.4  # share of the epochs for which flat_cosine keeps the learning rate


def lr_factor(options: OptimOptions, epoch: float, num_epochs: float) -> float:
    """What to multiply the learning rate with after `epoch` epochs (a fraction inside an epoch).

        steplr    decay_gamma ^ (how many of decay_step have been reached)
        cosine    (1 + cos(pi epoch / num_epochs)) / 2               Loshchilov and Hutter 2017, without restarts
        flat_cosine    1 for the first 40 % of the epochs, then the same over the rest
        poly      (1 - epoch / num_epochs) ^ poly_exp

    Without lr_per_step only whole epochs count, as in the classic implementation. Past num_epochs cosine and poly stay
    0. The classic cosine ends at a learning rate of 1e-8 instead, which moves nothing.

    Warm-up (Goyal et al. 2017) of sgd and adam: over the first warmup_epochs the factor rises linearly from 1 to
    warmup_multiplier, or from 0 to 1 if warmup_multiplier is 1. Then follows the schedule times warmup_multiplier, with
    epochs counted from the end of the warm-up. If whole epochs count and the factor rises from 0, the first epoch
    changes nothing; lr_per_step avoids that.

    Raises UserError for an unknown schedule or a warm-up to less than its start.
    """
    o = options
    warmup_epochs = o.warmup_epochs if o.optimizer in ("sgd", "adam") else 0
    if warmup_epochs > 0 and o.warmup_multiplier < 1:
        raise UserError(f"--warmup_multiplier {o.warmup_multiplier} cannot work: give 1 or more")
    if not o.lr_per_step:
        epoch = math.floor(epoch + 1e-6)  # an epoch made of steps may fall short of a whole one by rounding
    if epoch < warmup_epochs:
        start = 0.0 if o.warmup_multiplier == 1 else 1.0
        return start + (o.warmup_multiplier - start) * epoch / warmup_epochs
    scale = o.warmup_multiplier if warmup_epochs > 0 else 1.0
    epoch -= max(warmup_epochs, 0)
    progress = min(epoch / num_epochs, 1.0)
    if o.lr_scheduler == "steplr":
        return scale * o.decay_gamma ** sum(epoch >= step for step in o.decay_step)
    if o.lr_scheduler == "cosine":
        return scale * (1 + math.cos(math.pi * progress)) / 2
    if o.lr_scheduler == "flat_cosine":
        return scale * (1 + math.cos(math.pi * max(progress - FLAT, 0) / (1 - FLAT))) / 2
    if o.lr_scheduler == "poly":
        return scale * (1 - progress) ** o.poly_exp
    raise UserError(f"--lr_scheduler {o.lr_scheduler} is not known: give steplr, cosine, flat_cosine or poly")
