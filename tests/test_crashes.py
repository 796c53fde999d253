"""Trainings that are killed at any moment, in the middle of writes too, and go on: the same to the last bit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import FLAGS, NGP_FLAGS, PROJECT, content, equal

KILLS = int(os.environ.get("NERF_PL_CRASH_KILLS", "100"))  # of each method
STEPS = 30 * KILLS  # after a validation every 5 of them the training may be killed


def start(folder: Path, scene: Path, words: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "nerf_pl", "train", str(scene), *words, "--num_gpus", "0"]
    command += ["--max_steps", str(STEPS), "--val_every", "5", "--exp_name", "run", "--resume", "auto"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize("words", [[*FLAGS, "--batch_size", "64"], NGP_FLAGS], ids=["nerf", "ngp"])
def test_a_training_that_is_killed_again_and_again(scene_dir, tmp_path, words):
    """One that nobody kills tells what comes out; a seed that is printed chooses the moments."""
    seed = int(os.environ.get("NERF_PL_CRASH_SEED", "0"))
    print(f"seed {seed}, {KILLS} kills")
    moments = random.Random(seed)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    process = start(whole, scene_dir, words)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    last, kills = killed / "runs" / "run" / "checkpoints" / "last.ckpt", 0
    while kills < KILLS:
        before = last.stat().st_mtime_ns if last.is_file() else 0
        process = start(killed, scene_dir, words)
        # each process gets as far as a new checkpoint, or the training would never end
        while process.poll() is None and (last.stat().st_mtime_ns if last.is_file() else 0) == before:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.2))
        if process.poll() is not None:
            process.communicate()
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        if last.is_file():
            content(killed / "runs" / "run")  # whole, whenever it was
    process = start(killed, scene_dir, words)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert kills >= KILLS // 2
    ours, theirs = (content(folder / "runs" / "run") for folder in (killed, whole))
    for part in ("state_dict", "optimizer_states", "global_step", "best_psnr", "best_step"):
        assert equal(ours[part], theirs[part]), part
    left = [path.name for path in (killed / "runs").rglob(".*")]
    assert not left
    print(f"{kills} kills, and not a bit differs")
