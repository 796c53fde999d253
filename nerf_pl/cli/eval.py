"""nerf eval"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nerf_pl.cli.flags import Flags, Plain
from nerf_pl.cli.reporting import Added
from nerf_pl.cli.trained import Trained, named, scores_file
from nerf_pl.errors import UserError

if TYPE_CHECKING:
    from nerf_pl.checkpoints import Run
    from nerf_pl.scenes import Scene


@dataclass(frozen=True)
class Eval:
    """Render a split of the run's scene, score it, and write pictures, films, metrics.json and the report."""

    trained: Flags[Trained]
    split: Literal["train", "val", "test"] = "test"
    """Which views."""
    save_depth: Plain[bool] = False
    """Write depth in full precision too."""
    depth_format: Literal["pfm", "bytes"] = "pfm"
    """pfm, or raw float32."""

    @property
    def added(self) -> Added:
        return self.trained.added

    def run(self) -> None:
        from nerf_pl.console import console
        from nerf_pl.evaluation import Output, evaluate, kind_of_pictures
        from nerf_pl.media import DepthFiles
        from nerf_pl.methods import method_of

        run = self.trained.open(shares=True)
        folder = self.trained.results
        metrics, out = scores_file(folder, run, self.split), folder / "renders" / named(self.split, run)
        scene = self.trained.views(run, self.split)
        name = scene.root.name if scene.root else ""
        which = run.told.get("checkpoint", self.trained.checkpoint)
        facts = {"split": self.split, "checkpoint": which, "scene": name, "method": run.config.method}
        facts |= {"single": True} if run.is_single else {}
        facts["pictures"] = kind_of_pictures(scene.root, run.config.data.dataset_name)
        depth = DepthFiles(out, self.depth_format == "bytes") if self.save_depth else None
        # a method that samples all of the way between near and far has its last sample stand for all that is beyond
        measured = scene.unbounded and not method_of(run.config.method).tight
        training = self._training(run) if measured else None
        to = Output(out, metrics, self.split, depth, training, run.config.train.refine_poses)
        evaluate(run.model, scene, to, run.config.train.chunk, facts, run.others)
        console.print(f"scores {metrics}, pictures {out}, report {self.added.report}")

    def _training(self, run: "Run") -> "Scene | None":
        """The cameras that the run was trained on, by which floaters are measured. None, with one line, if nothing says
        where they were."""
        from nerf_pl.console import warn

        try:
            return run.scene("train", None if "train" in run.kept else self.trained.scene, pictures=False)
        except UserError as error:
            warn(f"floaters are not measured: {error}")
            return None
