"""The frames of a film as files, written while the next ones are rendered, and found again after an interrupt."""

import hashlib
import json
import math
import shutil
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nerf_pl import media
from nerf_pl.cameras import View
from nerf_pl.errors import content_of
from nerf_pl.rendering import Image
from nerf_pl.writing import atomic_write, in_threads, write_errors, writing_threads


@dataclass(frozen=True)
class Take:
    """A film to be made. depth: in a film of its own (separate), beside the colours (side), or none.

    depth_files: writes depth in full precision. stamp: identifies the weights. keyframes: what is written beside the
    film, see `keyframes.keyframes_in_file`.
    """

    views: Sequence[View]
    fps: float
    stamp: str
    depth: Literal["separate", "side", "none"] = "separate"
    keep_frames: bool = False
    depth_files: media.DepthFiles | None = None
    keyframes: dict[str, object] | None = None


class Frames:
    """The files of the frames of a film `out`, in OUT/frames.

    span: the depths at both ends of the colours; None until a frame is rendered. done: how many frames there were at
    first, of the same film with the same weights. Frames of another film are removed.
    """

    def __init__(self, out: Path, take: Take):
        self.folder, self.take, self.identity = out / "frames", take, _identity(out, take)
        numbers = range(len(take.views))
        self.pictures = [self.folder / f"{i:05d}.png" for i in numbers]
        self.depths = [self.folder / f"{i:05d}_depth.png" for i in numbers]
        self.span = self._found_span()
        self.done = 0 if self.span is None else self.there()

    def _found_span(self) -> tuple[float, float] | None:
        """The span of this film, if it was begun."""
        try:
            stored = json.loads(content_of(self.folder / "film.json"))
            low, high = stored.pop("span")
            if stored == self.identity:
                return float(low), float(high)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass  # the file is missing or incomplete, so no frame can be trusted
        if self.folder.is_dir():
            with write_errors(self.folder):
                shutil.rmtree(self.folder)
        return None

    def there(self) -> int:
        """How many frames there are, from the first one on."""
        files = zip(self.pictures, self.depths if self.take.depth != "none" else self.pictures, strict=True)
        return next((i for i, (a, b) in enumerate(files) if not (a.is_file() and b.is_file())), len(self.pictures))

    def written(self, images: Iterable[Image], on_gpu: bool) -> Generator[None, None, None]:
        """Write the pictures, those of the frames that are not done; yields after each. If a GPU renders them, several
        are written at once."""
        pixels = max(math.prod(view.size) for view in self.take.views)
        return in_threads(self._write, self._spanned(images), writing_threads(on_gpu, pixels))

    def _spanned(self, images: Iterable[Image]) -> Iterator[tuple[int, Image, tuple[float, float]]]:
        """The first frame decides which depths the colours of all of them span."""
        for i, image in enumerate(images, self.done):
            if self.span is None:
                view = self.take.views[i]
                self.span = media.depth_span(image.depth, image.opacity, view.near, view.far)
                write_json(self.folder / "film.json", {**self.identity, "span": self.span})
            yield i, image, self.span

    def _write(self, frame: tuple[int, Image, tuple[float, float]]) -> None:
        i, image, span = frame
        if self.take.depth_files:
            self.take.depth_files.write(i, image.depth)
        if self.take.depth != "none":
            media.write_png(self.depths[i], media.depth_colours(image.depth, *span, image.opacity))
        media.write_png(self.pictures[i], image.rgb)

    def films(self, film: Path) -> list[Path]:
        """Write the films; returns their files."""
        take = self.take
        if take.depth == "side":
            return media.write_films(film, [self.pictures, self.depths], take.fps)
        written = media.write_films(film, [self.pictures], take.fps)
        if take.depth == "separate":
            written += media.write_films(film.with_name(f"{film.name}_depth"), [self.depths], take.fps, gif=False)
        return written


def _identity(out: Path, take: Take) -> dict[str, object]:
    """What identifies a film. The format of its depth files belongs to it: frames that were rendered without these
    files cannot be reused."""
    digest = hashlib.sha256()
    for view in take.views:
        camera = view.camera
        digest.update(b"panorama" if camera.panorama else b"")
        digest.update(repr((view.size, camera.pixel_offset, view.near, view.far, view.ndc, view.background)).encode())
        crop = () if view.crop is None else (view.crop.box, view.crop.to_file)
        for tensor in (camera.c2w, camera.K, *crop):
            digest.update(tensor.double().cpu().numpy().tobytes())
    kept = "none" if take.depth_files is None else "bytes" if take.depth_files.as_bytes else "pfm"
    identity = {"film": out.name, "cameras": digest.hexdigest(), "depth": take.depth != "none"}
    return {**identity, "depth_files": kept, "weights": take.stamp}


def write_json(file: Path, content: dict[str, object]) -> None:
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
