"""What can be typed: the options of `nerf ...` and of the classic train.py and eval.py."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from nerf_pl import config as options

Flags = tyro.conf.OmitArgPrefixes
Plain = tyro.conf.FlagCreatePairsOff  # --resume, without a --no_resume
Position = tyro.conf.Positional[Path]
RUNS = Path("runs")
FRAMES = 120


@dataclass(frozen=True)
class Train:
    """Train a model on a scene; everything of the run goes to runs/NAME."""

    scene: Position = tyro.MISSING
    """Folder of the scene."""
    method: Literal["ngp", "nerf"] = "ngp"
    """ngp is a hash grid that trains in seconds; nerf is the method of the 2020 paper. It sets the other defaults."""
    resume: Plain[bool] = False
    """Go on with the run where it stopped."""
    overwrite: Plain[bool] = False
    """Start again, over an earlier run of the same name."""
    data: Flags[options.DataOptions] = field(default_factory=lambda: options.PRESETS["ngp"].data)
    model: Flags[options.ModelOptions] = field(default_factory=lambda: options.PRESETS["ngp"].model)
    grid: Flags[options.GridOptions] = field(default_factory=lambda: options.PRESETS["ngp"].grid)
    optim: Flags[options.OptimOptions] = field(default_factory=lambda: options.PRESETS["ngp"].optim)
    train: Flags[options.TrainOptions] = field(
        default_factory=lambda: dataclasses.replace(options.PRESETS["ngp"].train, exp_name="")
    )

    @property
    def name(self) -> str:
        return self.train.exp_name or f"{self.scene.resolve().name}-{self.method}"

    @property
    def folders(self) -> options.RunFolders:
        return options.RunFolders.modern(RUNS / self.name)


@dataclass(frozen=True)
class Eval:
    """Render a split of the run's scene, score it, and write pictures, films, metrics.json and a page."""

    run: Position
    """Folder of the run, runs/NAME."""
    split: Literal["train", "val", "test"] = "test"
    """Which views."""
    checkpoint: Literal["last", "best"] = "last"
    """Which weights; best is by PSNR on the validation split."""
    rays_per_pixel: int | None = None
    """Rays whose mean makes up a pixel with an edge; one is fastest. By default as the run was trained."""
    scene: Path | None = None
    """Folder of the scene, if it has moved."""
    save_depth: Plain[bool] = False
    """Write depth in full precision too."""
    depth_format: Literal["pfm", "bytes"] = "pfm"
    """pfm, or raw float32."""
    num_gpus: Literal[0, 1] = 1
    """0 means the CPU."""


@dataclass(frozen=True)
class Render:
    """Film a run's scene from new views: MP4, GIF and a film of depth. Interrupted, the same command goes on."""

    run: Position
    """Folder of the run, runs/NAME."""
    path: str = "auto"
    """360 turns around the scene; spiral moves about among the training views, interpolate through them; test shows the
    test views; FILE.json has keyframes, or is a path of nerfstudio. auto: spiral for photos from one side, else 360."""
    frames: int | None = None
    """Frames of the film; 120 by default, of a file as many as it takes."""
    fps: float | None = None
    """Frames per second; 30 by default, or what a file asks for."""
    elevation: float | None = None
    """360: degrees above the horizon; 30 for Blender scenes, else as high as the training views."""
    radius: float | None = None
    """360: distance from what is looked at, in world units; 4 for Blender scenes, else that of the training views."""
    every: int | None = None
    """interpolate: pass each so many training views; by default one in ten frames."""
    loop: Plain[bool] = False
    """interpolate: go back to the first view."""
    depth: Literal["separate", "side", "none"] = "separate"
    """A film of depth: one of its own, side by side with the colours in one film, or none."""
    keep_frames: Plain[bool] = False
    """Keep the frames as PNG files, too."""
    img_wh: tuple[int, int] | None = None
    """Width and height of the film, of any aspect ratio; by default that of the first training image."""
    checkpoint: Literal["last", "best"] = "last"
    """Which weights."""
    rays_per_pixel: int | None = None
    """Rays whose mean makes up a pixel with an edge; one is fastest. By default as the run was trained."""
    scene: Path | None = None
    """Folder of the scene, if it has moved."""
    num_gpus: Literal[0, 1] = 1
    """0 means the CPU."""


