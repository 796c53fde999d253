"""From a trained model to the grid of a page, as fine as the size of the page allows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nerf_pl.console import console, progress
from nerf_pl.errors import UserError
from nerf_pl.export.options import WebOptions
from nerf_pl.export.web.colours import EXAMPLES, Looks, fit_points, fit_table, looks
from nerf_pl.export.web.faint import foretold, shares_of
from nerf_pl.export.web.grid import CHANNELS, Grid, points_at
from nerf_pl.export.web.opacity import fitted
from nerf_pl.export.web.pack import Baked, normalised
from nerf_pl.export.web.page import page_of
from nerf_pl.export.web.points import random_rays, solid, visible
from nerf_pl.export.web.space import Space
from nerf_pl.export.web.tune import Ways, all_ways, tuned
from nerf_pl.methods.model import Model
from nerf_pl.rendering import evaluating
from nerf_pl.scenes import Scene
from nerf_pl.sights import Sight, ends_of, look
from nerf_pl.types import Rays

RESOLUTION = {"cpu": 512, "cuda": 768}
FINEST = 0.7  # pixels of the training views that a cell spans; finer ones show nothing more
OF_FOG = 128  # cells where no ray ends at a surface
RAYS = {"cpu": 2**19, "cuda": 2**21}  # that say which points show; some of them tune the grid
MOST_POINTS = {"cpu": 2**24, "cuda": 2**27}  # of a grid before it is known which are seen
BYTES_PER_POINT, IF_SHOWN = 1.5, 4.0  # of a page, about; IF_SHOWN more if it is not faint
LEAST_RESOLUTION = 16
BEHIND = 3.0  # cells: how far behind what a view shows a point may lie and still count as seen
VIEWS = 100  # training views, spread over all of them, from which the scene is looked at
LOOKS = {"cpu": 48, "cuda": 64}  # of them that say the colours of a point
FEWER_LOOKS = {"cpu": 12, "cuda": 32}  # the same, of a point with a smaller share than STRONG in the light of any ray
STRONG, FAINT = 0.03, 2e-3  # a point with less than FAINT is not asked for colours
AT_ONCE = {"cpu": 2**14, "cuda": 2**16}  # points whose colours are fitted


@dataclass(frozen=True)
class WebPage:
    """A page, and how it came about."""

    html: str
    baked: Baked
    resolution: int


def web_page(model: Model, scene: Scene, options: WebOptions, chunk: int, title: str) -> WebPage:
    """The page that shows what the training views of a scene show. chunk: rays rendered at once.

    Raises UserError if there is nothing to show.
    """
    device = model.step.device.type
    sights = look(model, scene, chunk, most=VIEWS)
    whole = Space.over(scene).around(ends_of(sights))
    rays = random_rays(scene, RAYS[device], torch.Generator().manual_seed(0))
    limit = options.megabytes * 1e6
    resolution = options.resolution or min(RESOLUTION[device], finest(scene, sights, whole))
    while True:
        console.print(f"baking a grid of {resolution} cells along its longest side")
        bare = bare_grid(model, sights, whole.divided(resolution), rays, limit)
        size = 2 * limit if bare is None else bare.size
        if bare is not None and size <= limit:
            baked = foretold(coloured(model, sights, bare), bare.shown)
            baked = foretold(tuned(model, baked, bare.ways, chunk), bare.shown)
            html = page_of(baked, scene, title)
            size = len(html.encode())
            if size <= limit:
                return WebPage(html, baked, resolution)
        bare = None  # its memory, before the next one takes as much
        if resolution == LEAST_RESOLUTION:
            raise UserError(f"--megabytes {options.megabytes:g} is too little for this scene: give more")
        resolution = max(int(resolution * min(0.98 * (limit / size) ** 0.4, 0.95)), LEAST_RESOLUTION)


@dataclass(frozen=True)
class Bare:
    """A grid of opacities, the ways of rays through it, and the largest share of each point in the light of any."""

    grid: Grid
    ways: list[Ways]
    shares: Float[Tensor, "P"]

    @property
    def shown(self) -> Bool[Tensor, "P"]:
        return self.shares.gt(FAINT)

    @property
    def size(self) -> float:
        """Bytes of its page, about."""
        return BYTES_PER_POINT * len(self.shares) + IF_SHOWN * int(self.shown.sum())


def bare_grid(model: Model, sights: Sequence[Sight], space: Space, rays: Rays, limit: float) -> Bare | None:
    """The grid of what the sights show of a model. None if its page would have more bytes than the limit for sure.

    Raises UserError if there is nothing.
    """
    grid = solid(model, space, MOST_POINTS[model.step.device.type])
    if grid is None:
        return None
    grid = visible(grid, sights, BEHIND)
    if BYTES_PER_POINT * len(grid.numbers) > limit:
        return None
    grid = fitted(model, grid) if len(grid.numbers) else grid
    if not len(grid.numbers):
        raise UserError("the training views show nothing solid: the field is empty, train longer")
    ways = all_ways(grid, rays)
    return Bare(grid, ways, shares_of(grid, ways))


def finest(scene: Scene, sights: Sequence[Sight], whole: Space) -> int:
    """Of how many cells along the longest side of a space each spans FINEST pixels of the scene's views, in the median
    over what the sights show."""
    space, spans, size = whole.divided(256), [], max(scene.cameras.size(0))
    for each in sights:
        ends = each.points[each.ends]
        focal = float(each.camera.K[0, 1, 1]) * size / max(each.view.size)
        pixel = each.distance[each.ends] / focal
        spans.append(pixel / space.world_lengths(ends))
    found = torch.cat(spans)
    return max(round(256 / (FINEST * float(found.median()))), LEAST_RESOLUTION) if len(found) else OF_FOG


def coloured(model: Model, sights: Sequence[Sight], bare: Bare) -> Baked:
    """A grid of points with the colours that the sights show there. Faint points have the mean colour."""
    grid, shown, strong = bare.grid, bare.shown, bare.shares > STRONG
    device = grid.numbers.device

    def seen(numbers: Tensor, most: int) -> Looks:
        xyz = grid.space.world(points_at(grid.space, numbers).float())
        return looks(model, sights, xyz, BEHIND * grid.space.world_lengths(xyz), most)

    with evaluating(model):
        table = fit_table(seen(grid.numbers[_met(grid, ends_of(sights))], len(sights)))
        turns = [(rows, LOOKS) for rows in strong.nonzero()[:, 0].split(AT_ONCE[device.type])]
        turns += [(rows, FEWER_LOOKS) for rows in (shown & ~strong).nonzero()[:, 0].split(AT_ONCE[device.type])]
        values = grid.values.new_zeros(len(grid.numbers), CHANNELS)
        values[:, :1] = grid.values
        for rows, most in progress(turns, len(turns), "asking for colours"):
            values[rows, 1:] = fit_points(seen(grid.numbers[rows], most[device.type]), table)
    values[~shown, 1:] = values[shown, 1:].mean(0) if bool(shown.any()) else 0.5
    return normalised(replace(grid, values=values), table)


def _met(grid: Grid, ends: Float[Tensor, "N 3"]) -> Int[Tensor, "E"]:
    """Rows of up to EXAMPLES points of a grid: those next to where rays end. Most others hardly show in any picture."""
    some = torch.randperm(len(ends), generator=torch.Generator().manual_seed(0))[:EXAMPLES]
    own = grid.space.own(ends[some.to(ends.device)])
    rows, shares = grid.corners((own - own.new_tensor(grid.space.low)) / grid.space.cell)
    kept = rows < len(grid.numbers)
    nearest = shares.masked_fill(~kept, -1).argmax(1, keepdim=True)
    found = rows.gather(1, nearest)[kept.any(1)].unique()
    return found if len(found) else torch.arange(min(len(grid.numbers), EXAMPLES), device=found.device)
