"""Several hash-grid fields of one scene. Steps train them in turn; evaluation shows the mean of what they show."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nerf_pl import ops
from nerf_pl.errors import UserError
from nerf_pl.methods.ngp.model import NGP, UPDATE_EVERY, optimizer_of, this_process
from nerf_pl.methods.ngp.optimizer import GridAdam
from nerf_pl.methods.ngp.options import NGPOptions, known
from nerf_pl.ops import Backend
from nerf_pl.options import Config, OptimOptions
from nerf_pl.scenes import Scene
from nerf_pl.types import Background, Batch, Pixels, Rays

SEED_STEP = 7919  # between the seeds of two fields; those of all fields are closer than of two processes, see `make`
MOST_HIDDEN = {"hidden": 64, "colour_hidden": 128}  # widths of the networks that the kernels hold on chip


class Ensemble(nn.Module):
    """A deep ensemble (Lakshminarayanan et al. 2017) of `options.ensemble` fields; see `methods.model.Model`.

    Each field starts from other weights and sees other pixels, so each has noise and fog of its own where the photos
    leave room for it. The mean has less of both. The arguments are those of `NGP`.
    """

    precrop_steps: ClassVar[int] = NGP.precrop_steps
    fixed_batches: ClassVar[bool] = NGP.fixed_batches
    memory_options: ClassVar[str] = f"--ensemble, {NGP.memory_options}"
    chip_options: ClassVar[str] = NGP.chip_options
    size_options: ClassVar[str] = NGP.size_options
    step: Tensor

    def __init__(self, options: NGPOptions, backend: Backend, seed: int = 0, grid_seed: int = 0):
        super().__init__()
        seeds = range(0, SEED_STEP * known(options.ensemble), SEED_STEP)
        self.fields = nn.ModuleList(
            NGP(options, backend, seed + more, grid_seed + more, finer=share)
            for more, share in zip(seeds, _finer(options), strict=True)
        )
        self.options, self.backend, self.seed = options, backend, seed
        self.rays_per_pixel = self._all[0].rays_per_pixel
        self.turn = 0  # number of the part that the next step trains
        self.ahead = [0] * len(self.fields)  # steps of each part less those that follow from its turns, see `go_on`
        self.unknown: set[int] = set()  # fields of other processes that have not come here yet
        self.register_buffer("step", torch.zeros(1, dtype=torch.int64))

    @property
    def _all(self) -> list[NGP]:
        return [field for field in self.fields if isinstance(field, NGP)]

    @property
    def parts(self) -> Sequence[NGP]:
        """The fields that this process trains; see `apart`."""
        rank, world = this_process()
        return self._all[rank::world] if self.apart(world) else self._all

    @property
    def in_turn(self) -> NGP:
        return self.parts[self.turn]

    @property
    def state_of_a_run(self) -> frozenset[str]:
        return frozenset({"step"}) | self._named(NGP.state_of_a_run)

    @property
    def essential_state(self) -> frozenset[str]:
        return self._named(NGP.essential_state)

    def _named(self, names: frozenset[str]) -> frozenset[str]:
        return frozenset(f"fields.{i}.{name}" for i in range(len(self.fields)) for name in names)

    @property
    def ndc(self) -> tuple[float, float] | None:
        return self._all[0].ndc

    @ndc.setter
    def ndc(self, ndc: tuple[float, float] | None) -> None:
        for part in self._all:
            part.ndc = ndc

    @property
    def haste(self) -> float:
        """See `rendering.Hasty`."""
        return self._all[0].haste

    @haste.setter
    def haste(self, haste: float) -> None:
        for part in self._all:
            part.haste = haste

    @property
    def cpu_chunk(self) -> int:
        return self._all[0].cpu_chunk

    @property
    def random_until(self) -> float:
        return self._all[0].random_until

    @property
    def can_be_captured(self) -> bool:
        return self._all[0].can_be_captured

    # ---- training ----------------------------------------------------------------------------------------------------

    def fit(self, scene: Scene, keep_box: bool = False) -> None:
        first, *others = self._all
        first.fit(scene, keep_box)
        for part in others:
            part.fit_like(first)

    def go_on(self, step: int) -> None:
        """A part goes on from its own step. A run that another number of processes began had other turns before, so its
        steps do not follow from that of the run. It is shifted by whole updates of its occupancy grid: these come right
        after an exchange of weights, so that all processes get the same grid."""
        self.step.fill_(step)
        parts = self.parts
        nexts = [step + (turn - step) % len(parts) for turn in range(len(parts))]
        ahead = [int(part.step) - at // len(parts) for part, at in zip(parts, nexts, strict=True)]
        self.ahead = [UPDATE_EVERY * round(steps / UPDATE_EVERY) for steps in ahead]
        if self.apart(this_process()[1]) and step == 0:
            self.unknown = {i for i, field in enumerate(self._all) if field not in parts}

    def before_step(self, step: int) -> None:
        """Choose the field that the step trains."""
        parts = self.parts
        self.turn = step % len(parts)
        parts[self.turn].before_step(step // len(parts) + self.ahead[self.turn])

    def loss(self, batch: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        return self.in_turn.loss(batch)

    def batch_limit(self) -> int | None:
        return self.in_turn.batch_limit()

    def make_optimizer(self, options: OptimOptions) -> torch.optim.Optimizer:
        return optimizer_of(self._all, options)

    def prepare_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        self.in_turn.prepare_optimizer(optimizer)

    def counts(self, optimizer: torch.optim.Optimizer) -> Float[Tensor, "2"] | None:
        return self.in_turn.counts(optimizer)

    def apart(self, world: int) -> bool:
        """So many processes share the fields out, if each gets as many."""
        return world > 1 and len(self.fields) % world == 0

    def synchronize(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        _, world = this_process()
        if not self.apart(world):
            for field in self._all:
                field.synchronize()
            return
        owners = [i % world for i in range(len(self.fields))]
        for field, owner in zip(self._all, owners, strict=True):
            for tensor in field.state_dict().values():
                torch.distributed.broadcast(tensor, owner)
            field.received()
        self.unknown.clear()
        if isinstance(optimizer, GridAdam):
            optimizer.share(owners)

    def samples_in(self, rays: int) -> int:
        return self.in_turn.samples_in(rays)

    # ---- evaluation --------------------------------------------------------------------------------------------------

    @property
    def shown(self) -> Sequence[NGP]:
        """The fields whose mean a picture is. A hasty one shows a single field."""
        if self.haste > 1:
            return self.parts[:1]  # one that this process trains, so it is up to date
        return [field for i, field in enumerate(self._all) if i not in self.unknown]

    def render(self, rays: Rays, background: Background) -> Pixels:
        """The mean of the pixels of the fields that are shown."""
        found = [field.render(rays, background) for field in self.shown]

        def mean(name: str) -> Tensor:
            return torch.stack([getattr(pixels, name) for pixels in found]).mean(0)

        return replace(found[0], rgb=mean("rgb"), depth=mean("depth"), opacity=mean("opacity"))

    @torch.no_grad()
    def density(self, xyz: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        return self._common(xyz, torch.stack([part.density(xyz) for part in self._all]))[0]

    @torch.no_grad()
    def radiance(
        self, xyz: Float[Tensor, "N 3"], dirs: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 3"]]:
        """The density, and the mean of the colours, weighed by opacity; where there is none, their plain mean."""
        sigmas, colours = map(torch.stack, zip(*(part.radiance(xyz, dirs) for part in self._all), strict=True))
        sigma, opacities = self._common(xyz, sigmas)
        shares = (opacities + 1e-6) / (opacities + 1e-6).sum(0)
        return sigma, (shares[..., None] * colours).sum(0)

    def _common(
        self, xyz: Float[Tensor, "N 3"], sigmas: Float[Tensor, "F N"]
    ) -> tuple[Float[Tensor, "N"], Float[Tensor, "F N"]]:
        """The density that lets through as much light as the fields do in the mean, on the length L of a grain, and the
        opacity of each field on that length.

            sigma = -ln(mean_i exp(-sigma_i L)) / L

        So fog of one field among three takes a third of the light, as in the mean of their pictures. With the mean of
        the densities it would take nearly all (docs/log.md, 2026-11-27).
        """
        length = self._all[0].grain_at(xyz)
        taus = sigmas * length
        least = taus.amin(0)  # taken out, so that neither small nor large values are rounded away
        tau = least - torch.expm1(least - taus).mean(0).log1p()
        return tau / length, -torch.expm1(-taus)

    def describe(self) -> str:
        fields, own = len(self.fields), len(self.parts)
        shared = f"{fields} fields in turn" if own == fields else f"{fields} fields, {own} on each"
        return f"{self._all[0].describe()}, {shared}"

    def portable(self) -> dict[str, Tensor]:
        """The tensors of each field, see `ngp.portable`, behind its number and a point."""
        return {f"{i}.{name}": value for i, part in enumerate(self._all) for name, value in part.portable().items()}

    def take_portable(self, tensors: Mapping[str, Tensor]) -> None:
        own: list[dict[str, Tensor]] = [{} for _ in self._all]
        for name, value in tensors.items():
            number, _, rest = name.partition(".")
            if not number.isdecimal() or int(number) >= len(own):
                raise ValueError(f"{name} belongs to none of its {len(own)} fields")
            own[int(number)][rest] = value
        for i, part in enumerate(self._all):
            try:
                part.take_portable(own[i])
            except ValueError as error:
                raise ValueError(f"of field {i}: {error}") from error


def _finer(options: NGPOptions) -> list[float]:
    """By which share of a level the grid of each field is finer than the options say, so that levels of one lie between
    those of another. What a grid leaves over, and what collides in it, is then not the same in all fields, so the mean
    has less of it (docs/log.md). The first field is as the options say, so it can be shown alone."""
    n = known(options.ensemble)
    steps = [(i + 1) // 2 * (-1) ** (i + 1) for i in range(n)]  # 0, 1, -1, 2, -2, ...
    return [step / n if known(options.interleave) else 0.0 for step in steps]


def make(config: Config, device: torch.device, rank: int = 0) -> NGP | Ensemble:
    """See `methods.method.Make`. Raises UserError for networks that the kernels cannot hold."""
    options = config.model
    assert isinstance(options, NGPOptions)
    backend = ops.choose(device, config.train.precision, config.train.deterministic)
    for name, most in MOST_HIDDEN.items():
        if backend.hash_field == "triton" and getattr(options, name) > most:
            told = f"--{name} {getattr(options, name)} is too wide for the GPU kernels"
            raise UserError(f"{told}: give {most} or less, or --precision fp32 for plain PyTorch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        kind = Ensemble if known(options.ensemble) > 1 else NGP
        return kind(options, backend, config.train.seed + 1_000_003 * rank, config.train.seed)
