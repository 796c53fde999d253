"""How far pixels are clear by the points that photos see, and that training rays are told."""

from dataclasses import replace

import torch
from tiny import config, make, with_model

from nerf_pl.cameras import Cameras
from nerf_pl.methods import METHODS
from nerf_pl.ops import Backend
from nerf_pl.options import SceneKind
from nerf_pl.scenes import Scene, some_views
from nerf_pl.scenes.clearings import MARGIN, TILES, clearings, with_trusted_points
from nerf_pl.training.batches import PixelBatches

WIDTH, HEIGHT, FOCAL = 96, 72, 60.0


def scene(*seen: torch.Tensor) -> Scene:
    """Views from (1, 2, 3) along -z."""
    n = len(seen)
    c2w = torch.cat([torch.eye(3), torch.tensor([[1.0], [2.0], [3.0]])], 1).expand(n, 3, 4).clone()
    K = torch.tensor([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]]).expand(n, 3, 3).contiguous()
    images = torch.zeros(n, HEIGHT, WIDTH, 3, dtype=torch.uint8)
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    return Scene(Cameras(c2w, K, WIDTH, HEIGHT), images, 0.1, 100.0, box, unbounded=True, seen=seen)


def at(column: float, row: float, depth: float) -> list[float]:
    """The world point at this place of a picture and this depth along the axis."""
    return [1 + (column - WIDTH / 2) / FOCAL * depth, 2 - (row - HEIGHT / 2) / FOCAL * depth, 3 - depth]


def test_a_tile_with_points_is_clear_up_to_the_nearest_around_it():
    tile = WIDTH / TILES
    points = torch.tensor([at(5 * tile + 1, 3 * tile + 1, 4.0), at(6 * tile + 1, 3 * tile + 1, 2.0), at(40, 60, 5.0)])
    behind = torch.tensor([[1.0, 2.0, 9.0]])
    (found,) = clearings(scene(torch.cat([points, behind])))
    assert found.shape == (round(HEIGHT / tile), TILES)
    told = found.nonzero().tolist()
    assert told == [[3, 5], [3, 6], [int(60 / tile), int(40 / tile)]]
    nearest = (points[1] - torch.tensor([1.0, 2.0, 3.0])).norm()  # a distance, not a depth
    assert torch.allclose(found[3, 5:7], MARGIN * nearest)


def test_without_points_nothing_is_known():
    assert clearings(replace(scene(torch.zeros(0, 3)), seen=None)) is None
    assert not clearings(scene(torch.zeros(0, 3))).any()


def test_views_keep_their_own_points():
    near, far = torch.tensor([at(40, 60, 2.0)]), torch.tensor([at(40, 60, 5.0)])
    kept = some_views(scene(near, far), torch.tensor([1]))
    assert kept.seen is not None
    assert torch.equal(kept.seen[0], far)


def test_points_of_other_photos_are_not_used(capsys):
    inside, aside = torch.tensor([at(40, 60, 2.0)] * 3), torch.tensor([at(400, 60, 2.0), [1.0, 2.0, 9.0]])
    good = scene(inside, torch.cat([inside, aside]))
    assert with_trusted_points(good) is good
    assert with_trusted_points(scene(aside[:0], aside[:0])).seen is not None
    bad = scene(aside, torch.cat([inside[:1], aside]))
    cut = replace(bad, photos=(0, 0))
    assert with_trusted_points(cut) is cut
    assert capsys.readouterr().err == ""
    assert with_trusted_points(bad).seen is None
    assert "4 of 5 sparse points lie outside of the pictures" in " ".join(capsys.readouterr().err.split())


def test_points_that_are_not_used_are_told_once_for_all_splits(tmp_path, capsys):
    """Training loads two splits, whose numbers differ. Another scene has its own line."""
    aside = torch.tensor([at(400, 60, 2.0), [1.0, 2.0, 9.0]])
    for root, n in ((tmp_path, 3), (tmp_path, 1), (tmp_path / "other", 1)):
        assert with_trusted_points(replace(scene(*([aside] * n)), root=root)).seen is None
    told = [line for line in capsys.readouterr().err.splitlines() if "sparse points lie outside" in line]
    assert [line.split(": ")[:2] for line in told] == [
        [str(tmp_path), "6 of 6 sparse points lie outside of the pictures that are said to show them"],
        [str(tmp_path / "other"), "2 of 2 sparse points lie outside of the pictures that are said to show them"],
    ]


def test_pixels_are_told_how_far_they_are_clear():
    """The second view has a point everywhere, the first sees one in one tile."""
    rows, columns = torch.meshgrid(torch.arange(1.0, HEIGHT, 2), torch.arange(1.0, WIDTH, 2), indexing="ij")
    grid = torch.tensor(
        [at(x, y, 3.0) for x, y in zip(columns.flatten().tolist(), rows.flatten().tolist(), strict=True)]
    )
    given = scene(torch.tensor([at(41, 61, 2.0)]), grid)
    marks = torch.zeros_like(given.images)
    marks[0, 60:62, 40:42] = 255  # the tile of the first view
    marks[1] = 100
    batches = PixelBatches(replace(given, images=marks), 4096, 0, backend=Backend())
    batch = batches(torch.zeros(1, dtype=torch.int64))
    assert batch.clear is not None
    first = batch.rgb[:, 0] == 1
    assert first.any()
    assert torch.equal(batch.clear > 0, batch.rgb[:, 0] > 0)
    assert (batch.clear[first] < 2.5).all()
    assert (
        PixelBatches(replace(given, seen=None), 64, 0, backend=Backend())(torch.zeros(1, dtype=torch.int64)).clear
        is None
    )
    assert PixelBatches(replace(given, ndc=(1.0, 1.0)), 64, 0, backend=Backend()).clear is None


def test_light_from_clear_air_is_learned_away():
    """A field that is fog everywhere loses it where rays are clear, and the error that is told is that of colours."""
    given = scene(torch.tensor([at(x, y, 40.0) for x in range(1, WIDTH, 2) for y in range(1, HEIGHT, 2)]))
    found = {}
    for weight in (0.0, 1.0):
        model = make(with_model(config("ngp"), unbounded=True, emptiness=weight, close_range=0.0))
        batch = PixelBatches(given, 256, 0, backend=Backend())(torch.zeros(1, dtype=torch.int64))
        for step in (0, 5000):
            model.step.fill_(step)
            model.zero_grad()
            loss, error = model.loss(batch)
            loss.backward()
            found[weight, step] = loss.item(), error.item(), model.field.params.grad.clone()
    for step in (0, 5000):
        assert found[0.0, step][:2] == found[1.0, step][:2]
        assert torch.equal(found[0.0, step][2], found[1.0, step][2]) == (step == 5000)


def test_points_count_no_more_on_a_cpu_than_on_a_gpu():
    """A weight of 1 took away what stands in a tile with points behind it, and with it 4 dB of short trainings."""
    method, kind = METHODS["ngp"], SceneKind(unbounded=True, points=True)
    weights = [method.complete(method.preset, device, kind).model.emptiness for device in ("cpu", "cuda")]
    assert weights == [0.1, 0.1]
