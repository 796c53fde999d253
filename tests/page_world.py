"""How commands of the pages are made quick, and the folder in which they find what they name."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from test_docs import blocks, commands, our_program
from test_foreign import nerf_pl_state, nerf_pytorch_checkpoint
from test_importers import write_nsvf
from tiny import FLAGS, MODEL, NGP_FLAGS, flags, nerf

from nerf_pl import media
from nerf_pl.scenes.importers import IMPORTERS

PROJECT = Path(__file__).resolve().parent.parent
CPU = ["--num_gpus", "0"]
FEW_RAYS = ["--batch_size", "64"]
ADDED = {  # unless the page gives them
    "prepare": ["--overwrite"],
    "train": ["--max_steps", "3", *CPU],
    "eval": CPU,
    "render": [*CPU, "--frames", "8"],
    "points": [*CPU, "--count", "50"],
    "mesh": [*CPU, "--resolution", "16"],
    "export": CPU,
    "view": CPU,
    "train.py": [*flags(MODEL), *FEW_RAYS, "--max_steps", "3", *CPU],
    "eval.py": ["--N_samples", "8", *CPU],
}
IN_PLACE = {  # of what a page gives; none: left out with its values
    "--count": ["50"], "--resolution": ["16"], "--texture": ["64"], "--megabytes": ["1"], "--frames": ["8"],
    "--seconds": [], "--max_steps": [], "--num_epochs": [], "--threshold": [], "--max_size": ["400"],
    "--img_wh": ["16", "16"],
}  # fmt: skip
BENCH = {
    "ngp": ["bench", "ngp", "my_scene", "--seconds", "0.1", "--split", "val"],
    "nerf": ["bench", "nerf", "my_scene", "--steps", "1", "--view", "4", "--precisions", "fp32"],
}
IMPORTED = {"importing.md", *(f"import_{name}.md" for name in IMPORTERS)}  # pages whose scene is another program's
PREPARING = {"README.md", "index.md", "photos.md"}  # where a scene is made of photos that are larger
ELSEWHERE = {  # what begins so has a test of its own; the longest beginning counts
    "make": "test_docs.py::test_bash_blocks_are_valid",
    "make demo": "test_cli.py::test_demo",
    "make docs": "test_site.py::test_the_site_is_built_without_a_warning",
    "python3 -m venv": "test_package.py::test_the_installed_wheel_passes_tests",
    "pip install": "test_pages.py::test_extras_that_pages_install_are_there",
    "nerf sweep": "test_sweep.py::test_two_scenes_of_which_one_is_broken",
    "nerf doctor --compile": "ops/test_compiles.py::test_every_kernel_compiles_and_fits",
    "torchrun": "test_machines.py::test_two_machines_lose_a_process_and_go_on_with_one",
    "srun": "test_machines.py::test_what_srun_starts_is_as_what_torchrun_starts",
    "nerf train my_scene --num_gpus": "test_ngp.py::test_two_processes_train_to_the_mean_of_their_weights",
}


def command_lines(page: Path) -> Iterator[list[str]]:
    """All commands in the blocks of a page, as words."""
    for block in blocks("bash", "sh", "shell", "console"):
        if block.id.rpartition(":")[0] == page.relative_to(PROJECT).as_posix():
            (text,) = block.values
            yield from commands(str(text))


def place_of(words: list[str]) -> str | None:
    """The test that runs a command elsewhere."""
    line = " ".join(words)
    found = [start for start in ELSEWHERE if line.startswith(start)]
    return ELSEWHERE[max(found, key=len)] if found else None


def quick(words: list[str], page: str) -> tuple[str, list[str]] | None:
    """The program, and the words with which the command is run; None for one that `place_of` has."""
    found = our_program(words)
    if found is None or place_of(words) is not None:
        return None
    program, rest = found
    name = program if program != "nerf" else rest[0]
    if name == "bench":
        return program, BENCH[rest[1]]
    if "--help" in rest or "--help-all" in rest or name not in ADDED:
        return program, [_other(word, name, page) for word in _lighter(rest)]
    made = [_other(word, name, page) for word in _lighter(rest)]
    added = list(ADDED[name])
    if name == "train":
        if page in PREPARING:
            added += ["--downscale", "9"]
        added += [*FLAGS[2:], *FEW_RAYS] if "--method" in made else NGP_FLAGS
        added = ["--max_steps", "6", *added[2:]] if "--resume" in made else [*added, "--overwrite"]
    return program, [*made, *_not_given(added, made)]


def _lighter(words: list[str]) -> Iterator[str]:
    """The words, with lighter values of the options in IN_PLACE."""
    i = 0
    while i < len(words):
        word, i = words[i], i + 1
        if word not in IN_PLACE:
            is_variable = words[i - 2 : i] == ["--ckpt_path", "scene"]
            yield "ckpts/exp/last.ckpt" if is_variable else word
            continue
        while i < len(words) and not words[i].startswith("--"):
            i += 1
        yield from [word, *IN_PLACE[word]] if IN_PLACE[word] else []


def _other(word: str, command: str, page: str) -> str:
    """A scene of another program in place of the one that trains as it is."""
    is_other = word == "my_scene" and "--scene" not in word and (command == "import" or page in IMPORTED)
    return "other_scene" if is_other else word


def _not_given(added: list[str], given: list[str]) -> Iterator[str]:
    i = 0
    while i < len(added):
        end = next((k for k in range(i + 1, len(added)) if added[k].startswith("--")), len(added))
        if added[i] not in given:
            yield from added[i:end]
        i = end


# ---- what the commands find ------------------------------------------------------------------------------------------


def furnish(scene: Path, run: Path, photos: Callable[[], Path], lines: list[list[str]]) -> None:
    """Fill the working folder with what the pages name: scenes, runs, weights of others and, if a command asks for
    them, photos and a film."""
    prepares = any(words[:2] == ["nerf", "prepare"] for words in lines)  # which makes my_scene
    for name in ("scene", "data/demo", *(["my_scene"] if not prepares else [])):
        shutil.copytree(scene, name)
    for name in ("first", "second", "demo"):
        shutil.copytree(run, f"runs/{name}")
    write_nsvf(Path("other_scene"), ["0_0", "0_1", "0_2", "1_0", "2_0"], "16 numbers")
    torch.save({"state_dict": nerf_pl_state(MODEL.net_depth, MODEL.net_width, MODEL.net_skip)}, "old.ckpt")
    torch.save(nerf_pytorch_checkpoint(), "lego.tar")
    nerf("export", "runs/first", "--scene", "chair.nerf", *CPU)
    if prepares:
        shutil.copytree(photos(), "my_photos")
        pictures = [np.asarray(Image.open(file)) for file in sorted(Path("my_photos").iterdir())]
        media.write_mp4("film.mp4", pictures, fps=4)


def write_photos(folder: Path, n: int = 8, size: int = 360) -> Path:
    """Photos of a corner of two walls and a floor with spots all over, so that all of them are surely placed."""
    rng = np.random.default_rng(0)
    spots = sum(np.kron(rng.random((3, 256 // k, 256 // k)), np.ones((k, k))) for k in (2, 4, 8, 16)) / 4
    at = (np.arange(size) + 0.5) / size - 0.5
    folder.mkdir()
    for i, turn in enumerate(np.radians(40 + 3.0 * np.arange(n))):
        back = np.array([np.cos(turn), np.sin(turn), 0.6 + 0.05 * (i % 2)])
        back /= np.linalg.norm(back)
        right = np.array([-np.sin(turn), np.cos(turn), 0.0])
        up = np.cross(back, right)
        rays = at[None, :, None] * right - at[:, None, None] * up - back
        t = -3 * back / rays  # to each of the three planes through the origin
        first = np.where(t > 0, t, np.inf).argmin(2)
        xyz = 3 * back + rays * np.take_along_axis(t, first[..., None], 2)
        u, v = (np.take_along_axis(xyz, ((first + k) % 3)[..., None], 2)[..., 0] * 64 for k in (1, 2))
        photo = spots[first, u.astype(int) % 256, v.astype(int) % 256]
        Image.fromarray((photo[..., None] * [255, 230, 200]).astype(np.uint8)).save(folder / f"{i:03}.jpg", quality=95)
    return folder