@dataclass(frozen=True)
class Demo:
    """Make the built-in scene, train on it, evaluate and film it; takes some minutes on a CPU."""

    out: Path = RUNS / "demo"
    """Folder of the run."""
    scene: Path = Path("data/demo")
    """Folder of the scene."""
    seconds: float | None = None
    """Training time."""
    num_gpus: Literal[0, 1] = 1
    """0 means the CPU."""


@dataclass(frozen=True)
class Prepare:
    """Find where photos were taken, and make a scene of them; needs pycolmap."""

    source: Position
    """Folder of photos, or a film."""
    out: Path | None = None
    """Folder of the scene to make; data/NAME by default."""
    max_size: int = 1600
    """Longer side of the pictures, in pixels."""
    frames: int = 100
    """Frames to take from a film: the sharpest of each of so many parts."""
    matcher: Literal["auto", "exhaustive", "sequential"] = "auto"
    """Compare all pairs of photos, or those near in time."""
    overwrite: Plain[bool] = False
    """Put the new scene in the place of an earlier one."""


@dataclass(frozen=True)
class Import:
    """Turn a checkpoint of nerf_pl (.ckpt) or nerf-pytorch (.tar) into a run."""

    file: Position
    """The checkpoint."""
    out: Path | None = None
    """Folder of the run to make; runs/NAME-OF-FILE by default."""
    scene: Path | None = None
    """Folder of the scene it was trained on."""
    img_wh: tuple[int, int] | None = None
    """Width and height it was trained at."""
    N_samples: int = 64
    """Coarse samples per ray."""
    N_importance: int = 64
    """Fine samples per ray."""


