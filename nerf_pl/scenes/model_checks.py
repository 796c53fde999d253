"""What is wrong with a COLMAP model that can be read: cameras that cannot be, poses that most likely are not meant."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from nerf_pl.cameras import quaternions, rotation_matrices
from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.scenes.conventions import MODEL
from nerf_pl.scenes.lenses import require_own_middles, wrong_focal
from nerf_pl.scenes.model_lenses import WIDE, sees_all_around
from nerf_pl.scenes.spread import tell_spread

LOOKS, POINTS = 24, 100  # photos, about, and points of each that are looked at
HIT, MISS = 0.01, 0.05  # by less and by more widths of a photo than so many points are, and are not, where it has them
LYING, UPRIGHT = 0.5, 0.8  # length of the mean up of cameras that are not upright, and of those that are
SEEN = 0.2  # cosine to the axis of a camera, below which nothing is seen without a fisheye lens


def require_cameras(root: Path, model: Any) -> None:
    """Raises UserError for a camera with pictures whose size, focal length or middle cannot be that of its pictures."""
    named, middles, sizes = [], [], []
    used = {image.camera_id for image in model.images.values()}
    for camera in (model.cameras[number] for number in sorted(used)):
        where = f"{root}: camera {camera.camera_id} of the model ({camera.model_name})"
        width, height = camera.width, camera.height
        if not np.isfinite(camera.params).all():  # COLMAP takes a distortion of nan for none
            found = ", ".join(f"{value:g}" for value in camera.params)
            raise UserError(f"{where} has the parameters {found}, not all finite; correct it, or make the model anew")
        if min(width, height) < 1:
            raise UserError(f"{where} has pictures of {width}x{height} pixels; correct it, or make the model anew")
        if not camera.is_perspective():
            continue
        K = camera.calibration_matrix()
        focal = min(K[0, 0], K[1, 1])
        if focal <= 0 or wrong_focal(focal, max(width, height)):
            told = f"has the focal length {focal:g}, for pictures of {width}x{height} pixels"
            raise UserError(f"{where} {told}; correct it, or make the model anew")
        middle = float(K[0, 2]), float(K[1, 2])
        if any(not -length <= at <= 2 * length for at, length in zip(middle, (width, height), strict=True)):
            told = f"has its middle at {middle[0]:g}, {middle[1]:g}, for pictures of {width}x{height} pixels"
            raise UserError(f"{where} {told}; correct it, or make the model anew")
        named, middles, sizes = [*named, where], [*middles, middle], [*sizes, (width, height)]
    require_own_middles(named, middles, sizes)


def different(root: Path, views: Sequence[Any], files: Sequence[Path]) -> list[int]:
    """Which views remain without those that show the photo of another one again. Raises UserError if such two differ in
    pose or camera."""
    known: dict[str, int] = {}
    kept = []
    for i, (view, file) in enumerate(zip(views, files, strict=True)):
        first = known.setdefault(os.path.realpath(file), i)
        if first == i:
            kept.append(i)
            continue
        poses = [each.cam_from_world().matrix() for each in (views[first], view)]
        if view.camera_id != views[first].camera_id or not np.allclose(*poses, rtol=1e-5, atol=1e-5):
            told = f"{file} twice ({views[first].name}, {view.name}), with different poses or cameras"
            raise UserError(f"{root}: the model has the photo {told}: remove the wrong one")
    if again := len(views) - len(kept):
        warn(f"{root}: {again} of {len(views)} photos in the model are there twice, and count once")
    return kept


def doubt(root: Path, c2w: Float[np.ndarray, "C 3 4"], model: Any, views: Sequence[Any]) -> None:
    """Say so if views do not see the points that the model says they see, or if cameras are astray. c2w: our axes."""
    tell_spread(root, torch.from_numpy(c2w), [view.name for view in views])
    _refuse_other_order(root, c2w, model, views)
    behind, n = _not_seen(model, views)
    if n and behind > n / 2:
        told = f"{behind} of {n} points that photos of the model see lie behind their cameras, or far aside"
        warn(f"{root}: {told}, so the poses or the points are wrong: {MODEL.right}")


def _refuse_other_order(root: Path, c2w: Float[np.ndarray, "C 3 4"], model: Any, views: Sequence[Any]) -> None:
    """Raises UserError if the points of a model lie where its photos have them once its quaternions are read in the
    order x y z w, and not as they are. If there are no points, cameras that would be upright then are said."""
    w2c = np.stack([view.cam_from_world().matrix() for view in views])
    w, x, y, z = quaternions(torch.from_numpy(w2c[:, :, :3])).unbind(-1)  # as they are read
    turned = rotation_matrices(torch.stack([z, w, x, y], -1)).numpy()
    other = np.concatenate([turned, w2c[:, :, 3:]], -1)
    told = "if its quaternions are in the order x y z w, and not as they are; write QW QX QY QZ"
    now, then = (_miss(model, views, poses) for poses in (w2c, other))
    if now is not None and then is not None and now > MISS and then < HIT:
        raise UserError(f"{root}: the points of the model lie where its photos have them {told}")
    up, up_then = (np.linalg.norm(np.mean(ways, 0)) for ways in (c2w[:, :, 1], -turned[:, 1]))
    if now is None and up < LYING and up_then > UPRIGHT:
        warn(f"{root}: the cameras of the model are upright {told}, if they are so")


def _miss(model: Any, views: Sequence[Any], w2c: Float[np.ndarray, "C 3 4"]) -> float | None:
    """By how much points miss their places in photos, as shares of the photos' width, in the middle. None if too few
    photos tell."""
    wrong = []
    for i in range(0, len(views), max(len(views) // LOOKS, 1)):
        camera, seen = views[i].camera, views[i].get_observation_points2D()
        pairs = [(p.xy, model.points3D[p.point3D_id].xyz) for p in seen[:POINTS] if p.point3D_id in model.points3D]
        if pairs and not sees_all_around(camera):
            at, xyz = (np.array(column) for column in zip(*pairs, strict=True))
            found = camera.img_from_cam(xyz @ w2c[i, :, :3].T + w2c[i, :, 3])
            away = np.linalg.norm(np.nan_to_num(found, nan=np.inf) - at, axis=1)
            wrong.append(float(np.median(away)) / camera.width)
    return float(np.median(wrong)) if wrong else None


def _not_seen(model: Any, views: Sequence[Any]) -> tuple[int, int]:
    """How many of the points that views see cannot be in their pictures, and how many points these are."""
    known = {i: point.xyz for i, point in model.points3D.items()}
    behind = n = 0
    for view in views:
        if sees_all_around(view.camera):
            continue
        seen = [known[i] for p in view.get_observation_points2D() if (i := p.point3D_id) in known]
        if not seen:
            continue
        w2c = view.cam_from_world().matrix()
        at = np.array(seen) @ w2c[:, :3].T + w2c[:, 3]
        limit = -1.0 if view.camera.model_name in WIDE else SEEN
        behind, n = behind + int((at[:, 2] <= limit * np.linalg.norm(at, axis=1)).sum()), n + len(seen)
    return behind, n
