"""What hangs in front of cameras is measured, and views that nothing can be said of do not spoil the scores."""

import json
import math
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from tiny import CPU
from torch import Tensor

from nerf_pl.cameras import Cameras
from nerf_pl.checkpoints import open_run
from nerf_pl.cli.eval import Eval
from nerf_pl.cli.trained import Trained
from nerf_pl.evaluation import Output, evaluate, floaters
from nerf_pl.evaluation.floaters import agreed, floater_shares, free_ways
from nerf_pl.films.paths import look_at
from nerf_pl.metrics import FLOATERS_BY
from nerf_pl.scenes import Scene
from nerf_pl.sights import look
from nerf_pl.types import Pixels, Rays

CAMERAS, AWAY = 12, 4.0
GROUND, BALL = -0.6, 0.6  # height of the one, radius of the other, which stands on it about the origin


@dataclass(frozen=True)
class Thing:
    """A ball or, with a normal, a disc, which takes a share of the light of the rays that meet it."""

    centre: Tensor
    radius: float
    opacity: float = 1.0
    normal: Tensor | None = None


class World(torch.nn.Module):
    """A ball above the ground, and whatever else hangs around."""

    rays_per_pixel = 1

    def __init__(self, *things: Thing) -> None:
        super().__init__()
        self.register_buffer("step", torch.zeros(1, dtype=torch.int64))
        self.things = (Thing(torch.zeros(3), BALL), *things)

    def render(self, rays: Rays, background: object) -> Pixels:
        down = rays.directions[:, 2]
        ends = [torch.where(down < 0, (GROUND - rays.origins[:, 2]) / down, torch.inf)]
        ends += [first(rays, thing) for thing in self.things]
        ways = torch.stack(ends, 1)  # (R, things)
        there = (ways >= rays.near[:, None]) & (ways <= rays.far[:, None])
        alphas = there * torch.tensor([1.0, *(thing.opacity for thing in self.things)])
        ways, order = torch.where(there, ways, 1e9).sort(1)
        alphas = alphas.gather(1, order)
        passed = torch.cat([torch.ones_like(alphas[:, :1]), (1 - alphas).cumprod(1)], 1)
        weights = passed[:, :-1] * alphas
        return Pixels(torch.zeros(len(rays), 3), (weights * ways).sum(1), weights.sum(1), torch.zeros(0))


def first(rays: Rays, thing: Thing) -> Tensor:
    """The way to where a ray meets a thing; inf where it misses it."""
    towards = thing.centre - rays.origins
    if thing.normal is not None:
        way = (towards @ thing.normal) / (rays.directions @ thing.normal)
        is_met = (way[:, None] * rays.directions - towards).norm(dim=1) < thing.radius
        return torch.where(is_met & (way > 0), way, torch.inf)
    along = (towards * rays.directions).sum(1)
    square = thing.radius**2 - (towards.square().sum(1) - along.square())
    way = along - square.clamp(min=0).sqrt()
    return torch.where((square > 0) & (way > 0), way, torch.inf)


def scene_of(n: int = CAMERAS, turn: float = 0.0, focal: float = 80.0, **values: object) -> Scene:
    """Cameras all around, which look at the origin from above."""
    angle = torch.arange(n) * 2 * math.pi / n + turn
    centres = AWAY * torch.stack([0.8 * angle.cos(), 0.8 * angle.sin(), torch.full_like(angle, 0.6)], 1)
    K = torch.tensor([[[focal, 0, 24], [0, focal, 24], [0, 0, 1]]]).expand(n, 3, 3)
    images = torch.full((n, 48, 48, 3), 9, dtype=torch.uint8)
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    scene = Scene(Cameras(look_at(centres), K, 48, 48), images, 0.1, 100.0, box, unbounded=True)
    return replace(scene, ahead=0.4, closest=AWAY, **values)


TRAINING, TEST = scene_of(), scene_of(4, 0.3, 110.0)


def before(scene: Scene, i: int, radius: float = 0.2, opacity: float = 1.0) -> Thing:
    """Fog or a wall in front of a camera, right behind where its rays begin if nothing else is said."""
    centre = scene.cameras.c2w[i, :, 3]
    return Thing(0.58 * centre, radius, opacity, centre / AWAY)


def covered(scene: Scene, i: int, *things: Thing) -> float:
    """The share that things cover of that part of a view of which others say how far it is free."""
    rays = scene.view(i).rays()
    hidden = torch.stack([first(rays, thing) for thing in things]).isfinite().any(0).view(48, 48)
    free = free_ways(scene.view(i), agreed(look(World(*things), TRAINING, 1000)))
    known = F.interpolate(free[None, None], (48, 48), mode="nearest")[0, 0].isfinite()
    assert 0.5 < known.float().mean() < 1
    return float((hidden & known).sum() / known.sum())


def test_a_clean_scene_has_none():
    assert floater_shares(World(), TEST, TRAINING, 1000) == pytest.approx([0.0] * 4, abs=1e-6)
    assert floater_shares(World(), TRAINING, TRAINING, 1000) == pytest.approx([0.0] * CAMERAS, abs=1e-6)


