"""What is shown where no training view looked: nothing, or the nearest cells that some did look into."""

from dataclasses import replace

import torch
from nerf_pl.models import make_model
from tiny import config

from nerf_pl.checkpoints import load_model, save_model
from nerf_pl.methods.ngp.occupancy import ENOUGH, WINDOW, OccupancyGrid, nearest
from nerf_pl.types import Rays

SIZE = 32
BOX = torch.tensor([[-1.0, -1.0, -0.5], [1.0, 1.0, 0.5]])


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
    grid = OccupancyGrid(box, SIZE, unbounded=unbounded, extended=extended)
    seen = torch.zeros(SIZE, SIZE, SIZE, dtype=torch.bool)
    seen[:, :, : SIZE // 2] = True
    occupied = ~seen
    occupied[:, : SIZE // 2] = True
    grid.restrict(occupied)
    grid.seen.copy_(seen.view(-1))
    return grid.eval()


def march(grid: OccupancyGrid, y: float) -> tuple[torch.Tensor, torch.Tensor]:
    """t and points of the samples of a ray along x, in the middle of the unit cube's z."""
    ray = torch.tensor([[-2.0, y, 0.01]]), torch.tensor([[1.0, 0, 0]])
    rays = Rays(*ray, ray[1], torch.tensor([0.5]), torch.tensor([9.0]))
    samples, unit, _ = grid.march(rays, grid.stride(0.01), torch.full((1,), 0.5))
    return samples.t, unit


def test_what_was_not_seen_is_that_of_the_nearest_cell():
    t, unit = march(half_seen(True), -0.4)
    assert len(t) == 200
    assert (unit[:, 0] < 0.5).all()
    inner = t < 2
    assert torch.allclose(unit[inner, 0], (t[inner] - 1) / 2, atol=1e-4)
    beyond = unit[~inner, 0]  # again and again the last cell that was seen
    assert (beyond >= 15 / 32 - 1e-4).all()
    assert torch.allclose(beyond, 15 / 32 + ((t[~inner] - 1) / 2) % (1 / 32), atol=1e-4)
    assert torch.allclose(unit[:, 1], torch.full_like(t, 0.3))
    t, _ = march(half_seen(True), 0.4)  # there the nearest are empty
    assert len(t) == 0


def test_what_was_not_seen_is_empty_in_a_box():
    grid = half_seen(False)
    for y, n in ((-0.4, 200), (0.4, 100)):  # after one step not all of what can be seen may have been found
        assert len(march(grid, y)[0]) == n
    grid.seen.mul_(ENOUGH)
    grid.forget_shown()
    for y, n in ((-0.4, 100), (0.4, 0)):
        t, unit = march(grid, y)
        assert len(t) == n
        assert (unit[:, 0] < 0.5).all()


def test_what_was_seen_early_alone_does_not_count():
    """While it is thin everywhere, light reaches what it will not reach any more."""
    steps = torch.arange(SIZE**3) % (ENOUGH + 1)
    for extended, last, since in ((False, ENOUGH, ENOUGH // 2), (False, 5 * WINDOW, 4 * WINDOW), (True, ENOUGH, 0)):
        grid = half_seen(extended)
        grid.seen.copy_(steps * (last // ENOUGH))
        assert torch.equal(grid.lit(), grid.seen > since)
        assert 0 < grid.lit().sum() < SIZE**3
        grid.seen.zero_()
        assert grid.lit().all()


def test_only_parts_that_light_reached_are_shown():
    """Of the cells of a ray along x, every other part; and the steps in them go through a finer grid."""
    grid = OccupancyGrid(BOX, SIZE, detail=2)
    grid.restrict(torch.ones(SIZE, SIZE, SIZE, dtype=torch.bool))
    seen = grid.seen.view(-1, 2, 2, 2)  # of each cell z, y, x
    seen[:, :, :, 1] = ENOUGH
    grid.eval()
    t, unit = march(grid, -0.4)
    assert len(t) == 96  # of 200, in parts that are 3.125 steps wide
    assert ((unit[:, 0] * 2 * SIZE).long() % 2 == 1).all()
    bits = torch.arange(32)
    shown = (grid.shown()[:, None] >> bits & 1).bool().view(3 * (2 * SIZE,))
    assert shown[:, :, 1::2].all()
    assert not shown[:, :, ::2].any()
    grid.bits.zero_()
    grid.bits[0] = 1  # the first cell alone
    grid.forget_shown()
    shown = (grid.shown()[:, None] >> bits & 1).bool().view(3 * (2 * SIZE,))
    assert shown.nonzero().tolist() == [[z, y, 1] for z in (0, 1) for y in (0, 1)]
    assert len(march(grid.train(), -0.4)[0]) == 0


def test_a_cell_counts_as_seen_if_a_part_of_it_does():
    grid = OccupancyGrid(BOX, SIZE, detail=2)
    grid.seen[8 * 5 + 3] = 7

    def dense(xyz):
        return torch.full((len(xyz),), 50.0)

    for since, visible in ((6, 1 << 5), (7, 0)):
        grid.update(dense, lambda n: torch.full((n,), 0.5), 0.01, 0, since)
        assert grid.visible[0] == visible
        assert not grid.visible[1:].any()
    extended = OccupancyGrid(BOX, SIZE, extended=True, detail=2)
    extended.restrict(torch.arange(SIZE**3).view(3 * (SIZE,)) == 5)
    extended.seen[8 * 5 + 3] = 7
    assert (extended.shown() == -1).all()  # all cells show what that one does
    assert extended.through_shown(extended.stride(0.01)).size == SIZE


def test_in_training_the_field_is_asked_where_the_samples_are():
    grid = half_seen(True).train()
    t, unit = march(grid, 0.4)
    assert len(t) == 100
    assert (unit[:, 0] > 0.5).all()


def test_without_end():
    t, unit = march(half_seen(True, unbounded=True), -0.4)
    assert float(t.max()) > 8
    assert (unit[:, 0] < 0.5).all()
    known = t < 2
    assert torch.allclose(unit[known & (t > 1), 0], 0.5 + (t[known & (t > 1)] - 2) / 4, atol=1e-4)


def test_a_change_is_noticed():
    model = make_model(config("ngp"), torch.device("cpu"))
    model.occupancy.load_state_dict(half_seen(False).state_dict())
    before = model.occupancy.shown()
    assert torch.equal(before, model.occupancy.bits)
    model.occupancy.seen.mul_(ENOUGH)
    model.before_step(1)
    assert not torch.equal(model.occupancy.shown(), before)

    grid = half_seen(True)
    before = grid.shown()
    grid.seen.fill_(1)
    grid.update(lambda xyz: torch.full((len(xyz),), 50.0), lambda n: torch.full((n,), 0.5), 0.01, 0, -1)
    assert not torch.equal(grid.shown(), before)
    assert torch.equal(grid.shown(), grid.bits)


def test_a_stored_run_still_knows_what_was_seen(tmp_path):
    """It is the state of a training, and what rendering goes by."""
    options = config("ngp")
    options = replace(options, grid=replace(options.grid, extended=True))
    ours = make_model(options, torch.device("cpu"))
    ours.occupancy.load_state_dict(half_seen(True).state_dict())
    save_model(tmp_path / "last.ckpt", ours, options)
    loaded, *_ = load_model(tmp_path / "last.ckpt", torch.device("cpu"))
    assert loaded.occupancy.extended
    assert torch.equal(loaded.occupancy.seen, ours.occupancy.seen)
    assert torch.equal(loaded.occupancy.shown(), half_seen(True).shown())
    assert not torch.equal(loaded.occupancy.shown(), loaded.occupancy.bits)
