"""Agisoft Metashape: cameras.xml, as File > Export > Export Cameras writes it.

A camera's transform is camera to chunk, with the axes right, down, ahead. A component, or in files of version 1.5 and
older the chunk, has the similarity from there to the world. Lenses: Metashape's manual, appendix "Camera models".
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float

from nerf_pl.errors import UserError, reading
from nerf_pl.scenes.importers.files import REMEDY, Pictures, holds, numbers, place, the_file
from nerf_pl.scenes.importers.found import Found, Lens, Photo, Source, panorama_lens
from nerf_pl.scenes.importers.poses import check_skew, opengl

FILES = "cameras.xml"
MODELS = {"frame": "OPENCV", "fisheye": "OPENCV_FISHEYE", "equidistant_fisheye": "OPENCV_FISHEYE"}  # of a calibration
AROUND = "spherical"  # sensors of equirectangular pictures; they need no calibration
UNKNOWN = "have sensors of a type that cannot be imported"


def recognises(source: Source) -> bool:
    return bool(_candidates(source))


def read(source: Source) -> Found:
    """The aligned cameras of the chunk that has most of them."""
    file = the_file(_candidates(source), "cameras of Metashape")
    chunks = sorted(_parse(file).iter("chunk"), key=lambda chunk: -len(_aligned(chunk)))
    if not chunks:
        raise UserError(f"{file} has no chunk: {REMEDY}")
    chunk, notes = chunks[0], []
    if len(chunks) > 1 and _aligned(chunks[1]):
        notes.append(f"chunk {chunk.get('label')!r} is taken, the one with most cameras of {len(chunks)} chunks")
    left_out: dict[str, list[str]] = {}
    cameras = _usable(file, chunk, left_out)
    sensors = _sensors(file, chunk, notes)
    frames = _component_frames(file, chunk)
    pictures, photos = Pictures(source.pictures), []
    groups = {camera: group.get("label") for group in chunk.iter("group") for camera in group.iter("camera")}
    for camera in cameras:
        label, sensor = _label(camera), sensors.get(camera.get("sensor_id", ""))
        if isinstance(sensor, str):
            left_out.setdefault(sensor, []).append(label)
        elif sensor is None:
            left_out.setdefault("have no sensor with a calibration", []).append(label)
        elif picture := place(pictures, f"{groups[camera]}/{label}" if groups.get(camera) else label, left_out):
            c2w = _pose(file, camera, frames)
            photos.append(Photo(picture, c2w, sensor))
    return Found(file, photos, left_out, notes=notes)


def _candidates(source: Source) -> list[Path]:
    """The XML files that hold cameras."""
    files = [source.file] if source.file else sorted(source.root.glob("*.xml"))
    return [file for file in files if holds(file, b"<document", b"<chunk")]


def _parse(file: Path) -> ElementTree.Element:
    """The document in a file. Raises UserError if it is damaged."""
    with reading(file, REMEDY, "is not valid XML"):
        return ElementTree.parse(file).getroot()


def _aligned(chunk: ElementTree.Element) -> list[ElementTree.Element]:
    """Cameras that have a pose, also those in groups."""
    return [camera for camera in chunk.iter("camera") if camera.find("transform") is not None]


def _label(camera: ElementTree.Element) -> str:
    return camera.get("label") or f"camera {camera.get('id')}"


def _usable(file: Path, chunk: ElementTree.Element, left_out: dict[str, list[str]]) -> list[ElementTree.Element]:
    """Cameras that are enabled and aligned, of components that lie in one frame."""
    cameras = []
    for camera in chunk.iter("camera"):
        rigid = "belong to a camera of a rig and have no pose of their own"
        if camera.get("enabled", "true") in ("false", "0"):
            left_out.setdefault("are disabled", []).append(_label(camera))
        elif camera.find("transform") is None:
            left_out.setdefault(rigid if camera.get("master_id") else "are not aligned", []).append(_label(camera))
        else:
            cameras.append(camera)
    sizes = Counter(camera.get("component_id", "") for camera in cameras)
    tied = {component.get("id", "") for component in chunk.iter("component") if component.find("transform") is not None}
    if len(sizes) > 1 and not set(sizes) <= tied:  # each component has a frame of its own
        largest = sizes.most_common(1)[0][0]
        for camera in cameras:
            if camera.get("component_id", "") != largest:
                left_out.setdefault("are in another component than most", []).append(_label(camera))
        cameras = [camera for camera in cameras if camera.get("component_id", "") == largest]
    return cameras


@dataclass(frozen=True)
class _Similarity:
    """world = scale * rotation @ local + translation."""

    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    scale: float


def _component_frames(file: Path, chunk: ElementTree.Element) -> dict[str, _Similarity]:
    """The similarity to the world by component; that of "" is the chunk's."""
    owners = {"": chunk, **{component.get("id", ""): component for component in chunk.iter("component")}}
    found = {name: owner.find("transform") for name, owner in owners.items()}
    return {name: _similarity(file, tag) for name, tag in found.items() if tag is not None}


