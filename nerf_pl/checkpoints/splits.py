"""The splits of a scene, loaded with the options of a run."""

from dataclasses import replace
from pathlib import Path

from nerf_pl.console import warn
from nerf_pl.errors import UserError
from nerf_pl.methods import method_of
from nerf_pl.options import Config
from nerf_pl.scenes import Request, Scene, available_splits, detect, load_scene, name_of, require_sound
from nerf_pl.scenes.crop import cropped
from nerf_pl.scenes.placing import begun, bounded


def load_training(config: Config, root: Path) -> tuple[Config, Scene]:
    """The training views, and the options with the background that these views show, with where their rays begin and
    with whether they show a scene without end: all later views then have it."""
    scene = load_split(config, root, "train")
    asked = config.data.background
    if asked == "auto":
        asked = scene.background if scene.plain and scene.background else "none"
    known = asked if isinstance(asked, str) else name_of(asked) or asked
    # of other scenes the rays begin where they begin, whatever this option says
    ahead = scene.ahead if scene.unbounded and scene.ndc is None else config.data.ahead
    config = replace(config, data=replace(config.data, background=known, ahead=ahead))
    if getattr(config.model, "unbounded", True) is None:
        config = replace(config, model=replace(config.model, unbounded=scene.unbounded))
    return config, scene


def load_split(config: Config, root: Path, split: str, pictures: bool = True, trained: Scene | None = None) -> Scene:
    """One split of the scene in `root`, loaded with the options of a run; see `scenes.load_scene`."""
    d, layout = config.data, layout_of(config, root)
    method = method_of(config.method)
    offset = method.pixel_offset(layout)
    request = Request(split, d.img_wh, d.downscale, d.test_every, d.spheric, pictures, offset, method.tight)
    request = replace(request, background=d.background, scale=d.scale, masks=d.masks)
    unbounded = getattr(config.model, "unbounded", None)
    request = replace(request, endless=unbounded if d.aabb is None else False)
    if unbounded:  # asked for, or trained before such pictures made a box
        request = replace(request, objects=False)
    scene = load_scene(root, request, layout, trained)
    scene = scene if d.aabb is None else cropped(scene, d.aabb, pictures, is_needed=split == "train")
    ahead = d.ahead if d.aabb is None else None  # a box says where rays begin
    scene = bounded(begun(scene, ahead), d.near, d.far)
    require_sound(scene, root)
    return scene


def layout_of(config: Config, root: Path) -> str:
    """The layout of the scene in `root`, as the options name it or, if they leave that open, by its files."""
    d = config.data
    return detect(root, d.spheric) if d.dataset_name == "auto" else d.dataset_name


def load_cameras(config: Config, root: Path, *splits: str) -> dict[str, Scene]:
    """Those of the splits that a scene has, to be kept in a checkpoint: pictures are black. One that cannot be read is
    left out, with a warning."""
    found = {}
    for split in {*splits} & {*available_splits(root, config.data.dataset_name, config.data.test_every)}:
        try:
            found[split] = load_split(config, root, split, pictures=False)
        except UserError as error:
            warn(f"the run keeps no {split} views: {error}")
    return found
