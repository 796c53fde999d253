"""Lenses undone: analytic pictures taken through a lens become what a pinhole camera would have seen."""

import numpy as np
import pytest
from lens_pictures import pixel_centres, seen_directions

from nerf_pl.errors import UserError
from nerf_pl.scenes import undistort as module
from nerf_pl.scenes.undistort import opencv, opencv_fisheye, sampling_grid, undistort, undistorted_camera

SIZE = (72, 54)
K = np.array([[60.0, 0, 37.3], [0, 62.0, 25.1], [0, 0, 1]])
LENSES = {
    "barrel": opencv(K, (-0.25, 0.06, 0, 0)),
    "pincushion": opencv(K, (0.2, -0.03, 0, 0)),
    "tangential": opencv(K, (-0.05, 0, 0, 0), (0.01, -0.015)),
    "high order": opencv(K, (0.15, -0.1, 0.06, -0.02), (0.002, 0.001)),
    "fisheye": opencv_fisheye(K, (0.03, -0.02, 0.01, -0.005)),
    "strong fisheye": opencv_fisheye(K, (0.8, 0.1, 0, 0)),
}


def stripes(xy: np.ndarray) -> np.ndarray:
    """A smooth picture of directions: (N, 2) -> (N, 3) in 0..255."""
    x, y = xy[:, 0], xy[:, 1]
    waves = np.stack([np.sin(7 * x + 2 * y), np.cos(6 * y - x), np.sin(5 * x * y + 3 * y)], -1)
    return 127.5 + 100 * waves


def taken(project, colours=stripes, size=SIZE) -> np.ndarray:
    """What the lens sees."""
    values = colours(seen_directions(project, pixel_centres(*size)))
    return values.round().astype(np.uint8).reshape(size[1], size[0], -1)


def pinhole(camera: np.ndarray, size=SIZE, scale: float = 1.0) -> np.ndarray:
    """Directions of the pixels of a pinhole camera whose picture has been resized by `scale`."""
    return (pixel_centres(*size) / scale - camera[:2, 2]) / camera[[0, 1], [0, 1]]


@pytest.mark.parametrize("lens", LENSES)
def test_pictures_agree_with_the_pinhole_camera(lens):
    project = LENSES[lens]
    camera = undistorted_camera(project, K, SIZE)
    result = undistort(taken(project), project, camera, SIZE)
    expected = stripes(pinhole(camera)).reshape(result.shape)
    # the lens must matter: what it saw is another picture
    assert np.abs(taken(project) - stripes(pinhole(K)).reshape(result.shape)).max() > 15
    difference = np.abs(result - expected)
    assert difference[2:-2, 2:-2].max() < 2.5
    assert difference.max() < 8  # at the border the bicubic filter lacks neighbours


@pytest.mark.parametrize("lens", ["barrel", "strong fisheye"])
def test_straight_edges_are_straight_again(lens):
    """A checkerboard, judged by the pixels that are not cut by an edge."""
    project = LENSES[lens]

    def phase(xy: np.ndarray) -> np.ndarray:  # of a slanted board, in squares
        return np.stack([5 * xy[:, 0] + xy[:, 1], 4 * xy[:, 1] - xy[:, 0]], -1) + 0.5

    def board(xy: np.ndarray) -> np.ndarray:
        return 255 * (np.floor(phase(xy)).sum(-1, keepdims=True) % 2)

    camera = undistorted_camera(project, K, SIZE)
    result = undistort(taken(project, board), project, camera, SIZE)[..., 0].ravel()
    directions = pinhole(camera)
    to_edge = np.abs(phase(directions) - np.round(phase(directions))) * np.array([12.0, 15.0])  # pixels, roughly
    clear = (to_edge > 2.5).all(-1)
    assert clear.mean() > 0.3
    assert ((result > 127) == (board(directions)[:, 0] > 127))[clear].all()


@pytest.mark.parametrize("lens", LENSES)
def test_the_whole_picture_has_been_seen_and_little_is_cut_away(lens):
    project = LENSES[lens]
    camera = undistorted_camera(project, K, SIZE)
    zoom = camera[0, 0] / K[0, 0]
    assert zoom == pytest.approx(camera[1, 1] / K[1, 1])
    assert (camera[:2, 2] == K[:2, 2]).all()

    def inside(scale: float) -> bool:
        fine = np.stack(np.meshgrid(np.linspace(0, SIZE[0], 200), np.linspace(0, SIZE[1], 200)), -1).reshape(-1, 2)
        seen = project((fine - K[:2, 2]) / (K[[0, 1], [0, 1]] * scale))
        return bool((seen > -0.6).all() and (seen < np.array(SIZE) + 0.6).all())

    assert inside(zoom)
    assert zoom == 1 or not inside(zoom - 0.02)


def test_a_lens_that_does_nothing_changes_nothing():
    project = opencv(K, (0, 0, 0, 0))
    camera = undistorted_camera(project, K, SIZE)
    assert (camera == K).all()
    picture = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    assert (undistort(picture, project, camera, SIZE) == picture).all()


