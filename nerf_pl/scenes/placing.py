"""Where the scenes of the Blender layout lie: those of the 2020 paper as they are, others moved to where those are."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nerf_pl.cameras import Crop
from nerf_pl.errors import UserError
from nerf_pl.scenes.backgrounds import silhouettes
from nerf_pl.scenes.normalize import FAR as HORIZON
from nerf_pl.scenes.normalize import LEAST_NEAR, camera_focus, looks_at, moved, normalize_poses, reach
from nerf_pl.scenes.normalize import NEAR as CLOSE
from nerf_pl.scenes.scene import Scene, frame_of, some_views
from nerf_pl.text import coordinates

# of the scenes of the 2020 paper, in their unit of length
NEAR, FAR = 2.0, 6.0
HALF_EXTENT = 1.5
DISTANCE = 4.031  # of their cameras from the origin, which these look at
USUAL = (3.2, 4.5)  # distances at which a box of that size still lies about between near and far
ASIDE = 0.75  # that the optical axes may pass the origin
WIDEST = 2.0  # half of what the cameras see at the origin; of those scenes it is 1.45
MOST = 0.75  # half the side of a box, as a share of the cameras' distance: they stand outside
SPOT = 1e-6
MISSED = 0.02  # share of what pictures show that may lie beside the box: soft borders, noise
LOOKS = 16  # views, and
RAYS = 2000  # rays of each, by which that is judged


@dataclass(frozen=True)
class Place:
    """frame: takes points of the file to the world; None says that both are the same. classic: the scene lies as those
    of the 2020 paper do. endless: see `Scene`; None for a scene that has no end. The rest: see `Scene`."""

    frame: Float[Tensor, "4 4"] | None
    near: float
    far: float
    aabb: Float[Tensor, "2 3"]
    classic: bool = False
    unbounded: bool = False
    endless: tuple[Float[Tensor, "4 4"], float, float] | None = None


def place(
    c2w: Float[Tensor, "C 3 4"], tangent: float | None, scale: float | None = None, *, on_nothing: bool = False
) -> Place:
    """The place of a scene with these training cameras, in float64. tangent: that of half their field of view; None if
    it is not known.

    Scenes like those of the 2020 paper stay as they are. Others are moved and scaled, so that their cameras look at the
    origin from the distance of those; near, far and the box then hold what the cameras see. Cameras that look at no
    common point get the frame of `normalize_poses`, and space without end, unless they show an object on nothing, which
    then stays where it is. scale: lengths in the file times this are lengths in the world, whose origin is that of the
    file; 1 leaves all as it is.
    """
    if scale is not None and scale != 1:
        frame = torch.diag(torch.tensor([scale, scale, scale, 1.0], dtype=torch.float64))
        return replace(_bounds(moved(c2w, frame), None), frame=frame)
    centres = c2w[:, :, 3]
    in_one_spot = (centres - centres[0]).norm(dim=-1).max() <= SPOT * centres.norm(dim=-1).max()
    if scale == 1 or in_one_spot or _is_classic(c2w, tangent):
        return Place(None, NEAR, FAR, _box(HALF_EXTENT), classic=True)
    focus = camera_focus(c2w)
    if not looks_at(c2w, focus):
        if on_nothing:
            return Place(None, NEAR, FAR, _box(HALF_EXTENT), classic=True)
        return Place(normalize_poses(c2w)[1], CLOSE, HORIZON, _box(1.0), unbounded=True)
    frame = torch.eye(4, dtype=torch.float64)
    frame[:3, :3] *= DISTANCE / (centres - focus).norm(dim=-1).median()
    frame[:3, 3] = -frame[0, 0] * focus
    return replace(_bounds(moved(c2w, frame), tangent), frame=frame)


def with_views(found: Place, c2w: Float[Tensor, "C 3 4"]) -> Place:
    """The place with bounds that also hold the box as other cameras of the world see it."""
    if found.classic or found.unbounded:
        return found
    near, far = reach(c2w[:, :, 3].float(), found.aabb)
    return replace(found, near=min(found.near, max(near, LEAST_NEAR * DISTANCE)), far=max(found.far, far))


def _is_classic(c2w: Float[Tensor, "C 3 4"], tangent: float | None) -> bool:
    """Whether nine in ten cameras look at the origin from the usual distance, and see about as much as usual there."""
    centres, back = c2w[:, :, 3], c2w[:, :, 2]
    distances, along = centres.norm(dim=-1), (centres * back).sum(-1)
    aside = (centres - along[:, None] * back).norm(dim=-1)
    usual = (distances >= USUAL[0]) & (distances <= USUAL[1]) & (along > 0)
    seen = 0.0 if tangent is None else tangent * float(distances.median())
    return bool(usual.double().mean() >= 0.9 and aside.median() <= ASIDE and seen <= WIDEST)


def _bounds(c2w: Float[Tensor, "C 3 4"], tangent: float | None) -> Place:
    if _is_classic(c2w, tangent):
        return Place(None, NEAR, FAR, _box(HALF_EXTENT), classic=True)
    half = min(max(HALF_EXTENT, DISTANCE * (tangent or 0.0)), MOST * DISTANCE)
    near, far = reach(c2w[:, :, 3].float(), _box(half))
    return Place(None, max(near, LEAST_NEAR * DISTANCE), far, _box(half))


def _box(half: float) -> Float[Tensor, "2 3"]:
    return torch.tensor([[-half] * 3, [half] * 3])


def bounded(scene: Scene, near: float | None, far: float | None) -> Scene:
    """The scene with other bounds of rays, in the unit of length of its own file. near holds for all cameras. Raises
    UserError if they leave nothing."""
    if near is None and far is None:
        return scene
    option, value = ("--near", near) if near is not None else ("--far", far)
    if scene.ndc is not None:
        told = f"{scene.root} has photos from one side, whose rays end at infinity"
        raise UserError(f"{option} {value:g}: {told}; leave the option out")
    unit = float(frame_of(scene)[0, :3].norm())
    start, end = (scene.near if near is None else near * unit), (scene.far if far is None else far * unit)
    first, last = (0.0, math.inf) if scene.unbounded else reach(scene.cameras.c2w[:, :, 3], scene.aabb)
    for name, wrong, other in (
        ("--near", near is not None and start >= min(end, last), min(end, last)),
        ("--far", far is not None and end <= max(start, first), max(start, first)),
    ):
        if wrong:
            told = f"{'less' if name == '--near' else 'more'} than {other / unit:.4g}"
            what = "in the unit of the scene's file, to leave any of it to be seen"
            raise UserError(f"{name} {near if name == '--near' else far:g}: give {told} {what}")
    return replace(scene, near=start, far=end, ahead=scene.ahead if near is None else 0.0)


def begun(scene: Scene, ahead: float | None) -> Scene:
    """The scene whose rays begin at another share of the way from each camera; None leaves it. Raises UserError for a
    scene that lies in a box, or was taken from one side."""
    if ahead is None:
        return scene
    if ahead and (scene.ndc is not None or not scene.unbounded):
        told = "has photos from one side" if scene.ndc is not None else "lies in a box, which says where rays begin"
        raise UserError(f"--ahead {ahead:g}: {scene.root} {told}; leave the option out")
    return replace(scene, ahead=ahead)


def missed(scene: Scene) -> str:
    """What to say if a box misses what the cameras see; an empty text if it does not, or if there is no box.

    Pictures with alpha or a plain background tell what they show. Of others only the middle is looked at. Raises
    UserError if the box has nothing of what the former show.
    """
    if scene.ndc is not None or scene.unbounded:
        return ""
    scene = some_views(scene, torch.arange(0, len(scene), max(len(scene) // LOOKS, 1)))
    outlines = silhouettes(scene)
    eye, shown, beside = torch.eye(4), 0, 0
    for index in range(len(scene)):
        pixels = _middle(scene, index) if outlines is None else _pixels(scene, index, outlines[index])
        rays = replace(scene.view(index), crop=Crop(scene.aabb, eye)).rays(pixels=pixels)
        shown, beside = shown + len(pixels), beside + int((rays.far <= rays.near).sum())
    if beside <= MISSED * shown:
        return ""
    box = _corners(scene)
    if outlines is not None and beside == shown:
        told = f"no camera looks inside the scene's box, {box} in its file"
        raise UserError(f"{scene.root}: {told}: are the poses and the size of the scene right? See --scale")
    what = "the middles of the pictures" if outlines is None else "what the pictures show"
    told = f"{scene.root}: {beside / shown:.0%} of {what} lies beside the box that is learned, {box}"
    return f"{told} in the scene's file; give --scale, or --near and --far, or --aabb, if that is not as you want it"


def _corners(scene: Scene) -> str:
    """The box of a scene, in the coordinates of its file."""
    back = torch.linalg.inv(frame_of(scene))
    corners = (scene.aabb.double() @ back[:3, :3].T + back[:3, 3]).sort(dim=0).values
    size = float((corners[1] - corners[0]).max())
    return " to ".join("(" + ", ".join(coordinates(corner, size)) + ")" for corner in corners.tolist())


def _middle(scene: Scene, index: int) -> Int[Tensor, "1"]:
    """The pixel in the middle of a view."""
    width, height = scene.cameras.size(index)
    return torch.tensor([(height // 2) * width + width // 2])


def _pixels(scene: Scene, index: int, outline: Bool[Tensor, "H W"]) -> Int[Tensor, "P"]:
    """Some of the pixels of a view that show the scene and count."""
    width, height = scene.cameras.size(index)
    shown, mask = outline[:height, :width], scene.mask(index)
    pixels = (shown if mask is None else shown & mask).flatten().nonzero()[:, 0]
    return pixels[:: max(len(pixels) // RAYS, 1)]