def _similarity(file: Path, tag: ElementTree.Element) -> _Similarity:
    if not len(tag):  # sixteen numbers
        matrix = numbers(f"{file}: the transform of a chunk", tag.text, (16,)).reshape(4, 4)[:3] if tag.text else None
        if matrix is None:
            return _Similarity(np.eye(3), np.zeros(3), 1.0)
        scale = float(np.linalg.norm(matrix[:, 0]))
        return _Similarity(matrix[:, :3] / scale, matrix[:, 3], scale)
    rotation, translation, scale = (tag.find(name) for name in ("rotation", "translation", "scale"))
    where = f"{file}: the transform of a chunk"
    unit = 1.0 if scale is None else float(numbers(f"{where}: scale", scale.text, (1,))[0])
    if unit <= 0:
        raise UserError(f"{where} has scale {unit:g}, which is not above 0: {REMEDY}")
    return _Similarity(
        np.eye(3) if rotation is None else numbers(f"{where}: rotation", rotation.text, (9,)).reshape(3, 3),
        np.zeros(3) if translation is None else numbers(f"{where}: translation", translation.text, (3,)),
        unit,
    )


def _pose(file: Path, camera: ElementTree.Element, frames: dict[str, _Similarity]) -> Float[np.ndarray, "3 4"]:
    where = f"{file}: camera {_label(camera)}"
    local = numbers(f"{where}: transform", camera.findtext("transform"), (16,)).reshape(4, 4)[:3]
    frame = frames.get(camera.get("component_id", "")) or frames.get("")
    if frame is None:
        return opengl(where, local)
    centre = frame.scale * frame.rotation @ local[:, 3] + frame.translation
    return opengl(where, np.concatenate([frame.rotation @ local[:, :3], centre[:, None]], 1))


def _sensors(file: Path, chunk: ElementTree.Element, notes: list[str]) -> dict[str, Lens | str]:
    """The lens of each sensor that has a calibration; or why its cameras are left out."""
    found: dict[str, Lens | str] = {}
    used = {camera.get("sensor_id", "") for camera in _aligned(chunk)}
    for sensor in chunk.iter("sensor"):
        name = sensor.get("id", "")
        kind = sensor.get("type", "frame")
        if name not in used:
            continue
        where = f"{file}: sensor {sensor.get('label') or name}"
        if kind == AROUND:
            lens = panorama_lens(*_resolution(where, sensor, sensor.find("calibration")))
            found[name] = lens or f"do not show all around (twice as wide as high), and {UNKNOWN} ({kind})"
        elif kind not in MODELS:
            found[name] = f"{UNKNOWN} ({kind})"
        elif (calibration := _calibration(sensor)) is not None:
            kind = calibration.get("type", kind)
            known = kind in MODELS
            found[name] = _lens(where, sensor, calibration, notes) if known else f"{UNKNOWN} ({kind})"
    return found


def _calibration(sensor: ElementTree.Element) -> ElementTree.Element | None:
    """The adjusted one, or the one that the adjustment began with."""
    found = sensor.findall("calibration")
    found.sort(key=lambda each: each.get("class") != "adjusted")
    return next((each for each in found if each.find("f") is not None or each.find("fx") is not None), None)


def _resolution(
    where: str, sensor: ElementTree.Element, calibration: ElementTree.Element | None
) -> tuple[float, float]:
    """The size of a sensor's pictures."""
    places = [place for place in (calibration, sensor) if place is not None]
    resolution = next((tag for place in places if (tag := place.find("resolution")) is not None), None)
    if resolution is None:
        raise UserError(f"{where} has no resolution: {REMEDY}")
    sides = f"{resolution.get('width')} {resolution.get('height')}"
    width, height = numbers(f"{where}: resolution", sides, (2,)).tolist()
    if min(width, height) < 1:
        raise UserError(f"{where} has resolution {width:g}x{height:g}: {REMEDY}")
    return width, height


def _lens(where: str, sensor: ElementTree.Element, calibration: ElementTree.Element, notes: list[str]) -> Lens:
    width, height = _resolution(where, sensor, calibration)

    def value(name: str) -> float:
        tag = calibration.find(name)
        return 0.0 if tag is None else float(numbers(f"{where}: {name}", tag.text, (1,))[0])

    if calibration.find("f") is not None:
        fl_y = value("f")
        fl_x, skew = fl_y + value("b1"), value("b2")
        cx, cy = 0.5 * width + value("cx"), 0.5 * height + value("cy")
        p1, p2 = value("p2"), value("p1")  # what OpenCV calls p1 is Metashape's p2
    else:  # PhotoScan 1.2 and older: OpenCV's order, and cx, cy from the corner
        fl_x, fl_y, skew = value("fx"), value("fy"), value("skew")
        cx, cy, p1, p2 = value("cx"), value("cy"), value("p1"), value("p2")
    if min(fl_x, fl_y) <= 0:
        raise UserError(f"{where} has focal length {min(fl_x, fl_y):g}, which is not above 0: {REMEDY}")
    _refuse(where, {name: value(name) for name in ("p3", "p4")})
    if note := check_skew(where, skew, (width, height), fl_y):
        notes.append(note)
    model = MODELS[calibration.get("type", sensor.get("type", "frame"))]
    lens: Lens = {"camera_model": model, "w": width, "h": height, "fl_x": fl_x, "fl_y": fl_y, "cx": cx, "cy": cy}
    bends = {**{name: value(name) for name in ("k1", "k2", "k3", "k4")}, "p1": p1, "p2": p2}
    return {**lens, **{name: bend for name, bend in bends.items() if bend}}


def _refuse(where: str, values: dict[str, float]) -> None:
    """Raises UserError for coefficients that transforms.json has no place for."""
    for name, value in values.items():
        if abs(value) > 1e-12:
            remedy = f"optimise the cameras without {name}, or export pictures without distortion"
            raise UserError(f"{where} has {name} {value:g}, which transforms.json cannot say: {remedy}")
