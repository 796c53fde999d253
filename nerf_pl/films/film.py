"""Films of a trained model: the cameras of a path, and frames that are written as soon as they are rendered."""

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from nerf_pl import media
from nerf_pl.cameras import Cameras, View
from nerf_pl.console import console, progress, warn
from nerf_pl.errors import UserError
from nerf_pl.films import paths
from nerf_pl.films.files import read_keyframes
from nerf_pl.films.frames import Frames, Take, write_json
from nerf_pl.films.keyframes import Keyframes, keyframes_in_file, through_views
from nerf_pl.films.options import FPS, FRAMES, MOST_FRAMES, FilmOptions
from nerf_pl.options.ranges import check_options
from nerf_pl.rendering import Renderer, render_views
from nerf_pl.scenes import Scene, frame_of, one_per_photo
from nerf_pl.scenes.crop import crop_of
from nerf_pl.text import box_text, counted
from nerf_pl.writing import locked, remove_leftovers, remove_leftovers_in

SPOT = 1e-6  # world units; cameras no farther apart stand in one spot
SHARE = 10  # frames per view of an interpolation
MOST_GAP = 270.0  # degrees between neighbouring cameras about what they look at, in which a turn may still swing
ONE_WAY = 0.7  # length of the mean of the viewing directions, from which on cameras look one way


@dataclass(frozen=True)
class Film:
    """A film on the disk. replaces: whether an earlier file had its name."""

    file: Path
    replaces: bool


def film_scene(options: FilmOptions, scene: Scene, stamp: str) -> tuple[str, Take]:
    """The film that the options ask for, and its name.

    scene: the test views for the path `test`, the training views for other paths. Its pictures do not matter. Raises
    UserError for a path that the scene cannot have.
    """
    name, cameras, fps = film_cameras(options, scene)
    if options.panorama and not cameras.panorama:
        name, cameras = f"{name}_panorama", around(cameras)
    if cameras.panorama and scene.ndc is not None:
        asked = "--panorama" if options.panorama else f"--path {options.path}: its cameras are equirectangular"
        raise UserError(f"{asked}, and photos from one side show nothing around them; give perspective cameras")
    cameras = paths.framed(cameras, *(options.img_wh or (cameras.width, cameras.height)))
    views = views_of(scene, cameras)
    if options.crop is not None:
        views = [replace(view, crop=crop_of(scene, options.crop)) for view in views]
        if not any(bool((rays.far > rays.near).any()) for rays in (view.rays() for view in views)):
            told = f"--crop {box_text(options.crop)}: no frame of this film sees this box"
            raise UserError(f"{told}; give it in the coordinates of the scene's own file")
    take = Take(views, fps, stamp, options.depth, options.keep_frames)
    return name, replace(take, keyframes=keyframes_in_file(cameras, fps, frame_of(scene)))


def around(cameras: Cameras) -> Cameras:
    """Equirectangular cameras in the place of others, twice as wide as high."""
    height = cameras.size(0)[1]
    return replace(cameras, width=2 * height, height=height, sizes=None, panorama=True)


def views_of(scene: Scene, cameras: Cameras) -> list[View]:
    """Views of a scene from other cameras."""
    return [scene.view_of(cameras[i : i + 1]) for i in range(len(cameras))]


