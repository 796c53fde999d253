"""The cameras of a run as files of other programs: transforms.json, and a COLMAP model in text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from nerf_pl.cameras import Cameras, quaternions
from nerf_pl.errors import UserError
from nerf_pl.scenes import Scene, frame_of
from nerf_pl.scenes.normalize import moved
from nerf_pl.writing import atomic_write, replacing

JSON, MODEL, IMAGES = "transforms.json", Path("sparse/0"), "images"
OPENCV_AXES = np.diag([1.0, -1.0, -1.0])  # COLMAP's cameras look along z, with y down


@dataclass(frozen=True)
class Pinhole:
    """A camera without a lens, in the coordinates of a scene's file. c2w: OpenGL axes. Pixel coordinates are 0.5 at the
    centre of the first pixel. name: the file of its picture, below the folder of pictures."""

    name: str
    split: str
    c2w: Float[np.ndarray, "3 4"]
    focal: tuple[float, float]
    middle: tuple[float, float]
    size: tuple[int, int]


def write_cameras(path: Path, found: Sequence[Pinhole], overwrite: bool = False) -> list[Path]:
    """Write cameras to a folder, as transforms.json and as sparse/0/*.txt, or to a .json file alone. Returns what was
    written. Raises UserError for files that are there, unless they are to be replaced."""
    alone = path.suffix.lower() == ".json"
    contents = {path if alone else path / JSON: transforms(found)}
    if not alone:
        contents |= {path / MODEL / name: text for name, text in model(found).items()}
    if not overwrite and (there := [file for file in contents if file.exists()]):
        raise UserError(f"{there[0]} exists: give --overwrite to replace it, or another place")
    with replacing(*contents):
        for file, text in contents.items():
            with atomic_write(file) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return list(contents)


def pinholes(views: Mapping[str, Scene], as_trained: bool = False) -> list[Pinhole]:
    """The cameras of all splits, for the photos at their own size, where that is known. One that is in several of them
    is taken once, for the first. as_trained: for pictures of the size that the views have."""
    found: dict[tuple[str, bytes], Pinhole] = {}
    for split, scene in views.items():
        cameras = scene.cameras
        c2w = moved(cameras.c2w.double(), torch.linalg.inv(frame_of(scene))).numpy()
        names = scene.names or tuple(f"{i:03d}" for i in range(len(cameras)))
        for i in range(len(cameras)):
            file, *size = scene.originals[i] if scene.originals else ("", *cameras.size(i))
            camera = _pinhole(cameras, i, file or f"{names[i]}.png", split, c2w[i])
            found.setdefault((names[i], c2w[i].tobytes()), camera if as_trained else _resized(camera, *size))
    once = list(found.values())
    if len({camera.name for camera in once}) == len(once):
        return once
    return [replace(camera, name=f"{camera.split}/{camera.name}") for camera in once]  # r_0 of train, and of test


def transforms(cameras: Sequence[Pinhole]) -> str:
    """The content of a transforms.json; what all cameras share stands at the top."""
    lenses = [_lens(camera) for camera in cameras]
    shared = {key: value for key, value in lenses[0].items() if all(lens[key] == value for lens in lenses)}
    files = {split: [f"{IMAGES}/{each.name}" for each in cameras if each.split == split] for split in _splits(cameras)}
    lists = {f"{split}_filenames": names for split, names in files.items()} if len(files) > 1 else {}
    frames = []
    for camera, lens in zip(cameras, lenses, strict=True):
        own = {key: value for key, value in lens.items() if key not in shared}
        pose = [*camera.c2w.tolist(), [0.0, 0.0, 0.0, 1.0]]
        frames.append({"file_path": f"{IMAGES}/{camera.name}", **own, "transform_matrix": pose})
    return json.dumps({"camera_model": "PINHOLE", **shared, **lists, "frames": frames}, indent=1) + "\n"


def model(cameras: Sequence[Pinhole]) -> dict[str, str]:
    """The files of a COLMAP model without points."""
    kinds: dict[tuple[float, ...], int] = {}
    images = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of points, which is empty"]
    for i, camera in enumerate(cameras, 1):
        kind = kinds.setdefault((*camera.size, *camera.focal, *camera.middle), len(kinds) + 1)
        rotation = OPENCV_AXES @ camera.c2w[:, :3].T
        w, x, y, z = quaternions(torch.from_numpy(rotation)[None])[0].tolist()
        shift = (-rotation @ camera.c2w[:, 3]).tolist()
        images += [" ".join(map(str, (i, w, x, y, z, *shift, kind, camera.name))), ""]
    lenses = ["# CAMERA_ID PINHOLE WIDTH HEIGHT FX FY CX CY"]
    lenses += [" ".join(map(str, (number, "PINHOLE", *kind))) for kind, number in kinds.items()]
    texts = {"cameras.txt": lenses, "points3D.txt": ["# no points"], "images.txt": images}
    return {name: "\n".join(lines) + "\n" for name, lines in texts.items()}


def _pinhole(cameras: Cameras, index: int, name: str, split: str, c2w: Float[np.ndarray, "3 4"]) -> Pinhole:
    K = cameras.K[index].double()
    shift = 0.5 - cameras.pixel_offset  # rays of the classic implementation pass through the corner of their pixel
    focal, middle = (K[0, 0].item(), K[1, 1].item()), (K[0, 2].item() + shift, K[1, 2].item() + shift)
    return Pinhole(name, split, c2w, focal, middle, cameras.size(index))


def _resized(camera: Pinhole, width: int, height: int) -> Pinhole:
    across, down = width / camera.size[0], height / camera.size[1]
    (fl_x, fl_y), (cx, cy) = camera.focal, camera.middle
    return replace(camera, focal=(fl_x * across, fl_y * down), middle=(cx * across, cy * down), size=(width, height))


def _lens(camera: Pinhole) -> dict[str, float]:
    (fl_x, fl_y), (cx, cy), (w, h) = camera.focal, camera.middle, camera.size
    return {"w": w, "h": h, "fl_x": fl_x, "fl_y": fl_y, "cx": cx, "cy": cy}


def _splits(cameras: Sequence[Pinhole]) -> list[str]:
    return list(dict.fromkeys(camera.split for camera in cameras))
