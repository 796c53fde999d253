"""Replica, as it is rendered for NICE-SLAM: traj.txt, results/frame000000.jpg and cam_params.json.

Each line of traj.txt is a pose, camera to world with the axes right, down, ahead, of the frame of that number. Depths
are in units of 1 / scale metres.
"""

from pathlib import Path

from nerf_pl.errors import UserError
from nerf_pl.scenes.files import pictures_in
from nerf_pl.scenes.importers.files import REMEDY, numbers, read_text
from nerf_pl.scenes.importers.found import Found, Lens, Photo, Source
from nerf_pl.scenes.importers.poses import opengl
from nerf_pl.scenes.pictures import read_json
from nerf_pl.scenes.values import number, positive
from nerf_pl.text import counted

FILES = "traj.txt, results, cam_params.json"
POSES, PICTURES, LENS = "traj.txt", "results", "cam_params.json"


def recognises(source: Source) -> bool:
    return source.file is None and (source.root / POSES).is_file() and (source.root / PICTURES).is_dir()


def read(source: Source) -> Found:
    """All frames, with their depths."""
    root = source.root
    file = next((file for file in (root / LENS, root.parent / LENS) if file.is_file()), None)
    if file is None:
        raise UserError(f"{root / LENS} is missing, the intrinsics: copy it there from the data set")
    camera = read_json(file, REMEDY).get("camera")
    if not isinstance(camera, dict):
        raise UserError(f"{file} has no camera: {REMEDY}")
    told = {"w": "w", "h": "h", "fl_x": "fx", "fl_y": "fy"}
    lens: Lens = {"camera_model": "PINHOLE"}
    lens |= {ours: positive(str(file), theirs, camera.get(theirs)) for ours, theirs in told.items()}
    # the centre of the first pixel is at 0
    lens |= {name: 0.5 + number(str(file), name, camera.get(name)) for name in ("cx", "cy")}
    lines = [line for line in read_text(root / POSES).splitlines() if line.strip()]
    folder = source.images or root / PICTURES
    pictures = [file for file in pictures_in(folder) if not file.name.startswith("depth")]
    if len(lines) != len(pictures):
        found = f"{counted(len(lines), 'line')} for {counted(len(pictures), 'picture')} in {folder}"
        raise UserError(f"{root / POSES} has {found}: restore the rest")
    photos = []
    for i, (line, picture) in enumerate(zip(lines, pictures, strict=True)):
        where = f"{root / POSES}: line {i + 1}"
        c2w = opengl(where, numbers(where, line, (16,)).reshape(4, 4))
        photos.append(Photo(picture, c2w, lens, depth=_depth(picture)))
    scale = positive(str(file), "scale", camera.get("scale", 6553.5))
    return Found(root / POSES, photos, depth_scale=1 / scale)


def _depth(picture: Path) -> Path | None:
    file = picture.with_name(f"{picture.stem.replace('frame', 'depth')}.png")
    return file if file != picture and file.is_file() else None
