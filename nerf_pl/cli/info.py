"""nerf info"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nerf_pl.cli.flags import Flags, Position
from nerf_pl.cli.trained import Trained
from nerf_pl.errors import UserError
from nerf_pl.options import DataOptions
from nerf_pl.options.ranges import check_options
from nerf_pl.text import NOTHING, coordinates, counted

if TYPE_CHECKING:
    import torch

    from nerf_pl.checkpoints import Run
    from nerf_pl.scenes import Scene


CHECKPOINTS = (".ckpt", ".tar", ".pt", ".pth")
SPOT = 1e-9  # cameras that are no farther apart stand in one spot
ONE_WAY = 0.97  # length of the mean of their axes, from which on cameras look in much the same direction


@dataclass(frozen=True)
class Info:
    """Say what is in a scene or a run: views, cameras, how far it goes, the frame, and a film to begin with."""

    folder: Position
    """Folder of a scene or of a run, or a file of nerf export, NAME.nerf."""
    data: Flags[DataOptions] = field(default_factory=DataOptions)

    def run(self) -> None:
        from nerf_pl.console import console, warn
        from nerf_pl.scenes import LOADERS, available_splits, detect
        from nerf_pl.scenes.agreement import looking_away

        check_options(self.data)
        if not self.folder.exists():
            raise UserError(f"{self.folder} does not exist: give the folder of a scene or of a run")
        lines: Iterator[tuple[str, str]]
        trained = Trained(self.folder, num_gpus=0)
        is_run = trained.is_portable or (self.folder.is_file() and self.folder.suffix.lower() in CHECKPOINTS)
        if is_run or (self.folder / "settings.json").is_file() or (self.folder / "checkpoints").is_dir():
            run = trained.open(tell=False)
            lines = _of_run(trained, run)
        else:
            name = self.data.dataset_name
            layout = detect(self.folder, self.data.spheric) if name == "auto" else name
            splits = available_splits(self.folder, layout, self.data.test_every)
            scenes = {split: self._cameras(split, layout) for split in splits or ("train",)}
            if told := looking_away(next(iter(scenes.values())), LOADERS[layout].poses):
                warn(told)
            lines = _of_scene(layout, scenes)
        for title, told in lines:
            console.print(f"{title:<11}  {told}")

    def _cameras(self, split: str, layout: str) -> "Scene":
        from nerf_pl.scenes import Request, load_scene

        d = self.data
        request = Request(split, d.img_wh, d.downscale, d.test_every, d.spheric, pictures=False)
        return load_scene(self.folder, request, layout)


def _of_scene(layout: str, scenes: "Mapping[str, Scene]") -> Iterator[tuple[str, str]]:
    yield "layout", layout
    yield from _of_views(scenes)


def _of_run(trained: Trained, run: "Run") -> Iterator[tuple[str, str]]:
    """A run: its method, scene, length, scores and views."""
    from nerf_pl.report.record import read_values

    yield "method", f"{run.config.method}; {run.model.describe()}"
    yield "scene", str(run.root) if run.root else "not known"
    metrics = trained.results / "metrics.json"
    psnr, ssim = (read_values(metrics).get(name) for name in ("psnr", "ssim"))
    if isinstance(psnr, float) and isinstance(ssim, float):
        yield "scores", f"PSNR {psnr:.2f} dB, SSIM {ssim:.4f} ({metrics})"
    else:
        yield "scores", f"none: nerf eval {shlex.quote(str(trained.folder))}"
    scenes = {split: run.scene(split, pictures=False) for split in run.kept}
    yield from _of_views(scenes)


def _of_views(scenes: "Mapping[str, Scene]") -> Iterator[tuple[str, str]]:
    """Views, cameras and extent, in the coordinates of the scene's own file, and the frame."""
    import torch

    from nerf_pl.cameras import up_direction
    from nerf_pl.scenes import frame_of
    from nerf_pl.scenes.normalize import camera_focus, looks_at

    if not scenes:
        return
    for split, scene in scenes.items():
        yield split, f"{counted(len(scene), 'view')} of {scene.cameras.width} x {scene.cameras.height}"
    first = next(iter(scenes.values()))
    frame = frame_of(first)
    scale = float(frame[:3, :3].det().abs()) ** (1 / 3)
    turn, back = frame[:3, :3] / scale, torch.linalg.inv(frame)
    c2w = torch.cat([scene.cameras.c2w.double() for scene in scenes.values()])
    at, axes = c2w[:, :, 3] @ back[:3, :3].T + back[:3, 3], -c2w[:, :, 2] @ turn
    focus = camera_focus(c2w.float())
    common = focus.double() @ back[:3, :3].T + back[:3, 3] if looks_at(c2w.float(), focus) else None
    size = _size(at, common) or 1 / scale
    yield from _of_cameras(at, axes, common, size)
    yield "up", f"{_point(up_direction(c2w) @ turn, 1.0)}, as the cameras were held"
    if first.ndc is not None:
        yield "extent", "photos from one side: normalised device coordinates, without a box"
    else:
        corners = torch.cartesian_prod(*first.aabb.double().T) @ back[:3, :3].T + back[:3, 3]
        what = "the middle is" if first.unbounded else "all lies"
        yield "extent", f"{what} from {_point(corners.amin(0), size)} to {_point(corners.amax(0), size)}"
        near = torch.cat([scene.near_at(scene.cameras.c2w) for scene in scenes.values()]) / scale
        told = _number(near.min())
        if first.ahead:
            told = f"{_number(first.ahead)} of the way to what the cameras look at, {told} to {_number(near.max())},"
        yield "rays", f"from {told} to {_number(first.far / scale)} from a camera, in units of the file"
    # numbers that take points of the file to within a thousandth of a unit of the world
    fine = scale * min(size / max(float(at.abs().max()), SPOT), 1)
    rows = [[*coordinates(row[:3], fine), *coordinates(row[3:], 1.0)] for row in frame[:3].tolist()]
    yield "frame", "file to world: " + "; ".join(map(" ".join, rows))
    position, target = (
        "[" + ", ".join(coordinates(p.tolist(), size)) + "]"
        for p in (at[0], at[0] + size * axes[0] if common is None else common)
    )
    first = f'{{"time": 0, "position": {position}, "look_at": {target}}}'
    yield "film", f'{{"coordinates": "file", "keyframes": [{first}]}}'


