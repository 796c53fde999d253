"""Models: rays in, pixels out, one per level."""

import torch
from torch import Tensor, nn

from nerf_pl import sampling
from nerf_pl.config import Config
from nerf_pl.fields import MLPField
from nerf_pl.ops import MLPLayout
from nerf_pl.rendering import Background, over, render_samples
from nerf_pl.types import Pixels, Rays

JITTER, DRAW, NOISE = 1, 2, 3  # streams of random numbers; stream 0 draws the pixels


class NeRF(nn.Module):
    """Neural radiance fields (Mildenhall et al. 2020): a coarse network says where a fine one is asked.

    The arguments are the options of the same names. `step` counts training steps on the device and, with `seed`,
    determines every random number.
    """

    step: Tensor

    def __init__(
        self,
        N_samples: int = 64,
        N_importance: int = 128,
        use_disp: bool = False,
        perturb: float = 1.0,
        noise_std: float = 1.0,
        net_depth: int = 8,
        net_width: int = 256,
        net_skip: int = 4,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        grad_share: float = 1.0,
    ):
        super().__init__()
        self.N_samples, self.N_importance, self.use_disp = N_samples, N_importance, use_disp
        self.perturb, self.noise_std, self.seed = perturb, noise_std, seed
        layout = MLPLayout(net_depth, net_width, net_skip)
        self.coarse = MLPField(layout, dtype, grad_share)
        self.fine = MLPField(layout, dtype, grad_share) if N_importance > 0 else None
        self.register_buffer("step", torch.zeros(1, dtype=torch.int64))

    def forward(self, rays: Rays, background: Background, coarse_colour: bool = True) -> list[Pixels]:
        """Pixels of the coarse level and, with N_importance > 0, of the fine one, in front of the background.

        In training mode samples are jittered and density is noisy. coarse_colour=False spares the coarse colours where
        only the fine ones are wanted.
        """
        n = len(rays)
        jitter = self._uniform(JITTER, (n, self.N_samples)) if self.training and self.perturb > 0 else None
        if jitter is not None and self.perturb != 1:
            jitter = self.perturb * jitter  # as the classic implementation scales it
        samples = sampling.stratified(rays, self.N_samples, jitter, self.use_disp)
        colour = coarse_colour or self.fine is None
        coarse = render_samples(self.coarse, rays, samples, self._noise(0, len(samples)), colour)
        if self.fine is None:
            return [over(coarse, background)]

        if jitter is not None:
            u = self._uniform(DRAW, (n, self.N_importance))
        else:
            u = torch.linspace(0, 1, self.N_importance, device=rays.near.device).expand(n, -1)
        samples = sampling.hierarchical(samples, coarse.weights, u)
        fine = render_samples(self.fine, rays, samples, self._noise(1, len(samples)))
        return [over(coarse, background), over(fine, background)]

    def density(self, xyz: Tensor) -> Tensor:
        """Density per world length (N,), of the finest level."""
        return torch.relu((self.fine or self.coarse).density(xyz))

    def _uniform(self, stream: int, shape: tuple[int, ...]) -> Tensor:
        return sampling.uniform(self.seed, self.step, stream, shape)

    def _noise(self, level: int, n: int) -> Tensor | None:
        if not self.training or self.noise_std == 0:
            return None
        return self.noise_std * sampling.normal(self.seed, self.step, NOISE + level, n)


def precision_of(config: Config, device: torch.device) -> str:
    """What `auto` means on this device: bf16 where tensor cores have it, from Ampere on."""
    if config.train.precision != "auto":
        return config.train.precision
    return "bf16" if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"


def make_model(config: Config, device: torch.device, rank: int = 0) -> NeRF:
    """The model of a run. Each process has random numbers of its own; the weights are those of process 0."""
    dtype = torch.bfloat16 if precision_of(config, device) == "bf16" else torch.float32
    m = config.model  # the one place where options become a model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        model = NeRF(
            m.N_samples, m.N_importance, m.use_disp, m.perturb, m.noise_std, m.net_depth, m.net_width, m.net_skip,
            dtype, config.train.seed + 1_000_003 * rank, m.grad_share,
        )  # fmt: skip
    return model
