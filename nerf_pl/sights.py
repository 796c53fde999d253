"""What the training cameras see of a model: a map of distances for each, and the points where their rays end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nerf_pl.cameras import Cameras, View, project
from nerf_pl.console import progress
from nerf_pl.rendering import Renderer, ends_of_rays, evaluating, render_rays
from nerf_pl.scenes import Scene

MOST_VIEWS, SIDE = 48, 256  # pixels of the longer side
CPU_VIEWS, CPU_SIDE = 20, 96
OPAQUE = 0.5  # the least opacity of a ray that ends at a surface
AT_ONCE = {"cpu": 2**17, "cuda": 2**21}  # points


@dataclass(frozen=True)
class Sight:
    """What one camera sees. points: where the ray of each pixel ends, in the world. distance: to there from the camera,
    inf where the ray passes through. rgb: what the ray shows, without a background."""

    view: View
    points: Float[Tensor, "H W 3"]
    distance: Float[Tensor, "H W"]
    rgb: Float[Tensor, "H W 3"]

    @property
    def camera(self) -> Cameras:
        return self.view.camera

    @property
    def ends(self) -> Bool[Tensor, "H W"]:
        """The pixels whose rays end somewhere."""
        return self.distance.isfinite()


def look(model: Renderer, scene: Scene, chunk: int, *, most: int | None = None, side: int | None = None) -> list[Sight]:
    """What up to `most` of the scene's cameras see, spread over all of them; see `Sight`. side: the longer side of the
    pictures, in pixels. chunk: rays at a time."""
    is_cpu = model.step.device.type == "cpu"
    most, side = most or (CPU_VIEWS if is_cpu else MOST_VIEWS), side or (CPU_SIDE if is_cpu else SIDE)
    views = spread(scene, most)
    views = [small(view, side).to(model.step.device) for view in views]
    with evaluating(model):
        return [sight(model, view, chunk) for view in progress(views, len(views), "looking from the training views")]


def spread(scene: Scene, most: int) -> list[View]:
    """Up to `most` views of a scene, spread over all of them."""
    numbers = torch.linspace(0, len(scene) - 1, min(most, len(scene))).round().long().tolist()
    return [scene.view(i) for i in numbers]


def small(view: View, side: int) -> View:
    """The view with at most `side` pixels along its longer side."""
    width, height = view.size
    share = min(side / max(width, height), 1)
    size = (max(round(share * width), 1), max(round(share * height), 1))
    return replace(view, camera=view.camera.resized(*size))


def sight(model: Renderer, view: View, chunk: int) -> Sight:
    """What the camera of a view on the model's device sees. The model must be in evaluation mode."""
    width, height = view.size
    rgb, depth, opacity = render_rays(model, view.rays(), None, chunk)
    points = ends_of_rays(view, depth, opacity)
    distance = (points - view.camera.c2w[0, :, 3]).norm(dim=1)
    # the last sample of some methods stands for all that is beyond
    is_end = (opacity > OPAQUE) & points.isfinite().all(1)
    if view.ndc is None:
        is_end &= distance < 0.99 * view.far
    distance = torch.where(is_end, distance, torch.inf)
    shape = height, width
    return Sight(
        view,
        points.view(*shape, 3),
        distance.view(shape),
        (rgb / opacity.clamp(min=1e-6)[:, None]).clamp(0, 1).view(*shape, 3),
    )


def ends_of(sights: Sequence[Sight]) -> Float[Tensor, "N 3"]:
    """All points where rays end."""
    return torch.cat([each.points[each.ends] for each in sights])


def seen_from(
    sights: Sequence[Sight], points: Float[Tensor, "N 3"], tolerance: Float[Tensor, "N"]
) -> Iterator[tuple[Bool[Tensor, "N"], Float[Tensor, "N 3"]]]:
    """For each sight: whether its camera sees each point, and the unit directions from the camera to the points.

    A point is seen if it lies in the picture, and not farther than the farthest of the 3x3 pixels around it by more
    than the tolerance, a world length.
    """
    for each in sights:
        inside, pixels, _ = pixels_of(each.camera, points)
        farthest = F.max_pool2d(each.distance[None, None], 3, 1, 1).flatten()
        way = points - each.camera.c2w[0, :, 3]
        length = way.norm(dim=1)
        yield inside & (length <= farthest[pixels] + tolerance), way / length.clamp(min=1e-9)[:, None]


def pixels_of(
    camera: Cameras, points: Float[Tensor, "N 3"]
) -> tuple[Bool[Tensor, "N"], Int[Tensor, "N"], Float[Tensor, "N 2"]]:
    """Whether each point lies in the picture of one camera; the number of its pixel, row by row, or 0 if it does not;
    and its column and row, the centre of the first pixel at 0.5."""
    width, height = camera.size(0)
    xy, depth = project(camera, 0, points)
    column, row = (xy[:, 0].floor(), xy[:, 1].floor())
    inside = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return inside, torch.where(inside, row * width + column, 0).long(), xy


def is_seen(sights: Sequence[Sight], points: Float[Tensor, "N 3"], tolerance: Float[Tensor, "N"]) -> Bool[Tensor, "N"]:
    """Whether any camera sees each point; see `seen_from`."""
    found = []
    size = AT_ONCE[points.device.type]
    for part, reach in zip(points.split(size), tolerance.split(size), strict=True):
        left = torch.arange(len(part), device=part.device)  # those that no camera before sees
        seen = torch.zeros(len(part), dtype=torch.bool, device=part.device)
        for each in sights:
            for sees, _ in seen_from([each], part[left], reach[left]):
                seen[left[sees]] = True
                left = left[~sees]
        found.append(seen)
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.bool)
