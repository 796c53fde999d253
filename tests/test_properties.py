"""Whatever the cameras are, they come back from every layout and from every file that is written."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import colmap_files
import llff_files
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nerf_pl.alignment import after_motion
from nerf_pl.cameras import Cameras, quaternions, rotation_matrices
from nerf_pl.films.files import read_keyframes
from nerf_pl.films.keyframes import keyframes_in_file
from nerf_pl.scenes import Request, Scene, frame_of, load_scene
from nerf_pl.scenes.normalize import normalize_poses

WIDTH, HEIGHT = 12, 8
FEW = settings(max_examples=12, deadline=None, derandomize=True)


def numbers(low: float, high: float, n: int) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(low, high, allow_subnormal=False), min_size=n, max_size=n)


quaternion = numbers(-1, 1, 4).filter(lambda q: sum(v * v for v in q) > 0.05)


@st.composite
def poses(draw: Callable, least: int = 3, most: int = 6) -> torch.Tensor:
    """Camera-to-world, in float64: any rotations, places up to 100 from the origin, not all of them the same."""
    n = draw(st.integers(least, most))
    rotations = rotation_matrices(torch.tensor([draw(quaternion) for _ in range(n)], dtype=torch.float64))
    size = draw(st.sampled_from([0.1, 1.0, 100.0]))
    spread = torch.arange(n, dtype=torch.float64)[:, None] * torch.tensor([0.3, 0.1, 0.2])
    places = size * (torch.tensor([draw(numbers(-1, 1, 3)) for _ in range(n)], dtype=torch.float64) + spread)
    return torch.cat([rotations, places[:, :, None]], 2)


@st.composite
def intrinsics(draw: Callable) -> dict[str, float]:
    focal = [draw(st.floats(0.4, 4)) * WIDTH for _ in range(2)]
    cx, cy = draw(st.floats(0.2, 0.8)) * WIDTH, draw(st.floats(0.2, 0.8)) * HEIGHT
    return {"fl_x": focal[0], "fl_y": focal[1], "cx": cx, "cy": cy, "w": WIDTH, "h": HEIGHT}


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name) / "scene"


def pictures(root: Path, n: int) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        noise = np.random.default_rng(i).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(noise).save(root / f"view_{i:02d}.png")


def check_rays(scene: Scene, c2w: torch.Tensor, k: dict[str, float]) -> None:
    """In the coordinates of the scene's own file, through the middles of the pixels."""
    back = torch.linalg.inv(frame_of(scene))
    scale = back[0, :3].norm()
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    local = torch.stack([(x - k["cx"]) / k["fl_x"], -(y - k["cy"]) / k["fl_y"], -torch.ones_like(x)], -1).double()
    size = c2w[:, :, 3].abs().max()
    for i in range(len(c2w)):
        rays = scene.view(i).rays()
        directions = torch.nn.functional.normalize(local.view(-1, 3) @ c2w[i, :, :3].T, dim=1)
        torch.testing.assert_close(rays.directions.double() @ back[:3, :3].T / scale, directions, atol=1e-4, rtol=0)
        origins = rays.origins.double() @ back[:3, :3].T + back[:3, 3]
        torch.testing.assert_close(origins, c2w[i, :, 3].expand_as(origins), atol=1e-4 * float(size), rtol=0)


@pytest.mark.parametrize("layout", ["transforms", "blender"])
@FEW
@given(c2w=poses(), k=intrinsics(), per_frame=st.booleans())
def test_json_layouts(layout, c2w, k, per_frame):
    with folder() as root:
        pictures(root, len(c2w))
        matrices = [[*pose.tolist(), [0, 0, 0, 1]] for pose in c2w]
        frames = [{"file_path": f"view_{i:02d}.png", "transform_matrix": pose} for i, pose in enumerate(matrices)]
        frames = [{**frame, **k} for frame in frames] if per_frame else frames
        name = {"transforms": "transforms.json", "blender": "transforms_train.json"}[layout]
        (root / name).write_text(json.dumps({**({} if per_frame else k), "frames": frames}))
        check_rays(load_scene(root, Request(test_every=0)), c2w, k)


