"""The hash-grid method: a field over a box, and rays that skip empty cells."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nerf_pl import ops
from nerf_pl.cameras import AHEAD, ndc_points, ndc_scale
from nerf_pl.errors import UserError
from nerf_pl.methods.half import take
from nerf_pl.methods.ngp import losses
from nerf_pl.methods.ngp.field import HashField
from nerf_pl.methods.ngp.hull import possible_cells, scene_box
from nerf_pl.methods.ngp.mirror import Mirror
from nerf_pl.methods.ngp.occupancy import OccupancyGrid
from nerf_pl.methods.ngp.optimizer import GridAdam
from nerf_pl.methods.ngp.options import NGPOptions, known
from nerf_pl.methods.ngp.portable import field_of, shown_of, take_field, take_shown
from nerf_pl.methods.ngp.trust import require_right_gradients
from nerf_pl.methods.ngp.visibility import Shown
from nerf_pl.ops import Backend, Budget, FieldLayout, GridLayout, Light, Target
from nerf_pl.options import OptimOptions
from nerf_pl.randomness import Stream, normal, uniform
from nerf_pl.rendering import CPU_CHUNK, over
from nerf_pl.scenes import Scene, outlines_to_carve, some_views, with_pixels
from nerf_pl.scenes.air import NUMBERS
from nerf_pl.types import Background, Batch, Pixels, Rays

UPDATE_EVERY = 16  # steps between two updates of the occupancy grid
ROOM = 2**16  # the least number of samples at a time in rendering
MOST_NUMBERS = 2**31  # of the features of these samples: kernels count them in 32 bits
COMPILED_CHUNK = 8192  # rays that a CPU renders at once if it has compiled the field (docs/log.md)
STOP = 1e-2  # a ray ends in rendering if less than this share of its light is left (docs/log.md); a hasty one sooner
CPU_MASKS = 20  # a CPU fits the box to about this many views
HARMONICS, MIRRORED = 16, 32  # numbers that stand for a direction, and for it and the mirrored one
AIR_POINTS = 1024  # of a step
PLAIN = Backend()  # plain PyTorch


class NGP(nn.Module):
    """A hash-grid field with an occupancy grid, after Instant-NGP (Mueller et al. 2022); see `methods.model.Model`.

    options: complete, so no size is None. seed: of the random numbers of a training step. grid_seed: of the random
    numbers of the occupancy grid. Processes that train together have different seeds, so they draw different pixels.
    They have one grid_seed, so they keep the same grid. finer: see `GridLayout`.
    """

    precrop_steps: ClassVar[int] = 0
    fixed_batches: ClassVar[bool] = False
    state_of_a_run = frozenset({"step", "occupancy.seen"})
    essential_state = frozenset({"occupancy.aabb"})
    memory_options: ClassVar[str] = "--samples, --log2_size or --batch_size"
    chip_options: ClassVar[str] = "--colour_hidden or --hidden"
    size_options: ClassVar[str] = "the sizes of its grid"
    step: Tensor
    active: Tensor
    kept: Tensor
    least: Tensor

    def __init__(self, options: NGPOptions, backend: Backend, seed: int = 0, grid_seed: int = 0, finer: float = 0.0):
        super().__init__()
        o = options
        self.options, self.backend, self.seed, self.grid_seed = options, backend, seed, grid_seed
        self.rays_per_pixel, self.samples = known(o.rays_per_pixel), known(o.samples)
        self.ndc: tuple[float, float] | None = None
        self.haste = 1.0  # see `rendering.Hasty`
        sizes = known(o.levels), known(o.features), known(o.log2_size)
        layout = GridLayout(*sizes, o.base_resolution, known(o.finest_resolution), finer)
        view = MIRRORED if known(o.mirror) else HARMONICS
        networks = FieldLayout(layout.width, o.hidden, o.outputs, view, known(o.colour_hidden))
        self.field = HashField(layout, networks, backend)
        box = torch.tensor([[0.0] * 3, [1.0] * 3])
        kind = {"unbounded": known(o.unbounded), "extended": known(o.extended), "detail": known(o.seen_detail)}
        self.occupancy = OccupancyGrid(box, known(o.cells), backend, **kind)
        self.mirror = Mirror(known(o.cells), backend.hash_field == "triton") if o.mirror else None
        self.register_buffer("step", torch.zeros(1, dtype=torch.int64))
        # rays that the next step takes, and rays that found room in the last step
        self.register_buffer("active", torch.full((1,), max(self.samples // 64, 64), dtype=torch.int32))
        self.register_buffer("kept", torch.ones(1, dtype=torch.int32))
        self.register_buffer("least", torch.full((1,), 1e-9))  # see `ops.Target`
        self._set_stride()
        self.register_load_state_dict_post_hook(lambda module, _: module._derive())

    @property
    def parts(self) -> "Sequence[NGP]":
        return [self]

    @property
    def in_turn(self) -> "NGP":
        return self

    @property
    def random_until(self) -> float:
        return known(self.options.random_until) if self.options.random_background else 0.0

    @property
    def can_be_captured(self) -> bool:
        """Kernels fill a fixed number of samples. In plain PyTorch the sizes of tensors depend on values."""
        return self.backend.march == "triton"

    @property
    def cpu_chunk(self) -> int:
        """See `rendering.Chunked`."""
        return COMPILED_CHUNK if self.backend.hash_field == "numba" else CPU_CHUNK

    def _set_stride(self) -> None:
        """The steps of rays follow from the box."""
        low, high = self.occupancy.aabb.unbind(0)
        self.stride = self.occupancy.stride(float((high - low).norm()) / known(self.options.march_steps))

    def _derive(self) -> None:
        """Work out what is not stored, after weights and grids came from elsewhere."""
        self._set_stride()
        if self.mirror is not None:
            self.mirror.refresh(self.occupancy.span)

    def fit(self, scene: Scene, keep_box: bool = False) -> None:
        """Fit the box and the possible cells to the cameras, silhouettes and masks of a scene; see `hull.scene_box`. To
        save time, a CPU uses only some of the views."""
        grid, device = self.occupancy, self.occupancy.aabb.device
        self.ndc = scene.ndc
        if scene.ndc is not None:  # the box is as tight as the cameras' frusta
            grid.aabb.copy_(scene.aabb)
            grid.restrict(torch.ones_like(grid.possible).view(3 * (grid.size,)))
        else:
            scene = with_pixels(scene) or scene
            every = max(len(scene) // CPU_MASKS, 1) if device.type == "cpu" else 1
            scene = scene if every == 1 else some_views(scene, torch.arange(0, len(scene), every))
            cameras, masks = scene.cameras.to(device), outlines_to_carve(scene)
            masks = None if masks is None else masks.to(device)
            counted = None if scene.masks is None else scene.masks.to(device)
            if not keep_box:
                aabb, shown = scene.aabb.to(device), None if grid.unbounded else masks
                grid.aabb.copy_(scene_box(cameras, shown, aabb, grid.size, counted=counted, vague=scene.plain))
            shown = None if scene.plain else masks
            possible = possible_cells(cameras, shown, grid.aabb, grid.size, unbounded=grid.unbounded, counted=counted)
            grid.restrict(possible)
        self._set_stride()

    def fit_like(self, other: "NGP") -> None:
        """Take over what another model found as it was fitted to the scene."""
        self.ndc = other.ndc
        self.occupancy.aabb.copy_(other.occupancy.aabb)
        self.occupancy.restrict(other.occupancy.possible.view(3 * (self.occupancy.size,)))
        self._set_stride()

    # ---- training ----------------------------------------------------------------------------------------------------

    def before_step(self, step: int) -> None:
        """Update the occupancy grid, every 16 steps.

        All processes that train together have the same grid. Their visible cells differ, because each process marks the
        cells that its own rays reach.
        """
        self.occupancy.forget_shown()
        if step % UPDATE_EVERY:
            return
        at = torch.full_like(self.step, step)

        def numbers(n: int) -> Tensor:
            return uniform(self.grid_seed, at, Stream.CELLS, (n,), backend=self.backend)

        turn, since = step // UPDATE_EVERY, step - known(self.options.horizon)
        density = self._trained_density
        self.occupancy.update(density, numbers, march_step=self.stride.step, turn=turn, since=since)
        if self.mirror is not None and self.mirror.is_due(turn):
            self.mirror.follow(self.occupancy.taken(self.stride.side), self.occupancy.span)

    def batch_limit(self) -> int | None:
        """Plain PyTorch also draws rays that do not fit into the budget, so fewer rays save work there."""
        return None if self.can_be_captured else int(1.5 * int(self.active)) + 1

    def loss(self, batch: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The mean squared error of the pixels whose rays found room in the budget, twice: the loss and the error."""
        grid, rays, o = self.occupancy, batch.rays, self.options
        jitter = uniform(self.seed, self.step, Stream.JITTER, (len(rays),), backend=self.backend)
        budget = Budget(self.samples, self.active, self.kept, grid.visible, grid.detail)
        found = grid.march(rays, self.stride, jitter, budget, self._light())
        samples = found.samples
        mark = self.kept, found.cells, grid.seen, self.step
        shares = known(o.grad_share), known(o.close_range)
        target = Target(batch.rgb, batch.background, *mark, self.least, *shares, clear=batch.clear)
        target = replace(target, charbonnier=known(o.charbonnier))
        for add in losses.LOSSES:
            target = add(target, samples, self.stride, o)
        if o.density_noise:
            noise = normal(self.seed, self.step, Stream.NOISE, len(samples), backend=self.backend)
            samples = losses.noisy(samples, noise, o, found.ended)
        if self.mirror is None:
            view = ops.spherical_harmonics(rays.viewdirs, self.kept, backend=self.backend)
        else:
            view = self._mirrored(found.unit, rays.viewdirs, samples.ray_ids, samples.offsets[-1:])
        of_samples, weights = self.mirror is not None, self.field.weights
        loss = ops.field_loss(found.unit, view, samples, weights, target, of_samples, backend=self.backend)
        error = loss.detach()
        if batch.air is not None and o.air:
            self._require_plain()
            if int(self.step) < losses.EMPTY_STEPS:
                loss = loss + self._air_loss(batch.air)
        return loss, error

    def _mirrored(self, unit: Tensor, dirs: Tensor, ray_ids: Tensor, count: Tensor | None = None) -> Tensor:
        """See `ops.mirrored_harmonics`."""
        assert self.mirror is not None
        return ops.mirrored_harmonics(unit, dirs, ray_ids, self.mirror.normals, count, backend=self.backend)

    def _light(self) -> Light | None:
        """What ends the rays of a step early. Plain PyTorch would have to ask for the densities of all samples first,
        which takes longer than it saves."""
        least = known(self.options.early_stop)
        return Light(self.field.weights, least) if least and self.backend.march != "reference" else None

    def _require_plain(self) -> None:
        """Raises UserError where kernels run: a CUDA graph can record neither the loss on air nor the question whether
        the step is late enough to leave it out. A run that was trained on a CPU can still be shown there, which asks
        for no loss."""
        if self.can_be_captured:
            told = f"--air {self.options.air:g}, with which a CPU trains, is not for the GPU kernels"
            raise UserError(f"{told}: give --air 0, or --precision fp32 for plain PyTorch")

    def _air_loss(self, air: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Float[Tensor, ""]:
        """See `losses.air`. In plain PyTorch, for the kernels have no gradient of density alone; and points are few."""
        points, length = air(uniform(self.seed, self.step, Stream.AIR, (AIR_POINTS, NUMBERS), backend=self.backend))
        unit, shrunk = self.occupancy.unit(points)
        sigma = ops.hash_density(unit, self.field.weights, backend=PLAIN)
        return losses.air(sigma * (length / self.stride.side / shrunk), self.step, self.options)

    def make_optimizer(self, options: OptimOptions) -> torch.optim.Optimizer:
        return optimizer_of([self], options)

    def prepare_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Compile its kernels. Raises UserError if the kernels of the field compute wrong gradients here."""
        assert isinstance(optimizer, GridAdam)
        optimizer.prepare()
        if self.step.is_cuda:
            require_right_gradients(self.field.grid, self.field.networks, self.backend, self.step.device)

    def counts(self, optimizer: torch.optim.Optimizer) -> Float[Tensor, "2"] | None:
        """Rays that found room in the last step, and the number of skipped steps."""
        assert isinstance(optimizer, GridAdam)
        return torch.stack([self.kept[0].to(torch.float32), optimizer.skipped])

    def go_on(self, step: int) -> None:
        self.step.fill_(step)

    def apart(self, world: int) -> bool:
        return False

    def synchronize(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Each process marks what its own rays have seen. Evaluation shows what any of them has."""
        if this_process()[1] > 1:
            torch.distributed.all_reduce(self.occupancy.seen, torch.distributed.ReduceOp.MAX)
            self.occupancy.forget_shown()

    def received(self) -> None:
        """Called after another process has written into all tensors of `state_dict`."""
        self.field.refresh()
        self.occupancy.forget_shown()
        self._derive()

    def samples_in(self, rays: int) -> int:
        """The budget, or less if there were too few rays to fill it."""
        return int(self.samples * min(rays / max(int(self.active), 1), 1))

    # ---- evaluation --------------------------------------------------------------------------------------------------

    def render(self, rays: Rays, background: Background) -> Pixels:
        """Pixels of one level. A ray takes a few samples at a time. It ends, opaque, when little light is left."""
        grid, backend, weights, stop = self.occupancy, self.backend, self.field.weights, self.haste * STOP
        most = MOST_NUMBERS // max(self.field.grid.width, MIRRORED)
        shown, room = self._shown(), min(max(4 * len(rays), ROOM), most)
        stride = replace(self.stride, step=self.haste * self.stride.step, size=shown.size)
        way = ops.advance(rays, shown.bits, grid.aabb, stride, room, shown.source, backend=backend)
        view = None if self.mirror is not None else ops.spherical_harmonics(rays.viewdirs, backend=backend)
        first = len(way.passes)
        for turn, k in enumerate(itertools.chain(way.passes, itertools.repeat(way.passes[-1]))):
            if turn >= first and not way.left():  # `left` waits for the device, so it is called late
                break
            unit, ray_ids, count = way.fill(k)
            if view is None:
                own = self._mirrored(unit, rays.viewdirs, ray_ids, count)
                sigma, rgb = ops.hash_field(unit, own, None, weights, count, backend=backend)
            else:
                sigma, rgb = ops.hash_field(unit, view, ray_ids, weights, count, backend=backend)
            way.blend(sigma, rgb, k, stop)
        # what a ray has met stands for the rest of its light, or dark surfaces would shine
        ended = way.passed <= stop
        whole = torch.where(ended, 1 / (1 - way.passed), 1.0)
        rgb, depth, opacity = way.rgb * whole[:, None], way.depth * whole, torch.where(ended, 1.0, 1 - way.passed)
        return over(Pixels(rgb, depth, opacity, opacity.new_zeros(0)), background)

    def _shown(self) -> Shown:
        """The cells that rays of a picture march through. A CPU would take longer to find the empty ones."""
        grid = self.occupancy
        return grid.filled(self._taken) if self.step.is_cuda else grid.shown()

    def _taken(self, unit: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """Which share of the light one step takes, about, at points of the unit cube."""
        density = ops.hash_density(unit, self.field.weights, backend=self.backend)
        return density * (self.stride.step / self.stride.side)

    @torch.no_grad()
    def density(self, xyz: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """Density per world length, as evaluation shows it, without a gradient. In normalised device coordinates it is
        the density along -z."""
        unit, scale = self._place(xyz, xyz.new_tensor(AHEAD).expand_as(xyz))
        moved = self.occupancy.moved(unit)
        return ops.hash_density(moved, self.field.weights, backend=self.backend) * scale

    @torch.no_grad()
    def radiance(
        self, xyz: Float[Tensor, "N 3"], dirs: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 3"]]:
        """Density per world length and colour, as evaluation shows them, at world points seen along unit directions.
        Without a gradient."""
        unit, scale = self._place(xyz, dirs)
        unit = self.occupancy.moved(unit)
        if self.mirror is None:
            view = ops.spherical_harmonics(dirs, backend=self.backend)
        else:
            ids = torch.arange(len(xyz), dtype=torch.int32, device=xyz.device)
            view = self._mirrored(unit, dirs, ids)
        sigma, rgb = ops.hash_field(unit, view, None, self.field.weights, backend=self.backend)
        return sigma * scale, rgb

    def describe(self) -> str:
        """Which path runs, and the precision of the field."""
        # kernels of other families make no difference that shows
        told = ops.describe(self.backend, self.step.device, "hash_field")
        return f"{told}, {'fp16' if self.backend.hash_field == 'triton' else 'fp32'}"

    def portable(self) -> dict[str, Tensor]:
        """See `ngp.portable`."""
        mirror = {} if self.mirror is None else {"mirror.solid": self.mirror.solid}
        return {**field_of(self.field, self.occupancy), **shown_of(self.occupancy), **mirror}

    def take_portable(self, tensors: Mapping[str, Tensor]) -> None:
        take_field(self.field, tensors)
        take_shown(self.occupancy, tensors)
        if self.mirror is not None:
            take(tensors, {"solid": self.mirror.solid}, "mirror.")
        self._derive()

    def _place(
        self, xyz: Float[Tensor, "N 3"], dirs: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N"]]:
        """World points in the unit cube, and the factor from the field's density to density per world length. It is 0
        where evaluation shows nothing."""
        unit, scale = self._scaled(xyz, dirs)
        return unit, scale * self.occupancy.shows(unit)

    def _scaled(
        self, xyz: Float[Tensor, "N 3"], dirs: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N"]]:
        """World points in the unit cube, and the length there of a world length along unit directions."""
        lengths = torch.ones_like(xyz[:, 0])
        if self.ndc is not None:
            xyz, lengths = ndc_points(xyz, self.ndc), ndc_scale(xyz, dirs, self.ndc)
        unit, shrunk = self.occupancy.unit(xyz)
        return unit, lengths / self.stride.side / shrunk

    def grain_at(self, xyz: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """A world length at world points: in the box its longest side over the number of cells along it. Without an end
        of space it grows with the distance, as the field gets coarser; in normalised device coordinates it is along
        -z."""
        return 1 / (self.occupancy.size * self._scaled(xyz, xyz.new_tensor(AHEAD).expand_as(xyz))[1])

    def _trained_density(self, xyz: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """Density at all points of the model's space, also where evaluation shows nothing, for the occupancy grid."""
        unit, shrunk = self.occupancy.unit(xyz)
        return ops.hash_density(unit, self.field.weights, backend=self.backend) / self.stride.side / shrunk


def this_process() -> tuple[int, int]:
    """The number of this process, and how many train together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def optimizer_of(models: Sequence[NGP], options: OptimOptions) -> GridAdam:
    """The optimizer of models with the same options; see `GridAdam`. Their tables may be of different sizes."""
    first, fields = models[0], [model.field for model in models]
    copies: dict[Tensor, Tensor] = {field.table: field.values for field in fields if field.values is not None}
    rate, pulls = known(first.options.network_rate), {}
    if decay := known(first.options.table_decay):  # the mean of squares of each level (Barron et al. 2023)
        for grid, table in ((field.grid, field.table) for field in fields):
            pulls[table] = [(n, 2 * decay / (n * grid.features)) for n in grid.sizes]
    return GridAdam(
        [field.table for field in fields], [field.params for field in fields], copies=copies, lr=options.lr,
        weight_decay=options.weight_decay, network_rate=rate, pulls=pulls, backend=first.backend,
    )  # fmt: skip
