"""What is shown where no training view looked: nothing, or the nearest cells that some did look into."""

from dataclasses import replace

import pytest
import torch
from tiny import CPU, config, make, with_model

from nerf_pl.checkpoints import load_model, save_model
from nerf_pl.methods.ngp.occupancy import OccupancyGrid
from nerf_pl.methods.ngp.visibility import (
    ENOUGH,
    WINDOW,
    Shown,
    bits_at,
    flags_of,
    nearest,
    was_lit,
    what_shows,
    without_empty,
)
from nerf_pl.ops import Backend, Budget, advance, cell_numbers, cell_places, march, moved, pack_bits
from nerf_pl.types import Rays

SIZE, TWINS = 32, Backend()
BOX = torch.tensor([[-1.0, -1.0, -0.5], [1.0, 1.0, 0.5]])


def flags(grid: OccupancyGrid) -> torch.Tensor:
    """What evaluation shows, cell by cell."""
    return bits_at(grid.shown().bits, torch.arange(grid.shown().size ** 3))


def test_nearest():
    known = torch.rand(8, 9, 8, generator=torch.Generator().manual_seed(0))[:, :8] < 0.02
    source = nearest(known)
    assert torch.equal(source[known], torch.arange(512).view(8, 8, 8)[known])
    assert known.view(-1)[source].all()
    places = torch.stack(torch.meshgrid(*[torch.arange(8)] * 3, indexing="ij"), -1).view(-1, 3)
    way = (places - places[source.view(-1)]).abs().sum(1)
    least = (places[:, None] - places[known.view(-1)]).abs().sum(2).amin(1)
    assert torch.equal(way, least)
    nothing = torch.zeros(4, 4, 4, dtype=torch.bool)
    assert torch.equal(nearest(nothing).view(-1), torch.arange(64))


