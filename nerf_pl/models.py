"""Models: rays in, pixels out, one per level."""

import itertools
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nerf_pl import losses, ops, sampling
from nerf_pl.config import Config
from nerf_pl.errors import UserError
from nerf_pl.fields import HashField, MLPField
from nerf_pl.hull import scene_box
from nerf_pl.occupancy import OccupancyGrid
from nerf_pl.ops import FieldLayout, GridLayout, MLPLayout
from nerf_pl.rendering import Background, over, render_samples
from nerf_pl.scenes import Scene
from nerf_pl.types import Pixels, Rays, Samples

JITTER, DRAW, NOISE, CELLS = 1, 2, 3, 5  # streams of random numbers; stream 0 draws the pixels, 6 the backgrounds
UPDATE_EVERY = 16  # steps, of the occupancy grid
PASSES = (4, 4, 8, 16, 32, 64)  # samples of a ray at a time, in rendering: most rays end soon, a few go on
PLAIN_PASSES = (8, 24, 64)  # the same in plain PyTorch, where a pass costs more
ROOM = 2**16  # samples at a time, at least
STOP = 1e-3  # of the light, with which a ray ends
MOST_HIDDEN = {"hidden": 64, "colour_hidden": 128}  # of the networks that the kernels hold on chip


class NeRF(nn.Module):
    """Neural radiance fields (Mildenhall et al. 2020): a coarse network says where a fine one is asked.

    The arguments are the options of the same names. `step` counts training steps on the device and, with `seed`,
    determines every random number.
    """

    rays_per_pixel = 1  # in evaluation
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

    def forward(self, rays: Rays, background: Background | Tensor, coarse_colour: bool = True) -> list[Pixels]:
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

    def render(self, rays: Rays, background: Background) -> Pixels:
        """Pixels of the finest level."""
        return self(rays, background, coarse_colour=False)[-1]

    def loss(self, rays: Rays, target: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
        """What training lowers, and the squared error of the finest level; see `losses.photometric`."""
        return losses.photometric(self(rays, background), target)

    def before_step(self, step: int) -> None:
        """What is due before a training step, beside the step itself: nothing."""

    def density(self, xyz: Tensor) -> Tensor:
        """Density per world length (N,), of the finest level."""
        return torch.relu((self.fine or self.coarse).density(xyz))

    def _uniform(self, stream: int, shape: tuple[int, ...]) -> Tensor:
        return sampling.uniform(self.seed, self.step, stream, shape)

    def _noise(self, level: int, n: int) -> Tensor | None:
        if not self.training or self.noise_std == 0:
            return None
        return self.noise_std * sampling.normal(self.seed, self.step, NOISE + level, n)


class NGP(nn.Module):
    """A hash-grid field behind an occupancy grid, after Instant-NGP (Mueller et al. 2022).

    `step` counts training steps on the device and, with `seed`, determines every random number but those of the
    occupancy grid, which take `grid_seed`: processes that train together draw different pixels and keep the same grid.
    Call `fit` with a scene before the first step. rays_per_pixel: in evaluation; a training step is given its rays. In
    float32 everything runs in plain PyTorch, on a GPU as well.
    """

    step: Tensor
    active: Tensor
    kept: Tensor
    least: Tensor

    def __init__(
        self,
        layout: GridLayout,
        networks: FieldLayout,
        cells: int,
        march_steps: int,
        samples: int,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        grad_share: float = 1.0,
        grid_seed: int = 0,
        horizon: int = 512,
        unbounded: bool = False,
        distortion: float = 0.0,
        extended: bool = False,
        rays_per_pixel: int = 1,
        smoothness: float = 0.0,
        density_noise: float = 0.0,
        seen_detail: int = 1,
    ):
        super().__init__()
        self.rays_per_pixel, self.smoothness, self.density_noise = rays_per_pixel, smoothness, density_noise
        self.march_steps, self.samples, self.seed, self.grad_share = march_steps, samples, seed, grad_share
        self.grid_seed, self.horizon, self.distortion = grid_seed, horizon, distortion
        self.field = HashField(layout, networks, dtype)
        self.is_plain = dtype == torch.float32
        box = torch.tensor([[0.0] * 3, [1.0] * 3])
        self.occupancy = OccupancyGrid(box, cells, self.is_plain, unbounded, extended, seen_detail)
        self.register_buffer("step", torch.zeros(1, dtype=torch.int64))
        # rays that the next step takes, and that the last one had room for
        self.register_buffer("active", torch.full((1,), max(samples // 64, 64), dtype=torch.int32))
        self.register_buffer("kept", torch.ones(1, dtype=torch.int32))
        self.register_buffer("least", torch.full((1,), 1e-9))  # see `ops.Target`
        self._measure()
        self.register_load_state_dict_post_hook(lambda module, _: module._measure())

    def _measure(self) -> None:
        """How rays step follows from the scene's box."""
        low, high = self.occupancy.aabb.unbind(0)
        self.stride = self.occupancy.stride(float((high - low).norm()) / self.march_steps)

    def fit(self, scene: Scene, masks: Tensor | None) -> None:
        """Take the box, and the cells that can hold something, from the cameras and masks of a scene; see
        `hull.scene_box`."""
        grid = self.occupancy
        if scene.ndc is None:
            cameras, box = scene.cameras.to(grid.aabb.device), scene.aabb.to(grid.aabb.device)
            box, possible = scene_box(cameras, masks, box, grid.size, grid.unbounded)
            grid.aabb.copy_(box)
            grid.restrict(possible)
        else:  # the box is as tight as the cameras' frusta
            grid.aabb.copy_(scene.aabb)
            grid.restrict(torch.ones_like(grid.possible).view(3 * (grid.size,)))
        self._measure()

    def loss(self, rays: Rays, target: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared error of the pixels (P, 3) whose rays the sample budget has room for, twice: to lower and to
        report. A pixel is the mean of its R / P rays."""
        grid = self.occupancy
        jitter = sampling.uniform(self.seed, self.step, JITTER, (len(rays),))
        batch = ops.Batch(self.samples, self.active, self.kept, grid.visible, grid.detail)
        samples, unit, cells = grid.march(rays, self.stride, jitter, batch)
        aim = ops.Target(target, background, self.kept, cells, grid.seen, self.step, self.least, self.grad_share)
        aim = replace(aim, smoothness=self.smoothness)
        if self.distortion:
            place, width = self.stride.place(samples.t), self.stride.step / self.stride.side
            aim = replace(aim, place=place, width=width, distortion=self.distortion)
        if self.density_noise:  # of the density's logarithm; it enters as its product with dt
            noise = self.density_noise * sampling.normal(self.seed, self.step, NOISE, len(samples))
            samples = replace(samples, dt=samples.dt * noise.exp())
        loss = self.field.loss(unit, self._view(rays.viewdirs, self.kept), samples, aim)
        return loss, loss.detach()

    def forward(self, rays: Rays, background: Background | Tensor) -> list[Pixels]:
        """Pixels in front of the background: one level."""
        half = torch.full_like(rays.near, 0.5)
        samples, unit, _ = self.occupancy.march(rays, self.stride, half)
        sigma, rgb = self.field.at(unit, self._view(rays.viewdirs), samples.ray_ids)
        return [over(ops.composite(sigma, rgb, samples), background)]

    def render(self, rays: Rays, background: Background) -> Pixels:
        """Pixels of one level. Samples are asked for a few at a time, and a ray ends where little light is left."""
        if self.is_plain:
            return self._render_plain(rays, background)
        grid = self.occupancy
        given = rays.origins, rays.directions, rays.near, rays.far, grid.shown(), grid.aabb
        way = ops.advance(*given, grid.through_shown(self.stride), max(4 * len(rays), ROOM))
        view = self._view(rays.viewdirs)
        for k in PASSES:
            self._advance(way, view, k)
        while way.left():
            self._advance(way, view, PASSES[-1])
        return over(Pixels(way.rgb, way.depth, 1 - way.passed, way.passed.new_zeros(0)), background)

    def _render_plain(self, rays: Rays, background: Background) -> Pixels:
        samples, unit, _ = self.occupancy.march(rays, self.stride, torch.full_like(rays.near, 0.5))
        view, ids, n = self._view(rays.viewdirs), samples.ray_ids, len(rays)
        rank = torch.arange(len(samples), device=ids.device) - samples.offsets[ids]
        passed, rgb, depth = torch.ones_like(rays.near), torch.zeros_like(rays.origins), torch.zeros_like(rays.near)
        begin = 0
        for k in itertools.chain(PLAIN_PASSES, itertools.repeat(PLAIN_PASSES[-1])):
            left = (rank >= begin) & (passed[ids] > STOP)
            if not bool(left.any()):
                break
            now = (left & (rank < begin + k)).nonzero()[:, 0]
            sigma, colour = self.field.at(unit[now], view, ids[now])
            offsets = F.pad(torch.bincount(ids[now], minlength=n).cumsum(0), (1, 0))
            part = ops.composite(sigma, colour, Samples(samples.t[now], samples.dt[now], ids[now], offsets))
            rgb, depth = rgb + passed[:, None] * part.rgb, depth + passed * part.depth
            passed, begin = passed * (1 - part.opacity), begin + k
        return over(Pixels(rgb, depth, 1 - passed, passed.new_zeros(0)), background)

    def _advance(self, way, view: Tensor, k: int) -> None:
        unit, ray_ids, count = way.fill(k)
        sigma, rgb = self.field.at(self.occupancy.moved(unit), view, ray_ids, count)
        way.blend(sigma, rgb, k, STOP)

    def before_step(self, step: int) -> None:
        """Refresh the occupancy grid, every 16 steps. It is the same in all processes that train together; which of its
        cells count as visible differs, since each process marks what its own rays have seen."""
        self.occupancy.forget_shown()
        if step % UPDATE_EVERY:
            return
        turn = step // UPDATE_EVERY

        def uniform(n: int) -> Tensor:
            return sampling.uniform(self.grid_seed, torch.full_like(self.step, step), CELLS, (n,))

        self.occupancy.update(self.density, uniform, self.stride.step, turn, step - self.horizon)

    def density(self, xyz: Tensor) -> Tensor:
        """Density per world length (N,)."""
        unit, shrunk = self.occupancy.unit(xyz)
        return self.field.density(unit) / self.stride.side / shrunk

    def _view(self, dirs: Tensor, count: Tensor | None = None) -> Tensor:
        """Encoded directions, where kernels run of the first `count` rays alone."""
        return ops.grid_reference.spherical_harmonics(dirs) if self.is_plain else ops.spherical_harmonics(dirs, count)


Model = NeRF | NGP


def precision_of(config: Config, device: torch.device) -> str:
    """What `auto` means on this device: bf16 where tensor cores have it, from Ampere on."""
    if config.train.precision != "auto":
        return config.train.precision
    return "bf16" if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"


def make_model(config: Config, device: torch.device, rank: int = 0) -> Model:
    """The model of a run. Each process has random numbers of its own; the weights are those of process 0."""
    half = precision_of(config, device) == "bf16"
    seed = config.train.seed + 1_000_003 * rank
    m = config.model  # the one place where options become a model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        if config.method == "ngp":
            return _make_ngp(config, torch.float16 if half and ops.use_kernels(device) else torch.float32, seed)
        return NeRF(
            m.N_samples, m.N_importance, m.use_disp, m.perturb, m.noise_std, m.net_depth, m.net_width, m.net_skip,
            torch.bfloat16 if half else torch.float32, seed, m.grad_share,
        )  # fmt: skip


def _make_ngp(config: Config, dtype: torch.dtype, seed: int) -> NGP:
    g: Any = config.grid  # sized, so that nothing is None
    layout = GridLayout(g.levels, g.features, g.log2_size, g.base_resolution, g.finest_resolution)
    networks = FieldLayout(layout.width, g.hidden, g.outputs, 16, g.colour_hidden)
    for name, most in MOST_HIDDEN.items():
        if dtype == torch.float16 and getattr(g, name) > most:
            told = f"--{name} {getattr(g, name)} is too wide for the GPU kernels"
            raise UserError(f"{told}: give {most} or less, or --precision fp32 for plain PyTorch")
    sizes = g.cells, g.march_steps, g.samples
    rest = g.horizon, g.unbounded, g.distortion, g.extended, g.rays_per_pixel, g.smoothness, g.density_noise
    return NGP(layout, networks, *sizes, dtype, seed, config.model.grad_share, config.train.seed, *rest, g.seen_detail)
