"""What training, checkpoints, evaluation, films and bench know of a model, whatever its method."""

from collections.abc import Iterator, Mapping
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
    """A torch.nn.Module that sees a scene.

    step: (1,) int64, training steps so far; on the device. With `seed` it determines every random number of a step.
    backend: which kernels or twins it runs. rays_per_pixel: rays whose mean makes up a pixel, in evaluation and late in
    training. ndc: the frustum of a model that lives in normalised device coordinates, see `cameras.ndc_rays`; set by
    `fit` and by whoever loads a checkpoint.
    """

    step: Tensor
    seed: int
    backend: Backend
    rays_per_pixel: int
    ndc: tuple[float, float] | None
    training: bool

    precrop_steps: ClassVar[int]
    """Steps at the start that draw from the middle of the pictures alone."""
    fixed_batches: ClassVar[bool]
    """Whether each step takes all rays of a batch, so that passes over all pixels measure the length of a training."""
    state_of_a_run: ClassVar[frozenset[str]]
    """Names in `state_dict` that mean nothing to another training."""
    essential_state: ClassVar[frozenset[str]]
    """Names in `state_dict` without which no weights of it mean anything."""
    memory_options: ClassVar[str]
    """Options to lower when the memory of a GPU does not suffice for training."""
    chip_options: ClassVar[str]
    """Options to lower when the networks do not fit on a GPU's chip."""
    size_options: ClassVar[str]
    """Options that decide the shapes of weights."""

    @property
    def random_background(self) -> bool:
        """Whether training puts random colours behind the pictures."""
        ...

    @property
    def can_be_captured(self) -> bool:
        """Whether no size in a training step depends on values, so that a CUDA graph can record it."""
        ...

    def fit(self, scene: Scene, keep_box: bool = False) -> None:
        """Prepare for the first step on a scene. keep_box: there are weights already, for the model's own box."""
        ...

    def before_step(self, step: int) -> None:
        """What is due before a training step, beside the step itself."""
        ...

    def loss(self, batch: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """What training lowers, and the mean squared error of the colours."""
        ...

    def render(self, rays: Rays, background: Background) -> Pixels:
        """Pixels, as evaluation shows them. The rays live in the model's space, see `cameras.View.rays`."""
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
        """Compile what a step of its optimizer needs, before the clock of a training runs. No weight moves."""
        ...

    def batch_limit(self) -> int | None:
        """How many rays the next step has use for, where that saves work; None: as many as the batch has."""
        ...

    def counts(self, optimizer: torch.optim.Optimizer) -> Float[Tensor, "2"] | None:
        """Rays of the last step, and steps so far that were left out because a gradient was not finite. None: each step
        takes its whole batch, and none is left out."""
        ...

    def samples_in(self, rays: int) -> int:
        """Samples of the last training step, given the rays that it took."""
        ...

    def describe(self) -> str:
        """Which path runs and in what precision, for the line that says so at the start."""
        ...

    # ---- of torch.nn.Module ------------------------------------------------------------------------------------------

    def parameters(self) -> Iterator[nn.Parameter]: ...
    def named_buffers(self) -> Iterator[tuple[str, Tensor]]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> object: ...
    def train(self, mode: bool = True) -> "Model": ...
    def eval(self) -> "Model": ...
    def to(self, device: torch.device) -> "Model": ...
