"""Python processes that this one starts."""

import os
import subprocess
from pathlib import Path

import nerf_pl
from nerf_pl.children import paths, python


def test_what_lies_where_the_user_is_is_not_taken_for_modules(tmp_path):
    """Such as the folder nerf_pl of a clone, which Python would take for the package."""
    for name in ("nerf_pl", "torch"):
        Path(tmp_path, name).mkdir()
    Path(tmp_path, "argparse.py").write_text("raise RuntimeError('not this one')", encoding="utf-8")
    told = subprocess.run(
        python("-m", "nerf_pl", "--version"),
        env={**os.environ, **paths()},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    assert nerf_pl.__version__ in told.stdout
