"""ScanNet, as its own tools export a scan: color, pose and intrinsic/intrinsic_color.txt.

Poses are camera to world with the axes right, down, ahead. A frame that was lost has a pose of -inf.
"""

from nerf_pl.errors import UserError
from nerf_pl.scenes.importers.files import REMEDY, Pictures, numbers, read_text, stored_size
from nerf_pl.scenes.importers.found import Found, Photo, Source
from nerf_pl.scenes.importers.poses import opengl, pinhole

FILES = "color, pose, intrinsic/intrinsic_color.txt"
LENS = "intrinsic/intrinsic_color.txt"


def recognises(source: Source) -> bool:
    return source.file is None and (source.root / LENS).is_file() and (source.root / "pose").is_dir()


def read(source: Source) -> Found:
    """The frames that have a pose. Depths are of another shape than the pictures, and are left out."""
    root = source.root
    folder = source.images or root / "color"
    if not folder.is_dir():
        raise UserError(f"{folder} is missing, the pictures of {root / 'pose'}: {REMEDY}")
    K = numbers(f"{root / LENS}", read_text(root / LENS), (16, 9))
    K = K.reshape(4, 4) if len(K) == 16 else K.reshape(3, 3)
    poses = {file.stem: file for file in sorted((root / "pose").glob("*.txt"))}
    left_out: dict[str, list[str]] = {}
    photos, notes = [], set[str]()
    for picture in Pictures(folder).files:
        file = poses.pop(picture.stem, None)
        text = "" if file is None else read_text(file)
        if file is None or "inf" in text or "nan" in text:
            left_out.setdefault("could not be placed", []).append(picture.name)
            continue
        lens = pinhole(f"{root / LENS}", K, stored_size(picture), notes)
        photos.append(Photo(picture, opengl(str(file), numbers(str(file), text, (16,)).reshape(4, 4)), lens))
    if poses:
        left_out[f"are not in {folder}"] = list(poses)
    return Found(root / "pose", photos, left_out, notes=sorted(notes))
