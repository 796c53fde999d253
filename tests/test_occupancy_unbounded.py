"""The grid over all of space: places in it, cells that cameras see, and steps that grow with the distance."""

import torch
from test_occupancy import SIZE, STEP, around, uniform, views

from nerf_pl import ops
from nerf_pl.methods.ngp.hull import centres, points_of, seen_cells
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
    place = (ops.contract(points, BOX)[0] * SIZE).long().clamp(0, SIZE - 1)
    found = cells[place[:, 2], place[:, 1], place[:, 0]]
    seen, _ = views(cameras, points)
    assert found[seen.any(0)].all()
    assert 0.1 < seen.any(0).float().mean() < found.float().mean() < 0.95


def test_steps_that_grow_ask_for_as_much_less():
    """A cell counts by what light loses in a step, and those far away are longer."""
    ours = OccupancyGrid(BOX, SIZE, ops.Backend(), unbounded=True)
    _, shrunk = points_of(centres(SIZE), ours.aabb, True)
    assert shrunk.max() > 10
    ours.density.fill_(0)
    how = {"march_step": STEP, "turn": 0, "since": -1}
    ours.update(lambda xyz: 3.0 / ops.contract(xyz, ours.aabb)[1], lambda n: torch.full((n,), 0.5), **how)
    assert ours.density.allclose(torch.full_like(ours.density, 3.0), rtol=1e-3)
