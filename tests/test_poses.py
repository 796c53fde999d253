"""Poses that were wrong come back in a training, right ones stay, and the world keeps its place."""

from dataclasses import replace
from pathlib import Path

import llff_files
import pytest
import torch
from hills import Hills
from llff_files import around
from tiny import config, content, crashed, equal, resumed

from nerf_pl.alignment import after_motion
from nerf_pl.cameras import Cameras
from nerf_pl.media import to_uint8
from nerf_pl.methods.ngp.model import NGP
from nerf_pl.ops import Backend
from nerf_pl.options import RunFolders
from nerf_pl.rendering import render_view
from nerf_pl.scenes import Request, Scene, load_scene, outlines_to_carve, with_wide_outlines
from nerf_pl.training import poses, system
from nerf_pl.training.batches import PixelBatches
from nerf_pl.training.poses import TURNS, motion_between, refine, shared_motion
from nerf_pl.training.run import train

AWAY = 3.0  # distance of the hills
ERRORS = torch.tensor([0.004] * 3 + [0.002 * AWAY] * 3)
WORLD = torch.tensor([0.006, -0.004, 0.005, 0.03, -0.02, 0.01])  # a motion of all
SIZE = 0.01  # by which the world is larger


def true_poses(n: int = 20) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    c2w = torch.eye(4)[:3].repeat(n, 1, 1)
    c2w[:, :, 3] = torch.rand(n, 3, generator=rng) * torch.tensor([3.0, 3.0, 0.5])
    turns = 0.1 * torch.randn(n, 6, generator=rng)
    turns[:, 3:] = 0
    return torch.stack([after_motion(pose, turn) for pose, turn in zip(c2w, turns, strict=True)])


def hills(given: torch.Tensor, true: torch.Tensor | None = None, noise: float = 0.0, **values: object) -> Scene:
    """Photos of the hills from the true poses, and the poses that are given for them."""
    true = true_poses(len(given)) if true is None else true
    K = torch.tensor([[45.0, 0, 24], [0, 45, 20], [0, 0, 1]]).repeat(len(given), 1, 1)
    box, blank = torch.tensor([[-9.0] * 3, [9.0] * 3]), torch.zeros(len(given), 40, 48, 3, dtype=torch.uint8)
    scene = Scene(Cameras(true, K, 48, 40), blank, 0.1, 10.0, box, **values)
    pictures = torch.stack([render_view(Hills(), scene.view(i)).rgb for i in range(len(scene))])
    pictures = pictures + noise * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(2))
    images = torch.from_numpy(to_uint8(pictures.clamp(0, 1)))
    return replace(scene, images=images, cameras=replace(scene.cameras, c2w=given.clone()))


def moved(pose: torch.Tensor, move: torch.Tensor) -> torch.Tensor:
    """After a motion along the axes of the world."""
    return after_motion(pose, torch.cat([pose[:, :3].T @ move[:3], pose[:, :3].T @ move[3:]]))


def off_by(errors: torch.Tensor) -> torch.Tensor:
    return torch.stack([moved(pose, error) for pose, error in zip(true_poses(len(errors)), errors, strict=True)])