@pytest.mark.parametrize("opacity", [0.25, 1.0])
@pytest.mark.parametrize("ahead", [0.0, 0.2, 0.4])
def test_the_score_is_the_share_of_light_wherever_rays_begin(opacity, ahead):
    thing = before(TEST, 1, opacity=opacity)
    shares = floater_shares(World(thing), replace(TEST, ahead=ahead), replace(TRAINING, ahead=ahead), 1000)
    share = covered(TEST, 1, thing)
    assert 0.1 < share < 0.5
    assert shares[1] == pytest.approx(opacity * share, abs=1e-3)
    assert shares[0] == shares[2] == shares[3] == 0


def test_what_a_mask_leaves_out_does_not_count():
    fog = World(before(TEST, 1))
    around = TEST.view(1).rays()
    hidden = first(around, before(TEST, 1, radius=0.3)).isfinite().view(48, 48)
    masks = torch.ones(len(TEST), 48, 48, dtype=torch.bool)
    masks[1] = ~hidden
    assert floater_shares(fog, replace(TEST, masks=masks), TRAINING, 1000)[1] == pytest.approx(0, abs=1e-6)


def test_walls_before_many_cameras_excuse_no_view():
    """Also those of the training that say what is free."""
    walls = [before(TRAINING, i, 0.3) for i in range(0, CAMERAS, 2)]
    own = before(TEST, 0)
    shares = floater_shares(World(own, *walls), TEST, TRAINING, 1000)
    assert shares[0] == pytest.approx(covered(TEST, 0, own, *walls), abs=0.03)
    trained = floater_shares(World(*walls), TRAINING, TRAINING, 1000)
    assert all(share > 0.1 for share in trained[::2])
    assert sum(trained[::2]) > 5 * sum(trained[1::2])


def test_what_stands_there_is_none_though_it_is_near():
    """What a camera close to it sees at less than half of its way, as the others do from farther away."""
    c2w = TEST.cameras.c2w.clone()
    c2w[0, :, 3] *= 0.27
    close = replace(TEST, cameras=replace(TEST.cameras, c2w=c2w), ahead=0.2)
    assert float(World().render(close.view(0).rays(), None).depth.min()) < 0.45 * 0.27 * AWAY
    assert floater_shares(World(), close, TRAINING, 1000)[0] == 0


def test_sparse_points_tell_where_walls_hide_all():
    """With walls before all cameras, no views agree on what is behind."""
    world = World(*(before(scene, i, 0.75) for scene in (TRAINING, TEST) for i in range(len(scene))))
    assert all(map(math.isnan, floater_shares(world, TEST, TRAINING, 1000)))
    rays = TEST.view(0).rays()
    points = rays.origins + World().render(rays, None).depth[:, None] * rays.directions
    seen = (points[::7], *(torch.zeros(0, 3) for _ in range(3)))
    shares = floater_shares(world, replace(TEST, seen=seen), TRAINING, 1000)
    assert shares[0] == pytest.approx(1.0, abs=0.01)
    assert all(map(math.isnan, shares[1:]))
    assert floater_shares(World(), replace(TEST, seen=seen), TRAINING, 1000)[0] == 0


def test_too_few_views_tell_nothing():
    assert all(map(math.isnan, floater_shares(World(), TEST, scene_of(floaters.WITNESSES), 1000)))


@pytest.mark.parametrize(("foggy", "is_told"), [(0.01, True), (0.9, False)])
def test_fog_is_said(tmp_path, capsys, monkeypatch, foggy, is_told):
    monkeypatch.setattr("nerf_pl.evaluation.views.FOGGY", foggy)
    scene = scene_of(1, 0.3)
    fog = before(scene, 0, opacity=0.5)
    evaluate(World(fog), scene, Output(tmp_path, tmp_path / "metrics.json", "test", training=TRAINING), 1000, {})
    assert ("full of fog; train for longer" in capsys.readouterr().err) == is_told


def test_views_that_cannot_be_scored(tmp_path, capsys):
    """An empty mask leaves nothing to score, and an equal picture has no finite PSNR. The file stays JSON."""
    scene = scene_of(3, 0.3)
    masks = torch.ones(3, 48, 48, dtype=torch.bool)
    masks[1] = False
    images = scene.images.clone()
    images[2] = 0
    scene = replace(scene, masks=masks, images=images, names=("a", "b", "c"), background=None)
    fog = before(scene, 0, opacity=0.5)
    evaluate(World(fog), scene, Output(tmp_path, tmp_path / "metrics.json", "test", training=TRAINING), 1000, {})

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    found = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    first, second, third = found["views"]
    assert (second["psnr"], third["psnr"]) == (None, None)
    assert found["psnr"] == first["psnr"]
    assert found["floaters_by"] == FLOATERS_BY
    assert found["floaters"] == pytest.approx(covered(scene, 0, fog) / 4, abs=0.01)  # half the light, in one of two
    out, err = capsys.readouterr()
    assert "left out of the mean PSNR, as nothing in them counts: b" in err
    assert "left out of the mean PSNR, as they equal their photographs: c" in err
    assert f"PSNR {first['psnr']:6.2f} dB" in out.splitlines()[-1]


def test_the_command_measures_by_the_cameras_of_the_training(trained_ngp, monkeypatch, capsys):
    """Which the run keeps. Without them all else is scored."""
    run, command = open_run(trained_ngp, CPU), Eval(Trained(trained_ngp))
    found = command._training(run)
    assert found is not None
    assert torch.equal(found.cameras.c2w, run.scene("train").cameras.c2w)
    assert command._training(replace(run, kept={}, root=None)) is None
    assert "floaters are not measured: the run does not know its scene" in capsys.readouterr().err
