"""Options that all methods share. The text below an option is its help. Its annotation has its range."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from nerf_pl.options.purposes import (
    CORRECTIONS,
    LENGTH,
    MACHINE,
    PICTURES,
    PLACE,
    RATE,
    RUN,
    VALIDATION,
    WEIGHTS,
    Help,
    common,
)
from nerf_pl.options.ranges import BACKGROUND, BOX, FIXED_IN_A_RUN, POSITIVE, Colour, Corners, Range, at_least, between


def _is_size(size: tuple[int, int]) -> bool:
    return min(size) >= 1 and max(size) <= 2**16


def _is_name(name: str) -> bool:
    return bool(name.strip(". ")) and not set(name) & set("/\\") and name.isprintable() and len(name) <= 200


def _holds_out(every: int) -> bool:
    return every == 0 or every >= 2


EPOCHS = 16.0  # that schedules count, if seconds or steps set the length of a training
MOST_RAYS = 64  # of a pixel


# of rays at once: so that the memory they need is not mistyped by orders of magnitude
SIZE = Range(lambda value: 1 <= value <= 2**26, f"give 1 or more, up to {2**26}")
NAME = Range(_is_name, "give a name of up to 200 characters, without slashes")
"""Of a folder for results: the name cannot lead out of the folder that holds all of them."""


@dataclass(frozen=True)
class DataOptions:
    """EARLIER: see `methods.stored`."""

    EARLIER: ClassVar[dict[str, object]] = {"background": "none", "ahead": 0.0}

    dataset_name: Annotated[Literal["auto", "blender", "llff", "transforms", "colmap"], Help(PICTURES, "colmap")] = (
        "auto"
    )
    """Layout of the scene folder. auto looks at the files in it."""
    img_wh: Annotated[
        tuple[int, int] | None,
        Range(_is_size, "give a width and a height in pixels, up to 65536"),
        FIXED_IN_A_RUN,
        common(PICTURES, "400 400"),
    ] = None
    """Train and evaluate at this width and height instead of the pictures' own. It must keep the aspect ratio."""
    downscale: Annotated[int, at_least(1), FIXED_IN_A_RUN, common(PICTURES, "2")] = 1
    """Divide the pictures' width and height by this. Give either this or img_wh."""
    test_every: Annotated[
        int,
        Range(_holds_out, "give 2 or more, or 0 to hold out none"),
        FIXED_IN_A_RUN,
        common(PICTURES, "0"),
    ] = 8
    """If the scene has no splits of its own, hold out every n-th view for validation and test. 0 trains on all views;
    for llff, 0 holds out the most central view for validation."""
    spheric: Annotated[bool | None, FIXED_IN_A_RUN, Help(PLACE)] = None
    """Whether the photos surround the scene (llff only). By default they do if they do not all look one way."""

    aabb: Annotated[Corners | None, BOX, FIXED_IN_A_RUN, common(PLACE, "-1 -1 0 1 1 2")] = None
    """Learn only what is in this box: x y z of its lowest and of its highest corner, in the coordinates of the scene's
    own file. Photos from one side have no box."""
    background: Annotated[
        Literal["auto", "none", "white", "black"] | Colour,
        BACKGROUND,
        FIXED_IN_A_RUN,
        common(PICTURES, "white"),
    ] = "auto"
    """What is behind the object: white, black, or red, green and blue from 0 to 1. Opaque pictures are taken to show
    it; transparent ones are composited on it. auto looks for a plain background in opaque pictures, none does not;
    both show transparent ones on white."""
    masks: Annotated[Literal["pixels", "alpha", "none"], FIXED_IN_A_RUN, Help(PICTURES, "alpha")] = "pixels"
    """What masks say: which pixels count (pixels), or what there is of an object on nothing, as transparency does
    (alpha). none leaves them out."""
    near: Annotated[float | None, POSITIVE, FIXED_IN_A_RUN, Help(PLACE, "0.2")] = None
    """Nothing is nearer to a camera than this, in the unit of length of the scene's own file. By default the cameras
    decide. Photos from one side have neither near nor far."""
    ahead: Annotated[float | None, between(0, 0.95), FIXED_IN_A_RUN, Help(PLACE, "0.2")] = None
    """If the cameras look at one point: the share of the way from each camera to it in which nothing stands. By default
    0.4, or less where sparse points are nearer. 0: rays of all cameras begin at the same distance."""
    far: Annotated[float | None, POSITIVE, FIXED_IN_A_RUN, Help(PLACE, "50")] = None
    """Nothing is farther from a camera than this, in the same unit."""
    scale: Annotated[float | None, between(1e-9, 1e9), FIXED_IN_A_RUN, Help(PLACE, "0.5")] = None
    """Lengths of the scene's own file times this are lengths of the world. By default the cameras decide. In the
    Blender layout 1 leaves the scene as it is, in a box of 1.5 about the origin, 2 to 6 from the cameras."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.img_wh is not None and self.downscale != 1:
            yield "downscale", "give it or --img_wh, not both"
        if self.near is not None and self.far is not None and self.near >= self.far:
            yield "near", f"give less than --far {self.far:g}"
        if self.near is not None and self.ahead:
            yield "ahead", "give it or --near, not both"


@dataclass(frozen=True)
class OptimOptions:
    loss_type: Annotated[Literal["mse"], Help(RATE, "mse")] = "mse"
    """Loss between rendered and true colour."""
    optimizer: Annotated[Literal["sgd", "adam", "radam", "ranger"], FIXED_IN_A_RUN, Help(RATE, "adam")] = "adam"
    """Optimizer. ngp has an Adam of its own and accepts adam alone."""
    lr: Annotated[float, POSITIVE, Help(RATE, "0.005")] = 5e-4
    """Learning rate."""
    momentum: Annotated[
        float, Range(lambda value: 0 <= value < 1, "give 0 or more, less than 1"), Help(RATE, "0.8")
    ] = 0.9
    """Momentum of sgd."""
    weight_decay: Annotated[float, at_least(0), Help(RATE, "1e-6")] = 0.0
    """Weight decay."""
    lr_scheduler: Annotated[Literal["steplr", "cosine", "flat_cosine", "poly"], Help(RATE, "cosine")] = "steplr"
    """Learning-rate schedule, epoch by epoch (see lr_per_step). flat_cosine is constant for the first 40 % of them."""
    lr_per_step: Annotated[bool, Help(RATE)] = False
    """Let the schedule follow every step instead of whole epochs."""
    warmup_multiplier: Annotated[float, between(1, 1e6), Help(RATE, "2")] = 1.0
    """The warm-up ends at lr times this. Used by sgd and adam when warmup_epochs is above 0."""
    warmup_epochs: Annotated[float, at_least(0), Help(RATE, "1")] = 0
    """Epochs of rising learning rate at the start."""
    decay_step: Annotated[tuple[int, ...], Help(RATE, "2 4 8")] = (20,)
    """steplr: epochs after which the learning rate is multiplied by decay_gamma."""
    decay_gamma: Annotated[float, POSITIVE, Help(RATE, "0.5")] = 0.1
    """steplr: the factor."""
    poly_exp: Annotated[float, at_least(0), Help(RATE, "2")] = 0.9
    """poly: the exponent."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from ()