def _size(at: "torch.Tensor", common: "torch.Tensor | None") -> float:
    """How far from what they look at, or from their middle, the farthest camera is; 0 if all stand in one spot."""
    away = float((at - (at.mean(0) if common is None else common)).norm(dim=1).max())
    return away if common is not None or away > max(SPOT, 1e-6 * float(at.abs().max())) else 0.0


def _of_cameras(
    at: "torch.Tensor", axes: "torch.Tensor", common: "torch.Tensor | None", size: float
) -> Iterator[tuple[str, str]]:
    """Where cameras are and where they look, in the coordinates of the file. common: the point that all look at."""
    low, high = at.amin(0), at.amax(0)
    one_spot = not _size(at, common)
    where = f"all at {_point(at[0], size)}" if one_spot else f"from {_point(low, size)} to {_point(high, size)}"
    yield "cameras", f"{where}, in the scene's own file"
    mean = axes.mean(0)
    if common is not None:
        away = (at - common).norm(dim=1)
        yield "looking", f"around {_point(common, size)}, {_number(away.min())} to {_number(away.max())} away"
    elif mean.norm() > ONE_WAY:
        yield "looking", f"along {_point(mean / mean.norm(), 1.0)}" + ("" if len(at) == 1 else ", all of them")
    else:
        yield "looking", "outwards, from that spot" if one_spot else "in several directions, at no common point"


def _point(xyz: "torch.Tensor", size: float) -> str:
    return "(" + ", ".join(coordinates(xyz.tolist(), size)) + ")"


def _number(value: "float | torch.Tensor") -> str:
    return f"{float(value):.4g}" if abs(value) >= NOTHING else "0"
