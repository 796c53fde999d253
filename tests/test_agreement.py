"""Whether pictures fit their poses: a table with a cloth of noise, photographed from an arc above it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny import FLAGS, nerf

from nerf_pl.films.paths import look_at
from nerf_pl.scenes import Request, Scene, load_scene
from nerf_pl.scenes.agreement import disagreement, doubt, looking_away
from nerf_pl.scenes.conventions import MATRICES, MODEL
from nerf_pl.scenes.corners import corners, shared
from nerf_pl.scenes.normalize import moved
from nerf_pl.training.verdict import alone, strange_lens

N, SIZE, FOCAL = 10, (112, 84), 110.0


def arc(n: int = N) -> torch.Tensor:
    angle = torch.linspace(0.3, 1.6, n, dtype=torch.float64)
    return look_at(torch.stack([3 * angle.cos(), 3 * angle.sin(), 2 + 0.4 * (2 * angle).sin()], -1))


def photos(c2w: torch.Tensor) -> np.ndarray:
    """What cameras see of the cloth, the plane z = 0."""
    noise = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pictures = []
    for pose in c2w:
        ways = rays() @ pose[:, :3].T
        at = pose[:2, 3] - ways[..., :2] * (pose[2, 3] / ways[..., 2:])
        seen = F.grid_sample(noise, at[None] / 2.4, padding_mode="reflection", align_corners=False)
        pictures.append(seen[0].permute(1, 2, 0))
    return (255 * torch.stack(pictures)).round().byte().numpy()


def walls(c2w: torch.Tensor) -> np.ndarray:
    """What cameras see from within a ball of noise, of radius 3."""
    noise = torch.rand(1, 3, 64, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pictures = []
    for pose in c2w:
        ways = F.normalize(rays() @ pose[:, :3].T, dim=-1)
        along, centre = ways @ pose[:, 3], pose[:, 3]
        t = -along + (along**2 - centre @ centre + 9).sqrt()
        at = centre + t[..., None] * ways
        pictures.append(F.grid_sample(noise, at[None, None] / 3.2, align_corners=False)[0, :, 0].permute(1, 2, 0))
    return (255 * torch.stack(pictures)).round().byte().numpy()


def rays() -> torch.Tensor:
    """The ways that pixels see, in the camera."""
    y, x = torch.meshgrid(torch.arange(SIZE[1]) + 0.5, torch.arange(SIZE[0]) + 0.5, indexing="ij")
    return torch.stack([(x - SIZE[0] / 2) / FOCAL, (SIZE[1] / 2 - y) / FOCAL, -torch.ones_like(x)], -1).double()


def write(root: Path, c2w: torch.Tensor, pictures: np.ndarray) -> None:
    (root / "images").mkdir(parents=True)
    frames = []
    for i, (pose, picture) in enumerate(zip(c2w, pictures, strict=True)):
        Image.fromarray(picture).save(root / "images" / f"{i}.png")
        frames.append({"file_path": f"images/{i}.png", "transform_matrix": [*pose.tolist(), [0, 0, 0, 1]]})
    lens = {"fl_x": FOCAL, "fl_y": FOCAL, "w": SIZE[0], "h": SIZE[1]}
    (root / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Scene:
    root = tmp_path_factory.mktemp("cloth")
    write(root, arc(), photos(arc()))
    return load_scene(root, Request(test_every=0))


def posed(scene: Scene, c2w: torch.Tensor) -> Scene:
    """The scene of a file with these poses."""
    return replace(scene, cameras=replace(scene.cameras, c2w=c2w.float()), frame=None)


def inverse(c2w: torch.Tensor) -> torch.Tensor:
    return torch.linalg.inv(torch.cat([c2w, torch.tensor([0.0, 0, 0, 1]).to(c2w).expand(len(c2w), 1, 4)], 1))[:, :3]


def mirrored(c2w: torch.Tensor, axis: int) -> torch.Tensor:
    flip = torch.eye(3)
    flip[axis, axis] = -1
    return torch.cat([flip @ c2w[:, :, :3] @ flip, flip @ c2w[:, :, 3:]], 2)


AHEAD = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
MOVE = torch.tensor([[0.0, 0, 2, 9], [2, 0, 0, -4], [0, 2, 0, 5], [0, 0, 0, 1]], dtype=torch.float64)
READINGS = {
    "camera to world with y down and z ahead": lambda c2w: c2w * AHEAD,
    "if they were world to camera; ": inverse,
    "world to camera with y down and z ahead": lambda c2w: inverse(c2w * AHEAD),
    "left-handed, as in Unity": lambda c2w: mirrored(c2w, 2),
    "mirrored": lambda c2w: mirrored(c2w, 0),
}


def test_right_poses_are_not_doubted(scene):
    assert disagreement(scene) == ""
    few = [shared(corners(scene, i), corners(scene, i + 1)) for i in range(3)]
    assert all(len(here) > 20 for here, _ in few)  # it was looked at


@pytest.mark.parametrize("told", READINGS)
def test_poses_of_another_convention_are_named(scene, told):
    found = disagreement(posed(scene, READINGS[told](scene.cameras.c2w)))
    assert told in found
    assert "% of the points that neighbouring pictures share fit the poses, and " in found


def test_pictures_that_are_upside_down_are_said(tmp_path):
    down = torch.eye(4, dtype=torch.float64)[:3].repeat(N, 1, 1)
    down[:, :, 3] = torch.stack([torch.arange(N) * 0.15 - 0.7, torch.arange(N) % 3 * 0.2, torch.full((N,), 3.0)], 1)
    write(tmp_path, moved(down, MOVE), photos(down)[:, ::-1, ::-1])
    assert "turned by 180 degrees" in disagreement(load_scene(tmp_path, Request(test_every=0)))


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_focal_lengths_of_other_pictures_are_named(tmp_path, factor):
    """Where cameras turn about; those that go round one point tell little of it."""
    share = torch.linspace(-1, 1, N, dtype=torch.float64)
    spots = torch.stack([0.4 * share, 0.3 * (3 * share).cos(), torch.full((N,), 3.0)], 1)
    goals = torch.stack([1.6 * share, 0.8 * (4 * share).sin() + 1e-3, 0 * share], 1)
    c2w = torch.cat(
        [look_at(spot[None], tuple(goal.tolist()), (0.0, 1.0, 0.0)) for spot, goal in zip(spots, goals, strict=True)]
    )
    write(tmp_path, c2w, photos(c2w))
    scene = load_scene(tmp_path, Request(test_every=0))
    assert disagreement(scene) == ""
    K = scene.cameras.K.clone()
    K[:, :2, :2] *= factor
    found = disagreement(replace(scene, cameras=replace(scene.cameras, K=K)))
    times = float(found.partition("the focal length were about ")[2].partition(" times")[0])
    assert 0.8 < times * factor < 1.25


@pytest.mark.parametrize("wrong", ["mixed", "one", "turned"])
def test_pictures_of_other_poses_are_said(scene, wrong):
    c2w = scene.cameras.c2w
    other = {
        "mixed": c2w[[3, 7, 0, 9, 5, 1, 8, 2, 6, 4]],
        "one": c2w[:1].expand(N, 3, 4),
        "turned": torch.eye(4)[:3].expand(N, 3, 4).clone(),
    }
    found = disagreement(posed(scene, other[wrong]))
    assert "are the pictures in the order of their poses" in found
    assert "--refine_poses" in found


def test_nothing_is_said_where_nothing_is_known(scene):
    wrong = posed(scene, scene.cameras.c2w * AHEAD)
    assert disagreement(wrong)
    assert disagreement(replace(wrong, images=torch.full_like(scene.images, 90))) is None
    noise = torch.randint(0, 256, scene.images.shape, generator=torch.Generator().manual_seed(2)).byte()
    assert disagreement(replace(wrong, images=noise)) is None
    assert disagreement(replace(wrong, masks=torch.zeros(scene.images.shape[:3], dtype=torch.bool))) is None


def test_what_is_painted_on_all_pictures_does_not_count(scene):
    images = scene.images.clone()
    images[:, 20:60, 20:90] = images[0, 20:60, 20:90]
    assert not disagreement(replace(scene, images=images))


CONVENTIONS = [told for told in READINGS if "camera" in told]


@pytest.mark.parametrize("told", CONVENTIONS)
def test_poses_of_another_convention_are_named_in_the_coordinates_of_their_file(tmp_path, told):
    """These are not those of the scene: a matrix that is moved has another inverse."""
    write(tmp_path, READINGS[told](moved(arc(), MOVE)), photos(arc()))
    assert told in disagreement(load_scene(tmp_path, Request(test_every=0)))


def outward(n: int = N) -> torch.Tensor:
    """Cameras on a circle that look outward: read with y down and z ahead, all would look at its middle."""
    angle = torch.arange(n, dtype=torch.float64) * 2 * math.pi / n
    ways = torch.stack([angle.cos(), angle.sin(), torch.zeros(n)], -1)
    return torch.cat([look_at(way[None], tuple((2 * way).tolist())) for way in ways])


def test_what_pictures_say_goes_before_what_cameras_look_at(scene):
    """Where the pictures do not tell, the latter is said. Where they fit, it is not."""
    wrong = posed(scene, scene.cameras.c2w * AHEAD)
    assert doubt(wrong, MATRICES) == disagreement(wrong)
    blank = replace(wrong, images=torch.full_like(scene.images, 90))
    assert "the cameras look at no common point" in doubt(blank, MATRICES)
    assert "y up and z back" in doubt(blank, MATRICES)
    assert "QW QX QY QZ" in doubt(wrong, MODEL)
    around = posed(scene, outward())
    assert looking_away(around, MATRICES)
    assert looking_away(replace(around, photos=(0,) * N), MATRICES) == ""  # cut from one panorama


def test_cameras_that_look_outward_are_not_doubted_if_their_pictures_fit(tmp_path):
    c2w = outward(24)
    write(tmp_path, c2w, walls(c2w))
    scene = load_scene(tmp_path, Request(test_every=0))
    assert looking_away(scene, MATRICES)
    assert doubt(scene, MATRICES) == ""


@pytest.mark.parametrize("told", CONVENTIONS)
def test_a_training_says_it_once(tmp_path, capsys, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "cloth", READINGS[told](arc()), photos(arc()))
    words = ("cloth", "--exp_name", "tiny", "--num_gpus", "0", "--max_steps", "2", *FLAGS, "--downscale", "1")
    nerf("train", *words)
    said = capsys.readouterr().err
    assert said.count("fit the poses, and") == said.count(told) == 1
    assert "common point" not in said


def test_cameras_in_one_place_are_said(scene):
    angle = math.tau / N
    turned = torch.tensor([[math.cos(angle * i), -math.sin(angle * i), 0] for i in range(N)])
    c2w = scene.cameras.c2w.clone()
    c2w[:, :, 3] = c2w[0, :, 3]
    c2w[:, 0, :3] = turned
    assert "all cameras stand in one place" in alone(posed(scene, c2w), None)
    assert alone(scene, None) == ""


@pytest.mark.parametrize("factor", [1e-2, 0.1, 50.0])
def test_a_focal_length_in_another_unit_is_said(scene, factor):
    assert strange_lens(scene) == ""
    K = scene.cameras.K.clone()
    K[:, :2, :2] *= factor
    assert "camera_angle_x in radians" in strange_lens(replace(scene, cameras=replace(scene.cameras, K=K)))
