"""Pictures, films and depth maps on disk. Every file appears complete or not at all."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image
from torch import Tensor

from nerf_pl.errors import UserError, content_of, reason
from nerf_pl.writing import atomic_write

Picture = Shaped[np.ndarray, "H W ch"] | Shaped[Tensor, "H W ch"]
"""uint8, or floats in [0, 1]; 3 channels, or 4 with an alpha that is not premultiplied."""
DepthMap = Float[np.ndarray, "H W"] | Float[Tensor, "H W"]

GIF_SIDE, GIF_FPS = 480, 20
PNG_LEVEL = 3  # of compression: files take half as long as at the usual 6, and are a tenth larger


def to_uint8(image: Shaped[np.ndarray, "*shape"] | Shaped[Tensor, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """8-bit values, rounded to the nearest (truncation would darken by half a step); uint8 passes unchanged.

    Floats are clipped to [0, 1]; NaN becomes 0, so that it shows as black. A GPU rounds its own pictures, since bytes
    are copied in a quarter of the time.
    """
    if isinstance(image, Tensor) and image.is_floating_point():
        return (image.detach().float().nan_to_num().clamp(0, 1) * 255 + 0.5).byte().cpu().numpy()
    array = np.asarray(image)
    if array.dtype == np.uint8:
        return array
    return (np.clip(np.nan_to_num(array), 0, 1) * 255 + 0.5).astype(np.uint8)


def write_png(path: Path | str, image: Picture) -> None:
    """An 8-bit PNG, RGB or RGBA."""
    with atomic_write(path) as temporary:
        Image.fromarray(to_uint8(image)).save(temporary, format="PNG", compress_level=PNG_LEVEL)


def write_pfm(path: Path | str, depth: DepthMap) -> None:
    """A depth map as PFM: float32, little-endian, rows from bottom to top as the format demands."""
    rows = _depth_array(depth)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(f"Pf\n{rows.shape[1]} {rows.shape[0]}\n-1.0\n".encode())
        file.write(rows[::-1].tobytes())


def read_pfm(path: Path | str) -> Float[np.ndarray, "H W"] | Float[np.ndarray, "H W 3"]:
    """The inverse of `write_pfm`; big-endian and colour files are understood too. Raises UserError for other files."""
    try:
        kind, size, scale, data = content_of(Path(path)).split(b"\n", 3)
        width, height = map(int, size.split())
        shape = {b"Pf": (height, width), b"PF": (height, width, 3)}[kind.strip()]
        rows = np.frombuffer(data, "<f4" if float(scale) < 0 else ">f4").reshape(shape)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} is not a complete PFM file: write it anew") from error
    return rows[::-1].astype(np.float32)


def write_depth_bytes(path: Path | str, depth: DepthMap) -> None:
    """A depth map as bare float32, row by row from the top, in the byte order of this machine; no header."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(_depth_array(depth).tobytes())


