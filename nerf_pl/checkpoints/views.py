"""The views of a run's scene, as its checkpoint keeps them: films need no more, and by them a run knows its scene."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from nerf_pl.cameras import Cameras
from nerf_pl.errors import UserError, reason
from nerf_pl.methods.stored import is_of
from nerf_pl.options import Config
from nerf_pl.scenes import LOADERS, Scene, frame_of, require_sound
from nerf_pl.scenes.pictures import list_some
from nerf_pl.text import counted

OF_PICTURES = ("images", "masks", "bars", "root", "seen")  # fields of a scene that only a training needs: not kept
GLANCE = 8  # pixels of a picture along each side, by which it is known again
DIFFERS, MOST_DIFFERENT = 32, 0.02  # levels of a pixel of 256, and the share of such pixels in the same pictures
CLOSE = 1e-4  # of numbers of poses and lenses, as shares and in world units


def kept_views(views: Mapping[str, Scene]) -> dict[str, object]:
    """What a checkpoint keeps of the splits of a scene: tensors and plain values. `views_in` is the inverse."""
    return {split: _values(scene) for split, scene in views.items()}


def _values(scene: Scene) -> dict[str, object]:
    names = [field.name for field in fields(scene) if field.name not in OF_PICTURES]
    values: dict[str, object] = {name: _stored(getattr(scene, name)) for name in names}
    values["cameras"] = {field.name: _stored(getattr(scene.cameras, field.name)) for field in fields(scene.cameras)}
    return values | {"glance": _glance(scene)}


def _stored(value: Any) -> Any:
    return value.detach().cpu().clone() if isinstance(value, Tensor) else value


def _glance(scene: Scene) -> UInt8[Tensor, "C G G ch"]:
    """A few pixels of every picture, as stored."""
    seen = torch.zeros(len(scene), GLANCE, GLANCE, scene.images.shape[-1], dtype=torch.uint8)
    for i in range(len(scene)):
        x, y = (((torch.arange(GLANCE) + 0.5) * side / GLANCE).long() for side in scene.cameras.size(i))
        seen[i] = scene.images[i][y][:, x]
    return seen


def views_in(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Scene]:
    """The splits that a checkpoint keeps, with black pictures that take no memory; none in one of earlier versions.
    Raises UserError if they are damaged."""
    kept = checkpoint.get("views") or {}
    try:
        found = {str(split): _scene(values) for split, values in kept.items()}
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, IndexError, OverflowError) as error:
        told = f"checkpoint {path} is damaged, its views cannot be read ({reason(error)})"
        raise UserError(f"{told}: give another") from error
    for scene in found.values():
        require_sound(scene, f"checkpoint {path} is damaged")
    return found


def _scene(values: Mapping[str, Any]) -> Scene:
    """Raises one of many errors for values that are those of no scene."""
    cameras = _fitting(Cameras, values["cameras"])
    n, (channels,) = len(cameras), values["glance"].shape[3:]
    images = torch.zeros(1, dtype=torch.uint8).expand(n, cameras.height, cameras.width, channels)
    others = {name: values[name] for name in values.keys() - {"cameras", "glance"}}
    return _fitting(Scene, {**others, "cameras": cameras, "images": images})


Made = TypeVar("Made", Cameras, Scene)


def _fitting(kind: type[Made], values: Mapping[str, Any]) -> Made:
    """A dataclass of these values. Raises TypeError if one is of another type than its field, or in half precision, in
    which no poses are stored."""
    hints = get_type_hints(kind)
    for name, value in values.items():
        is_half = isinstance(value, Tensor) and value.is_floating_point() and value.dtype.itemsize < 4
        if not is_of(value, hints[name]) or is_half:
            raise TypeError(f"{name} is a {value.dtype if is_half else type(value).__name__}")
    return kind(**values)


def frame_in(checkpoint: Mapping[str, Any], path: Path) -> Float[Tensor, "4 4"] | None:
    """`Run.frame` in a checkpoint. Raises UserError if it is damaged."""
    found = checkpoint.get("frame")
    if found is None:
        return None
    try:
        frame = torch.tensor(found, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        frame = torch.empty(0)
    if frame.shape != (4, 4) or not frame.isfinite().all():
        raise UserError(f"checkpoint {path} is damaged, it has frame {found!r:.60}: give another")
    return frame


def require_frame(frame: Float[Tensor, "4 4"] | None, scene: Scene, config: Config, what: str) -> None:
    """Raises UserError if a scene lies in its world otherwise than `frame` says: pictures would be shifted, unnoticed.
    config: how the scene was loaded. what: whose frame it is, for the message. Version 0.1.0 did not store a frame."""
    spheric = config.data.spheric and config.data.dataset_name in ("auto", "llff")
    if frame is None and spheric and scene.root and LOADERS["llff"].recognises(scene.root):
        told = "version 0.1.0 placed its photos in another way"
        raise UserError(f"{scene.root}: {told}, and a run of that version cannot go on with them: train it again")
    if frame is not None and not torch.allclose(frame, frame_of(scene), atol=CLOSE, rtol=CLOSE):
        raise UserError(f"{scene.root}: its cameras are not those that {what}: {AS_IT_WAS}, or train again")


AS_IT_WAS = "give the folder as it was, with all of its pictures"


def require_unseen(kept: Mapping[str, Scene], scene: Scene) -> None:
    """Raises UserError if a view of the test split was trained on: where every n-th view is held out, one that is
    missing moves all later ones."""
    if not {"train", "test"} <= kept.keys():
        return
    trained, tested = (_nearest(scene, kept[split]) for split in ("train", "test"))
    if (seen := (trained < tested).nonzero()[:, 0].tolist()) and float(trained[seen].max()) < CLOSE:
        names = list_some([scene.names[i] if scene.names else i for i in seen])
        raise UserError(f"{scene.root}: the run was trained on {names}, which are test views now: {AS_IT_WAS}")


def _nearest(scene: Scene, others: Scene) -> Float[Tensor, "C"]:
    """How far the pose of each view is from the nearest one of others."""
    return torch.cdist(scene.cameras.c2w.flatten(1), others.cameras.c2w.flatten(1)).amin(1)


def require_same_views(checkpoint: Mapping[str, Any], scene: Scene, last: Path) -> None:
    """Raises UserError unless a scene has the training views, and their pictures, that a checkpoint was trained on. One
    of earlier versions does not know them."""
    kept = views_in(checkpoint, last).get("train")
    if kept is None:
        return
    told = f"{scene.root}: its {{}} are not those that {last} was trained on"
    ours, theirs = scene.cameras, kept.cameras
    if len(ours) != len(theirs):
        count = f"it has {counted(len(ours), 'view')} to train on, and {last} was trained on {len(theirs)}"
        raise UserError(f"{scene.root}: {count}; {AS_IT_WAS}, or start anew")
    sizes = [[cameras.size(i) for i in range(len(cameras))] for cameras in (ours, theirs)]
    pairs = (ours.c2w, theirs.c2w), (ours.K, theirs.K)
    if sizes[0] != sizes[1] or not all(torch.allclose(*pair, atol=CLOSE, rtol=CLOSE) for pair in pairs):
        raise UserError(f"{told.format('cameras')}; {AS_IT_WAS}, or start anew")
    before, now = checkpoint["views"]["train"]["glance"], _glance(scene)
    apart = (before.int() - now.int()).abs().amax(-1) if before.shape == now.shape else torch.full((1,), 255)
    if float((apart > DIFFERS).float().mean()) > MOST_DIFFERENT:
        remedy = f"start a new run from its weights with --ckpt_path {last} and another --exp_name"
        raise UserError(f"{told.format('pictures')}; give the folder as it was, or {remedy}")
