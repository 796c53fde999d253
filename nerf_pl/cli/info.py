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
SPOT = 1e-9  # a smaller scene has no size


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
    from nerf_pl.scenes.normalize import camera_focus

    if not scenes:
        return
    for split, scene in scenes.items():
        yield split, f"{counted(len(scene), 'view')} of {scene.cameras.width} x {scene.cameras.height}"
    first = next(iter(scenes.values()))
    frame = frame_of(first)
    scale = float(frame[:3, :3].det().abs()) ** (1 / 3)
    turn, back = frame[:3, :3] / scale, torch.linalg.inv(frame)
    c2w = torch.cat([scene.cameras.c2w.double() for scene in scenes.values()])
    at = c2w[:, :, 3] @ back[:3, :3].T + back[:3, 3]
    focus = camera_focus(c2w.float()).double() @ back[:3, :3].T + back[:3, 3]
    away = (at - focus).norm(dim=1)
    size = max(float(away.max()), SPOT)
    yield "cameras", f"from {_point(at.amin(0), size)} to {_point(at.amax(0), size)}, in the scene's own file"
    told = f"around {_point(focus, size)}, {_number(away.min())} to {_number(away.max())} away"
    yield "looking", told
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
    position, target = ("[" + ", ".join(coordinates(p.tolist(), size)) + "]" for p in (at[0], focus))
    first = f'{{"time": 0, "position": {position}, "look_at": {target}}}'
    yield "film", f'{{"coordinates": "file", "keyframes": [{first}]}}'


def _point(xyz: "torch.Tensor", size: float) -> str:
    return "(" + ", ".join(coordinates(xyz.tolist(), size)) + ")"


def _number(value: "float | torch.Tensor") -> str:
    return f"{float(value):.4g}" if abs(value) >= NOTHING else "0"
