"""The commands of the pages do what the pages say: run one after the other, on a tiny scene and a run of it."""

import re
import shutil
from pathlib import Path

import pytest
from test_docs import PAGES, blocks, commands, our_program
from tiny import NGP_FLAGS, nerf

PROJECT = Path(__file__).resolve().parent.parent
SMALL = {  # what makes a command quick: options that are added, unless the page gives them
    "train": ["--max_steps", "3", "--num_gpus", "0", "--overwrite", *NGP_FLAGS],
    "eval": ["--num_gpus", "0"],
    "render": ["--num_gpus", "0", "--frames", "2"],
    "points": ["--num_gpus", "0", "--count", "50"],
    "mesh": ["--num_gpus", "0", "--resolution", "16"],
    "export": ["--num_gpus", "0"],
    "report": [],
    "info": [],
}
LENGTHS = ("--seconds", "--max_steps", "--num_epochs")  # of a training
SLOWER = {
    "--count": "50",
    "--resolution": "16",
    "--img_wh": None,
    "--frames": "2",
    "--texture": "64",
    "--megabytes": "1",
}
LEFT_OUT = ("--resume", "--view", "--method", "--num_gpus 4", "--num_gpus 2", "--refine_poses", "FILE")


def quick(words: list[str]) -> list[str] | None:
    """A command of a page as it is run here; None if it is only parsed."""
    name, *rest = words or [""]
    if name not in SMALL or not rest or any(left in " ".join(rest) for left in LEFT_OUT):
        return None
    if rest[0] not in ("my_scene", "runs/first", "chair.nerf"):
        return None
    found, i = [name], 0
    while i < len(rest):
        word = rest[i]
        if (name == "train" and word in LENGTHS) or word == "--threshold":  # of another scene
            i += 2
        elif word == "--img_wh":
            i += 3
        elif word in SLOWER:
            found += [word, SLOWER[word]]
            i += 2
        else:
            found.append(word)
            i += 1
    added = SMALL[name]
    for at, word in enumerate(added):
        if word.startswith("--") and word not in found:
            values = added[at + 1 : at + 2] if at + 1 < len(added) and not added[at + 1].startswith("--") else []
            found += [word, *values]
    return found


def of_page(page: Path) -> list[list[str]]:
    found = []
    for each in blocks("bash", "sh"):
        if each.id.partition(":")[0] == page.relative_to(PROJECT).as_posix():
            (block,) = each.values
            for words in commands(block):
                program = our_program(words)
                if program and program[0] == "nerf" and (command := quick(program[1])):
                    found.append(command)
    return found


WITH_COMMANDS = [page for page in PAGES if of_page(page)]


def test_most_pages_on_how_to_use_it_have_commands_that_run():
    names = {page.name for page in WITH_COMMANDS}
    assert {"README.md", "training.md", "exports.md", "evaluation.md", "viewer.md"} - names <= {"viewer.md"}


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page, scene_dir, trained_ngp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(scene_dir, "my_scene")
    for name in ("first", "second"):
        shutil.copytree(trained_ngp, f"runs/{name}")
    nerf("export", "runs/first", "--scene", "chair.nerf", "--num_gpus", 0)
    for command in of_page(page):
        if command[0] == "mesh":
            pytest.importorskip("skimage")
        if "--out" in command and re.search(r"\.(ply|glb|obj)$", command[command.index("--out") + 1]):
            Path(command[command.index("--out") + 1]).unlink(missing_ok=True)
        if command[0] == "export" and "--scene" in command and Path("chair.nerf").exists():
            Path("chair.nerf").unlink()
        nerf(*command)