def test_a_polynomial_that_turns_back_is_not_followed():
    """r - r^3 / 2 grows up to r = 0.816 alone; beyond, the lens formula maps to places within the picture again."""
    wide = np.array([[40.0, 0, 36], [0, 40, 27], [0, 0, 1]])
    project = opencv(wide, (-0.5, 0, 0, 0))
    corner = np.array([[36 / 40, 27 / 40]])
    assert np.linalg.norm(corner) > 0.816
    assert (np.abs(project(corner) - wide[:2, 2]) < np.array([36, 27])).all()
    camera = undistorted_camera(project, wide, SIZE)
    farthest = np.hypot(36 / camera[0, 0], 27 / camera[1, 1])
    assert 0.77 < farthest < 0.82


def test_coefficients_that_make_no_sense():
    with pytest.raises(UserError, match="coefficients right"):
        undistorted_camera(opencv(K, (-50, 0, 0, 0)), K, SIZE)
    with pytest.raises(UserError, match="coefficients right"):
        undistorted_camera(opencv(K, (float("nan"), 0, 0, 0)), K, SIZE)


def test_a_resized_picture():
    """Intrinsics belong to the native size, whatever size the picture has by now."""
    native = (144, 108)
    K2 = np.array([[120.0, 0, 74.6], [0, 124, 50.2], [0, 0, 1]])
    project = opencv(K2, (-0.25, 0.06, 0, 0), (0.002, 0))
    camera = undistorted_camera(project, K2, native)
    small = stripes(seen_directions(project, pixel_centres(*SIZE) * 2)).round().astype(np.uint8)
    result = undistort(small.reshape(SIZE[1], SIZE[0], 3), project, camera, native)
    expected = stripes(pinhole(camera, scale=0.5)).reshape(result.shape)
    assert np.abs(result - expected)[2:-2, 2:-2].max() < 2.5


def test_the_colour_of_transparent_pixels_does_not_leak():
    project = LENSES["pincushion"]
    picture = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
    picture[...] = [0, 255, 0, 0]
    picture[10:40, 20:50] = [200, 0, 0, 255]
    result = undistort(picture, project, undistorted_camera(project, K, SIZE), SIZE)
    seen = result[result[..., 3] > 8]
    assert 600 < len(seen) < 1400
    assert (seen[:, 1] == 0).all()
    assert (np.abs(seen[:, 0].astype(int) - 200) <= 16).all()  # of 8-bit colours weighed by little alpha
    assert (result[result[..., 3] == 255][:, 0] == 200).all()


def test_masks_take_the_nearest_pixel():
    project = LENSES["barrel"]
    camera = undistorted_camera(project, K, SIZE)

    def side(xy: np.ndarray) -> np.ndarray:
        return (2 * xy[:, :1] + xy[:, 1:] > 0.1) * 7

    result = undistort(taken(project, side), project, camera, SIZE, nearest=True)
    assert set(np.unique(result)) == {0, 7}
    directions = pinhole(camera)
    pixels_to_edge = np.abs(2 * directions[:, 0] + directions[:, 1] - 0.1) / np.hypot(2, 1) * 60
    clear = pixels_to_edge > 1.2
    assert (result.ravel() == side(directions)[:, 0])[clear].all()


def test_pictures_of_one_camera_share_the_work():
    sampling_grid.cache_clear()
    project, picture = LENSES["barrel"], np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    for _ in range(3):
        undistort(picture, project, K, SIZE)
    assert (sampling_grid.cache_info().misses, sampling_grid.cache_info().hits) == (1, 2)
    sampling_grid.cache_clear()


def test_pictures_of_several_bands(monkeypatch):
    project = LENSES["tangential"]
    picture = taken(project)
    whole = undistort(picture, project, K, SIZE)
    sampling_grid.cache_clear()
    monkeypatch.setattr(module, "BAND", 7)
    monkeypatch.setattr(module, "ROWS", 5)
    assert (undistort(picture, project, K, SIZE) == whole).all()


@pytest.mark.parametrize("model", ["OPENCV", "FULL_OPENCV", "OPENCV_FISHEYE"])
def test_formulas_agree_with_colmap(model):
    pycolmap = pytest.importorskip("pycolmap")
    k1, k2, k3, k4, p1, p2 = 0.05, -0.1, 0.03, -0.01, 0.002, -0.003
    project = {
        "OPENCV": opencv(K, (k1, k2, 0, 0), (p1, p2)),
        "FULL_OPENCV": opencv(K, (k1, k2, k3, 0), (p1, p2)),
        "OPENCV_FISHEYE": opencv_fisheye(K, (k1, k2, k3, k4)),
    }[model]
    terms = {
        "OPENCV": [k1, k2, p1, p2],
        "FULL_OPENCV": [k1, k2, p1, p2, k3, 0, 0, 0],
        "OPENCV_FISHEYE": [k1, k2, k3, k4],
    }
    params = [K[0, 0], K[1, 1], K[0, 2], K[1, 2], *terms[model]]
    camera = pycolmap.Camera(model=model, width=SIZE[0], height=SIZE[1], params=params)
    xy = np.random.default_rng(1).uniform(-0.6, 0.6, (50, 2))
    rays = np.concatenate([xy, np.ones((50, 1))], -1)
    assert np.abs(project(xy) - np.stack([camera.img_from_cam(ray) for ray in rays])).max() < 1e-9