def film_cameras(options: FilmOptions, scene: Scene) -> tuple[str, Cameras, float]:
    """The name, the cameras and the frames per second of the path that the options ask for; see `film_scene`."""
    o = options
    # photos that were cut are filmed as one: a path through all of their views would turn about at each
    views = scene.cameras if o.path == "test" else one_per_photo(scene)
    scene = replace(scene, cameras=views)
    frames, fps = o.frames or FRAMES, o.fps or FPS
    views = paths.framed(views, *views.size(0))
    kind = _fitting(scene) if o.path == "auto" else o.path
    check_options(replace(o, path=kind))  # once more, with the path that was left to the scene
    if kind == "test":
        return kind, views, fps
    if kind == "360":
        target = _turned_about(scene)
        if o.radius is None and o.elevation is None and not scene.orbit and not _in_one_spot(views):
            return kind, paths.turn_along(frames, views, target), fps
        radius, elevation, up = (*scene.orbit, paths.UP) if scene.orbit else paths.fit_turn(views.c2w, target)
        radius = radius if o.radius is None else o.radius
        elevation = elevation if o.elevation is None else o.elevation
        if radius < SPOT:
            raise UserError("--path 360: the cameras stand in the middle of the turn; give --radius, or interpolate")
        return kind, paths.turntable(frames, views, radius, elevation, target, up), fps
    if kind == "spiral":
        return kind, _spiral(frames, views, scene), fps
    if kind == "interpolate":
        if o.every is not None and o.every > len(views):
            raise UserError(f"--every {o.every}: the scene has {counted(len(views), 'view')}; give fewer")
        return kind, through_views(views, max(frames // SHARE, 2), o.every, o.loop).film(frames), fps
    keyframes: Keyframes = read_keyframes(_file(kind, scene), views, frame_of(scene))
    fps = o.fps or keyframes.fps or FPS
    frames = o.frames or keyframes.frames(fps)
    if frames > MOST_FRAMES:
        raise UserError(f"--path {kind} takes {frames} frames at {fps:g} a second; give --frames, up to {MOST_FRAMES}")
    return Path(kind).stem, keyframes.film(frames), fps


def _file(told: str, scene: Scene) -> Path:
    """The file of a path; where there is none, that of the scene's folder, which is said."""
    inside = None if scene.root is None else scene.root / told
    if Path(told).is_file() or inside is None or not inside.is_file():
        return Path(told)
    warn(f"--path {told} is not here; that of the scene is taken, {inside}")
    return inside


def _fitting(scene: Scene) -> str:
    """The path that shows a scene best, which stays where the views are: 360 if they look at it from all around or from
    a good part of it, a spiral if they look one way, else through the views."""
    if scene.ndc is not None:
        return "spiral"
    if _in_one_spot(scene.cameras):
        return "interpolate"
    c2w, target = scene.cameras.c2w, scene.target
    if scene.orbit or scene.surrounded:
        return "360"
    if paths.look_inward(c2w, target) and paths.widest_gap(c2w, target) < MOST_GAP:
        return "360"
    return "spiral" if _looks_one_way(c2w) else "interpolate"


def _in_one_spot(cameras: Cameras) -> bool:
    """As a panorama is taken, or if there is one camera alone: no path leads among them."""
    centres = cameras.c2w[:, :, 3]
    return float((centres - centres[0]).norm(dim=1).max()) < SPOT


def _looks_one_way(c2w: Float[Tensor, "C 3 4"]) -> bool:
    return bool(c2w[:, :, 2].mean(0).norm() > ONE_WAY)


def _turned_about(scene: Scene) -> paths.Point:
    """What a turn is about: the target or, if cameras that look one way do not have it ahead, as those of a drone that
    looks straight down, a point ahead of their middle."""
    c2w = scene.cameras.c2w
    if scene.orbit or scene.ndc is not None or paths.look_inward(c2w, scene.target) or not _looks_one_way(c2w):
        return scene.target
    pose = paths.mean_pose(c2w)
    x, y, z = (pose[:, 3] - _ahead(scene, pose) * pose[:, 2]).tolist()
    return x, y, z


def _ahead(scene: Scene, pose: Float[Tensor, "3 4"]) -> float:
    """How far ahead of the mean pose of a scene's cameras that is what they look at: the target or, if they look at no
    common point, a guess."""
    extent = (scene.cameras.c2w[:, :, 3].double() - pose[:, 3]).norm(dim=-1).quantile(0.9)
    ahead = (pose[:, 3] - torch.tensor(scene.target, dtype=torch.float64)) @ pose[:, 2]
    return float(ahead if ahead >= 0.1 * extent else 2 * extent.clamp(min=1e-3))


def _spiral(n: int, views: Cameras, scene: Scene) -> Cameras:
    if scene.ndc is not None:  # the loader turned its views to look along -z
        return paths.spiral(n, views)
    if _in_one_spot(views):
        raise UserError("--path spiral: the cameras are all in one spot; give interpolate")
    c2w, wrong = views.c2w, "--path spiral: the cameras look in all directions; give 360 or interpolate"
    if not (_looks_one_way(c2w) or paths.look_inward(c2w, scene.target)):
        raise UserError(wrong)
    try:
        pose = paths.mean_pose(c2w)
    except ValueError as error:
        raise UserError(wrong) from error
    return paths.spiral(n, views, pose, _ahead(scene, pose))


def film(model: Renderer, take: Take, out: Path, chunk: int, others: Sequence[Renderer] = ()) -> list[Film]:
    """Film the views of `take`: OUT.mp4, OUT.gif and OUT_depth.mp4, and its cameras, OUT_cameras.json. Returns the
    films. chunk: rays at a time. others: the model on further devices, which share the work.

    Frames stay in OUT/frames until the films are written. If an interrupted film has the same views, size and weights,
    its frames are reused. Raises UserError if another process makes the film.
    """
    with locked(out):
        remove_leftovers_in(out / "frames")
        parts = [f"{out.name}{ending}" for ending in (".mp4", ".gif", "_depth.mp4", "_cameras.json")]
        remove_leftovers(*(out.with_name(part) for part in parts))
        return _film([model, *others], take, out, chunk)


def _film(models: Sequence[Renderer], take: Take, out: Path, chunk: int) -> list[Film]:
    frames, n = Frames(out, take), len(take.views)
    if done := frames.done:
        console.print(f"resuming at frame {done + 1} of {n}" if done < n else "all frames are there")
    try:
        # closed at once, so that the bar does not overwrite the message of an interrupt
        with (
            closing(render_views(models, take.views[done:], chunk)) as images,
            closing(frames.written(images, models[0].step.is_cuda)) as written,
            closing(progress(range(done, n), n, f"filming {out.name}", done)) as bar,
        ):
            for _ in zip(bar, written, strict=True):
                pass
        before = set(out.parent.glob("*"))
        films = [Film(file, file in before) for file in frames.films(out)]
    except KeyboardInterrupt as stop:
        told = f"{frames.there()} of {n} frames are in {frames.folder}: the same command goes on"
        stop.args = (told,)
        raise
    if take.keyframes is not None:
        write_json(out.with_name(f"{out.name}_cameras.json"), take.keyframes)
    if not take.keep_frames:
        shutil.rmtree(frames.folder)
        if not any(out.iterdir()):
            out.rmdir()
    return films


def tell(written: Sequence[Film], take: Take, what: str = "") -> None:
    """Print the names and sizes of the films."""
    console.print(f"{what}{counted(len(take.views), 'frame')}: {', '.join(map(_described, written))}")


def _described(film: Film) -> str:
    width, height = media.film_size(film.file)
    size = film.file.stat().st_size
    shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
    return f"{'replaces ' if film.replaces else ''}{film.file} ({width}x{height}, {shown})"
