"""Colour profiles (ICC) of pictures: the colours that they describe become sRGB, which everything else here takes
colours for."""

import io
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from nerf_pl.errors import DamagedError, reading

PROFILE = "icc_profile"  # where Pillow keeps it in the info of a picture
# of what a profile describes: the mode that its colours are read in, and the modes of pictures that may have it
SPACES = {
    "RGB": ("RGB", {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"}),
    "GRAY": ("L", {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"}),
    "CMYK": ("CMYK", {"CMYK"}),
    "Lab": ("LAB", {"LAB"}),
}
WEIGHED = {"RGBa": "RGBA", "La": "LA"}  # modes whose colours are weighed by alpha, and the same ones that are not
SAME = 2  # of 255: a profile that moves no colour by more is that of sRGB
STEPS = 6  # values of each channel that are looked at for that
INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION


@dataclass(frozen=True)
class Profile:
    """space: a key of SPACES; transform: to sRGB, None if the colours are that."""

    name: str
    space: str
    transform: ImageCms.ImageCmsTransform | None


def to_srgb(picture: Image.Image) -> Image.Image:
    """A decoded picture of 8 bits in sRGB, as its profile says: RGB, or RGBA if it has transparency. The same picture
    if it is in sRGB, or if its profile is damaged or of other colours than it has."""
    profile = _own_profile(picture)
    transform = _lab() if picture.mode == "LAB" and profile is None else profile.transform if profile else None
    if transform is None:
        return picture
    mode = "LAB" if profile is None else SPACES[profile.space][0]
    plain = picture.convert(WEIGHED.get(picture.mode, picture.mode))
    found = ImageCms.applyTransform(plain.convert(mode) if plain.mode != mode else plain, transform)
    assert found is not None  # it is not changed in place
    if picture.has_transparency_data:
        found.putalpha(plain.convert("RGBA").getchannel("A"))
    return found


def note(picture: Image.Image, file: Path) -> tuple[str, str]:
    """What there is to say of the colours of a picture, whose header is enough, and its kind. Two empty texts if they
    are sRGB."""
    content, mode = picture.info.get(PROFILE), picture.mode
    profile, own = _profile(content) if content else None, _own_profile(picture)
    if own is not None:
        told = f"{file.parent}: pictures have the colour profile {own.name!r:.60}; their colours become those of sRGB"
        return ("", "") if own.transform is None else (own.name, told)
    if content and profile is None:
        return "damaged", f"{file} has a colour profile that cannot be read; its colours are taken for sRGB"
    if profile is not None:
        told = f"{file} has the colour profile {profile.name!r:.60}, which is for {profile.space}, not for {mode}"
        return "other", f"{told}; its colours are taken for sRGB"
    if mode == "CMYK":
        told = f"{file.parent}: pictures have the colours of a printer (CMYK) and no profile"  # the same for all splits
        return mode, f"{told}, so they are guessed: save them as RGB"
    return "", ""


def _own_profile(picture: Image.Image) -> Profile | None:
    """The profile of a picture, if it is of such colours as the picture has."""
    content = picture.info.get(PROFILE)
    profile = _profile(content) if content else None
    return profile if profile is not None and picture.mode in SPACES[profile.space][1] else None


@lru_cache(maxsize=32)  # most photos of a scene have the same one
def _profile(content: bytes) -> Profile | None:
    """None if it cannot be read, or is of a kind that no picture here has."""
    try:
        with reading("a colour profile"):
            told = ImageCms.ImageCmsProfile(io.BytesIO(content))
            space = told.profile.xcolor_space.strip()  # pyright: ignore[reportAttributeAccessIssue] (its stubs are wrong)
            if space not in SPACES:
                return None
            transform = ImageCms.buildTransform(told, _srgb(), SPACES[space][0], "RGB", INTENT, FLAGS)
            name = ImageCms.getProfileDescription(told).strip() or "without a name"
            return Profile(name, space, None if _changes_nothing(space, transform) else transform)
    except DamagedError:
        return None


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _lab() -> ImageCms.ImageCmsTransform:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    return ImageCms.buildTransform(lab, _srgb(), "LAB", "RGB", INTENT, FLAGS)


def _changes_nothing(space: str, transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether red, green and blue, or grey, stay what they are."""
    if space not in ("RGB", "GRAY"):
        return False
    values = np.linspace(0, 255, STEPS).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(*[values] * 3), -1).reshape(1, -1, 3)
    colours = colours if space == "RGB" else np.repeat(values[None, :, None], 3, -1)
    before = Image.fromarray(colours if space == "RGB" else colours[:, :, 0].copy())
    after = ImageCms.applyTransform(before, transform)
    return int(np.abs(np.asarray(after).astype(int) - colours).max()) <= SAME
