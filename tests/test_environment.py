"""Variables of the environment that libraries read, and that the command sets before it imports them."""

import os

import pytest
from tiny import nerf, refused


@pytest.mark.parametrize("policy", [None, "active"])
def test_how_threads_wait_is_left_to_who_has_said_so(scene_dir, monkeypatch, policy):
    """What the program would set counts more than the policy."""
    forget(monkeypatch, "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    if policy:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    nerf("info", scene_dir)
    assert os.environ.get("GOMP_SPINCOUNT") == (None if policy else "3000")


@pytest.mark.parametrize(("processes", "rank", "expected"), [(1, None, None), (1, "1", "ERROR"), (2, None, "ERROR")])
def test_pytorch_is_silent_where_processes_train_together(scene_dir, capsys, monkeypatch, processes, rank, expected):
    """It would tell in a hundred lines that another process has ended."""
    forget(monkeypatch, "TORCH_CPP_LOG_LEVEL", "RANK", "SLURM_PROCID")
    if rank:
        monkeypatch.setenv("RANK", rank)
    refused(capsys, "train", "nowhere", "--num_gpus", processes, "--accelerator", "cpu")
    assert os.environ.get("TORCH_CPP_LOG_LEVEL") == expected


def forget(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """As if nobody had set these variables. After the test they are as before."""
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
