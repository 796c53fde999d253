"""What is packed for others: complete, and it passes tests where the sources are not."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from tiny import PROJECT

pytestmark = pytest.mark.slow
# what reads the files that come with the package, and commands in this process and in others; CI runs all tests so
INSTALLED = ["test_help.py", "test_info.py", "test_web.py", "test_report_parts.py", "test_report.py", "test_systems.py"]
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def run(*words: object, folder: Path, **environment: str) -> str:
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command, known = [str(word) for word in words], {**known, **environment}
    done = subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> tuple[Path, Path]:
    """The folder of an unpacked sdist, and a wheel that was built there."""
    if not (PROJECT / "nerf_pl").is_dir():
        pytest.skip("needs the source tree")
    folder = tmp_path_factory.mktemp("packed")
    tree = folder / "tree"  # a copy: building leaves files behind
    names = ("build", "dist", "site", ".*", "__pycache__", "*.egg-info", "runs", "data", "ckpts", "logs", "results")
    shutil.copytree(PROJECT, tree, ignore=shutil.ignore_patterns(*names))
    shutil.copy(PROJECT / ".gitignore", tree)
    run(sys.executable, "-c", BUILD, "build_sdist", folder, folder=tree)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    run(sys.executable, "-c", BUILD, "build_wheel", folder, folder=unpacked)
    (wheel,) = folder.glob("*.whl")
    return unpacked, wheel


def files(folder: Path) -> set[str]:
    found = (file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    return {file.as_posix() for file in found if "__pycache__" not in file.parts}


def test_the_sdist_has_every_file_that_git_has(packed):
    if not (PROJECT / ".git").exists():
        pytest.skip("needs the repository")
    kept = {name for name in run("git", "ls-files", folder=PROJECT).splitlines() if not name.startswith(".")}
    there = {name for name in kept if (PROJECT / name).exists()}
    assert there - files(packed[0]) == set()


def test_the_wheel_has_every_file_of_the_package(packed):
    with zipfile.ZipFile(packed[1]) as archive:
        names = {name for name in archive.namelist() if name.startswith("nerf_pl/")}
    assert names == {f"nerf_pl/{name}" for name in files(PROJECT / "nerf_pl")}


def test_the_installed_wheel_passes_tests(packed, tmp_path):
    """In an environment of its own, which has the packages of this one, but none of its nerf_pl."""
    unpacked, wheel = packed
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    install = ["install", "--no-deps", "--no-index", "--disable-pip-version-check", "-q"]
    run(sys.executable, "-m", "pip", "--python", python, *install, wheel, folder=tmp_path)
    (site,) = (tmp_path / "venv").rglob("site-packages")
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"])
    shutil.rmtree(unpacked / "nerf_pl")
    where = run(python, "-c", "import nerf_pl; print(nerf_pl.__file__)", folder=unpacked)
    assert Path(where.strip()).is_relative_to(site)
    assert "nerf_pl" in run(python.with_name("nerf"), "--version", folder=unpacked)
    tests = [f"tests/{name}" for name in INSTALLED]
    told = run(python, "-m", "pytest", "-q", "-n", "0", *tests, folder=unpacked, OMP_NUM_THREADS="1")
    assert " passed" in told
