"""Values of JSON files: what is taken, and what is named as wrong."""

import numpy as np
import pytest

from nerf_pl.errors import UserError
from nerf_pl.scenes.values import number, optional_number, pose_matrix, positive, rigid, vector

POSE = [[1.0, 0.0, 0.0, 0.5], [0.0, 0.0, -1.0, -4.0], [0.0, 1.0, 0.0, 0.25], [0.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize("wrong", ["1", None, True, [1], float("nan"), float("-inf"), 10**400])
def test_numbers(wrong):
    assert number("a.json", "k", 3) == optional_number("a.json", "k", {"k": 3.0}) == positive("a.json", "k", 3) == 3.0
    assert optional_number("a.json", "k", {}) is None
    for call in (number, positive):
        with pytest.raises(UserError, match=r"a\.json: k is .*; give a finite number") as caught:
            call("a.json", "k", wrong)
        assert len(str(caught.value)) < 120


def test_numbers_that_must_be_positive():
    with pytest.raises(UserError, match=r"a\.json: k is 0; give a number above 0"):
        positive("a.json", "k", 0)


def test_vectors():
    assert vector("a.json", "v", [1, 2.5, -3]) == (1.0, 2.5, -3.0)
    for wrong, told in (([1, 2], "three"), ("abc", "three"), (None, "three"), ([1, 2, "c"], "v is 'c'")):
        with pytest.raises(UserError, match=told):
            vector("a.json", "v", wrong)


def test_poses():
    expected = np.array(POSE)[:3]
    scaled = (np.array(POSE)[:3] * [3, 3, 3, 1]).tolist()
    for given in (POSE, POSE[:3], [x for row in POSE for x in row], scaled):
        np.testing.assert_allclose(pose_matrix("a.json", "c2w", given), expected, rtol=1e-15)
    rounded = np.array(POSE)[:3] * [1 + 1e-6, 1, 1, 1]
    assert (pose_matrix("a.json", "c2w", rounded.tolist()) == rounded).all()  # to the last bit, as it was told
    for wrong, told in (
        (POSE[:2], r"a\.json has no 4x4 c2w"),
        ([[10**400] * 4] * 3, "4x4"),
        ([[np.inf] * 4] * 3, "not finite"),
        ([[np.nan] * 4] * 3, "not finite"),
        ([[1, 0, 0, 1e200], *POSE[1:]], "not finite"),
        ([[1.0, 0.1, 0, 0], *POSE[1:]], "no rotation, its axes are not at right angles"),
        (np.array(POSE)[:3] * [2, 3, 4, 1], "no rotation, its axes have the lengths 2, 3, 4"),
        (np.array(POSE)[:3] * [-1, 1, 1, 1], "no rotation, its axes are mirrored"),
        (np.array(POSE)[:3] * [-2, -2, -2, 1], "mirrored"),
        (np.array(POSE)[:3] * [0, 1, 1, 1], "no rotation"),
        (np.array(POSE).T, "last row is 0.5 -4 0.25 1, not 0 0 0 1; it is column by column"),
    ):
        with pytest.raises(UserError, match=told):
            pose_matrix("a.json", "c2w", np.asarray(wrong).tolist())


@pytest.mark.parametrize("seed", range(3))
def test_poses_that_are_a_little_off_become_rotations(seed):
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    pose = np.concatenate([turn * np.linalg.det(turn), [[1.0], [2.0], [3.0]]], 1)
    off = pose + 1e-3 * random.uniform(-1, 1, (3, 4)) * [1, 1, 1, 0]
    c2w, wrong = rigid(2 * off * [1, 1, 1, 0.5])
    assert wrong == ""
    np.testing.assert_allclose(c2w[:, :3].T @ c2w[:, :3], np.eye(3), atol=1e-14)
    np.testing.assert_allclose(c2w, pose, atol=3e-3)
    assert (c2w[:, 3] == pose[:, 3]).all()
