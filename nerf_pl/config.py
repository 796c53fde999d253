"""Every option: one home, one name, one default.

The command line is made from these classes (the text below a field is its help), a run stores them in its checkpoint,
and the code receives single values from them as arguments. Names keep the classic spelling.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from nerf_pl.errors import UserError


@dataclass(frozen=True)
class DataOptions:
    dataset_name: Literal["auto", "blender", "llff", "transforms", "colmap"] = "auto"
    """Layout of the scene folder; auto looks at the files in it."""
    img_wh: tuple[int, int] | None = None
    """Train and evaluate at this width and height instead of the images' own; must keep the aspect ratio."""
    downscale: int = 1
    """Divide the images' width and height by this; not together with img_wh."""
    test_every: int = 8
    """Hold out each so many views for validation and test, where the scene has no splits of its own; 0: train on all.
    With llff 0 holds out the most central view, for validation."""
    spheric: bool = False
    """The photos surround the scene (llff only)."""


@dataclass(frozen=True)
class ModelOptions:
    """Of nerf alone; ngp takes grad_share, too."""

    N_samples: int = 64
    """Samples per ray of the coarse pass."""
    N_importance: int = 128
    """Further samples per ray, drawn where the coarse pass saw something; 0 trains the coarse network alone."""
    use_disp: bool = False
    """Space the coarse samples evenly in disparity (1/depth) instead of depth."""
    perturb: float = 1.0
    """How far samples are jittered inside their interval while training, 0 to 1."""
    noise_std: float = 1.0
    """Standard deviation of the noise added to the raw density while training."""
    net_depth: int = 8
    """Layers of the density network; the encoding enters again after half of them."""
    net_width: int = 256
    """Width of the density network: a multiple of 32."""
    net_skip: int = 4
    """Layer, counted from 0, that sees the encoded position once more."""
    grad_share: float = 0.25
    """Share of the samples that a backward pass visits at most, drawn by the size of their gradients; 1 visits all.
    For the fused network on a GPU and on a CPU; elsewhere all are visited."""


@dataclass(frozen=True)
class GridOptions:
    """Of ngp alone. None leaves a size to the device: larger on a GPU than on a CPU."""

    levels: int | None = None
    """Levels of the hash grid."""
    features: Literal[2, 4, 8] | None = None
    """Numbers at each vertex of the grid."""
    log2_size: int | None = None
    """Binary logarithm of the entries of a level."""
    base_resolution: int = 16
    """Cells along the longest side of the scene's box, on the coarsest level."""
    finest_resolution: int | None = None
    """The same on the finest level."""
    hidden: int = 64
    """Width of the density network: a power of two, 16 or more."""
    outputs: int = 16
    """Numbers that the colour network gets from the density network: a power of two, 16 or more."""
    colour_hidden: int | None = None
    """Width of the colour network: a power of two, 16 or more."""
    cells: int | None = None
    """Cells a side of the occupancy grid: a multiple of 32."""
    march_steps: int | None = None
    """Steps of a ray that runs along the diagonal of the scene's box."""
    horizon: int | None = None
    """Training steps for which a cell counts as visible once light has reached it; others are left out."""
    seen_detail: int | None = None
    """Parts of a cell along each axis, of which those are shown that light reached in training: 1, 2 or 4."""
    samples: int | None = None
    """Samples per training step; the number of rays follows, up to batch_size."""
    unbounded: bool | None = None
    """Go on beyond the scene's box, in ever larger cells; None: where the scene does."""
    extended: bool | None = None
    """In cells that no training view looked into, show what is nearest to them; None: by the kind of scene."""
    distortion: float | None = None
    """Weight of the loss that gathers what a ray sees in one place, against floaters (Barron et al. 2022); None: by the
    kind of scene."""
    smoothness: float | None = None
    """Weight of a loss that makes the entries of a cell of the grid alike; None: by the kind of scene."""
    density_noise: float | None = None
    """Standard deviation of noise on the density's logarithm while training; None: by the kind of scene."""
    network_rate: float | None = None
    """Learning rate of the networks, to that of the grid's entries, after 10,000 steps: it starts as high; None: by the
    device."""
    rays_per_pixel: int | None = None
    """Rays whose mean makes up a pixel, in evaluation and in the second half of a training, after 20,000 steps: before,
    one passes through its middle. None: by the kind of scene."""
    random_background: bool = True
    """Train in front of random colours, so that what is empty must be seen to be empty, and what is not must not."""


@dataclass(frozen=True)
class OptimOptions:
    loss_type: Literal["mse"] = "mse"
    """Loss between rendered and true colour."""
    optimizer: Literal["sgd", "adam", "radam", "ranger"] = "adam"
    """Optimizer; ngp takes adam alone, in a kind of its own."""
    lr: float = 5e-4
    """Learning rate."""
    momentum: float = 0.9
    """Momentum of sgd."""
    weight_decay: float = 0.0
    """Weight decay."""
    lr_scheduler: Literal["steplr", "cosine", "flat_cosine", "poly"] = "steplr"
    """How the learning rate falls, epoch by epoch (see lr_per_step); flat_cosine keeps it for 40 % of them first."""
    lr_per_step: bool = False
    """Let the schedule follow every step instead of whole epochs."""
    warmup_multiplier: float = 1.0
    """The warm-up ends at lr times this; used by sgd and adam when warmup_epochs > 0."""
    warmup_epochs: float = 0
    """Epochs of rising learning rate at the start."""
    decay_step: tuple[int, ...] = (20,)
    """steplr: epochs after which the learning rate is multiplied by decay_gamma."""
    decay_gamma: float = 0.1
    """steplr: the factor."""
    poly_exp: float = 0.9
    """poly: the exponent."""