def motions(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    return torch.stack([motion_between(*pair) for pair in zip(before, after, strict=True)])


def own(moves: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
    """What is left of motions without what all cameras share."""
    return moves - shared_motion(moves, poses[:, :, 3].double(), AWAY)


def batches_of(scene: Scene) -> PixelBatches:
    return PixelBatches(scene, 8, 0, backend=Backend())


@pytest.fixture
def errors() -> torch.Tensor:
    return ERRORS * torch.randn(20, 6, generator=torch.Generator().manual_seed(3))


def test_wrong_poses_come_back(errors):
    scene = hills(off_by(errors))
    batches = batches_of(scene)
    for turn in range(3):
        assert refine(Hills(), scene, batches, turn, 2**15)
    left = own(motions(true_poses(), batches.c2w), true_poses())
    assert left[:, :3].norm(dim=1).mean() < 0.25 * errors[:, :3].norm(dim=1).mean()
    assert left[:, 3:].norm(dim=1).mean() < 0.5 * errors[:, 3:].norm(dim=1).mean()


def test_what_all_cameras_share_stays(errors):
    """The poses are wrong by a motion of the whole world, too: the model's world is not the one that they are in."""
    places = true_poses()[:, :, 3]
    common = WORLD.repeat(20, 1)
    common[:, 3:] += torch.linalg.cross(WORLD[:3].expand(20, 3), places) + SIZE * (places - places.mean(0))
    scene = hills(off_by(errors + common))
    batches = batches_of(scene)
    assert refine(Hills(), scene, batches, 0, 2**15)
    done = motions(scene.cameras.c2w, batches.c2w)
    assert done.abs().amax() > 0.005
    assert shared_motion(done, scene.cameras.c2w[:, :, 3].double(), AWAY).abs().amax() < 1e-3


def test_right_poses_stay():
    scene = hills(true_poses(), noise=0.05)
    batches = batches_of(scene)
    assert not refine(Hills(), scene, batches, 0, 2**15)
    assert torch.equal(batches.c2w, true_poses())


def test_views_of_one_photo_move_as_one():
    """A mask leaves nothing of the second view of each photo, so that it says nothing of how to move."""
    first = true_poses(16)
    other = torch.stack([after_motion(pose, torch.tensor([0, 0.4, 0, 0, 0, 0])) for pose in first])
    true = torch.stack([first, other], 1).flatten(0, 1)
    errors = ERRORS * torch.randn(16, 6, generator=torch.Generator().manual_seed(4))
    given = torch.stack([moved(pose, errors[i // 2]) for i, pose in enumerate(true)])
    masks = torch.tensor([True, False]).repeat(16)[:, None, None].expand(32, 40, 48).clone()
    scene = hills(given, true, photos=tuple(i // 2 for i in range(32)), masks=masks)
    batches = batches_of(scene)
    for turn in range(3):
        assert refine(Hills(), scene, batches, turn, 2**15)
    done = motions(given, batches.c2w)
    torch.testing.assert_close(done[::2], done[1::2], atol=1e-5, rtol=0)
    assert own(done[::2] + errors, first).norm() < 0.6 * own(errors.double(), first).norm()


@pytest.mark.parametrize("n", [5, 20])
def test_the_shared_motion_is_that_of_a_similarity(n):
    rng = torch.Generator().manual_seed(n)
    places = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    turn, shift, size = torch.randn(3, generator=rng).double(), torch.randn(3, generator=rng).double(), 0.3
    ways = torch.linalg.cross(turn.expand(n, 3), places) + shift + size * places
    moves = torch.cat([turn.expand(n, 3), ways], 1)
    torch.testing.assert_close(shared_motion(moves, places, 2.0), moves)
    own = torch.randn(n, 6, generator=rng).double()
    own = own - shared_motion(own, places, 2.0)
    torch.testing.assert_close(shared_motion(own, places, 2.0), torch.zeros_like(own))
    torch.testing.assert_close(shared_motion(own + moves, places, 2.0), moves)


def test_the_motion_between_two_poses():
    move = torch.tensor([0.1, -0.2, 0.3, 1.0, 2.0, 3.0])
    (pose,) = true_poses(1)
    expected = torch.cat([pose[:, :3] @ move[:3], pose[:, :3] @ move[3:]]).double()
    torch.testing.assert_close(motion_between(pose, after_motion(pose, move)), expected, atol=1e-5, rtol=1e-5)
    assert not motion_between(pose, pose).any()


def test_outlines_are_wider_while_poses_may_be_wrong():
    scene = hills(true_poses(2))
    assert with_wide_outlines(scene, 0.1) is scene  # opaque
    alpha = torch.zeros(2, 40, 48, 1, dtype=torch.uint8)
    alpha[0, 10, 20], alpha[1, 0, 47] = 1, 255
    scene = replace(scene, images=torch.cat([scene.images, alpha], 3))
    expected = torch.zeros(2, 40, 48, dtype=torch.bool)
    expected[0, 7:14, 17:24] = expected[1, :4, 44:] = True  # 3 of 48 pixels around
    found = outlines_to_carve(with_wide_outlines(scene, 1 / 16))
    assert found is not None
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("sure", "kept"), [(1e9, [False, True]), (0.0, [False])])
def test_outlines_count_as_they_are_once_poses_are_known_to_be_right(scene_dir, tmp_path, monkeypatch, sure, kept):
    fits, fit = [], NGP.fit

    def watched(self, scene, keep_box=False):
        fits.append((int((scene.images[..., 3] > 0).sum()), keep_box))
        fit(self, scene, keep_box)

    monkeypatch.setattr(NGP, "fit", watched)
    monkeypatch.setattr(system, "LEAST_STEPS", 2)
    monkeypatch.setattr(poses, "SURE", sure)
    monkeypatch.setattr(system, "OUTLINES", 1 / 16)
    train(config("ngp", max_steps=16, refine_poses=True), scene_dir, RunFolders.modern(tmp_path / "run"))
    shown = int((load_scene(scene_dir, Request("train")).images[..., 3] > 0).sum())
    assert [keeps for _, keeps in fits] == kept
    assert fits[0][0] > shown
    assert [area for area, _ in fits[1:]] == [shown] * len(fits[1:])


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    llff_files.write_scene(tmp_path / "photos", around())
    monkeypatch.setattr(system, "LEAST_STEPS", 2)
    monkeypatch.setattr(poses, "SURE", 0.0)
    return config("ngp", max_steps=16, val_every=8, refine_poses=True)


def test_training_moves_cameras_and_goes_on_with_them(options):
    whole, parts = Path("whole"), Path("parts")
    train(options, Path("photos"), RunFolders.modern(whole))
    refined = content(whole)["refined"]
    assert refined["turns"] == len(TURNS)
    assert refined["c2w"].isfinite().all()
    assert not torch.equal(refined["c2w"], load_scene("photos", Request("train")).cameras.c2w)

    halfway = crashed(options, Path("photos"), parts, after=8)
    assert 0 < halfway["refined"]["turns"] < len(TURNS)
    second = resumed(options, Path("photos"), parts)
    for part in ("state_dict", "refined"):
        assert equal(content(whole)[part], second[part])


def test_poses_wait_until_the_model_shows_the_scene(options, monkeypatch):
    turns = []
    monkeypatch.setattr(system, "LEAST_STEPS", 7)
    monkeypatch.setattr(system, "refine", lambda model, scene, batches, turn, chunk: turns.append(int(model.step)))
    train(options, Path("photos"), RunFolders.modern(Path("waits")))
    assert len(turns) == sum(16 * share > 6 for share in TURNS)
    assert min(turns) >= 7
    assert content(Path("waits"))["refined"]["turns"] == len(TURNS)


@pytest.mark.parametrize(("needed", "told"), [(300, "ended before the model showed"), (2, "moved no camera")])
def test_poses_that_stay_are_told(options, monkeypatch, capsys, needed, told):
    monkeypatch.setattr(poses, "SURE", 1e9)
    for module in (poses, system):
        monkeypatch.setattr(module, "LEAST_STEPS", needed)
    train(options, Path("photos"), RunFolders.modern(Path("told")))
    assert told in " ".join(capsys.readouterr().out.split())


def test_without_the_option_a_checkpoint_holds_no_poses(options):
    off = replace(options, train=replace(options.train, refine_poses=False))
    train(off, Path("photos"), RunFolders.modern(Path("a")))
    assert "refined" not in content(Path("a"))
