"""The losses of the hash-grid method beside the error of the colours.

A loss is one function here, which adds its part to the `ops.Target` of a step. Its formula is the function of the same
name in `ops.hash_field.losses`. Its weight is the option of the same name.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nerf_pl.methods.ngp.options import NGPOptions, known
from nerf_pl.ops import Stride, Target
from nerf_pl.types import Samples

OPAQUE = 1e8  # times as much density makes any sample opaque
EMPTY_STEPS = 5000  # after which the losses on empty space have no weight left (docs/log.md)


def distortion(target: Target, samples: Samples, stride: Stride, options: NGPOptions) -> Target:
    """Concentrate the weights of a ray in one place. Places are lengths that grow equally with every step."""
    weight = known(options.distortion)
    if not weight:
        return target
    place, width = stride.place(samples.t), stride.step / stride.side
    return replace(target, place=place, width=width, distortion=weight)


def smoothness(target: Target, samples: Samples, stride: Stride, options: NGPOptions) -> Target:
    """Draw the eight entries around a point together."""
    return replace(target, smoothness=known(options.smoothness))


def emptiness(target: Target, samples: Samples, stride: Stride, options: NGPOptions) -> Target:
    """Let no light come from where sparse points say that there is nothing. Points are few and lie a little wrong, so
    in the end the photos alone decide."""
    weight = known(options.emptiness)
    if target.clear is None or not weight:
        return replace(target, clear=None)
    return replace(target, emptiness=weight * (1 - target.step / EMPTY_STEPS).clamp(min=0))


LOSSES = (distortion, smoothness, emptiness)


def air(optical: Float[Tensor, "N"], step: Tensor, options: NGPOptions) -> Float[Tensor, ""]:
    """Let there be no density in the air that cameras stand in. It is a loss of its own beside `LOSSES`, at points that
    no ray of the step passes.

    optical: the optical depth of the air, if all of it were as dense as at each point. Its logarithm counts, so that
    what is dense by mistake is not fought harder than what is thin.
    """
    weight = known(options.air) * (1 - step / EMPTY_STEPS).clamp(min=0)
    return weight[0] * torch.log1p(optical).mean()


def noisy(
    samples: Samples, noise: Float[Tensor, "N"], options: NGPOptions, ended: Bool[Tensor, "R"] | None = None
) -> Samples:
    """Samples whose density is multiplied by exp(density_noise * noise): dt changes, as only their product matters.

    ended: rays that left out samples, for without noise no light reaches them. With noise some would. The last sample
    that is there takes it: else the background would shine through surfaces, and density that holds it off, anywhere on
    the ray, would lower the loss.
    """
    dt = samples.dt * (known(options.density_noise) * noise).exp()
    if ended is not None:
        ray, ends = samples.ray_ids.long(), samples.offsets[1:]
        last = torch.arange(1, len(dt) + 1, device=dt.device) == ends[ray]
        dt = torch.where(last & ended[ray], OPAQUE * dt, dt)
    return replace(samples, dt=dt)
