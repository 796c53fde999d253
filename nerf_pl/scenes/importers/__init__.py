"""Scenes that other programs made: where they placed the pictures becomes a transforms.json beside them."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nerf_pl.errors import UserError, reading
from nerf_pl.scenes.files import is_junk
from nerf_pl.scenes.importers import (
    bundler,
    gaussians,
    metashape,
    mvsnet,
    nerfies,
    nerfplusplus,
    neus,
    nsvf,
    openmvg,
    opensfm,
    polycam,
    realitycapture,
    record3d,
    replica,
    scannet,
    sdfstudio,
)
from nerf_pl.scenes.importers.files import REMEDY, masks_of
from nerf_pl.scenes.importers.found import Found, Source
from nerf_pl.scenes.importers.unread import kind_of, what_to_do
from nerf_pl.scenes.importers.writing import write_transforms
from nerf_pl.scenes.lenses import fits
from nerf_pl.scenes.pictures import read_headers

__all__ = ["ARCHIVES", "IMPORTERS", "PROJECTS", "SUFFIXES", "Imported", "Source", "import_scene", "recognised"]

ARCHIVES = (".zip", ".r3d", ".7z", ".rar", ".tgz", ".gz", ".bz2", ".xz")
PROJECTS = (".psx", ".psz", ".rcproj", ".rsproj", ".mg", ".nvm")  # which other programs cannot read
FEWEST = 2  # pictures; one shows no depth


@dataclass(frozen=True)
class Importer:
    """How the scenes of one program are read. title: its name; files: what is looked for, for messages; suffixes: of
    a file that the user may name instead of its folder."""

    title: str
    files: str
    suffixes: tuple[str, ...]
    recognises: Callable[[Source], bool]
    read: Callable[[Source], Found]


IMPORTERS: dict[str, Importer] = {
    "metashape": Importer("Metashape", metashape.FILES, (".xml",), metashape.recognises, metashape.read),
    "realitycapture": Importer(
        "RealityCapture", realitycapture.FILES, (".csv",), realitycapture.recognises, realitycapture.read
    ),
    "polycam": Importer("Polycam", polycam.FILES, (), polycam.recognises, polycam.read),
    "record3d": Importer("Record3D", record3d.FILES, (".json",), record3d.recognises, record3d.read),
    "nsvf": Importer("NSVF", nsvf.FILES, (), nsvf.recognises, nsvf.read),
    "nerfplusplus": Importer("NeRF++", nerfplusplus.FILES, (), nerfplusplus.recognises, nerfplusplus.read),
    "mvsnet": Importer("MVSNet", mvsnet.FILES, (), mvsnet.recognises, mvsnet.read),
    "nerfies": Importer("Nerfies", nerfies.FILES, (), nerfies.recognises, nerfies.read),
    "scannet": Importer("ScanNet", scannet.FILES, (), scannet.recognises, scannet.read),
    "replica": Importer("Replica", replica.FILES, (), replica.recognises, replica.read),
    "neus": Importer("NeuS", neus.FILES, (".npz",), neus.recognises, neus.read),
    "bundler": Importer("Bundler", bundler.FILES, (".out",), bundler.recognises, bundler.read),
    "openmvg": Importer("OpenMVG", openmvg.FILES, (".json",), openmvg.recognises, openmvg.read),
    "opensfm": Importer("OpenSfM", opensfm.FILES, (".json",), opensfm.recognises, opensfm.read),
    "sdfstudio": Importer("SDFStudio", sdfstudio.FILES, (".json",), sdfstudio.recognises, sdfstudio.read),
    "gaussians": Importer("Gaussian splatting", gaussians.FILES, (".json",), gaussians.recognises, gaussians.read),
}
SUFFIXES = tuple(suffix for importer in IMPORTERS.values() for suffix in importer.suffixes)


@dataclass(frozen=True)
class Imported:
    """What an import wrote, and what to say about it."""

    target: Path
    lines: list[str]


def import_scene(source: Source, format: str = "auto", *, overwrite: bool = False) -> Imported:
    """Write transforms.json for a scene of another program; format: a key of IMPORTERS, or auto for the program whose
    files are there. Raises UserError for whatever is missing, damaged or contradictory; nothing is written then."""
    name = _the_format(source) if format == "auto" else format
    importer = IMPORTERS[name]
    if format != "auto" and not importer.recognises(source):
        raise UserError(f"{source.file or source.root} has no files of {importer.title}: {importer.files}")
    with reading(source.file or source.root, REMEDY):
        found = importer.read(source)
    if len(found.photos) < FEWEST:
        reasons = "; ".join(f"{len(names)} {why}" for why, names in found.left_out.items())
        reasons = reasons.replace(f"{source.root}{os.sep}", "")
        told = f"{found.source} places {len(found.photos)} of the pictures that are there"
        told += f" ({reasons})" if reasons else ""
        lost = any("are not in" in why or "several pictures" in why for why in found.left_out)
        remedy = "give --images FOLDER, the folder of the pictures" if lost else f"align the pictures, then {REMEDY}"
        raise UserError(f"{told}: {remedy}")
    _check_pictures(found)
    if source.masks and not any(photo.mask for photo in found.photos):
        masks = masks_of(source, [photo.file for photo in found.photos])
        photos = [replace(photo, mask=mask) for photo, mask in zip(found.photos, masks, strict=True)]
        found = replace(found, photos=photos)
    target, notes = write_transforms(found, source.root, overwrite)
    return Imported(target, [f"format: {importer.title}", *found.lines(), *notes])


def recognised(source: Source) -> list[str]:
    """The programs whose files are there, as keys of IMPORTERS."""
    with reading(source.file or source.root, REMEDY):
        return [name for name, importer in IMPORTERS.items() if _may_read(importer, source)]


def _the_format(source: Source) -> str:
    names = recognised(source)
    where = source.file or source.root
    if len(names) > 1:
        titles = " and ".join(IMPORTERS[name].title for name in names)
        raise UserError(f"{where} has files of {titles}: give --format {' or --format '.join(names)}")
    if not names:
        known = ", ".join(importer.title for importer in IMPORTERS.values())
        told = f"{where} has no files of a program that is known"
        folders = sorted(inner for inner in source.root.iterdir() if inner.is_dir() and not is_junk(inner.name))
        if inside := [inner for inner in folders if source.file is None and recognised(Source(inner))]:
            raise UserError(f"{told}: did you mean {inside[0]}?")
        if kind_of(source.root) is not None:
            raise UserError(f"{where}: {what_to_do(source.root)}")
        if hint := what_to_do(source.root):
            raise UserError(f"{told} (docs/importing.md lists them): {hint}")
        raise UserError(f"{told} ({known}): see docs/importing.md; for photos alone use `nerf prepare`")
    return names[0]


def _may_read(importer: Importer, source: Source) -> bool:
    fits = source.file is None or source.file.suffix.lower() in importer.suffixes
    return fits and importer.recognises(source)


def _check_pictures(found: Found) -> None:
    """Raises UserError if a picture belongs to two cameras, or has another shape than its camera, stored or turned as
    EXIF says."""
    file, times = Counter(photo.file for photo in found.photos).most_common(1)[0]
    if times > 1:
        raise UserError(
            f"{found.source}: {times} cameras are of the picture {file}: remove all but one, or rename them"
        )
    headers = read_headers([photo.file for photo in found.photos])
    turned = [(h, w) if turn >= 5 else (w, h) for (w, h), turn in zip(headers.stored, headers.turns(), strict=True)]
    for photo, *sizes in zip(found.photos, headers.stored, turned, strict=True):
        told = float(photo.lens["w"]), float(photo.lens["h"])
        if not any(fits(told, size) for size in sizes):
            told_size = f"{photo.file} has {sizes[0][0]}x{sizes[0][1]} pixels"
            camera = f"its camera in {found.source} has {told[0]:g}x{told[1]:g}"
            raise UserError(f"{told_size}, but {camera}, another aspect ratio: restore the picture")
