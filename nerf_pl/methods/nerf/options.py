"""Options of the 2020 method."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

from nerf_pl.options import EPOCHS, Config, DataOptions, OptimOptions, Options, SceneKind, TrainOptions
from nerf_pl.options.purposes import LOSSES, SAMPLING, SIZE_OF_MODEL, Help
from nerf_pl.options.ranges import SHAPES_PART, SHAPES_WEIGHTS, SHARE, Range, at_least, between


@dataclass(frozen=True)
class NeRFOptions:
    N_samples: Annotated[int, between(2, 2**16), Help(SAMPLING, "64")] = 64
    """Samples per ray of the coarse pass."""
    N_importance: Annotated[int, between(0, 2**16), SHAPES_PART, Help(SAMPLING, "128")] = 128
    """Further samples per ray, drawn by the weights of the coarse pass. 0 trains the coarse network alone."""
    use_disp: Annotated[bool, Help(SAMPLING)] = False
    """Space the coarse samples evenly in disparity (1/depth) instead of depth."""
    perturb: Annotated[float, between(0, 1), Help(SAMPLING, "0")] = 1.0
    """How far samples are jittered inside their interval while training, 0 to 1."""
    noise_std: Annotated[float, at_least(0), Help(LOSSES, "1")] = 1.0
    """Standard deviation of the noise added to the raw density while training."""
    net_depth: Annotated[int, between(2, 64), SHAPES_WEIGHTS, Help(SIZE_OF_MODEL, "8")] = 8
    """Layers of the density network. The encoded position enters layer net_skip once more."""
    net_width: Annotated[
        int,
        Range(lambda value: 32 <= value <= 4096 and value % 32 == 0, "give a multiple of 32, up to 4096"),
        SHAPES_WEIGHTS,
        Help(SIZE_OF_MODEL, "128"),
    ] = 256
    """Width of the density network: a multiple of 32."""
    net_skip: Annotated[int, at_least(1), SHAPES_WEIGHTS, Help(SIZE_OF_MODEL, "5")] = 4
    """Layer, counted from 0, that sees the encoded position once more."""
    grad_share: Annotated[float, SHARE, Help(SAMPLING, "1")] = 0.25
    """Largest share of the samples that a backward pass visits, drawn by the size of their gradients. 1 visits all."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.N_importance > 0 and self.N_samples < 3:
            yield "N_samples", "give 3 or more, or --N_importance 0"
        if self.net_skip >= self.net_depth:
            yield "net_skip", "give a layer from 1 to net_depth - 1"

    def conflicts_with(self, optim: OptimOptions, train: TrainOptions) -> Iterator[tuple[Options, str, str]]:
        yield from ()


PRESET = Config(
    "nerf",
    NeRFOptions(N_importance=64, noise_std=0.0),
    optim=OptimOptions(lr=1e-3, lr_scheduler="cosine", lr_per_step=True),
)
"""The defaults of the modern command."""
CLASSIC = Config("nerf", NeRFOptions(), data=DataOptions(dataset_name="blender", img_wh=(800, 800), test_every=0))
"""The defaults of the classic commands."""
CORNER_LAYOUTS = ("blender", "llff")


def complete(config: Config, device_type: str, kind: SceneKind = SceneKind()) -> Config:  # noqa: B008 (frozen)
    """See `methods.method.Complete`. Only the length of the training can be left open."""
    if config.train.num_epochs is not None:
        return config
    return replace(config, train=replace(config.train, num_epochs=EPOCHS))


def pixel_offset(layout: str) -> float:
    """0, the corner of the pixel, for the layouts that the classic implementation reads: its rays pass there."""
    return 0.0 if layout in CORNER_LAYOUTS else 0.5
