"""Python processes that this one starts."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tiny import PACKAGE

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


EDITABLE = f"""
import runpy, sys
from importlib.machinery import PathFinder

class Installed:
    '''As setuptools makes one for `pip install -e`: asked after the folders of sys.path.'''

    @staticmethod
    def find_spec(name, path=None, target=None):
        within = [{str(PACKAGE.parent)!r}] if name == "nerf_pl" else [{str(PACKAGE)!r}]
        return PathFinder.find_spec(name, within) if name.startswith("nerf_pl") else None

sys.meta_path.insert(sys.meta_path.index(PathFinder) + 1, Installed)
sys.argv = ["nerf_pl", "--version"]
runpy.run_module("nerf_pl", run_name="__main__", alter_sys=True)
"""


def test_the_package_works_beside_a_clone(tmp_path):
    """There Python takes the folder of the clone for the package, and finds its modules where it is installed."""
    (tmp_path / "nerf_pl").mkdir()
    known = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    told = subprocess.run([sys.executable, "-c", EDITABLE], env=known, cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert nerf_pl.__version__ in told.stdout


def test_modules_take_nothing_from_the_package_itself():
    """Beside a clone it may be another one, without contents."""
    takes = [file for file in PACKAGE.rglob("*.py") if re.search(r"^import nerf_pl$|nerf_pl\.__", file.read_text())]
    assert takes == []
