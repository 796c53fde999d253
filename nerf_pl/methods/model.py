"""Model: what training, checkpoints, evaluation, films and bench know of a model of any method."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nerf_pl.ops import Backend
from nerf_pl.options import OptimOptions
from nerf_pl.scenes import Scene
from nerf_pl.types import Background, Batch, Pixels, Rays


@runtime_checkable
class Model(Protocol):
    """A torch.nn.Module that learns a scene and renders it.

    step: (1,) int64, training steps so far; on the device. step and `seed` determine every random number of a step.
    backend: which kernels or twins the model runs. rays_per_pixel: a pixel is the mean of this many rays, in evaluation
    and late in training. ndc: the frustum of a model that lives in normalised device coordinates, see
    `cameras.ndc_rays`. `fit` sets it, and so does the code that loads a checkpoint.
    """

    step: Tensor
    seed: int
    backend: Backend
    rays_per_pixel: int
    training: bool

    precrop_steps: ClassVar[int]
    """The first steps of a training, which draw from the middle of the pictures alone."""
    fixed_batches: ClassVar[bool]
    """Whether each step takes all rays of a batch. A training can then be measured in passes over all pixels."""
    memory_options: ClassVar[str]
    """Options to lower if a GPU has too little memory for training."""
    chip_options: ClassVar[str]
    """Options to lower if the networks do not fit into the on-chip memory of a GPU."""
    size_options: ClassVar[str]
    """Options that decide the shapes of weights."""

    @property
    def state_of_a_run(self) -> frozenset[str]:
        """Names in `state_dict` that another training does not take over."""
        ...

    @property
    def essential_state(self) -> frozenset[str]:
        """Names in `state_dict` that every checkpoint must have for its weights to make sense."""
        ...

    @property
    def ndc(self) -> tuple[float, float] | None: ...
    @ndc.setter
    def ndc(self, ndc: tuple[float, float] | None) -> None: ...

    @property
    def parts(self) -> "Sequence[Model]":
        """The models that steps train in turn, each with a seed of its own: this one alone, unless it is an ensemble.
        `step` of an ensemble counts the steps of all parts that this process trains."""
        ...

    @property
    def in_turn(self) -> "Model":
        """The part that the next step trains, as `before_step` chose it."""
        ...

    @property
    def random_until(self) -> float:
        """Up to which share of a training pictures and rendering are composited on random colours."""
        ...

    @property
    def can_be_captured(self) -> bool:
        """Whether no size in a training step depends on values, so that a CUDA graph can record it."""
        ...

    def fit(self, scene: Scene, keep_box: bool = False) -> None:
        """Prepare for the first step on a scene. keep_box: keep the model's box, in which its weights were trained."""
        ...

    def before_step(self, step: int) -> None:
        """Do what is due before a training step, such as an update of an occupancy grid."""
        ...

    def loss(self, batch: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The loss, and the mean squared error of the colours."""
        ...

    def render(self, rays: Rays, background: Background) -> Pixels:
        """Pixels, as evaluation shows them. The rays are in the model's space, see `cameras.View.rays`."""
        ...

    def density(self, xyz: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """Density per world length at world points, as evaluation shows it."""
        ...

    def radiance(
        self, xyz: Float[Tensor, "N 3"], dirs: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 3"]]:
        """Density per world length and colour in [0, 1] at world points, seen along unit directions."""
        ...

    def make_optimizer(self, options: OptimOptions) -> torch.optim.Optimizer:
        """The optimizer that the options ask for."""
        ...

    def prepare_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Compile what a step of the optimizer needs, before the clock of a training starts. No weight moves."""
        ...

    def batch_limit(self) -> int | None:
        """The most rays that the next step can use, if fewer rays save work. None: all rays of the batch."""
        ...

    def counts(self, optimizer: torch.optim.Optimizer) -> Float[Tensor, "2"] | None:
        """Rays of the last step, and the number of steps skipped so far because a gradient was not finite. None: each
        step takes its whole batch, and none is skipped."""
        ...

    def go_on(self, step: int) -> None:
        """Called before the first step of a process. step: its number; 0 in a new run."""
        ...

    def apart(self, world: int) -> bool:
        """Whether each of so many processes trains parts of its own, so that steps exchange nothing."""
        ...

    def synchronize(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Bring what each process has learned by itself to all processes that train together. optimizer: so does what
        it remembers, for a checkpoint."""
        ...

    def samples_in(self, rays: int) -> int:
        """Samples of the last training step, given the rays that it took."""
        ...

    def describe(self) -> str:
        """Which path runs and in what precision, for the first line of a training."""
        ...

    def portable(self) -> dict[str, Tensor]:
        """All that it takes to render the same pictures, by names; weights are in half precision. docs/portable.md has
        the tensors of each method."""
        ...

    def take_portable(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `portable`, for a model of the same options on its device, that is going to render and not to
        train. Raises ValueError if something is missing or does not fit."""
        ...

    # ---- of torch.nn.Module ------------------------------------------------------------------------------------------

    def parameters(self) -> Iterator[nn.Parameter]: ...
    def named_buffers(self) -> Iterator[tuple[str, Tensor]]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> object: ...
    def train(self, mode: bool = True) -> "Model": ...
    def eval(self) -> "Model": ...
    def to(self, device: torch.device) -> "Model": ...