def read_pictures(files: Iterable[Path]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """RGB pictures from their files, one at a time, so that a film need not fit into memory."""
    for file in files:
        with Image.open(file, formats=("PNG",)) as picture:
            yield np.asarray(picture.convert("RGB"))


def fitted(image: Picture, width: int, height: int) -> UInt8[np.ndarray, "height width 3"]:
    """A picture scaled to fit into width x height, centred on black. A picture of that size is unchanged."""
    pixels = _opaque(image)
    if pixels.shape[:2] == (height, width):
        return pixels
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    size = max(round(scale * pixels.shape[1]), 1), max(round(scale * pixels.shape[0]), 1)
    canvas = Image.new("RGB", (width, height))
    canvas.paste(Image.fromarray(pixels).resize(size), ((width - size[0]) // 2, (height - size[1]) // 2))
    return np.asarray(canvas)


def lighter(frames: Iterable[Picture], fps: float) -> tuple[Iterator[Picture], float]:
    """A film for a GIF, which hardly compresses: smaller frames, fewer of them, and the new frames per second.

    Frames have at most GIF_SIDE pixels on the longer side. There are at most GIF_FPS of them a second.
    """
    step = math.ceil(fps / GIF_FPS)

    def small() -> Iterator[Picture]:
        for frame in itertools.islice(frames, 0, None, step):
            height, width = frame.shape[:2]
            scale = min(GIF_SIDE / max(height, width), 1)
            yield fitted(frame, max(round(scale * width), 1), max(round(scale * height), 1))

    return small(), fps / step


def write_gif(path: Path | str, frames: Iterable[Picture], fps: float = 30) -> None:
    """An animation that loops for ever, with 256 colours per frame.

    GIF counts in hundredths of a second, so 30 fps play as 33. Raises ValueError without frames.
    """
    pictures = (Image.fromarray(_opaque(frame)) for frame in frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError(f"no frames for {path}")
    # browsers slow anything shorter than 20 ms down to 100 ms
    duration = max(20, round(100 / fps) * 10)
    with atomic_write(path) as temporary:
        first.save(temporary, "GIF", save_all=True, append_images=pictures, duration=duration, loop=0)


def write_mp4(path: Path | str, frames: Iterable[Picture], fps: float = 30) -> None:
    """An H.264 film that browsers play (yuv420p, Rec. 709 colours); odd sizes gain a copy of the last row or column.

    Frames may be a generator: each is encoded as it comes. Raises ValueError without frames or if their sizes differ,
    and UserError if PyAV is missing.
    """
    try:
        import av
    except ImportError as error:
        told = f"cannot write {path}: MP4 needs PyAV, which cannot be imported ({reason(error)})"
        raise UserError(f"{told}; pip install av, or write a GIF") from error
    with (
        atomic_write(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as film,
    ):
        stream = film.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "18"})
        size = None
        for frame in frames:
            pixels = _even(_opaque(frame))
            if size is None:
                size = stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
                codec = stream.codec_context
                codec.color_range, codec.colorspace, codec.color_primaries, codec.color_trc = 1, 1, 1, 1  # Rec. 709
            if pixels.shape[:2] != size:
                raise ValueError(f"{path}: a frame of {pixels.shape[:2]} among frames of {size}")
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            film.mux(stream.encode(picture.reformat(format="yuv420p", dst_colorspace="ITU709")))
        if size is None:
            raise ValueError(f"no frames for {path}")
        film.mux(stream.encode(None))  # what the encoder still holds


@dataclass(frozen=True)
class DepthFiles:
    """Depth maps in full precision, written beside pictures: as PFM, or as bare float32."""

    folder: Path
    as_bytes: bool = False

    def write(self, i: int, depth: DepthMap) -> None:
        """depth_NNN.pfm, or depth_NNN."""
        if self.as_bytes:
            write_depth_bytes(self.folder / f"depth_{i:03d}", depth)
        else:
            write_pfm(self.folder / f"depth_{i:03d}.pfm", depth)


def write_films(film: Path, columns: Sequence[Sequence[Path]], fps: float, gif: bool = True) -> list[Path]:
    """FILM.mp4 and FILM.gif of pictures from their files, read as they are needed; returns the films.

    columns: lists of frames; two lists are shown side by side. Frames are fitted to the size of the first one.
    """
    height, width = next(_joined(columns)).shape[:2]
    written = [film.with_name(f"{film.name}.{suffix}") for suffix in (("gif", "mp4") if gif else ("mp4",))]
    for path in written:
        frames = (fitted(picture, width, height) for picture in _joined(columns))
        if path.suffix == ".gif":
            write_gif(path, *lighter(frames, fps))
        else:
            write_mp4(path, frames, fps)
    return written


def film_size(film: Path) -> tuple[int, int]:
    """Width and height of the frames of a film on the disk."""
    if film.suffix == ".gif":
        with Image.open(film, formats=("GIF",)) as picture:
            return picture.size
    import av

    with av.open(str(film)) as opened:
        stream = opened.streams.video[0]
        return stream.width, stream.height


def _joined(columns: Sequence[Sequence[Path]]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    for pictures in zip(*map(read_pictures, columns), strict=True):
        yield side_by_side(*pictures)


def depth_span(depth: DepthMap, opacity: DepthMap, near: float, far: float) -> tuple[float, float]:
    """The depths at both ends of the colour scale.

    If near and far enclose the scene, it is these. If far is over ten times near, they are mere limits; then it is the
    2nd and the 98th percentile of the opaque pixels.
    """
    values = _depth_array(depth)
    solid = values[(_depth_array(opacity) > 0.5) & np.isfinite(values)]
    if far <= 10 * near or solid.size == 0:
        return near, far
    low, high = np.percentile(solid, [2, 98]).tolist()
    return low, max(high, low * 1.01 + 1e-6)  # a wall straight ahead has but one depth


def depth_colours(
    depth: DepthMap, near: float, far: float, opacity: DepthMap | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """Depth as colours: pale yellow at near, through orange and violet, to almost black at far.

    Colours are even in depth. If far is over ten times near, they are even in disparity (1 / depth), as near objects
    would otherwise share one colour. The scale is a cubehelix (D. A. Green 2011): a helix around the grey axis whose
    brightness falls evenly, so that the picture reads in black and white too. With opacity, empty space fades to white.
    A depth that is not finite counts as far.
    """
    values = np.nan_to_num(_depth_array(depth), nan=far, posinf=far, neginf=near).clip(near, far)
    if far > 10 * near > 0:
        values, near, far = -1 / values, -1 / near, -1 / far
    light = 0.06 + 0.82 * (1 - (values - near) / (far - near))
    angle = np.pi * light
    spread = light * (1 - light)
    cos, sin = np.cos(angle), np.sin(angle)
    # two vectors perpendicular to the direction of perceived brightness span the plane that the helix turns in
    rgb = np.stack([-0.14861 * cos + 1.78277 * sin, -0.29227 * cos - 0.90649 * sin, 1.97294 * cos], -1)
    rgb = np.clip(light[..., None] + spread[..., None] * rgb, 0, 1)
    if opacity is not None:
        alpha = np.clip(_depth_array(opacity), 0, 1)[..., None]
        rgb = rgb * alpha + 1 - alpha
    return to_uint8(rgb)


def side_by_side(
    *images: Shaped[np.ndarray, "H _ _"] | Shaped[Tensor, "H _ _"],
) -> UInt8[np.ndarray, "H W_total 3"]:
    """Pictures of one height next to each other, such as truth, prediction and depth."""
    return np.concatenate([_opaque(image) for image in images], axis=1)


def _depth_array(depth: DepthMap) -> Float[np.ndarray, "H W"]:
    return np.asarray(depth.detach().cpu() if isinstance(depth, Tensor) else depth, np.float32)


def _opaque(image: Picture) -> UInt8[np.ndarray, "H W 3"]:
    """RGB as it is, RGBA on white: neither GIF nor MP4 has a soft alpha."""
    pixels = to_uint8(image)
    if pixels.shape[-1] == 3:
        return pixels
    alpha = pixels[..., 3:] / 255
    return to_uint8(pixels[..., :3] / 255 * alpha + 1 - alpha)


def _even(pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Pad to even sizes: yuv420p stores colour for blocks of 2x2 pixels."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
