"""Scene: what every loader returns."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from nerf_pl.cameras import Cameras, View
from nerf_pl.console import warn
from nerf_pl.scenes.normalize import AHEAD, FAR, LEAST_NEAR, moved, reach
from nerf_pl.types import Background

TOWARDS = 0.7  # cosine to the way to the target, from which on a camera counts as one that looks there


@dataclass(frozen=True)
class Scene:
    """Posed images. Nothing downstream knows which data set they came from.

    images: sRGB as stored, alpha not premultiplied if there is one; on the CPU. masks: pixels to learn from and to be
    judged by; None for all. near, far: bounds of t, as distances. aabb: the box that holds the scene or, of one that is
    `unbounded`, its middle, a cube. background: what alpha is composited on. ndc: not None says that rays live in
    normalised device coordinates, see `cameras.ndc_rays`; the box does then, too. target: what the cameras look at.
    names: one per image, for the files that evaluation writes. orbit: the film that usually shows the scene turns about
    the origin at this distance, in world units, and elevation, in degrees; None says that it follows the cameras.
    surrounded: the owner says that the photos were taken from all around. frame: the similarity that takes points of
    the scene's own file to the world; None says that both are the same. plain: the pictures are opaque, and show the
    background wherever nothing stands in front of it. photos: of which photo each view is, if some photos were cut into
    several; the first view of a photo looks where it did. partial: masks also say what the photos show, as of panoramas
    that are black at the poles. endless: if the layout alone says that the scene has a box, the similarity that takes
    this world to the one without end that the pictures may show, and near and closest there; `load_scene` has decided
    that. seen: for each view, the sparse points that its photo is known to see, in the world; None if nothing is known.
    ahead: the share of the way from a camera to the target in which nothing stands, see `near_at`; 0 says that near
    holds for all. closest: the least of these ways, of all cameras of all splits. told: near is no guess; the scene's
    file, or sparse points, tell it of all of these cameras. bars: where all pictures of the scene have the same bars,
    which the masks leave out; None if they have none. originals: of each view the file of its photo, below the folder
    of photos, and width and height before it was resized; the file is "" for a view that was cut from its photo. Empty
    if nothing is known.

        >>> from nerf_pl.scenes import load_scene
        >>> scene = load_scene("my_scene")
        >>> len(scene), scene.view(0).size, scene.aabb.tolist()
        (4, (16, 16), [[-1.5, -1.5, -1.5], [1.5, 1.5, 1.5]])
    """

    cameras: Cameras
    images: UInt8[Tensor, "C H W ch"]
    near: float
    far: float
    aabb: Float[Tensor, "2 3"]
    background: Background = (1.0, 1.0, 1.0)
    ndc: tuple[float, float] | None = None
    unbounded: bool = False
    masks: Bool[Tensor, "C H W"] | None = None
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    names: tuple[str, ...] = ()
    root: Path | None = None
    orbit: tuple[float, float] | None = None
    surrounded: bool = False
    frame: Float[Tensor, "4 4"] | None = None
    plain: bool = False
    photos: tuple[int, ...] = ()
    partial: bool = False
    endless: tuple[Float[Tensor, "4 4"], float, float] | None = None
    seen: tuple[Float[Tensor, "_ 3"], ...] | None = None
    ahead: float = 0.0
    closest: float = 0.0
    told: bool = False
    bars: Bool[Tensor, "H W"] | None = None
    originals: tuple[tuple[str, int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.cameras)

    @property
    def n_pixels(self) -> int:
        """Pixels to learn from: those of all pictures, less what the masks leave out."""
        if self.masks is not None:
            return int(self.masks.sum())
        if self.cameras.sizes is not None:
            return int(self.cameras.sizes.prod(1).sum())
        return self.images.shape[:3].numel()

    def image(self, index: int) -> Float[Tensor, "H W 3"]:
        """One image in [0, 1], composited on the background."""
        width, height = self.cameras.size(index)
        return on_background(self.images[index, :height, :width], self.background)

    def mask(self, index: int) -> Bool[Tensor, "H W"] | None:
        """The pixels of one image that count; None for all."""
        width, height = self.cameras.size(index)
        return None if self.masks is None else self.masks[index, :height, :width]

    def view(self, index: int) -> View:
        """What it takes to render one image again. Copies nothing."""
        index = range(len(self))[index]
        width, height = self.cameras.size(index)
        camera = replace(self.cameras[index : index + 1], width=width, height=height, sizes=None)
        return self.view_of(camera)

    def view_of(self, camera: Cameras) -> View:
        """What it takes to render the scene from another camera."""
        near = float(self.near_at(camera.c2w)) if self.ahead else self.near
        return View(camera, near, self.far, self.ndc, self.background)

    def near_at(self, c2w: Float[Tensor, "C 3 4"]) -> Float[Tensor, "C"]:
        """How far from each camera its rays begin: at `ahead` of its own way to the target.

        A camera that looks elsewhere may have something nearer than that. The more it is turned away, the nearer its
        rays begin, down to `near`. A camera that comes nearer to the target than all of the scene, as one of a film
        may, sees what they saw: what was clear in front of them is that much shorter in front of it.
        """
        ways = c2w.new_tensor(self.target) - c2w[:, :, 3]
        if not self.ahead:
            return torch.full_like(ways[:, 0], self.near)
        way = ways.norm(dim=1)
        towards = -(ways * c2w[:, :, 2]).sum(1) / way.clamp(min=1e-9)
        passed = (self.closest - way).clamp(min=0)
        own = self.ahead * way - passed
        least = self.near - passed if self.told else own.clamp(max=self.near)
        return torch.maximum(own * (towards / TOWARDS).clamp(0, 1), least).clamp(min=min(LEAST_NEAR, self.near))


def with_pixels(scene: Scene) -> Scene | None:
    """The views that have pixels that count. None if none has."""
    if scene.masks is None:
        return scene
    kept = scene.masks.flatten(1).any(1).nonzero()[:, 0]
    if len(kept) == len(scene):
        return scene
    return some_views(scene, kept) if len(kept) else None


def some_views(scene: Scene, kept: Int[Tensor, "n"]) -> Scene:
    """The views of these numbers."""
    masks = None if scene.masks is None else scene.masks[kept]
    names = tuple(scene.names[i] for i in kept.tolist()) if scene.names else ()
    photos = tuple(scene.photos[i] for i in kept.tolist()) if scene.photos else ()
    originals = tuple(scene.originals[i] for i in kept.tolist()) if scene.originals else ()
    seen = None if scene.seen is None else tuple(scene.seen[i] for i in kept.tolist())
    cameras, images = scene.cameras[kept], scene.images[kept]
    some = replace(scene, cameras=cameras, images=images, masks=masks, names=names, photos=photos, seen=seen)
    return replace(some, originals=originals)


def views_of_photos(scene: Scene) -> list[list[int]]:
    """The numbers of the views of each photo."""
    found: dict[int, list[int]] = {}
    for view, photo in enumerate(scene.photos or range(len(scene))):
        found.setdefault(photo, []).append(view)
    return list(found.values())


def one_per_photo(scene: Scene) -> Cameras:
    """The cameras of the views of a scene, but of each photo that was cut only the first."""
    if not scene.photos:
        return scene.cameras
    return scene.cameras[torch.tensor([views[0] for views in views_of_photos(scene)])]


def frame_of(scene: Scene) -> Float[Tensor, "4 4"]:
    """The similarity that takes points of the scene's own file to the world, in float64."""
    return torch.eye(4, dtype=torch.float64) if scene.frame is None else scene.frame.double()


