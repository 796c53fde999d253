"""The page: one file with the grid, the shader that marches it, and the camera."""

import json
import math
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

import torch

from nerf_pl.cameras import View
from nerf_pl.export.files import up_of
from nerf_pl.export.web import coding
from nerf_pl.export.web.grid import BLOCK, CHANNELS
from nerf_pl.export.web.march import STEP
from nerf_pl.export.web.opacity import LEAST, MOST
from nerf_pl.export.web.pack import LEVELS, Baked, as_text, pack
from nerf_pl.scenes import Scene
from nerf_pl.writing import atomic_write, replacing

AHEAD_OF_PHOTOS = 3.0  # the point that is turned about, of photos from one side


def page_of(baked: Baked, scene: Scene, title: str) -> str:
    """The HTML of a page that shows a baked grid, from where the cameras of a scene are."""
    parts = {name: _text(name) for name in ("page.html", "unpack.js", "page.js", "march.glsl")}
    background = [round(255 * part) for part in scene.background or (0, 0, 0)]
    return Template(parts["page.html"]).substitute(
        title=_escaped(title),
        background=f"rgb({', '.join(map(str, background))})",
        scene=json.dumps(description(baked, scene)).replace("<", "\\u003c"),
        grid=as_text(pack(baked.grid)),
        march=parts["march.glsl"],
        unpack=parts["unpack.js"],
        script=parts["page.js"],
    )


def description(baked: Baked, scene: Scene) -> dict[str, object]:
    """What the page knows beside the grid's values."""
    grid, space = baked.grid, baked.grid.space
    middle = torch.zeros(2, 3) if space.middle is None else space.middle
    return {
        "kind": {"box": "BOX", "ndc": "NDC", "all": "ALL"}[space.kind],
        "low": space.low, "cell": space.cell, "counts": space.counts, "middle": middle.mean(0).tolist(),
        "halfSide": float(middle[1, 0] - middle[0, 0]) / 2, "ndc": space.ndc or (1.0, 1.0), "block": BLOCK,
        "blocks": list(grid.far.shape[::-1]), "full": int((grid.far == 0).sum()), "points": len(grid.numbers),
        "base": baked.base, "opacity": (LEAST, MOST - LEAST), "table": _rounded(baked.table),
        "coding": {
            "bits": coding.BITS, "lowest": coding.LOWEST, "lane": coding.LANE, "spreads": coding.SPREADS,
            "alphas": coding.ALPHAS, "signed": coding.SIGNED, "active": coding.ACTIVE, "channels": CHANNELS,
            "levels": LEVELS,
        },
        "stride": STEP, "near": scene.near, "far": scene.far,
        "background": scene.background or (0.0, 0.0, 0.0), **_camera(scene),
    }  # fmt: skip


def write_page(path: Path, text: str) -> None:
    """Raises UserError if the file cannot be written."""
    with replacing(path), atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _camera(scene: Scene) -> Mapping[str, object]:
    """Where the page starts, and what it turns about."""
    view = scene.view(first_view(scene))
    width, height = view.size
    pose = view.camera.c2w[0].double()
    if scene.ndc is not None:
        ahead = AHEAD_OF_PHOTOS
    else:
        away = torch.tensor(scene.target, dtype=torch.float64) - pose[:, 3]
        ahead = max(float(-away @ pose[:, 2]), 0.2 * float(away.norm()), 0.05)
    focal = float(view.camera.K[0, 1, 1]) / height
    target = (pose[:, 3] - ahead * pose[:, 2]).tolist()
    start = {"position": pose[:, 3].tolist(), "target": target, "focal": focal, "aspect": width / height}
    return {"start": start, "up": up_of(scene).tolist(), "reach": ahead}


def first_view(scene: Scene) -> int:
    """The first of the views that look down as steeply as the middle one of all does."""
    steepness = scene.cameras.c2w[:, :, 2].double().cpu() @ up_of(scene)
    return int((steepness - steepness.median()).abs().argmin())


def picture_request(view: View, near: float) -> dict[str, object]:
    """The camera of a view, as `window.picture` of the page takes it."""
    width, height = view.size
    camera = view.camera
    pose, K, shift = camera.c2w[0], camera.K[0], 0.5 - camera.pixel_offset
    return {
        "size": [width, height], "eye": pose[:, 3].tolist(), "axes": pose[:, :3].T.flatten().tolist(),
        "focal": [float(K[0, 0]), float(K[1, 1])], "centre": [float(K[0, 2]) + shift, float(K[1, 2]) + shift],
        "near": near,
    }  # fmt: skip


def _text(name: str) -> str:
    return files("nerf_pl.export.web").joinpath(name).read_text(encoding="utf-8")


def _rounded(values: torch.Tensor) -> list:
    return [[[round(v, 5) if math.isfinite(v) else 0.0 for v in row] for row in part] for part in values.tolist()]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
