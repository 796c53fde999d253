"""Values of JSON files: what is taken, and what is named as wrong."""

import numpy as np
import pytest

from nerf_pl.errors import UserError
from nerf_pl.scenes.values import number, optional_number, pose_matrix, positive, unit_axes, vector

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
    scaled = (np.array(POSE)[:3] * [2, 3, 4, 1]).tolist()
    for given in (POSE, POSE[:3], [x for row in POSE for x in row], scaled):
        np.testing.assert_allclose(pose_matrix("a.json", "c2w", given), expected, rtol=1e-15)
    rounded = np.array(POSE)[:3] * [1 + 1e-6, 1, 1, 1]
    assert (pose_matrix("a.json", "c2w", rounded.tolist()) == rounded).all()  # to the last bit, as it was told
    np.testing.assert_allclose(np.linalg.norm(unit_axes(rounded)[:, :3], axis=0), 1, rtol=1e-15)
    for wrong, told in (
        (POSE[:2], r"a\.json has no 4x4 c2w"),
        ([[10**400] * 4] * 3, "4x4"),
        ([[np.inf] * 4] * 3, "not finite"),
        ([[1.0, 0.1, 0, 0], *POSE[1:]], "no rotation"),
    ):
        with pytest.raises(UserError, match=told):
            pose_matrix("a.json", "c2w", wrong)