@dataclass(frozen=True)
class TrainOptions:
    batch_size: Annotated[int, SIZE, Help(MACHINE, "4096")] = 1024
    """Rays per step and process."""
    chunk: Annotated[int, SIZE, Help(MACHINE, "8192")] = 32 * 1024
    """Rays rendered at once when no gradient is needed. Lower it if memory runs out."""
    num_epochs: Annotated[float | None, POSITIVE, Help(LENGTH, "8")] = EPOCHS
    """Passes over all training pixels, batch_size at a time. max_steps and seconds take precedence."""
    max_steps: Annotated[int | None, at_least(1), common(LENGTH, "20000")] = None
    """Train for this many steps."""
    seconds: Annotated[float | None, POSITIVE, common(LENGTH, "15")] = None
    """Train for this much wall-clock time. The schedule spans it. By default ngp trains for 60 seconds; without a GPU
    for 20 seconds on photos from one side, which it soon overfits there."""
    num_gpus: Annotated[int, Range(lambda value: value >= 0, "give 0 (the CPU) or more"), common(MACHINE, "0")] = 1
    """Number of GPUs that train together. 0 means the CPU."""
    accelerator: Annotated[Literal["auto", "gpu", "cpu", "mps"], Help(MACHINE, "cpu")] = "auto"
    """Where to train. With cpu, num_gpus is the number of processes. mps is the GPU of a Mac, in plain PyTorch."""
    precision: Annotated[Literal["auto", "fp32", "tf32", "bf16"], Help(MACHINE, "fp32")] = "auto"
    """Arithmetic of the networks. On a GPU auto means bf16 matrix products with fp32 master weights, on a CPU fp32.
    On a GPU ngp runs kernels in half precision with auto and bf16, and plain PyTorch with fp32 and tf32."""
    deterministic: Annotated[bool, FIXED_IN_A_RUN, Help(MACHINE)] = False
    """Let a training on a GPU repeat itself bit for bit, resumed or not. It needs max_steps, and runs in plain PyTorch,
    which is slower than the kernels. On a CPU a training repeats itself anyway."""
    seed: Annotated[
        int,
        Range(lambda value: 0 <= value < 2**63, "give 0 or more, less than 2^63"),
        FIXED_IN_A_RUN,
        Help(RUN, "1"),
    ] = 0
    """Random seed. The same seed gives the same pixels and samples on any device."""
    fit_colours: Annotated[bool | None, FIXED_IN_A_RUN, common(CORRECTIONS)] = False
    """Learn a change of brightness and colours for each training photo, for photos taken with automatic exposure.
    Renders have the mean exposure. For pictures with alpha it is left out. Without this option ngp learns it if the
    brightness of photos that were taken side by side differs much."""
    refine_poses: Annotated[bool, FIXED_IN_A_RUN, common(CORRECTIONS)] = False
    """Move the cameras of the training photos to where they fit better, up to eight times in a training, for photos
    whose poses are somewhat wrong. Poses that are right stay."""
    val_every: Annotated[int | None, at_least(1), Help(VALIDATION, "5000")] = None
    """Steps between validations. By default a run validates ten times, and nerf also after every epoch. A run that ends
    by seconds validates up to four times."""
    val_views: Annotated[int, at_least(1), Help(VALIDATION, "2")] = 8
    """Views of the validation split that are rendered each time. If that would take long, a part of the pixels or of
    the views is rendered."""
    save_minutes: Annotated[float, at_least(0), Help(RUN, "10")] = 5.0
    """Minutes of training after which last.ckpt is written, if no validation wrote it before; 0 leaves that out. A
    validation writes it unless saving has taken more than a twentieth of the time."""
    ckpt_path: Annotated[
        str | None,
        Range(lambda path: bool(path.strip()), "name a file, or leave the option out"),  # a variable that is not set
        Help(WEIGHTS, "old.ckpt"),
    ] = None
    """Start from the weights of this checkpoint: ours, nerf_pl's (.ckpt) or nerf-pytorch's (.tar)."""
    prefixes_to_ignore: Annotated[tuple[str, ...], Help(WEIGHTS, "loss nerf_fine")] = ("loss",)
    """Do not load weights of ckpt_path whose names start with one of these. Others must be there, and fit."""
    exp_name: Annotated[str, NAME, common(RUN, "first")] = "exp"
    """Name of the run."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for name in ("fit_colours", "refine_poses", "deterministic"):
            if getattr(self, name) and self.num_gpus > 1:
                yield name, "leave it out, or train in one process: it is not for --num_gpus above 1"
        if self.deterministic and self.seconds is not None:
            yield "deterministic", "give --max_steps and no --seconds: by the clock, trainings differ in their steps"
