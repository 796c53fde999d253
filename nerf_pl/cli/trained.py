"""What the commands for a trained run share."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from nerf_pl.cli.flags import Plain, Position, device_of
from nerf_pl.cli.reporting import Added
from nerf_pl.errors import UserError
from nerf_pl.options import MOST_RAYS, DataOptions, RunFolders
from nerf_pl.options.ranges import between, check_options
from nerf_pl.options.shared import SIZE

MOST_GPUS = 64  # of one machine

if TYPE_CHECKING:
    from nerf_pl.checkpoints import Run
    from nerf_pl.scenes import Scene


@dataclass(frozen=True)
class Trained:
    """Which run, and how it is rendered."""

    folder: Position
    """Folder of the run, runs/NAME, or a file of nerf export, NAME.nerf."""
    checkpoint: Literal["last", "best"] = "last"
    """Which weights; best is by PSNR on the validation split."""
    rays_per_pixel: Annotated[int | None, between(1, MOST_RAYS)] = None
    """Rays whose mean is a pixel with an edge; one is fastest. By default the value of the run."""
    single: Plain[bool] = False
    """Show the first field of an ensemble alone: several times as quick, a little less good. The results go beside
    those of all fields, to files named _single."""
    chunk: Annotated[int | None, SIZE] = None
    """Rays rendered at once. Lower it if memory runs out. By default as in training."""
    scene: Path | None = None
    """Folder of the scene, if it has moved."""
    num_gpus: Annotated[int, between(0, MOST_GPUS)] = 1
    """0 means the CPU. Several GPUs share the views of nerf eval and the frames of nerf render."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        yield from ()

    def open(self, tell: bool = True, shares: bool = False) -> "Run":
        """The run, with the options for rendering that are given. tell: say where the results of a portable scene go.
        shares: the command can use several GPUs, see `Run.others`. Raises UserError if there is none."""
        import torch

        from nerf_pl.checkpoints import open_run
        from nerf_pl.console import console, warn

        check_options(self)
        self._require_gpus(shares)
        if RunFolders.modern(self.results).replaced.is_file():  # also if a checkpoint is given
            warn(f"{self.folder}: a training with --overwrite has saved nothing yet, so this is the run before it")
        # all read one file: a training may replace it meanwhile
        others = [torch.device("cuda", number) for number in range(1, self.num_gpus)]
        run = open_run(self.folder, device_of(self.num_gpus), self.checkpoint, others)
        if self.is_portable:
            if self.checkpoint == "best" and run.told.get("checkpoint") != "best":
                raise UserError(f"--checkpoint best: {self.folder} holds the last weights alone; leave the option out")
            if tell:
                console.print(f"{self.folder} is a portable scene: results go to {self.results}")
        run = run.single() if self.single else run
        if self.single and not run.is_single:
            warn(f"--single changes nothing: {self.folder} has one field")
        for model in (run.model, *run.others):
            model.rays_per_pixel = self.rays_per_pixel or model.rays_per_pixel
        train = run.config.train if self.chunk is None else replace(run.config.train, chunk=self.chunk)
        return replace(run, config=replace(run.config, train=train))

    def views(self, run: "Run", split: str, pictures: bool = True) -> "Scene":
        """The views of a split. pictures False: the cameras alone matter, which most runs keep; so they need neither
        the scene's folder nor its pictures. Raises UserError if what is needed is missing, and if memory has no room
        for rendering them."""
        scene = self._views(run, split, pictures)
        self.require_room(run, scene.cameras.width, scene.cameras.height)
        return scene

    def _require_gpus(self, shares: bool) -> None:
        if self.num_gpus < 2:
            return
        import torch

        there = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not shares:
            raise UserError(f"--num_gpus {self.num_gpus}: this command uses one GPU; give 1, or 0 for the CPU")
        if there < self.num_gpus:
            raise UserError(f"--num_gpus {self.num_gpus}, but this machine has {there}: give fewer")

    def require_room(self, run: "Run", width: int, height: int) -> None:
        """Raises UserError if the memory of a CPU has no room for the rays of a picture that are rendered at once. A
        GPU says so itself."""
        from nerf_pl.training.limits import require_chunk

        if run.model.step.device.type == "cpu":
            require_chunk(run.config, width * height)

    def _views(self, run: "Run", split: str, pictures: bool) -> "Scene":
        from nerf_pl.console import warn
        from nerf_pl.scenes import available_splits, detect

        if not pictures and split in run.kept:
            if self.scene is not None:
                detect(self.scene)
                warn(f"--scene {self.scene} is not read: run {self.folder} keeps the cameras that it was trained on")
            return run.scene(split, pictures=False)
        root = self.scene or run.root
        if root is None or (self.scene is None and not root.is_dir()):
            told = "does not know its scene" if root is None else f"was trained on {root}, which is gone"
            raise UserError(f"run {self.folder} {told}: add --scene FOLDER")
        data = run.config.data
        splits = available_splits(root, data.dataset_name, data.test_every)
        if splits and split not in splits:
            remedy = f"give --split {' or '.join(splits)}" if pictures else "give --path interpolate, 360 or spiral"
            raise UserError(f"run {self.folder} has no {split} views, {root} holds none out: {remedy}")
        return run.scene(split, root, pictures)

    @property
    def is_portable(self) -> bool:
        """Whether a portable scene is given in place of a run."""
        from nerf_pl.checkpoints import is_portable

        return self.folder.is_file() and is_portable(self.folder)

    @property
    def added(self) -> Added:
        """What a command that adds to the run tells of itself."""
        return Added(self.results, self.num_gpus)

    @property
    def results(self) -> Path:
        """The folder for the results: that of the run, also if one of its checkpoints is given; of a portable scene the
        one named after it, beside it."""
        path = self.folder
        if self.is_portable:
            return beside(path)
        if not path.is_file():  # also if it was removed meanwhile
            return path
        return path.parent.parent if path.parent.name == "checkpoints" else path.parent


def scores_file(folder: Path, run: "Run", split: str = "test") -> Path:
    """The file of a split's scores among the results of a run."""
    return folder / f"{named('metrics' if split == 'test' else f'metrics_{split}', run)}.json"


def named(name: str, run: "Run") -> str:
    """The name of what is made of a run. What is made of the first field of several has names of its own, so that
    reports, sweeps and films of the run go on showing what all fields give."""
    return f"{name}_single" if run.is_single else name


def beside(path: Path) -> Path:
    """The folder for what is made of a file: beside it, with its name. If that is the folder of a run or of a scene,
    which must not be mixed with others' results, `_results` is added."""
    from nerf_pl.scenes import LOADERS

    folder = path.with_suffix("")
    taken = folder == path or folder.is_file() or (folder / "checkpoints").is_dir()
    taken |= any(loader.recognises(folder) for loader in LOADERS.values() if folder.is_dir())
    return folder.with_name(f"{folder.name}_results") if taken else folder


def split_to_score(root: Path, data: DataOptions) -> list[str]:
    """What to add to a command that scores the views of a scene: another split, if those for tests cannot be read."""
    from nerf_pl.scenes import Request, available_splits, load_scene

    request = Request("", data.img_wh, data.downscale, data.test_every, data.spheric, pictures=False)
    splits = available_splits(root, data.dataset_name, data.test_every)
    for split in reversed(splits):
        try:
            load_scene(root, replace(request, split=split), data.dataset_name)
        except UserError:  # such as pictures that are not there
            continue
        return [] if split == "test" else ["--split", split]
    return []
