"""Which sparse points photos see, from each source that tells it."""

import numpy as np
import pytest
import torch
from colmap_files import N, points, write_scene
from photo_world import K, edit, read, write

from nerf_pl.errors import UserError
from nerf_pl.scenes import Request, frame_of
from nerf_pl.scenes.colmap import load_colmap
from nerf_pl.scenes.points import read_points
from nerf_pl.scenes.sightings import read_sightings, write_sightings
from nerf_pl.scenes.transforms import load_transforms

SEEN = {
    "images/a.jpg": np.array([[1.0, 2, 3], [4, 5, 6]]),
    "b c.jpg": np.zeros((0, 3)),
    "d.jpg": np.array([[4.0, 5, 6]]),
}


def moved(scene, xyz: np.ndarray) -> torch.Tensor:
    """Points of the scene's file in the world."""
    frame = frame_of(scene)
    return (torch.from_numpy(xyz).double() @ frame[:3, :3].T + frame[:3, 3]).float()


def test_what_is_written_is_read(tmp_path):
    write_sightings(tmp_path / "p.ply", SEEN)
    found = read_sightings(tmp_path / "p.ply")
    assert found is not None
    assert list(found) == list(SEEN)
    assert all(np.array_equal(found[name], SEEN[name]) for name in SEEN)
    assert sorted(read_points(tmp_path / "p.ply").tolist()) == [[1, 2, 3], [4, 5, 6]]  # as other programs see it


def test_nothing_is_seen(tmp_path):
    write_sightings(tmp_path / "p.ply", {"a": np.zeros((0, 3))})
    found = read_sightings(tmp_path / "p.ply")
    assert found is not None
    assert found["a"].shape == (0, 3)


def test_files_of_others_and_damaged_ones(tmp_path):
    path = tmp_path / "p.ply"
    write_sightings(path, SEEN)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"element sighting 3\nproperty uint photo\nproperty uint point\n", b""))
    assert read_sightings(path) is None
    path.write_bytes(b"no PLY at all")
    assert read_sightings(path) is None
    for damaged in (whole[:-1], whole[:-4] + b"\xff\xff\0\0", whole.replace(np.float32(6).tobytes(), b"\0\0\xc0\x7f")):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"p\.ply is .*remove ply_file_path"):
            read_sightings(path)


def test_points_of_a_colmap_model(tmp_path):
    write_scene(tmp_path)
    for split, n in (("train", N - 2), ("test", 2)):
        scene = load_colmap(tmp_path, Request(split))
        assert scene.seen is not None
        assert len(scene.seen) == len(scene) == n
        for seen in scene.seen:  # every photo sees every point
            assert torch.allclose(seen.sort(0).values, moved(scene, points()).sort(0).values, atol=1e-5)


def test_a_model_without_points(tmp_path):
    write_scene(tmp_path, xyz=np.zeros((0, 3)))
    assert load_colmap(tmp_path, Request("train")).seen is None


def test_points_beside_a_scene_file(tmp_path):
    write(tmp_path, K, [{}] * 9)
    names = sorted(frame["file_path"] for frame in read(tmp_path)["frames"])
    seen = {name: np.full((2, 3), float(i)) for i, name in enumerate(names)}
    write_sightings(tmp_path / "points.ply", seen)
    edit(tmp_path, {**read(tmp_path), "ply_file_path": "points.ply", "clear_distance": 0.1})
    scene = load_transforms(tmp_path, Request("train"))
    assert scene.seen is not None
    kept = [i for i in range(9) if i % 8]
    for own, i in zip(scene.seen, kept, strict=True):
        assert torch.allclose(own, moved(scene, seen[names[i]]), atol=1e-5)
    for request in (Request("train", pictures=False), Request("test")):  # nothing is learned from these
        assert load_transforms(tmp_path, request).seen is None
    del seen[names[1]]  # a photo that was added later
    write_sightings(tmp_path / "points.ply", seen)
    scene = load_transforms(tmp_path, Request("train"))
    assert scene.seen is not None
    assert [len(own) for own in scene.seen][:2] == [0, 2]
