"""The 2020 method: the weights of a coarse network say where a fine network is asked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nerf_pl import ops, sampling
from nerf_pl.cameras import AHEAD, ndc_points, ndc_scale
from nerf_pl.methods.half import halved, take
from nerf_pl.methods.nerf.field import MLPField
from nerf_pl.methods.nerf.loss import photometric
from nerf_pl.methods.nerf.optimizer import make_optimizer
from nerf_pl.methods.nerf.options import NeRFOptions
from nerf_pl.ops import Backend, MLPLayout
from nerf_pl.options import Config, OptimOptions
from nerf_pl.randomness import Stream, normal, uniform
from nerf_pl.rendering import RawField, over, render_samples
from nerf_pl.scenes import Scene
from nerf_pl.types import Background, Batch, Pixels, Rays


class NeRF(nn.Module):
    """Neural radiance fields (Mildenhall et al. 2020); see `methods.model.Model`.

    seed: of every random number of a training step.
    """

    precrop_steps: ClassVar[int] = 500  # a network that first sees little but white may learn to be empty (docs/log.md)
    fixed_batches: ClassVar[bool] = True
    state_of_a_run = frozenset({"step"})
    essential_state: frozenset[str] = frozenset()
    memory_options: ClassVar[str] = "--batch_size"
    chip_options: ClassVar[str] = "--net_width"
    size_options: ClassVar[str] = "--net_depth and --net_width"
    random_until = 0.0
    can_be_captured = True
    step: Tensor

    @property
    def parts(self) -> "Sequence[NeRF]":
        return [self]

    @property
    def in_turn(self) -> "NeRF":
        return self

    def __init__(self, options: NeRFOptions, backend: Backend, seed: int = 0):
        super().__init__()
        self.options, self.seed = options, seed
        self.rays_per_pixel = 1
        self.ndc: tuple[float, float] | None = None
        if options.net_width not in ops.FUSED_WIDTHS:
            backend = replace(backend, mlp="reference")
        self.backend = backend
        layout = MLPLayout(options.net_depth, options.net_width, options.net_skip)
        self.coarse = MLPField(layout, backend, options.grad_share)
        self.fine = MLPField(layout, backend, options.grad_share) if options.N_importance > 0 else None
        self.register_buffer("step", torch.zeros(1, dtype=torch.int64))

    def forward(self, rays: Rays, background: Background | Tensor, coarse_colour: bool = True) -> list[Pixels]:
        """Pixels of the coarse level and, with N_importance > 0, of the fine level, in front of the background.

        In training mode samples are jittered and density is noisy. coarse_colour=False skips the coarse colours, if the
        caller uses the fine ones alone.
        """
        o, n = self.options, len(rays)
        jitter = self._uniform(Stream.JITTER, (n, o.N_samples)) if self.training and o.perturb > 0 else None
        if jitter is not None and o.perturb != 1:
            jitter = o.perturb * jitter  # as the classic implementation scales it
        samples = sampling.stratified(rays, o.N_samples, jitter, o.use_disp)
        colour = coarse_colour or self.fine is None
        noise = self._noise(Stream.NOISE, len(samples))
        coarse = render_samples(self.coarse, rays, samples, noise, colour, backend=self.backend)
        if self.fine is None:
            return [over(coarse, background)]

        if jitter is not None:
            u = self._uniform(Stream.DRAW, (n, o.N_importance))
        else:
            u = torch.linspace(0, 1, o.N_importance, device=rays.near.device).expand(n, -1)
        samples = sampling.hierarchical(samples, coarse.weights, u, backend=self.backend)
        noise = self._noise(Stream.FINE_NOISE, len(samples))
        fine = render_samples(self.fine, rays, samples, noise, backend=self.backend)
        return [over(coarse, background), over(fine, background)]

    def render(self, rays: Rays, background: Background) -> Pixels:
        """Pixels of the finest level."""
        return self(rays, background, coarse_colour=False)[-1]

    def loss(self, batch: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The loss, and the mean squared error of the finest level; see `loss.photometric`."""
        return photometric(self(batch.rays, batch.background), batch.rgb)

    def fit(self, scene: Scene, keep_box: bool = False) -> None:
        """Store the space of the scene. The network takes any point."""
        self.ndc = scene.ndc

    def before_step(self, step: int) -> None:
        """Nothing is due."""

    def density(self, xyz: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """Density per world length of the finest level. In normalised device coordinates it is the density along -z."""
        if self.ndc is None:
            return torch.relu(self._finest.density(xyz))
        ahead = xyz.new_tensor(AHEAD).expand_as(xyz)
        return torch.relu(self._finest.density(ndc_points(xyz, self.ndc))) * ndc_scale(xyz, ahead, self.ndc)

    def radiance(
        self, xyz: Float[Tensor, "N 3"], dirs: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 3"]]:
        """Density per world length and colour of the finest level, at world points, seen along unit directions."""
        if self.ndc is None:
            sigma, rgb = self._finest(xyz, dirs)
            return torch.relu(sigma), rgb
        sigma, rgb = self._finest(ndc_points(xyz, self.ndc), dirs)
        return torch.relu(sigma) * ndc_scale(xyz, dirs, self.ndc), rgb

    def make_optimizer(self, options: OptimOptions) -> torch.optim.Optimizer:
        """The optimizer of that name."""
        o = options
        return make_optimizer(list(self.parameters()), o.optimizer, o.lr, o.momentum, o.weight_decay)

    def prepare_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """PyTorch's optimizers need no preparation."""

    def batch_limit(self) -> int | None:
        """A step takes its whole batch."""
        return None

    def counts(self, optimizer: torch.optim.Optimizer) -> Float[Tensor, "2"] | None:
        """A step takes its whole batch, and none is skipped."""
        return None

    def go_on(self, step: int) -> None:
        self.step.fill_(step)

    def apart(self, world: int) -> bool:
        return False

    def synchronize(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """All processes have the same weights, and nothing else."""

    def samples_in(self, rays: int) -> int:
        """Samples of both levels. The fine network is asked at the coarse samples too."""
        return rays * (2 * self.options.N_samples + self.options.N_importance)

    def describe(self) -> str:
        """Which path runs, the precision of products, and whether the network is fused."""
        fused = ", fused network" if self.backend.mlp != "reference" else ""
        precision = {torch.bfloat16: "bf16", torch.float32: "fp32"}[self.backend.dtype]
        told = ops.describe(self.backend, self.step.device, "rays", "mlp")
        return f"{told}, {precision}{fused}"

    def portable(self) -> dict[str, Tensor]:
        """Both networks, matrix by matrix; see `ops.MLPLayout`."""
        return {
            name: part
            for prefix, field in self._networks()
            for name, part in halved(field.layout.parts(field.params), prefix).items()
        }

    def take_portable(self, tensors: Mapping[str, Tensor]) -> None:
        for prefix, field in self._networks():
            take(tensors, field.layout.parts(field.params.detach()), prefix)

    def _networks(self) -> Iterator[tuple[str, MLPField]]:
        yield "coarse.", self.coarse
        if self.fine is not None:
            yield "fine.", self.fine

    @property
    def _finest(self) -> RawField:
        return self.fine or self.coarse

    def _uniform(self, stream: Stream, shape: tuple[int, ...]) -> Tensor:
        return uniform(self.seed, self.step, stream, shape, backend=self.backend)

    def _noise(self, stream: Stream, n: int) -> Float[Tensor, "n"] | None:
        if not self.training or self.options.noise_std == 0:
            return None
        return self.options.noise_std * normal(self.seed, self.step, stream, n, backend=self.backend)


def make(config: Config, device: torch.device, rank: int = 0) -> NeRF:
    """See `methods.method.Make`."""
    assert isinstance(config.model, NeRFOptions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        backend = ops.choose(device, config.train.precision, config.train.deterministic)
        return NeRF(config.model, backend, config.train.seed + 1_000_003 * rank)
