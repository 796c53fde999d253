"""Where there can be something: the hull that masks leave, against brute force, and the grid that follows a density."""

import math
from dataclasses import replace

import pytest
import torch

from nerf_pl.cameras import Cameras, project
from nerf_pl.errors import UserError
from nerf_pl.methods.ngp import hull
from nerf_pl.methods.ngp.hull import centres, points_of, possible_cells, scene_box, seen_cells
from nerf_pl.methods.ngp.occupancy import DECAY, OccupancyGrid
from nerf_pl.ops import Backend

SIZE = 32
BOX = torch.tensor([[-1.5, -1.2, -1.0], [1.5, 1.2, 1.4]])


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def around(n: int, distance: float, focal: float, width: int = 32, height: int = 32) -> Cameras:
    """Cameras on a sphere that look at its centre."""
    back = torch.nn.functional.normalize(uniform(n, 3, seed=1) - 0.5, dim=1)
    right = torch.linalg.cross(torch.tensor([0.0, 0, 1]).expand(n, 3), back)
    right = torch.nn.functional.normalize(right, dim=1)
    c2w = torch.stack([right, torch.linalg.cross(back, right), back, distance * back], -1)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Cameras(c2w, K.expand(n, 3, 3), width, height)


def views(cameras: Cameras, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which cameras see which points (C, N), and in which pixel."""
    seen, pixels = [], []
    for camera in range(len(cameras)):
        xy, depth = project(cameras, camera, points)
        x, y = xy.unbind(-1)
        seen.append((depth > 0) & (x >= 0) & (x < cameras.width) & (y >= 0) & (y < cameras.height))
        clamped = y.clamp(0, cameras.height - 1).long(), x.clamp(0, cameras.width - 1).long()
        pixels.append(clamped[0] * cameras.width + clamped[1])
    return torch.stack(seen), torch.stack(pixels)


def kept(cameras: Cameras, masks: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Points that a view sees, and that lie in the masks of all views that see them."""
    seen, pixels = views(cameras, points)
    return seen.any(0) & (~seen | masks.flatten(1).gather(1, pixels)).all(0)


def at(cells: torch.Tensor, points: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """What a grid [z, y, x] says of the cells that points are in."""
    place = ((points - box[0]) / (box[1] - box[0]) * len(cells)).long().clamp(0, len(cells) - 1)
    return cells[place[:, 2], place[:, 1], place[:, 0]]


def inside(n: int, box: torch.Tensor = BOX) -> torch.Tensor:
    return box[0] + uniform(n, 3, seed=2) * (box[1] - box[0])


def masks_of_a_ball(cameras: Cameras, radius: float) -> torch.Tensor:
    """What cameras around it see of a ball in the centre."""
    row, column = torch.meshgrid(torch.arange(cameras.height) + 0.5, torch.arange(cameras.width) + 0.5, indexing="ij")
    distance = float(cameras.c2w[0, :, 3].norm())
    shown = float(cameras.K[0, 0, 0]) * radius / math.sqrt(distance**2 - radius**2)
    disc = (row - cameras.height / 2) ** 2 + (column - cameras.width / 2) ** 2 < shown**2
    return disc.expand(len(cameras), -1, -1)


# ---- what masks leave ------------------------------------------------------------------------------------------------


def world_centres() -> torch.Tensor:
    return points_of(centres(SIZE), BOX, False)[0]


def test_centres():
    points = world_centres()
    assert torch.allclose(points[0], BOX[0] + (BOX[1] - BOX[0]) / SIZE / 2)
    assert torch.allclose(points[-1], BOX[1] - (BOX[1] - BOX[0]) / SIZE / 2)
    assert points[1, 0] > points[0, 0]  # x first
    assert torch.equal(points[1, 1:], points[0, 1:])


@pytest.mark.parametrize(("distance", "layers"), [(4.0, 1), (2.2, 1), (1.6, 2)])
def test_the_hull_of_a_ball(distance, layers):
    """The nearest cameras stand inside the box, too near to some cells to judge them."""
    cameras = around(12, distance, 18 * distance, width=64, height=64)
    masks = masks_of_a_ball(cameras, 0.5)
    cells, points = seen_cells(cameras, masks, BOX, SIZE), inside(50_000)
    ball = points.norm(dim=1) < 0.5
    assert at(cells, points[ball], BOX).all()
    truth = kept(cameras, masks, points)
    assert at(cells, points[truth], BOX).all()
    # what is too much is less than some layers of cells
    cell = float((BOX[1] - BOX[0]).norm()) / SIZE
    grown = kept(cameras, masks_of_a_ball(cameras, 0.5 + layers * cell), points)
    assert at(cells, points, BOX).float().mean() < grown.float().mean()


@pytest.mark.parametrize("turned", [False, True])
def test_nothing_is_removed_that_a_mask_keeps(turned):
    """At the edge of a wide view, along which cells show longest, and with a mask of single pixels."""
    box = torch.tensor([[1.85, -0.1, -1.6], [1.95, 0.1, -1.0]])
    box = box[:, (1, 0, 2)] if turned else box  # at the top instead of the right
    K = torch.tensor([[[60.0, 0, 128], [0, 60, 128], [0, 0, 1]]])
    cameras = Cameras(torch.eye(4)[None, :3], K, 256, 256)
    masks = uniform(1, 256, 256) < 0.01
    cells, points = seen_cells(cameras, masks, box, SIZE), inside(200_000, box)
    truth = kept(cameras, masks, points)
    assert truth.sum() > 500
    assert at(cells, points[truth], box).all()
    assert 0.01 < cells.float().mean() < 0.5


@pytest.mark.parametrize("unbounded", [False, True])
@pytest.mark.parametrize("what", ["masks", "counted", "nothing", "sizes"])
def test_a_gpu_asks_many_views_at_once_and_finds_the_same(monkeypatch, unbounded, what):
    """Here as a CPU, with room for three views of all cells, and for more of those that are left."""
    cameras = around(20, 2.2, 40.0, width=64, height=64)
    masks = masks_of_a_ball(cameras, 0.5)
    if what == "sizes":
        sizes = torch.tensor([[64, 64 - i] if i % 2 else [64 - i, 64] for i in range(20)])
        cameras = replace(cameras, sizes=sizes)
    given = {"unbounded": unbounded, "counted": uniform(20, 64, 64) < 0.02 if what == "counted" else None}
    masks = masks if what in ("masks", "sizes") else None
    alone = seen_cells(cameras, masks, BOX, SIZE, **given)
    monkeypatch.setitem(hull.TOGETHER, "cpu", 3 * SIZE**3)
    asked = []
    monkeypatch.setattr(hull, "project", lambda *given: asked.append(len(given[1])) or project(*given))
    assert torch.equal(seen_cells(cameras, masks, BOX, SIZE, **given), alone)
    assert alone.float().mean() > 0.01
    assert asked[0] == 3
    assert (max(asked) > 3) == (masks is not None)
    monkeypatch.setattr(hull, "PIXELS", 2 * 64 * 64)  # large pictures: the masks of two are summed at once
    asked.clear()
    assert torch.equal(seen_cells(cameras, masks, BOX, SIZE, **given), alone)
    assert max(asked) == (3 if what == "nothing" else 2)


def test_where_nothing_is_left_no_other_view_is_asked(monkeypatch):
    cameras, asked = around(20, 4.0, 36.0), []
    monkeypatch.setattr(hull, "project", lambda *given: asked.append(1) or project(*given))
    masks = torch.zeros(20, 32, 32, dtype=torch.bool)
    assert not seen_cells(cameras, masks, BOX * 0.5, SIZE).any()
    assert len(asked) == 1


@pytest.mark.parametrize("unit", [2.0**-14, 2.0**14])
@pytest.mark.parametrize("unbounded", [False, True])
def test_the_hull_is_the_same_in_any_unit_of_length(unit, unbounded):
    cameras = around(12, 2.2, 40.0, width=64, height=64)
    masks = masks_of_a_ball(cameras, 0.5)
    scaled = replace(cameras, c2w=cameras.c2w * torch.tensor([1, 1, 1, unit]))
    cells = seen_cells(cameras, masks, BOX, SIZE, unbounded=unbounded)
    assert torch.equal(seen_cells(scaled, masks, unit * BOX, SIZE, unbounded=unbounded), cells)
    assert 0 < cells.float().mean() < 0.6


def test_windows_of_masks():
    masks = uniform(2, 9, 7) < 0.1
    top, left = 14 * uniform(2, 300, seed=1) - 3, 12 * uniform(2, 300, seed=2) - 3
    bottom, right = top + 3 * uniform(2, 300, seed=3), left + 3 * uniform(2, 300, seed=4)
    found = hull._has_pixel(masks, (top, bottom, left, right))
    row, column = torch.arange(9).view(1, 1, 9, 1), torch.arange(7).view(1, 1, 1, 7)
    top, bottom, left, right = (side.floor()[..., None, None] for side in (top, bottom, left, right))
    within = (row >= top) & (row <= bottom) & (column >= left) & (column <= right)
    assert torch.equal(found, (within & masks[:, None]).flatten(2).any(2))
    assert 0.1 < found.float().mean() < 0.9


def test_cells_that_no_camera_sees_are_out():
    cameras = around(3, 4.0, 120.0)
    cells, points = seen_cells(cameras, None, BOX, SIZE), inside(50_000)
    seen, _ = views(cameras, points)
    assert at(cells, points[seen.any(0)], BOX).all()
    wider = Cameras(cameras.c2w, cameras.K + torch.tensor([[0, 0, 8.0], [0, 0, 8.0], [0, 0, 0]]), 48, 48)
    unseen, _ = views(wider, points)  # not even by cameras that see eight pixels more on each side
    assert (~unseen.any(0)).sum() > 1000
    assert not at(cells, points[~unseen.any(0)], BOX).any()
    behind = Cameras(cameras.c2w * torch.tensor([-1.0, 1, -1, 1]), cameras.K, 32, 32)
    assert not seen_cells(behind, None, BOX, SIZE).any()


def test_the_box_around_a_ball():
    cameras = around(40, 4.0, 36.0, width=64, height=64)
    masks, start = masks_of_a_ball(cameras, 0.5), torch.tensor([[-0.9] * 3, [0.9] * 3])
    box = scene_box(cameras, masks, start, SIZE)
    assert (box[0] <= -0.5).all()
    assert (box[1] >= 0.5).all()
    assert (box.abs() < 0.75).all()
    assert torch.equal(scene_box(cameras, None, start, SIZE), start)


def test_boxes_that_are_wrong():
    cameras, box = around(2, 4.0, 36.0), torch.tensor([[-0.5] * 3, [0.5] * 3])
    apart = torch.zeros(2, 32, 32, dtype=torch.bool)
    apart[0, :, 13:15] = True  # of two views of the same camera, the left of the middle in one, the right in the other
    apart[1, :, 18:20] = True
    twice = cameras[torch.tensor([0, 0])]
    with pytest.raises(UserError, match=r"masks leave nothing inside the scene's box, \(-0.5, -0.5, -0.5\) to"):
        scene_box(twice, apart, box, SIZE)
    far = box + 100
    for masks in (None, torch.ones_like(apart)):
        with pytest.raises(UserError, match="no camera looks inside the scene's box"):
            possible_cells(cameras, masks, far, SIZE)


# ---- the grid --------------------------------------------------------------------------------------------------------

STEP = 0.01  # of the march; a cell counts from a density of 1 on


def grid() -> OccupancyGrid:
    return OccupancyGrid(BOX, SIZE, Backend())


def flags(bits: torch.Tensor) -> torch.Tensor:
    return (bits[:, None] >> torch.arange(32) & 1).bool().flatten()


def share(ours: OccupancyGrid) -> float:
    """Of the cells that are occupied."""
    return float(flags(ours.bits).float().mean())


def update(ours: OccupancyGrid, density, turn: int = 0, since: int = -1) -> None:
    ours.update(density, lambda n: uniform(n, seed=turn), march_step=STEP, turn=turn, since=since)


def ball(xyz: torch.Tensor) -> torch.Tensor:
    return torch.where(xyz.norm(dim=1) < 0.5, 50.0, 0.0)


def test_the_grid_follows_the_density():
    ours, points = grid(), world_centres()
    assert share(ours) == 1
    for turn in range(8):
        update(ours, ball, turn)
    reach = float((BOX[1] - BOX[0]).norm()) / SIZE / 2
    found, distance = flags(ours.bits), points.norm(dim=1)
    assert found[distance < 0.5 - reach].all()
    assert not found[distance > 0.5 + reach].any()
    assert torch.equal(ours.visible, ours.bits)


def test_what_is_empty_fades():
    ours = grid()
    update(ours, ball)
    before = share(ours)
    updates = math.ceil(math.log(1 / 50) / math.log(DECAY))  # from 50 to 1
    for turn in range(1, updates + 1):
        assert share(ours) >= before
        update(ours, lambda xyz: torch.zeros(len(xyz)), turn % 16)
    # less than one is asked for where the mean is less
    mean = ours.density.mean()
    assert torch.equal(flags(ours.bits), ours.density > mean)
    update(ours, lambda xyz: torch.full((len(xyz),), 50.0), 9)
    assert share(ours) == 1


def test_a_field_that_has_not_formed_is_asked_for_its_mean():
    """It is thinner than the threshold everywhere, and half of it is more than the mean."""
    ours = grid()
    update(ours, lambda xyz: 0.01 + 0.01 * xyz[:, 0].sign())
    assert torch.equal(flags(ours.bits), world_centres()[:, 0] > 0)


def test_only_possible_cells_are_occupied():
    ours, possible = grid(), torch.zeros(SIZE, SIZE, SIZE, dtype=torch.bool)
    possible[:, 4:9, 7:] = True
    ours.restrict(possible)
    assert torch.equal(flags(ours.bits), possible.flatten())
    assert torch.equal(ours.visible, ours.bits)
    asked = []

    def full(xyz):
        asked.append(xyz)
        return torch.full((len(xyz),), 50.0)

    update(ours, full)
    assert torch.equal(flags(ours.bits), possible.flatten())
    assert share(ours) == pytest.approx(float(possible.float().mean()))
    assert len(asked[0]) == possible.sum()  # one point in each, and nowhere else
    assert at(possible, asked[0], BOX).all()
    ours.restrict(torch.zeros_like(possible))
    update(ours, full)
    assert share(ours) == 0


def test_large_grids_are_updated_in_parts(monkeypatch):
    monkeypatch.setattr("nerf_pl.methods.ngp.occupancy.PART", dict.fromkeys(("cpu", "cuda"), SIZE**3 // 4))
    ours = grid()
    ours.density.fill_(1e-3)
    for turn in range(4):
        update(ours, lambda xyz: torch.full((len(xyz),), 50.0), turn)
        assert (ours.density == 50).sum() == (turn + 1) * SIZE**3 // 4


def test_once_formed_a_cpu_takes_parts():
    ours = grid()
    ours.density.fill_(1e-3)
    update(ours, lambda xyz: torch.full((len(xyz),), 50.0), 16)
    assert (ours.density == 50).sum() == SIZE**3 // 2
    update(ours, lambda xyz: torch.full((len(xyz),), 50.0), 15)
    assert (ours.density == 50).all()


def test_cells_are_visible_as_long_as_they_were_seen():
    ours = grid()
    ours.seen[:100] = 1000
    full = torch.full((SIZE**3,), 50.0)
    for since, number in ((999, 100), (1000, 0)):
        update(ours, lambda xyz: full, since=since)
        assert share(ours) == 1
        assert flags(ours.visible).sum() == number
    assert flags(ours.visible)[:100].sum() == 0


def test_a_loaded_grid_asks_for_its_own_cells():
    """The list of possible cells is no part of the state."""
    ours, other, possible = grid(), grid(), torch.zeros(SIZE, SIZE, SIZE, dtype=torch.bool)
    possible[3] = True
    other.restrict(possible)
    update(ours, ball)
    ours.load_state_dict(other.state_dict())
    update(ours, lambda xyz: torch.full((len(xyz),), 50.0))
    assert share(ours) == pytest.approx(1 / SIZE)


def test_a_size_that_does_not_fill_its_words():
    with pytest.raises(ValueError, match="size=33"):
        OccupancyGrid(BOX, 33, Backend())