@dataclass(frozen=True)
class TrainOptions:
    batch_size: int = 1024
    """Rays per step and process."""
    chunk: int = 32 * 1024
    """Rays rendered at once when no gradient is needed; lower it if memory runs out."""
    num_epochs: float | None = 16
    """Passes over all training pixels, batch_size at a time; max_steps and seconds take precedence."""
    max_steps: int | None = None
    """Train for this many steps."""
    seconds: float | None = None
    """Train for this much wall-clock time, with the schedule fitted to it. ngp, unless max_steps or num_epochs say
    otherwise: 20 for photos from one side, which it soon knows by heart, 60 for other scenes."""
    num_gpus: int = 1
    """Devices that train together; 0 means the CPU."""
    accelerator: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to train; with cpu, num_gpus is the number of processes."""
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    """Arithmetic of the networks; auto is bf16 matrix products with fp32 master weights on a GPU, fp32 on a CPU. For
    ngp auto and bf16 mean kernels in half precision on a GPU; fp32 and tf32 run it in plain PyTorch."""
    seed: int = 0
    """Random seed: the same seed gives the same pixels and samples on any device."""
    val_every: int | None = None
    """Steps between validations; the default is once an epoch, at least ten times in a run; ten times with ngp, and
    four times in a run that ends by seconds."""
    val_views: int = 8
    """Views of the validation split that are rendered each time."""
    ckpt_path: str | None = None
    """Start from the weights of this checkpoint: ours, nerf_pl's (.ckpt) or nerf-pytorch's (.tar)."""
    prefixes_to_ignore: tuple[str, ...] = ("loss",)
    """Weights in ckpt_path whose names start so are not loaded."""
    exp_name: str = "exp"
    """Name of the run."""


@dataclass(frozen=True)
class Config:
    method: Literal["nerf", "ngp"] = "nerf"
    """nerf is the method of the 2020 paper, ngp a hash grid that trains in seconds."""
    data: DataOptions = field(default_factory=DataOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    grid: GridOptions = field(default_factory=GridOptions)
    optim: OptimOptions = field(default_factory=OptimOptions)
    train: TrainOptions = field(default_factory=TrainOptions)


SECTIONS = {
    "data": DataOptions, "model": ModelOptions, "grid": GridOptions, "optim": OptimOptions, "train": TrainOptions,
}  # fmt: skip

CLASSIC = Config(data=DataOptions(dataset_name="blender", img_wh=(800, 800), test_every=0))
"""The defaults of the classic command."""

PRESETS = {
    "nerf": Config(
        model=ModelOptions(N_importance=64, noise_std=0.0),
        optim=OptimOptions(lr=1e-3, lr_scheduler="cosine", lr_per_step=True),
    ),
    "ngp": Config(
        method="ngp",
        model=ModelOptions(grad_share=0.2),
        optim=OptimOptions(lr=1e-2, lr_scheduler="flat_cosine", lr_per_step=True),
        train=TrainOptions(batch_size=2**16, chunk=2**20, num_epochs=None),
    ),
}
"""The defaults of the modern command, by method."""


def to_dict(config: Config) -> dict:
    """Plain Python values, for JSON and for checkpoints that load without executing code."""
    return dataclasses.asdict(config)


def from_dict(values: Any) -> Config:
    """The inverse of `to_dict`, also of its JSON. Raises UserError for an option that this version does not know, or
    a value that it cannot have; an option that is not stored has its default."""
    if not isinstance(values, Mapping) or "method" not in values:
        raise UserError("the stored settings are damaged, they name no method: start a new run")
    parts = {}
    for name, cls in SECTIONS.items():
        stored = values.get(name, {})
        if not isinstance(stored, Mapping):
            raise UserError(f"the stored settings are damaged, {name} is {stored!r}: start a new run")
        parts[name] = _options(cls, {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()})
    return _options(Config, {"method": values["method"], **parts})


def _options(cls: Any, stored: dict[str, Any]) -> Any:
    types = get_type_hints(cls)
    for name, value in stored.items():
        if name not in types:
            raise UserError(f"unknown option {name!r} in the stored settings: made by another version?")
        if not _fits(value, types[name]):
            raise UserError(f"--{name} {value!r} in the stored settings is no possible value: correct it there")
    return cls(**stored)


def _fits(value: object, annotation: Any) -> bool:
    """Whether a value is of a type that options have."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return value in parts
    if get_origin(annotation) in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if get_origin(annotation) is tuple:
        wanted = parts[:1] * len(value) if isinstance(value, tuple) and parts[-1] is ... else parts
        return isinstance(value, tuple) and len(value) == len(wanted) and all(map(_fits, value, wanted))
    if isinstance(value, bool) or annotation is bool:
        return isinstance(value, bool) and annotation is bool
    return isinstance(value, (int, float) if annotation is float else annotation)


def read_settings(path: Path) -> Config:
    """The options that a run was started with, from its settings.json. Raises UserError if they cannot be read."""
    try:
        return from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): start again with --overwrite") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


@dataclass(frozen=True)
class RunFolders:
    """Where the files of a run go."""

    checkpoints: Path
    logs: Path
    settings: Path

    @staticmethod
    def modern(run: Path) -> "RunFolders":
        return RunFolders(run / "checkpoints", run / "logs", run / "settings.json")

    @staticmethod
    def classic(exp_name: str) -> "RunFolders":
        return RunFolders(Path("ckpts") / exp_name, Path("logs") / exp_name, Path("logs") / exp_name / "settings.json")
