"""Options of the hash-grid method, and their values for each device and kind of scene."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Annotated, ClassVar, Literal, TypeVar

from nerf_pl.options import EPOCHS, MOST_RAYS, Config, OptimOptions, Options, SceneKind, TrainOptions
from nerf_pl.options.purposes import LOSSES, MACHINE, PLACE, RATE, SAMPLING, SIZE_OF_MODEL, Help
from nerf_pl.options.ranges import (
    FIXED_IN_A_RUN,
    POSITIVE,
    POWER_OF_TWO,
    SHAPES_WEIGHTS,
    SHARE,
    OfTransparent,
    Range,
    at_least,
    between,
)

# bounds of sizes: indices in the grids must fit 32-bit numbers, and a mistyped size must not ask for terabytes
CELLS = Range(lambda value: 32 <= value <= 512 and value % 32 == 0, "give a multiple of 32, 32 to 512")
ERRORS = Range(lambda value: value == 0 or 1e-3 <= value <= 1, "give 0, or 0.001 to 1")
MOST_PARTS = 512  # of the occupancy grid's cells, along each axis


@dataclass(frozen=True)
class NGPOptions:
    """If an option is None, its value follows from the device and the kind of scene. EARLIER: see `methods.stored`."""

    EARLIER: ClassVar[dict[str, float]] = {
        "close_range": 0.0, "table_decay": 0.0, "emptiness": 0.0, "air": 0.0, "early_stop": 0.0,
        "charbonnier": 0.0, "ensemble": 1, "interleave": False, "mirror": False, "random_until": 1.0,
    }  # fmt: skip

    ensemble: Annotated[int | None, between(1, 16), SHAPES_WEIGHTS, Help(SIZE_OF_MODEL, "1")] = None
    """Fields that steps train in turn. Evaluation shows the mean of their pictures, which is better than a picture of
    any of them, and takes as many times as long. On a GPU by default 3, if each of them gets 15 seconds on an H100, or
    15,000 steps; two to four GPUs share out 3 or 4, or have one each. Scenes without a box have 1 from 150
    photos on."""
    interleave: Annotated[bool | None, SHAPES_WEIGHTS, Help(SIZE_OF_MODEL)] = None
    """Levels of each field of an ensemble lie between those of the others, so that fewer of their errors are the
    same. By default they do."""
    levels: Annotated[int | None, between(1, 16), SHAPES_WEIGHTS, Help(SIZE_OF_MODEL, "8")] = None
    """Levels of the hash grid."""
    features: Annotated[Literal[2, 4, 8] | None, SHAPES_WEIGHTS, Help(SIZE_OF_MODEL, "4")] = None
    """Numbers at each vertex of the grid."""
    log2_size: Annotated[int | None, between(8, 24), SHAPES_WEIGHTS, Help(SIZE_OF_MODEL, "19")] = None
    """Binary logarithm of the entries of a level."""
    base_resolution: Annotated[int, between(1, 2**16), SHAPES_WEIGHTS, Help(SIZE_OF_MODEL, "32")] = 16
    """Cells along the longest side of the scene's box, on the coarsest level."""
    finest_resolution: Annotated[int | None, between(1, 2**16), SHAPES_WEIGHTS, Help(SIZE_OF_MODEL, "2048")] = None
    """Cells along the longest side of the scene's box, on the finest level."""
    hidden: Annotated[int, POWER_OF_TWO, SHAPES_WEIGHTS, Help(SIZE_OF_MODEL, "32")] = 64
    """Width of the density network: a power of two, 16 or more."""
    outputs: Annotated[int, POWER_OF_TWO, SHAPES_WEIGHTS, Help(SIZE_OF_MODEL, "32")] = 16
    """Numbers that the colour network gets from the density network: a power of two, 16 or more."""
    colour_hidden: Annotated[int | None, POWER_OF_TWO, SHAPES_WEIGHTS, Help(SIZE_OF_MODEL, "64")] = None
    """Width of the colour network: a power of two, 16 or more."""
    mirror: Annotated[bool | None, SHAPES_WEIGHTS, Help(SIZE_OF_MODEL)] = None
    """Colours also depend on the direction in which a surface would mirror the ray, so that what is glossy looks right
    from new places. By default they do in a box."""
    cells: Annotated[int | None, CELLS, SHAPES_WEIGHTS, Help(SAMPLING, "64")] = None
    """Cells of the occupancy grid along each axis: a multiple of 32."""
    march_steps: Annotated[int | None, between(8, 2**16), Help(SAMPLING, "512")] = None
    """Steps of a ray that runs along the diagonal of the scene's box."""
    horizon: Annotated[int | None, between(1, 2**24), Help(SAMPLING, "1024")] = None
    """Training steps for which a cell counts as visible after light has reached it. Rays skip the other cells."""
    seen_detail: Annotated[
        int | None, Range(lambda value: value in (1, 2, 4), "give 1, 2 or 4"), FIXED_IN_A_RUN, Help(SAMPLING, "1")
    ] = None
    """Parts of a cell along each axis. Evaluation shows the parts that light reached in training. 1, 2 or 4."""
    samples: Annotated[int | None, between(128, 2**24), Help(MACHINE, "131072")] = None
    """Samples per training step. The number of rays follows from it, up to batch_size."""
    unbounded: Annotated[bool | None, SHAPES_WEIGHTS, Help(PLACE)] = None
    """Continue beyond the scene's box, in ever larger cells. By default if the scene does."""
    extended: Annotated[bool | None, Help(PLACE)] = None
    """In cells that no training view saw, show the content of the nearest cell that one did. By default for photos."""
    charbonnier: Annotated[float | None, ERRORS, Help(LOSSES, "0.1")] = None
    """Errors of a colour (0 to 1) above this count by their size, smaller ones by their square (Charbonnier et al.
    1994), so that what photos do not agree on weighs less. 0: all by their square. By default 0.1 for photos, 0 in a
    box."""
    distortion: Annotated[float | None, at_least(0), Help(LOSSES, "0.01")] = None
    """Weight of the distortion loss, which concentrates a ray's weights and removes floaters (Barron et al. 2022)."""
    close_range: Annotated[float | None, at_least(0), Help(LOSSES, "0.5")] = None
    """Distance from a camera up to which gradients grow with its square, so that no fog forms there (Philip and
    Deschaintre 2023). By default 1, the distance of the outer cameras from the middle, if the scene has no box."""
    emptiness: Annotated[float | None, at_least(0), Help(LOSSES, "0.3")] = None
    """Weight of the loss on light from in front of the sparse points that a photo sees (after Rematas et al. 2022). It
    falls to 0 over 5000 steps."""
    air: Annotated[float | None, at_least(0), Help(LOSSES, "0.3")] = None
    """Weight of the loss on density in the air that the cameras stand in, if they look at one point: half of the way
    from between the cameras to there. It falls to 0 over 5000 steps. By default 0.1 for photos all around without CUDA.
    It needs --ahead, so it does nothing with --near or --ahead 0."""
    smoothness: Annotated[float | None, at_least(0), Help(LOSSES, "1e-3")] = None
    """Weight of the loss that draws the eight entries around a point together."""
    table_decay: Annotated[float | None, at_least(0), Help(LOSSES, "0.1")] = None
    """Weight of the loss that draws all entries of the hash table to zero (Barron et al. 2023). By default 0.1 for few
    photos from one side, on a GPU."""
    density_noise: Annotated[float | None, at_least(0), Help(LOSSES, "0.5")] = None
    """Standard deviation of noise on the density's logarithm while training."""
    network_rate: Annotated[float | None, POSITIVE, Help(RATE, "0.3")] = None
    """Learning-rate multiplier of the networks relative to the hash table. Starts at 1, reaches this after 10,000
    steps."""
    rays_per_pixel: Annotated[int | None, between(1, MOST_RAYS), Help(SAMPLING, "1")] = None
    """Rays whose mean makes up a pixel, in evaluation and in the second half of a training, after 10,000 steps. Before
    that, one ray passes through the middle of each pixel."""
    random_background: Annotated[bool, Help(LOSSES)] = True
    """Train in front of random colours, so that the field must learn which space is empty."""
    random_until: Annotated[float | None, SHARE, OfTransparent(), Help(LOSSES, "1")] = None
    """Share of a training after which three of four pixels of transparent pictures have the background behind them that
    is shown later, by default 0.5. What is half transparent gains, on that background. 1 keeps random colours, for what
    is to be shown in front of others."""
    early_stop: Annotated[float | None, between(0, 0.01), Help(SAMPLING, "0")] = None
    """A ray of a training step ends where no more than this share of its light is left, by default 1e-4. More than 1e-3
    loses quality. 0 sends all rays on to their ends, as plain PyTorch does in any case."""
    grad_share: Annotated[float | None, SHARE, Help(SAMPLING, "0.5")] = None
    """Largest share of the samples that a backward pass visits, drawn by the size of their gradients. 1 visits all."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.seen_detail and self.cells and self.seen_detail * self.cells > MOST_PARTS:
            yield "seen_detail", f"give less: times --cells, {self.cells}, it must be at most {MOST_PARTS}"
        if self.finest_resolution is not None and self.base_resolution > self.finest_resolution:
            yield "finest_resolution", f"give no less than --base_resolution, {self.base_resolution}"
        if self.samples is None or self.march_steps is None:
            return
        steps, rays = self.march_steps, self.rays_per_pixel or 1
        if self.samples <= rays * steps:
            what = f"--march_steps, {steps}" if rays == 1 else f"--rays_per_pixel times --march_steps, {rays} x {steps}"
            yield "samples", f"give more than {what}: a step of training needs room for one pixel"

    def conflicts_with(self, optim: OptimOptions, train: TrainOptions) -> Iterator[tuple[Options, str, str]]:
        if optim.optimizer != "adam":
            yield optim, "optimizer", "ngp has an Adam of its own, leave the option out or give --method nerf"
        rays = self.rays_per_pixel or 1
        if train.batch_size < rays:
            yield train, "batch_size", f"give no less than --rays_per_pixel, {rays}"


Value = TypeVar("Value")


def known(value: Value | None) -> Value:
    """A value that `complete` has filled in. Raises ValueError if it is None."""
    if value is None:
        raise ValueError("a size is still left to the device: call `complete` first")
    return value


PRESET = Config(
    "ngp",
    NGPOptions(),
    optim=OptimOptions(lr=1e-2, lr_scheduler="flat_cosine", lr_per_step=True),
    train=TrainOptions(batch_size=2**16, chunk=2**21, num_epochs=None, fit_colours=None),
)
"""The defaults of the modern command."""

GPU = NGPOptions(
    levels=8, features=4, log2_size=20, finest_resolution=1024, cells=128, march_steps=1024, horizon=512,
    colour_hidden=128, samples=2**18, distortion=1e-3, smoothness=0.0, density_noise=0.0, network_rate=0.3,
    close_range=0.0, rays_per_pixel=4, seen_detail=2, grad_share=0.3, table_decay=0.0, emptiness=0.1, air=0.0,
    early_stop=1e-4, charbonnier=0.0, ensemble=1, interleave=False, mirror=False, random_until=0.5,
)  # fmt: skip
CPU = NGPOptions(
    levels=8, features=2, log2_size=16, finest_resolution=192, cells=64, march_steps=192, horizon=128,
    colour_hidden=64, samples=2**13, distortion=0.0, smoothness=0.0, density_noise=0.0, network_rate=1.0,
    close_range=0.0, rays_per_pixel=1, seen_detail=1, grad_share=0.15, table_decay=0.0, emptiness=0.1, air=0.0,
    early_stop=1e-4, charbonnier=0.0, ensemble=1, interleave=False, mirror=False, random_until=0.5,
)  # fmt: skip
PHOTOS: dict[str, dict[str, float]] = {
    "cuda": {
        "finest_resolution": 2048, "horizon": 4096, "distortion": 1e-2, "smoothness": 1e-4,
        "density_noise": 0.5, "rays_per_pixel": 1, "seen_detail": 1, "charbonnier": 0.1,
    },
    "cpu": {
        "log2_size": 14, "finest_resolution": 512, "march_steps": 256, "distortion": 1e-2, "smoothness": 1e-4,
        "density_noise": 0.5, "charbonnier": 0.1,
    },
}  # fmt: skip
"""Values that differ for photos: scenes without a box around them."""
AROUND: dict[str, dict[str, float]] = {
    "cuda": {"distortion": 1e-3, "close_range": 1.0},
    "cpu": {"distortion": 1e-3, "close_range": 0.5, "smoothness": 3e-3, "samples": 2**14, "air": 0.1},
}
"""Values that differ further for photos of a space without end. More distortion loss builds walls in front of plain
surfaces before their place is known (docs/log.md)."""
ONE_SIDE: dict[str, dict[str, float]] = {"cuda": {"smoothness": 3e-3}, "cpu": {"smoothness": 3e-3, "horizon": 1024}}
"""Values that differ further for photos from one side: few views leave much of the field undetermined."""
WITH_POINTS: dict[str, float] = {"distortion": 3e-3}
"""Values that differ further if it is known which sparse points photos of a space without end see. They keep walls from
forming in clear air, so weights of a ray can be drawn together early."""
FEW, MANY = 32, 150  # photos: at most, at least
FEW_AROUND: dict[str, float] = {"smoothness": 3e-3}
FEW_ONE_SIDE: dict[str, float] = {"table_decay": 0.1}
MANY_AROUND: dict[str, float] = {
    "samples": 2**20, "grad_share": 0.05, "log2_size": 21, "finest_resolution": 4096,
}  # fmt: skip
"""Values that differ on a GPU for few and for many photos. Few leave more of the field undetermined. A minute is too
short to see all pixels of many, so a step takes more rays, and goes back to no more samples; and they show more than
the usual table holds (docs/log.md)."""
SMALL_CHIP: dict[str, float] = {"colour_hidden": 64}
"""Values that differ on GPUs with little on-chip memory. The gradients of a network of width 128 take 140 KB (164 on
Hopper), those of width 64 take 64 KB. Consumer GPUs have 99 KB. On Blackwell GPUs in data centres products accumulate
in a memory of their own, of 512 columns, and width 128 takes 704 (docs/log.md)."""
ROOMY = ((8, 0), (9, 0))  # compute capabilities with enough: A100 and Hopper
SECONDS, ONE_SIDE_SECONDS_ON_CPU = 60.0, 20.0  # of training, if no length is given
FIELDS = 3
FIELD_SECONDS, FIELD_STEPS = 15.0, 15_000
MANY_FIELD_SECONDS, MANY_FIELD_STEPS = 50.0, 25_000
"""Fields of an ensemble on a GPU, and for how long each must be trained, on a GPU of MULTIPROCESSORS; the second values
are for MANY photos. A single one gains little from then on, and the mean of three wins 0.3 to 1 dB (docs/log.md)."""
MULTIPROCESSORS = 132  # of an H100, where steps were timed
MOST_SHARED_OUT = 4  # GPUs, each of which trains fields of its own by default; more would make pictures too slow


def complete(config: Config, device_type: str, kind: SceneKind = SceneKind()) -> Config:  # noqa: B008 (frozen)
    """The options, with every None filled in for the device ("cuda" or "cpu") and the kind of scene."""
    asked, train = config.model, config.train
    assert isinstance(asked, NGPOptions)
    device = "cuda" if device_type == "cuda" else "cpu"  # plain PyTorch has the sizes of a CPU everywhere
    unbounded, ndc = kind.unbounded if asked.unbounded is None else asked.unbounded, kind.ndc
    sizes: dict[str, float | bool] = {f.name: getattr(CPU if device == "cpu" else GPU, f.name) for f in fields(asked)}
    sizes |= {"unbounded": unbounded, "extended": unbounded or ndc}
    sizes |= PHOTOS[device] if unbounded or ndc else {}
    sizes |= AROUND[device] if unbounded else {}
    sizes |= WITH_POINTS if unbounded and kind.points else {}
    sizes |= ONE_SIDE[device] if ndc else {}
    if device == "cuda":
        sizes |= _by_number(kind.photos, unbounded, ndc)
        is_many = (unbounded or ndc) and (kind.photos or 0) >= MANY
        each = (MANY_FIELD_SECONDS, MANY_FIELD_STEPS) if is_many else (FIELD_SECONDS, FIELD_STEPS)
        sizes["ensemble"] = _fields(train, *each)
    sizes["mirror"] = not (unbounded or ndc)
    sizes["interleave"] = (asked.ensemble or sizes["ensemble"]) > 1
    sizes |= SMALL_CHIP if device == "cuda" and _has_small_chip() else {}
    missing = {name: value for name, value in sizes.items() if getattr(asked, name) is None}
    if train.num_epochs is None:
        seconds = _usual_seconds(device, ndc) if train.max_steps is None else None
        train = replace(train, num_epochs=EPOCHS, seconds=train.seconds or seconds)
    return replace(config, model=replace(asked, **missing), train=train)


def _usual_seconds(device: str, ndc: bool) -> float:
    return ONE_SIDE_SECONDS_ON_CPU if ndc and device == "cpu" else SECONDS


def _fields(train: TrainOptions, each_seconds: float, each_steps: int) -> int:
    """Fields of an ensemble on GPUs: FIELDS of them if each gets its seconds or steps, or one. Several GPUs share them
    out, so each gets as many, and at least one."""
    seconds, steps, gpus = train.seconds, train.max_steps, max(train.num_gpus, 1)
    if seconds is None and steps is None:
        if train.num_epochs is not None:
            return 1  # how many steps these are is not known here
        seconds = SECONDS
    shared = 1 < gpus <= MOST_SHARED_OUT
    for turns in (-(-FIELDS // gpus), 1) if shared else (FIELDS,):  # fields of which each step trains one
        is_short = seconds is not None and seconds < turns * each_seconds * _slowness()
        is_short |= steps is not None and steps < turns * each_steps
        if not is_short:
            return turns * gpus if shared else turns
    return 1


def _slowness() -> float:
    """How many times as long as on an H100 a step may take, by the multiprocessors of the smallest GPU."""
    import torch

    counts = [torch.cuda.get_device_properties(i).multi_processor_count for i in range(torch.cuda.device_count())]
    return max(MULTIPROCESSORS / min(counts, default=MULTIPROCESSORS), 1.0)


def _by_number(photos: int | None, unbounded: bool, ndc: bool) -> dict[str, float]:
    """Values that differ for this number of photos."""
    if photos is None:
        return {}
    if photos <= FEW:
        return FEW_ONE_SIDE if ndc else FEW_AROUND if unbounded else {}
    return MANY_AROUND if photos >= MANY and unbounded else {}


def _has_small_chip() -> bool:
    import torch

    return any(torch.cuda.get_device_capability(i) not in ROOMY for i in range(torch.cuda.device_count()))
