"""The folder of a scene, from a model that COLMAP made: photos without lens distortion, poses, a map of the cameras."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from nerf_pl.media import write_png
from nerf_pl.scenes.colmap import Pinhole, camera_to_world, nearest_depth, pinhole_of
from nerf_pl.scenes.normalize import normalize_poses
from nerf_pl.scenes.points import CLEAR
from nerf_pl.scenes.prepare.placing import Step
from nerf_pl.scenes.prepare.top_view import top_view
from nerf_pl.scenes.sightings import of_model, write_sightings
from nerf_pl.scenes.undistort import sampling_grid, undistort

AABB_SCALE = 16  # for Instant-NGP: the photos show what is far, too
QUALITY = 98  # JPEG
POINTS = "points.ply"


def write_scene(model: Any, views: Sequence[Any], stage: Path, work: Path, *, step: Step) -> None:
    """images, transforms.json, points.ply and cameras.png in the folder `work`, of the views of a
    pycolmap.Reconstruction whose photos are in the folder `stage`."""
    (work / "images").mkdir()
    pinholes = {view.camera_id: pinhole_of(stage, view.camera) for view in views}

    def straighten(view: Any) -> str:
        pinhole = pinholes[view.camera_id]
        with Image.open(stage / view.name, formats=("PNG",)) as picture:
            pixels = np.array(picture)
        if pinhole.project is not None:
            pixels = undistort(pixels, pinhole.project, pinhole.K, pinhole.size)
        suffix = ".jpg" if pixels.shape[2] == 3 else ".png"  # JPEG has no alpha
        target = work / "images" / Path(view.name).with_suffix(suffix)
        Image.fromarray(pixels).save(target, quality=QUALITY, subsampling=0)
        return target.name

    names = []
    with ThreadPoolExecutor() as pool:
        for name in pool.map(straighten, views):
            names.append(name)
            step("undoing the lens distortion", len(names), len(views))
    sampling_grid.cache_clear()
    w2c = np.stack([view.cam_from_world().matrix() for view in views])
    normalised, similarity = normalize_poses(torch.from_numpy(camera_to_world(w2c)))
    poses = normalised.numpy()
    values = transforms(names, [pinholes[view.camera_id] for view in views], poses)
    seen = of_model(model, views)
    if nearest := nearest_depth(views, seen):
        values["clear_distance"] = CLEAR * nearest * float(similarity[0, :3].norm())
    if any(map(len, seen)):
        values["ply_file_path"] = POINTS
        moved = (_moved(points, similarity.numpy()) for points in seen)
        write_sightings(work / POINTS, dict(zip((f"images/{name}" for name in names), moved, strict=True)))
    (work / "transforms.json").write_text(json.dumps(values, indent=1), encoding="utf-8")
    xyz = np.array([point.xyz for point in model.points3D.values()]).reshape(-1, 3)
    write_png(work / "cameras.png", top_view(poses, _moved(xyz, similarity.numpy())))


def _moved(xyz: Float[np.ndarray, "n 3"], similarity: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "n 3"]:
    return xyz @ similarity[:3, :3].T + similarity[:3, 3]


def transforms(names: Sequence[str], pinholes: Sequence[Pinhole], c2w: Float[np.ndarray, "C 3 4"]) -> dict[str, object]:
    """The content of transforms.json: the keys of Instant-NGP, with intrinsics where they are shared. names: of the
    pictures in images."""
    lenses = [
        {
            "fl_x": p.K[0, 0], "fl_y": p.K[1, 1], "cx": p.K[0, 2], "cy": p.K[1, 2], "w": p.size[0], "h": p.size[1],
        }
        for p in pinholes
    ]  # fmt: skip
    shared = lenses[0] if all(lens == lenses[0] for lens in lenses) else {}
    entries = []
    for name, lens, pose in zip(names, lenses, c2w, strict=True):
        matrix = [*pose.tolist(), [0.0, 0.0, 0.0, 1.0]]
        entries.append({"file_path": f"images/{name}", **({} if shared else lens), "transform_matrix": matrix})
    return {"camera_model": "PINHOLE", **shared, "aabb_scale": AABB_SCALE, "frames": entries}