@FEW
@given(c2w=poses(), k=intrinsics(), text=st.booleans())
def test_colmap_models(c2w, k, text):
    with folder() as root:
        camera = ("PINHOLE", [k["fl_x"], k["fl_y"], k["cx"], k["cy"]], (WIDTH, HEIGHT))
        xyz = c2w[:, :, 3].mean(0).numpy() + np.random.default_rng(0).normal(size=(20, 3))
        colmap_files.write_model(root / "sparse/0", c2w.numpy(), [camera], text, xyz)
        pictures(root / "images", len(c2w))
        check_rays(load_scene(root, Request(test_every=0)), c2w, k)


@FEW
@given(rotation=quaternion, shift=numbers(-50, 50, 3), scale=st.floats(0.01, 100))
def test_llff_scenes_anywhere(rotation, shift, scale):
    turn = rotation_matrices(torch.tensor([rotation], dtype=torch.float64))[0]
    c2w = llff_files.moved(llff_files.around(), scale, turn, torch.tensor(shift, dtype=torch.float64))
    with folder() as root:
        llff_files.write_scene(root, c2w, (3 * scale, 9 * scale))
        scene = load_scene(root, Request(test_every=0, spheric=True))
        back = torch.linalg.inv(frame_of(scene))
        assert len(scene) == len(c2w) - 1  # the most central view is held out
        places = scene.cameras.c2w[:, :, 3].double() @ back[:3, :3].T + back[:3, 3]
        nearest = torch.cdist(places, c2w[:, :, 3]).min(1)
        assert nearest.values.max() < 1e-3 * scale
        axes = back[:3, :3] / back[0, :3].norm() @ scene.cameras.c2w[:, :, :3].double()
        torch.testing.assert_close(axes, c2w[nearest.indices, :, :3], atol=1e-4, rtol=0)


@FEW
@given(c2w=poses(), k=intrinsics(), frame_of_file=poses(1, 1), scale=st.floats(0.01, 100), fps=st.floats(1, 60))
def test_cameras_of_films_are_read_back(c2w, k, frame_of_file, scale, fps):
    frame = torch.eye(4, dtype=torch.float64)
    frame[:3] = frame_of_file[0]
    frame[:3, :3] *= scale
    K = torch.tensor([[k["fl_x"], 0, k["cx"]], [0, k["fl_y"], k["cy"]], [0, 0, 1]]).expand(len(c2w), 3, 3)
    cameras = Cameras(c2w.float(), K, WIDTH, HEIGHT)
    with folder() as root:
        root.mkdir()
        (root / "a.json").write_text(json.dumps(keyframes_in_file(cameras, fps, frame)))
        found = read_keyframes(root / "a.json", cameras, frame).film(len(c2w))
    size = float(c2w[:, :, 3].abs().max()) + float(frame[:3, 3].abs().max())
    torch.testing.assert_close(found.c2w[:, :, :3], cameras.c2w[:, :, :3], atol=1e-3, rtol=0)
    torch.testing.assert_close(found.c2w[:, :, 3], cameras.c2w[:, :, 3], atol=1e-4 * size, rtol=0)
    torch.testing.assert_close(found.K, K, atol=1e-2, rtol=1e-3)


@FEW
@given(c2w=poses())
def test_normalised_poses_are_a_similarity_of_the_given_ones(c2w):
    found, frame = normalize_poses(c2w)
    scale = frame[0, :3].norm()
    torch.testing.assert_close(found[:, :, 3], c2w[:, :, 3] @ frame[:3, :3].T + frame[:3, 3])
    torch.testing.assert_close(found[:, :, :3], frame[:3, :3] / scale @ c2w[:, :, :3])
    torch.testing.assert_close(frame[:3, :3] @ frame[:3, :3].T, scale**2 * torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(frame[:3, :3]) > 0


@FEW
@given(rotations=st.lists(quaternion, min_size=1, max_size=4), motion=numbers(-0.5, 0.5, 6))
def test_rotations_stay_rotations(rotations, motion):
    matrices = rotation_matrices(torch.tensor(rotations, dtype=torch.float64))
    torch.testing.assert_close(rotation_matrices(quaternions(matrices)), matrices)
    pose = torch.cat([matrices[0], torch.ones(3, 1, dtype=torch.float64)], 1)
    after = after_motion(pose, torch.tensor(motion, dtype=torch.float64))
    torch.testing.assert_close(after[:, :3] @ after[:, :3].T, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(after[:, :3]) > 0
