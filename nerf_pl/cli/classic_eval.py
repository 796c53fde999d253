"""eval.py, with the classic options"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from nerf_pl.cli.flags import Plain, device_of
from nerf_pl.cli.reporting import Added
from nerf_pl.films.options import FilmOptions
from nerf_pl.methods import CLASSIC
from nerf_pl.options.ranges import check_options
from nerf_pl.options.shared import NAME

if TYPE_CHECKING:
    from nerf_pl.checkpoints import Run
    from nerf_pl.media import DepthFiles

Layout = Literal["blender", "llff"]
FILMED = "llff"  # a layout without test views; the classic tool films new ones


@dataclass(frozen=True)
class ClassicEval:
    """Render a split with the classic options; writes results/DATASET/SCENE."""

    root_dir: Path
    """Folder of the scene."""
    ckpt_path: Path
    """Checkpoint: ours, nerf_pl's or nerf-pytorch's."""
    dataset_name: Layout = "blender"
    """Layout of the scene folder."""
    scene_name: Annotated[str, NAME] = "test"
    """Names the folder of the results."""
    split: Literal["train", "val", "test", "test_train"] = "test"
    """Which views. test_train: the training views. test of llff: a film of new views, as llff has no test views."""
    img_wh: tuple[int, int] = (800, 800)
    """Width and height."""
    spheric: bool | None = None
    """Whether the photos surround the scene (llff only). By default they do if they do not all look one way."""
    N_samples: int = 64
    """Coarse samples per ray."""
    N_importance: int = 128
    """Fine samples per ray."""
    use_disp: Plain[bool] = False
    """Space the coarse samples evenly in disparity."""
    chunk: int = 32 * 1024
    """Rays rendered at once; lower it if memory runs out."""
    save_depth: Plain[bool] = False
    """Write depth in full precision too."""
    depth_format: Literal["pfm", "bytes"] = "pfm"
    """pfm, or raw float32."""
    num_gpus: Literal[0, 1] = 1
    """0 means the CPU."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from ()

    @property
    def folder(self) -> Path:
        return Path("results") / self.dataset_name / self.scene_name

    @property
    def added(self) -> Added:
        return Added(self.folder, self.num_gpus)

    def run(self) -> None:
        from nerf_pl.checkpoints import load_model
        from nerf_pl.media import DepthFiles

        check_options(self)
        asked = {name: getattr(self, name) for name in ("N_samples", "N_importance", "use_disp")}
        model = replace(CLASSIC.model, perturb=0.0, noise_std=0.0, **asked)
        data = replace(CLASSIC.data, dataset_name=self.dataset_name, img_wh=self.img_wh, spheric=self.spheric)
        config = replace(CLASSIC, data=data, model=model, train=replace(CLASSIC.train, chunk=self.chunk))
        config.check()
        run = load_model(self.ckpt_path, device_of(self.num_gpus), config)
        depth = DepthFiles(self.folder, self.depth_format == "bytes") if self.save_depth else None
        if self.dataset_name == FILMED and self.split == "test":
            self._film(run, depth)
        else:
            self._score(run, depth)

    def _score(self, run: "Run", depth: "DepthFiles | None") -> None:
        from nerf_pl.console import console
        from nerf_pl.evaluation import Output, evaluate, kind_of_pictures

        folder = self.folder
        scene = run.scene("train" if self.split == "test_train" else self.split, self.root_dir)
        facts = {"split": self.split, "checkpoint": str(self.ckpt_path)}
        facts["pictures"] = kind_of_pictures(self.root_dir, self.dataset_name)
        evaluate(run.model, scene, Output(folder, folder / "metrics.json", self.scene_name, depth), self.chunk, facts)
        told = f"scores {folder / 'metrics.json'}, pictures {folder}, report {self.added.report}"
        console.print(told)

    def _film(self, run: "Run", depth: "DepthFiles | None") -> None:
        """A spiral, or a turn if the photos surround the scene."""
        from nerf_pl.films.film import Take, film, film_cameras, tell, views_of
        from nerf_pl.films.paths import framed

        scene = run.scene("train", None if "train" in run.kept else self.root_dir, pictures=False)
        name, cameras, fps = film_cameras(FilmOptions("360" if scene.unbounded else "spiral"), scene)
        cameras = framed(cameras, *self.img_wh)
        take = Take(views_of(scene, cameras), fps, run.stamp, keep_frames=True, depth_files=depth)
        tell(film(run.model, take, self.folder / self.scene_name, self.chunk), take, f"the {name}, ")
