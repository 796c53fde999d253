"""nerf import"""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from nerf_pl.cli.flags import RUNS, Position
from nerf_pl.cli.trained import split_to_score
from nerf_pl.errors import UserError
from nerf_pl.methods import CLASSIC


@dataclass(frozen=True)
class Import:
    """Turn a checkpoint of nerf_pl (.ckpt) or nerf-pytorch (.tar) into a run."""

    file: Position
    """The checkpoint."""
    out: Path | None = None
    """Folder of the new run. By default runs/NAME-OF-FILE."""
    scene: Path | None = None
    """Folder of the scene it was trained on."""
    img_wh: tuple[int, int] | None = None
    """Width and height it was trained at."""
    N_samples: int = 64
    """Coarse samples per ray."""
    N_importance: int = 64
    """Fine samples per ray."""

    def run(self) -> None:
        import torch

        from nerf_pl.checkpoints import load_model, save_model
        from nerf_pl.console import console
        from nerf_pl.methods import METHODS

        out = self.out or RUNS / self.file.stem
        target = out / "checkpoints" / "last.ckpt"
        if target.exists():
            raise UserError(f"{target} exists: give another --out")
        preset = METHODS[CLASSIC.method].preset
        sampling = {"N_samples": self.N_samples, "N_importance": self.N_importance, "noise_std": 0.0}
        asked = replace(preset, model=replace(CLASSIC.model, **sampling), data=replace(preset.data, img_wh=self.img_wh))
        asked.check()
        run = load_model(self.file, torch.device("cpu"), asked)
        save_model(target, run.model, run.config, str(self.scene.resolve()) if self.scene else "")
        more = split_to_score(self.scene, run.config.data) if self.scene else ["--scene", "SCENE_DIR"]
        console.print(f"{target}; next: nerf eval {shlex.join([str(out), *more])}", markup=False)