def half_seen(extended: bool, unbounded: bool = False) -> OccupancyGrid:
    """Light has reached the half with x < 0, whose cells are occupied where y < 0; of the other half all are."""
    box = BOX if not unbounded else torch.tensor([[-1.0] * 3, [1.0] * 3])
    grid = OccupancyGrid(box, SIZE, TWINS, unbounded=unbounded, extended=extended)
    seen = torch.zeros(SIZE, SIZE, SIZE, dtype=torch.bool)
    seen[:, :, : SIZE // 2] = True
    occupied = ~seen
    occupied[:, : SIZE // 2] = True
    grid.restrict(occupied)
    grid.seen.copy_(seen.view(-1))
    return grid


RAY = torch.tensor([[1.0, 0, 0]])


def along_x(y: float) -> Rays:
    """A ray in the middle of the unit cube's z."""
    return Rays(torch.tensor([[-2.0, y, 0.01]]), RAY, RAY, torch.tensor([0.5]), torch.tensor([9.0]))


def shown(grid: OccupancyGrid, y: float) -> tuple[torch.Tensor, torch.Tensor]:
    """t of the samples of a ray in evaluation, and where in the unit cube the field is asked for them."""
    stride = replace(grid.stride(0.01), size=grid.shown().size)
    found = march(along_x(y), grid.shown().bits, grid.aabb, torch.full((1,), 0.5), stride, backend=TWINS)
    way = advance(along_x(y), grid.shown().bits, grid.aabb, stride, 1000, grid.shown().source, backend=TWINS)
    unit, *_ = way.fill(1000)
    assert torch.equal(unit, grid.moved(found.unit))  # rendering takes these, too
    inner = grid.shows(found.unit)
    assert inner.float().mean() > 0.98 if len(unit) else True  # but for faces of cells
    return found.samples.t, unit


def trained_on(grid: OccupancyGrid, y: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of a ray in training."""
    whole = torch.ones(1, dtype=torch.int32)
    budget = Budget(10_000, whole, torch.zeros_like(whole), grid.visible, grid.detail)
    samples, unit, *_ = grid.march(along_x(y), grid.stride(0.01), torch.full((1,), 0.5), budget)
    return samples.t, unit


def test_what_was_not_seen_is_that_of_the_nearest_cell():
    t, unit = shown(half_seen(True), -0.4)
    assert len(t) == 200
    assert (unit[:, 0] < 0.5).all()
    inner = t < 2
    assert torch.allclose(unit[inner, 0], (t[inner] - 1) / 2, atol=1e-4)
    beyond = unit[~inner, 0]  # again and again the last cell that was seen
    assert (beyond >= 15 / 32 - 1e-4).all()
    assert torch.allclose(beyond, 15 / 32 + ((t[~inner] - 1) / 2) % (1 / 32), atol=1e-4)
    assert torch.allclose(unit[:, 1], torch.full_like(t, 0.3))
    t, _ = shown(half_seen(True), 0.4)  # there the nearest are empty
    assert len(t) == 0


def test_what_was_not_seen_is_empty_in_a_box():
    grid = half_seen(False)
    for y, n in ((-0.4, 200), (0.4, 100)):  # after one step not all of what can be seen may have been found
        assert len(shown(grid, y)[0]) == n
    grid.seen.mul_(ENOUGH)
    grid.forget_shown()
    for y, n in ((-0.4, 100), (0.4, 0)):
        t, unit = shown(grid, y)
        assert len(t) == n
        assert (unit[:, 0] < 0.5).all()


def test_what_was_seen_early_alone_does_not_count():
    """While it is thin everywhere, light reaches what it will not reach any more."""
    steps = torch.arange(SIZE**3) % (ENOUGH + 1)
    for extended, last, since in ((False, ENOUGH, ENOUGH // 2), (False, 5 * WINDOW, 4 * WINDOW), (True, ENOUGH, 0)):
        grid = half_seen(extended)
        grid.seen.copy_(steps * (last // ENOUGH))
        lit = was_lit(grid.seen, extended)
        assert torch.equal(lit, grid.seen > since)
        assert 0 < lit.sum() < SIZE**3
        assert was_lit(torch.zeros_like(grid.seen), extended).all()


def test_only_parts_that_light_reached_are_shown():
    """Of the cells of a ray along x, every other part; and the steps in them go through a finer grid."""
    grid = OccupancyGrid(BOX, SIZE, TWINS, detail=2)
    grid.restrict(torch.ones(SIZE, SIZE, SIZE, dtype=torch.bool))
    seen = grid.seen.view(-1, 2, 2, 2)  # of each cell z, y, x
    seen[:, :, :, 1] = ENOUGH
    t, unit = shown(grid, -0.4)
    assert len(t) == 96  # of 200, in parts that are 3.125 steps wide
    assert ((unit[:, 0] * 2 * SIZE).long() % 2 == 1).all()
    parts = flags(grid).view(3 * (2 * SIZE,))
    assert parts[:, :, 1::2].all()
    assert not parts[:, :, ::2].any()
    grid.bits.zero_()
    grid.bits[0] = 1  # the first cell alone
    grid.forget_shown()
    parts = flags(grid).view(3 * (2 * SIZE,))
    assert parts.nonzero().tolist() == [[z, y, 1] for z in (0, 1) for y in (0, 1)]


def test_a_cell_counts_as_seen_if_a_part_of_it_does():
    grid = OccupancyGrid(BOX, SIZE, TWINS, detail=2)
    grid.seen[8 * 5 + 3] = 7

    def dense(xyz):
        return torch.full((len(xyz),), 50.0)

    for since, visible in ((6, 1 << 5), (7, 0)):
        grid.update(dense, lambda n: torch.full((n,), 0.5), march_step=0.01, turn=0, since=since)
        assert grid.visible[0] == visible
        assert not grid.visible[1:].any()
    extended = OccupancyGrid(BOX, SIZE, TWINS, extended=True, detail=2)
    extended.restrict(torch.arange(SIZE**3).view(3 * (SIZE,)) == 5)
    extended.seen[8 * 5 + 3] = 7
    assert flags(extended).all()  # all cells show what that one does
    assert extended.shown().size == SIZE


def test_in_training_the_field_is_asked_where_the_samples_are():
    t, unit = trained_on(half_seen(True), 0.4)
    assert len(t) == 100
    assert (unit[:, 0] > 0.5).all()


def test_without_end():
    t, unit = shown(half_seen(True, unbounded=True), -0.4)
    assert float(t.max()) > 8
    assert (unit[:, 0] < 0.5).all()
    known = t < 2
    assert torch.allclose(unit[known & (t > 1), 0], 0.5 + (t[known & (t > 1)] - 2) / 4, atol=1e-4)


def test_a_change_is_noticed():
    model = make(config("ngp"))
    model.occupancy.load_state_dict(half_seen(False).state_dict())
    before = model.occupancy.shown()
    assert model.occupancy.shown() is before  # kept
    assert torch.equal(before.bits, model.occupancy.bits)
    model.occupancy.seen.mul_(ENOUGH)
    model.before_step(1)
    assert not torch.equal(model.occupancy.shown().bits, before.bits)

    grid = half_seen(True)
    before = grid.shown().bits
    grid.seen.fill_(1)
    how = {"march_step": 0.01, "turn": 0, "since": -1}
    grid.update(lambda xyz: torch.full((len(xyz),), 50.0), lambda n: torch.full((n,), 0.5), **how)
    assert not torch.equal(grid.shown().bits, before)
    assert torch.equal(grid.shown().bits, grid.bits)


def test_a_stored_run_still_knows_what_was_seen(tmp_path):
    """It is the state of a training, and what rendering goes by."""
    options = with_model(config("ngp"), extended=True)
    ours = make(options)
    ours.occupancy.load_state_dict(half_seen(True).state_dict())
    save_model(tmp_path / "last.ckpt", ours, options)
    loaded = load_model(tmp_path / "last.ckpt", CPU).model
    assert loaded.occupancy.extended
    assert torch.equal(loaded.occupancy.seen, ours.occupancy.seen)
    shown, truth = loaded.occupancy.shown(), half_seen(True).shown()
    assert torch.equal(shown.bits, truth.bits)
    assert torch.equal(shown.source, truth.source)
    assert not torch.equal(shown.bits, loaded.occupancy.bits)


@pytest.mark.parametrize("span", [(1.0, 1.0, 1.0), (1.0, 0.5, 0.25)])
def test_points_keep_their_place_in_the_cell_that_stands_in(span):
    size, sides = 4, torch.tensor(span)
    source = torch.randperm(size**3, generator=torch.Generator().manual_seed(0))
    unit = torch.rand(500, 3, generator=torch.Generator().manual_seed(1)) * sides
    there = moved(unit, source, size, sides)
    cells, others = ((points / sides * size) for points in (unit, there))
    number = (cells.long() * torch.tensor([1, size, size**2])).sum(1)
    assert torch.equal((others.floor().long() * torch.tensor([1, size, size**2])).sum(1), source[number])
    assert torch.allclose(cells % 1, others % 1, atol=1e-5)
    assert torch.equal(moved(unit, torch.arange(size**3), size, sides), unit)


@pytest.mark.parametrize("span", [(1.0, 1.0, 1.0), (1.0, 0.5, 0.25)])
def test_halves_of_cells_that_the_field_leaves_empty_do_not_show(span):
    size, sides = 32, torch.tensor(span)
    flags = torch.rand(size**3, generator=torch.Generator().manual_seed(0)) < 0.01
    shown = Shown(pack_bits(flags), size)
    found = without_empty(shown, lambda unit: (unit[:, 0] > 0.5 + 1 / 128).float(), sides)  # a quarter of a cell later
    assert (found.size, found.source) == (2 * size, None)
    places = cell_places(torch.arange(found.size**3), found.size)
    inside = flags[cell_numbers(places // 2, size)]
    assert torch.equal(flags_of(found.bits), inside & (places[:, 0] >= size))
    assert not flags_of(without_empty(shown, lambda unit: 0 * unit[:, 0], sides).bits).any()


def test_what_is_filled_is_found_once():
    """Until training goes on. Where cells show the content of others it is not looked for."""
    calls = []

    def taken(unit):
        calls.append(len(unit))
        return torch.ones(len(unit))

    grid = half_seen(False)
    first = grid.filled(taken)
    assert grid.filled(taken) is first
    assert first.size == 2 * grid.shown().size
    assert len(calls) == 1
    grid.forget_shown()
    grid.filled(taken)
    assert len(calls) == 2
    extended, large = half_seen(True), half_seen(False)
    large.show(Shown(torch.zeros(1024**3 // 32, dtype=torch.int32), 1024))
    for whole in (extended, large):
        assert whole.filled(taken) is whole.shown()
    assert len(calls) == 2


@pytest.mark.parametrize("unbounded", [False, True])
def test_outside_nothing_shows(unbounded):
    """Of a box; a space without end has no outside."""
    box = torch.tensor([[-1.0] * 3, [1.0, 1.0, 0.0]])
    grid = OccupancyGrid(box, SIZE, TWINS, unbounded=unbounded)
    ends = torch.tensor([[-1.01, 0, -0.5], [0, 1.01, -0.5], [0, 0, 0.01], [-0.99, 0, -0.5], [0, 0.99, -0.5]])
    found = grid.shows(grid.unit(ends)[0])
    assert found.tolist() == ([True] * 5 if unbounded else [False] * 3 + [True] * 2)


@pytest.mark.parametrize("detail", [1, 2, 4])
def test_what_shows_is_what_light_reached_of_the_occupied_cells(detail):
    size = 32
    generator = torch.Generator().manual_seed(detail)
    occupied = torch.rand(size**3, generator=generator) < 0.5
    seen = (torch.rand((size * detail) ** 3, generator=generator) < 0.3).int() * ENOUGH
    found = what_shows(occupied, seen, size, detail, False)
    assert (found.size, found.source) == (size * detail, None)
    shown = bits_at(found.bits, torch.arange(found.size**3)).view(3 * (found.size,))  # z, y, x
    for part in torch.randint(0, found.size, (200, 3), generator=generator):
        z, y, x = (part // detail).tolist()
        cell = x + size * (y + size * z)
        c, b, a = (part % detail).tolist()
        index = cell * detail**3 + a + detail * (b + detail * c)
        assert shown[tuple(part)] == (occupied[cell] and seen[index] > 0)
