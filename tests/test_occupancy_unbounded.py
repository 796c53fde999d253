"""The grid over all of space: places in it, cells that cameras see, and steps that grow with the distance."""

import pytest
import torch
from test_occupancy import SIZE, STEP, around, kept, uniform, views

from nerf_pl import ops
from nerf_pl.methods.ngp.hull import balls, centres, points_of, seen_cells
from nerf_pl.methods.ngp.occupancy import OccupancyGrid

CUBE = torch.tensor([[-1.0, 0.0, 1.0], [1.0, 2.0, 3.0]])
BOX = torch.tensor([[-1.0] * 3, [1.0] * 3])


def test_places_without_end():
    place = uniform(2000, 3) * 0.98 + 0.01
    points, shrunk = points_of(place, CUBE, True)
    unit, same = ops.contract(points, CUBE)
    assert torch.allclose(unit, place, atol=1e-4)
    assert torch.allclose(shrunk, same, rtol=1e-3)
    middle = ((place - 0.5).abs() < 0.25).all(1)
    assert torch.allclose(points[middle], CUBE[0] + (place[middle] - 0.25) * 4, atol=1e-5)


def test_cells_without_end_that_no_camera_sees_are_out():
    cameras = around(3, 0.8, 40.0)
    cells = seen_cells(cameras, None, BOX, SIZE, unbounded=True)
    points, _ = points_of(uniform(50_000, 3, seed=2), BOX, True)
    found = at_end(cells, points)
    seen, _ = views(cameras, points)
    assert found[seen.any(0)].all()
    assert 0.1 < seen.any(0).float().mean() < found.float().mean() < 0.95


@pytest.mark.parametrize("size", [7, 16, 33])
def test_balls_hold_their_cells(size):
    """Also those that are stretched, and those across the end of the middle."""
    middles, radii = balls(size, BOX, True)
    for seed in range(40):
        within = uniform(size**3, 3, seed=seed) - 0.5
        points, _ = points_of(centres(size) + (within if seed % 2 else 0.5 * within.sign()) / size, BOX, True)
        assert ((points - middles).norm(dim=1) <= 1.0001 * radii).all()
    _, shrunk = points_of(centres(size), BOX, True)
    unstretched = shrunk == 1
    assert (radii.view(-1)[unstretched].median() - 4 * 3**0.5 / 2 / size).abs() < 0.1 / size


@pytest.mark.parametrize("size", [7, 16])
@pytest.mark.parametrize("distance", [1.5, 60.0])
def test_nothing_is_removed_that_a_mask_keeps(distance, size):
    """Far from the middle cells are stretched, and cameras out there see them from the side."""
    cameras = around(3, distance, 40.0, width=200, height=200)
    points, _ = points_of(uniform(200_000, 3, seed=2), BOX, True)
    masks = (uniform(3, 20, 20, seed=3) < 0.05).repeat_interleave(10, 1).repeat_interleave(10, 2)
    found = at_end(seen_cells(cameras, masks, BOX, size, unbounded=True), points)
    truth = kept(cameras, masks, points)
    assert truth.sum() > 100
    assert found[truth].all()
    assert found.float().mean() < 0.95


def at_end(cells: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """What a grid [z, y, x] over all of space says of the cells that points are in."""
    place = (ops.contract(points, BOX)[0] * len(cells)).long().clamp(0, len(cells) - 1)
    return cells[place[:, 2], place[:, 1], place[:, 0]]


def test_steps_that_grow_ask_for_as_much_less():
    """A cell counts by what light loses in a step, and those far away are longer."""
    ours = OccupancyGrid(BOX, SIZE, ops.Backend(), unbounded=True)
    _, shrunk = points_of(centres(SIZE), ours.aabb, True)
    assert shrunk.max() > 10
    ours.density.fill_(0)
    how = {"march_step": STEP, "turn": 0, "since": -1}
    ours.update(lambda xyz: 3.0 / ops.contract(xyz, ours.aabb)[1], lambda n: torch.full((n,), 0.5), **how)
    assert ours.density.allclose(torch.full_like(ours.density, 3.0), rtol=1e-3)
