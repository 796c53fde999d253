"""RealityCapture and RealityScan: an XMP file beside each picture. Source: "XMP camera math" in the programs' help.

Rotation is world to camera, row by row, with the axes right, down, ahead. FocalLength35mm is in millimetres of 35-mm
film; other lengths in a picture are shares of its longer side.
"""

from pathlib import Path
from xml.etree import ElementTree

from nerf_pl.errors import UserError, reading
from nerf_pl.scenes.importers.files import REMEDY, Pictures, holds, numbers, place, stored_size
from nerf_pl.scenes.importers.found import Found, Lens, Photo, Source
from nerf_pl.scenes.importers.poses import check_skew, from_world_to_camera
from nerf_pl.scenes.pictures import Size

NAMESPACE = "{http://www.capturingreality.com/ns/xcr/1.1#}"
BENDS = ("k1", "k2", "k3", "k4", "p2", "p1")  # the tangential ones in another order than OpenCV's
STRAIGHT, BROWN = "perspective", "brown"
FILM = 36.0  # millimetres, the longer side of 35-mm film


def xmp_files(source: Source) -> list[Path]:
    """The files that hold the camera of a picture each."""
    if source.file is not None:
        return []
    return [file for file in sorted(source.pictures.rglob("*.xmp")) if holds(file, b"capturingreality.com", b"xcr:")]


def read_xmp(source: Source) -> Found:
    """The pictures whose files have a pose; a picture that could not be registered has none."""
    pictures, photos = Pictures(source.pictures), []
    left_out: dict[str, list[str]] = {}
    notes: list[str] = []
    for file in xmp_files(source):
        values, name = _values(file), file.relative_to(source.pictures).with_suffix("").as_posix()
        if "Rotation" not in values or "Position" not in values:
            left_out.setdefault("could not be registered", []).append(name)
        elif picture := place(pictures, name, left_out):
            rotation = numbers(f"{file}: Rotation", values["Rotation"], (9,)).reshape(3, 3)
            c2w = from_world_to_camera(str(file), rotation, numbers(f"{file}: Position", values["Position"], (3,)))
            lens, note = _lens(file, values, stored_size(picture))
            notes += [note] if note else []
            photos.append(Photo(picture, c2w, lens))
    named = {photo.file for photo in photos}
    if unplaced := [file.name for file in pictures.files if file not in named]:
        left_out["have no XMP file with a pose"] = unplaced
    return Found(source.pictures, photos, left_out, notes=notes)


def _values(file: Path) -> dict[str, str]:
    """What the program wrote, as attributes or as elements."""
    with reading(file, REMEDY, "is not valid XML"):
        tree = ElementTree.parse(file).getroot()
    found: dict[str, str] = {}
    for element in tree.iter():
        words = {**element.attrib, element.tag: element.text or ""}
        found |= {name.removeprefix(NAMESPACE): word for name, word in words.items() if name.startswith(NAMESPACE)}
    return found


def _lens(file: Path, values: dict[str, str], size: Size) -> tuple[Lens, str | None]:
    """The camera, and what to say of its skew."""

    def value(name: str, default: float = 0.0) -> float:
        return float(numbers(f"{file}: {name}", values[name], (1,))[0]) if name in values else default

    model = values.get("DistortionModel", STRAIGHT)
    told = values.get("DistortionCoeficients") if model != STRAIGHT else None
    bends = numbers(f"{file}: DistortionCoeficients", told, (6,)).tolist() if told else [0.0] * len(BENDS)
    if model != STRAIGHT and not model.startswith(BROWN) and any(bends):
        told = f"{file} has the distortion model {model!r}"
        raise UserError(f"{told}: choose one of the Brown models before you align, then {REMEDY}")
    width, height = size
    longer = max(size)
    focal = value("FocalLength35mm") / FILM * longer
    if focal <= 0:
        raise UserError(f"{file} has no FocalLength35mm above 0: {REMEDY}")
    lens: Lens = {"camera_model": "OPENCV", "w": width, "h": height}
    lens |= {"fl_x": focal, "fl_y": focal * value("AspectRatio", 1.0)}
    lens |= {
        "cx": 0.5 * width + longer * value("PrincipalPointU"),
        "cy": 0.5 * height + longer * value("PrincipalPointV"),
    }
    if model != STRAIGHT:
        lens |= {name: bend for name, bend in zip(BENDS, bends, strict=True) if bend}
    return lens, check_skew(str(file), value("Skew") * longer, (width, height), focal)