@dataclass(frozen=True)
class Bench:
    """Measure speed, GPU memory and, for ngp, quality for training time."""

    method: Annotated[Literal["ngp", "nerf"], tyro.conf.Positional] = "ngp"
    """ngp: a training for each of `seconds`, a step by kernel, frames per second. nerf: a step, memory and the time to
    render a view in each of `precisions`."""
    scene: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder of a Blender scene; the built-in one by default."""
    out: Path = RUNS / "bench"
    """Where the table and its figures are written."""
    seconds: tuple[float, ...] = (5.0, 15.0, 60.0)
    """ngp: training times."""
    split: Literal["val", "test"] = "test"
    """ngp: views to score; tune on val."""
    precisions: tuple[Literal["fp32", "tf32", "bf16"], ...] = ("fp32", "tf32", "bf16")
    """nerf: precisions to measure."""
    steps: int = 2000
    """nerf: training steps of each; the first 10 % are not counted."""
    view: int = 800
    """nerf: width and height of the view that is rendered."""


@dataclass(frozen=True)
class ClassicTrain:
    """Train NeRF with the classic options; writes ckpts/EXP and logs/EXP."""

    root_dir: Path
    """Folder of the scene."""
    resume: Plain[bool] = False
    """Go on with the run where it stopped."""
    overwrite: Plain[bool] = False
    """Start again, over an earlier run of the same name."""
    data: Flags[options.DataOptions] = field(default_factory=lambda: options.CLASSIC.data)
    model: Flags[options.ModelOptions] = field(default_factory=lambda: options.CLASSIC.model)
    optim: Flags[options.OptimOptions] = field(default_factory=lambda: options.CLASSIC.optim)
    train: Flags[options.TrainOptions] = field(default_factory=lambda: options.CLASSIC.train)

    @property
    def folders(self) -> options.RunFolders:
        return options.RunFolders.classic(self.train.exp_name)


@dataclass(frozen=True)
class ClassicEval:
    """Render a split with the classic options; writes results/DATASET/SCENE."""

    root_dir: Path
    """Folder of the scene."""
    ckpt_path: Path
    """Checkpoint: ours, nerf_pl's or nerf-pytorch's."""
    dataset_name: Literal["blender", "llff"] = "blender"
    """Layout of the scene folder."""
    scene_name: str = "test"
    """Names the folder of the results."""
    split: Literal["train", "val", "test", "test_train"] = "test"
    """Which views: test_train are those it was trained on; test of llff has none, and is a film of new views."""
    img_wh: tuple[int, int] = (800, 800)
    """Width and height."""
    spheric: Plain[bool] = False
    """The photos surround the scene (llff only)."""
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


COMMANDS: dict[str, type] = {
    "train": Train, "eval": Eval, "render": Render, "demo": Demo, "prepare": Prepare, "import": Import, "bench": Bench,
}  # fmt: skip
CLASSIC: dict[str, type] = {"train.py": ClassicTrain, "eval.py": ClassicEval}


def parse(argv: Sequence[str], program: str = "nerf") -> Any:
    """The options of a command line; exits with code 2 and a suggestion for one that is not understood.

    With --resume, options that are not given are those that the run was started with.
    """
    argv = ["--spheric" if word == "--spheric_poses" else word for word in argv]  # classic, in full
    method = _typed(argv, "method") if program == "nerf" and argv[:1] == ["train"] else None
    parsed = _parse(argv, program, _preset(method) if method in options.PRESETS else None)
    if getattr(parsed, "resume", False):
        settings = parsed.folders.settings
        if settings.is_file():
            stored = options.read_settings(settings)
            parts = {name: getattr(stored, name) for name in options.SECTIONS if hasattr(parsed, name)}
            if isinstance(parsed, Train):
                parts["method"] = stored.method
            parsed = _parse(argv, program, dataclasses.replace(parsed, resume=False, overwrite=False, **parts))
    return _with_length(parsed, argv) if isinstance(parsed, Train | ClassicTrain) else parsed


def _typed(argv: Sequence[str], option: str) -> str | None:
    """The word that an option has been given, the last one if it stands there twice; None if it is not there."""
    found = None
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name.startswith("--") and name[2:].replace("-", "_") == option:
            found = value if equals else following
    return found


def _preset(method: str) -> Train:
    """The defaults of a method; the scene is still to be given."""
    preset = options.PRESETS[method]
    parts: dict[str, Any] = {name: getattr(preset, name) for name in options.SECTIONS}
    parts["train"] = dataclasses.replace(preset.train, exp_name="")
    return Train(method=preset.method, **parts)


def _with_length(parsed: Any, argv: Sequence[str]) -> Any:
    """Where the length of the training is typed, no other default of it holds: 5000 steps are not ended by the time
    that the method takes without them."""
    if all(_typed(argv, name) is None for name in ("max_steps", "seconds", "num_epochs")):
        return parsed
    unset = {name: None for name in ("max_steps", "seconds") if _typed(argv, name) is None}
    return dataclasses.replace(parsed, train=dataclasses.replace(parsed.train, **unset))


def _parse(argv: list[str], program: str, default: Any = None) -> Any:
    settings: dict[str, Any] = {"use_underscores": True, "config": (tyro.conf.DisallowNone,)}
    if program in CLASSIC:
        return tyro.cli(CLASSIC[program], prog=program, args=argv, default=default, **settings)
    if default is not None:
        return tyro.cli(type(default), prog=f"nerf {argv[0]}", args=argv[1:], default=default, **settings)
    description = (
        "Neural radiance fields: learn a scene from posed photos, see it from anywhere. "
        "Start with `nerf demo`, or `nerf train SCENE_DIR`; then `nerf eval RUN` and `nerf render RUN`."
    )
    return tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog=program, args=argv or ["--help"], description=description, **settings
    )
