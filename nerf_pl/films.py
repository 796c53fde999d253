"""Films of a trained model: which cameras a path has, and frames that are written as they come."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nerf_pl import media, paths
from nerf_pl.arguments import FRAMES, Render
from nerf_pl.cameras import Cameras
from nerf_pl.config import Config
from nerf_pl.errors import UserError
from nerf_pl.evaluation import console, progress, write_depth, write_films
from nerf_pl.keyframes import Keyframes, read_keyframes, through_views
from nerf_pl.models import Model
from nerf_pl.rendering import render_view
from nerf_pl.scenes import Scene, detect
from nerf_pl.training import load_split

FPS = 30.0
PATHS = ("auto", "360", "spiral", "interpolate", "test")
SHARE = 10  # frames for each view that an interpolation passes


def check_film(a: Any) -> None:
    """Raises UserError for options of a film that cannot work."""
    possible = {
        "frames": (a.frames is None or a.frames >= 1, "give 1 or more"),
        "fps": (a.fps is None or 0 < a.fps <= 1000, "give a positive number"),
        "elevation": (a.elevation is None or -90 < a.elevation < 90, "give degrees between -90 and 90"),
        "radius": (a.radius is None or 0 < a.radius < math.inf, "give a positive number"),
        "every": (a.every is None or a.every >= 1, "give 1 or more"),
        "img_wh": (a.img_wh is None or min(a.img_wh) >= 1, "give a width and a height in pixels"),
        "path": (a.path in PATHS or _is_file(a.path), f"give {', '.join(PATHS)} or the path of a .json file"),
    }
    for option, (holds, remedy) in possible.items():
        if not holds:
            value = getattr(a, option)
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            raise UserError(f"--{option} {shown} cannot work: {remedy}")


def film_run(a: Any, model: Model, config: Config, root: Path, folder: Path, stamp: str, device: torch.device) -> None:
    """Film a run as the options of `nerf render` ask for, into `folder`; `stamp` names its weights."""
    scene = load_split(config, root, "test" if a.path == "test" else "train", pictures=False)
    scene = replace(scene, images=scene.images[:0], masks=None)  # only where the cameras stand matters from here on
    dome = (detect(root) if config.data.dataset_name == "auto" else config.data.dataset_name) == "blender"
    name, cameras, fps = film_cameras(a, scene, dome, config.data.spheric)
    width, height = a.img_wh or (cameras.width, cameras.height)
    scene = replace(scene, cameras=paths.framed(cameras, width, height))
    written = film(model, scene, folder / name, fps, config.train.chunk, device, a.depth, stamp, a.keep_frames)
    _tell(written, scene)


def film_classic(model: Model, config: Config, a: Any, folder: Path, stamp: str, device: torch.device) -> None:
    """What the classic eval.py makes of the split test of an LLFF scene: a spiral, or a turn if it is spheric."""
    scene = load_split(config, a.root_dir, "train", pictures=False)
    name, cameras, fps = film_cameras(Render(a.root_dir, path="360" if a.spheric else "spiral"), scene)
    scene = replace(scene, cameras=cameras, images=scene.images[:0], masks=None)

    def save(i: int, depth: Tensor) -> None:
        if a.save_depth:
            write_depth(folder, i, depth, a.depth_format)

    if a.save_depth:  # frames of a film that was made without are of no use
        stamp = f"{stamp} {a.depth_format}"
    written = film(model, scene, folder / a.scene_name, fps, a.chunk, device, stamp=stamp, keep_frames=True, save=save)
    _tell(written, scene, f"the {name}, ")


def _tell(written: Sequence[Path], path: Scene, what: str = "") -> None:
    sizes = ", ".join(f"{file} ({file.stat().st_size / 1e6:.1f} MB)" for file in written)
    console.print(f"{what}{len(path)} frames of {path.cameras.width}x{path.cameras.height}: {sizes}")


def film_cameras(a: Any, scene: Scene, dome: bool = False, spheric: bool = False) -> tuple[str, Cameras, float]:
    """Name, cameras and frames per second of the path that the options ask for.

    scene: whose views are to be followed. dome: the scene lies at the origin, as Blender scenes do, and is filmed from
    4 units away. spheric: it was photographed from all around. Raises UserError for a path that it cannot have.
    """
    views, frames, fps = scene.cameras, a.frames or FRAMES, a.fps or FPS
    views = paths.framed(views, *views.size(0))
    kind = _fitting(scene, dome or spheric) if a.path == "auto" else a.path
    if kind == "test":
        return kind, views, fps
    if kind == "360":
        radius, elevation, up = (4.0, 30.0, paths.UP) if dome else paths.fit_turn(views.c2w, scene.target)
        radius = radius if a.radius is None else a.radius
        elevation = elevation if a.elevation is None else a.elevation
        return kind, paths.turntable(frames, views, radius, elevation, scene.target, up), fps
    if kind == "spiral":
        return kind, _spiral(frames, views, scene), fps
    if kind == "interpolate":
        if a.every is not None and a.every > len(views):
            raise UserError(f"--every {a.every}: the scene has {len(views)} views; give fewer")
        return kind, through_views(views, max(frames // SHARE, 2), a.every, a.loop).film(frames), fps
    keyframes: Keyframes = read_keyframes(Path(kind), views)
    fps = a.fps or keyframes.fps or FPS
    return Path(kind).stem, keyframes.film(a.frames or keyframes.frames(fps)), fps


def _is_file(path: str) -> bool:
    return path.endswith(".json") or Path(path).is_file()


def _fitting(scene: Scene, around: bool) -> str:
    """The path that shows a scene best: around it where it has been seen from all around, else among the views."""
    if scene.ndc is not None:
        return "spiral"
    if around or paths.surrounds(scene.cameras.c2w, scene.target):
        return "360"
    try:
        paths.mean_pose(scene.cameras.c2w)
    except ValueError:
        return "interpolate"
    return "spiral"


def _spiral(n: int, views: Cameras, scene: Scene) -> Cameras:
    if scene.ndc is not None:  # its views have been turned to look along -z
        return paths.spiral(n, views)
    try:
        pose = paths.mean_pose(views.c2w)
    except ValueError as error:
        raise UserError("--path spiral: the cameras look in all directions; give 360 or interpolate") from error
    away = pose[:, 3] - torch.tensor(scene.target, dtype=torch.float64)
    extent = (views.c2w[:, :, 3].double() - pose[:, 3]).norm(dim=-1).quantile(0.9)
    ahead = away @ pose[:, 2]
    if ahead < 0.1 * extent:  # they look at nothing in common
        ahead = 2 * extent.clamp(min=1e-3)
    return paths.spiral(n, views, pose, float(ahead))


def film(
    model: Model,
    path: Scene,
    out: Path,
    fps: float,
    chunk: int,
    device: torch.device,
    depth: str = "separate",
    stamp: str = "",
    keep_frames: bool = False,
    save: Callable[[int, Tensor], None] | None = None,
) -> list[Path]:
    """Film the cameras of `path`: OUT.mp4 and OUT.gif, and OUT_depth.mp4; returns the films.

    depth: "separate", "side" (beside the colours, in one film) or "none". Frames lie in OUT/frames until the films are
    made; those of a film that was interrupted are taken as they are if it is the same film: cameras, size and `stamp`,
    which stands for the weights. save gets each depth map.
    """
    folder, n = out / "frames", len(path)
    pictures = [folder / f"{i:05d}.png" for i in range(n)]
    depths = [folder / f"{i:05d}_depth.png" for i in range(n)]
    identity = {"film": out.name, "cameras": _fingerprint(path), "depth": depth != "none", "weights": stamp}
    done, span = _resume(folder, identity, pictures, depths if depth != "none" else pictures)
    if done:
        console.print(f"resuming at frame {done + 1} of {n}" if done < n else f"all {n} frames are there")
    try:
        # closed at once, so that nothing is drawn over the message of an interrupt
        with closing(progress(range(done, n), n, f"filming {out.name}", done)) as frames:
            for i in frames:
                images = {name: image.cpu() for name, image in render_view(model, path, i, chunk, device).items()}
                if span is None:
                    span = media.depth_span(images["depth"], images["opacity"], path.near, path.far)
                    _write_manifest(folder, {**identity, "span": span})
                media.write_png(pictures[i], images["rgb"])
                if depth != "none":
                    media.write_png(depths[i], media.depth_colours(images["depth"], *span, images["opacity"]))
                if save is not None:
                    save(i, images["depth"])
        written = _encode(out, pictures, depths, depth, fps)
    except KeyboardInterrupt:
        there = _count(pictures, pictures)
        raise KeyboardInterrupt(f"{there} of {n} frames are in {folder}: the same command goes on") from None
    if not keep_frames:
        shutil.rmtree(folder)
        if not any(out.iterdir()):
            out.rmdir()
    return written


def _encode(out: Path, pictures: Sequence[Path], depths: Sequence[Path], depth: str, fps: float) -> list[Path]:
    if depth == "side":
        return write_films(out, [pictures, depths], fps)
    written = write_films(out, [pictures], fps)
    if depth == "separate":
        written += write_films(out.with_name(f"{out.name}_depth"), [depths], fps, gif=False)
    return written


def _fingerprint(path: Scene) -> str:
    """What tells the cameras of two films apart."""
    cameras = path.cameras
    text = repr((cameras.width, cameras.height, cameras.pixel_offset, path.near, path.far, path.ndc, path.background))
    numbers = [tensor.double().cpu().numpy().tobytes() for tensor in (cameras.c2w, cameras.K)]
    return hashlib.sha256(text.encode() + b"".join(numbers)).hexdigest()


def _resume(
    folder: Path, identity: dict[str, Any], pictures: Sequence[Path], depths: Sequence[Path]
) -> tuple[int, tuple[float, float] | None]:
    """How many frames of this very film are there, and its range of depths; frames of another one are removed."""
    try:
        stored = json.loads((folder / "film.json").read_text(encoding="utf-8"))
        low, high = stored.pop("span")
        if stored == identity:
            return _count(pictures, depths), (float(low), float(high))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # there is none, or it was cut short: no frame can be trusted
    if folder.is_dir():
        with media.write_errors(folder):
            shutil.rmtree(folder)
    return 0, None


def _count(pictures: Sequence[Path], depths: Sequence[Path]) -> int:
    pairs = zip(pictures, depths, strict=True)
    return next((i for i, (a, b) in enumerate(pairs) if not (a.is_file() and b.is_file())), len(pictures))


def _write_manifest(folder: Path, content: dict[str, Any]) -> None:
    with media.atomic_write(folder / "film.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