def on_background(pixels: UInt8[Tensor, "*shape ch"], background: Background) -> Float[Tensor, "*shape 3"]:
    """8-bit pixels as floats in [0, 1]; alpha, where there is one, is composited on the background (black if None)."""
    floats = pixels.to(torch.float32) / 255
    if floats.shape[-1] == 3:
        return floats
    rgb, alpha = floats[..., :3], floats[..., 3:]
    # built on the device by arithmetic: a tensor made from Python numbers would be a copy that a CUDA graph forbids
    if background is None or all(b == 0 for b in background):
        return rgb * alpha
    if all(b == 1 for b in background):
        return rgb * alpha + (1 - alpha)
    return rgb * alpha + (1 - alpha) * torch.tensor(background, device=pixels.device)


def without_end(scene: Scene, why: str) -> Scene:
    """A scene in the box of its layout as the one without end that its pictures show."""
    if scene.endless is None:
        return scene
    (frame, near, closest), cameras = scene.endless, scene.cameras
    warn(f"{scene.root}: {why}, so the scene is taken to have no end")
    c2w = moved(cameras.c2w.double(), frame).float()
    placed = replace(scene, cameras=replace(cameras, c2w=c2w), frame=frame @ frame_of(scene), near=near, far=FAR)
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    # only cameras that look at a common point leave it open whether the scene has a box
    placed = replace(placed, target=(0.0, 0.0, 0.0), ahead=AHEAD, closest=closest)
    return replace(placed, aabb=box, unbounded=True, orbit=None, background=None, endless=None)


def as_object(scene: Scene, why: str = "the background of the pictures was removed") -> Scene:
    """A scene without end as one of an object on nothing, between the cameras: its middle becomes its box."""
    nearest, farthest = reach(scene.cameras.c2w[:, :, 3], scene.aabb)
    near = max(scene.near, nearest)
    warn(f"{scene.root}: {why}, so they are taken to show an object on nothing")
    return replace(scene, unbounded=False, near=near, far=max(farthest, 2 * near), ahead=0.0)
