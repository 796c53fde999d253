"""Variables of the environment that libraries read, and that the command sets before it imports them."""

import os
import subprocess
import sys

import pytest
from tiny import PROJECT, refused

from nerf_pl import cli
from nerf_pl.errors import UserError


@pytest.fixture(autouse=True)
def _parses(monkeypatch):
    """All is set by then, for parsing imports PyTorch if a training is to go on."""

    def parse(words, program):
        raise UserError(
            " ".join(f"{name}={os.environ.get(name)}" for name in ("GOMP_SPINCOUNT", "TORCH_CPP_LOG_LEVEL"))
        )

    monkeypatch.setattr(cli, "parse", parse)


@pytest.mark.parametrize("policy", [None, "active"])
def test_how_threads_wait_is_left_to_who_has_said_so(capsys, monkeypatch, policy):
    """What the program would set counts more than the policy."""
    forget(monkeypatch, "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    if policy:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    assert f"GOMP_SPINCOUNT={None if policy else 3000} " in refused(capsys, "train", "scene", "--resume")


@pytest.mark.parametrize(
    ("words", "rank", "expected"),
    [([], None, None), ([], "1", "ERROR"), (["--num_gpus", 2], None, "ERROR"), (["--num-gpus=2"], None, "ERROR")],
)
def test_pytorch_is_silent_where_processes_train_together(capsys, monkeypatch, words, rank, expected):
    """It would tell in a hundred lines that another process has ended."""
    forget(monkeypatch, "TORCH_CPP_LOG_LEVEL", "RANK", "SLURM_PROCID")
    if rank:
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setattr(cli, "process", lambda: 0)
    assert f"TORCH_CPP_LOG_LEVEL={expected}" in refused(capsys, "train", "scene", "--resume", *words)


def test_the_command_line_imports_no_pytorch():
    """Which reads the environment then, and takes a second that --help need not take."""
    code = "import sys, nerf_pl.cli; print(*sorted({'torch', 'numpy', 'numba', 'lightning'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def forget(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """As if nobody had set these variables. After the test they are as before."""
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
