"""What every test runs under: few threads, Triton's interpreter where there is no GPU, shapes checked at run time."""

import gc
import inspect
import os
import signal
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# before torch starts its thread pool: tests run in as many processes as there are cores, and their tensors are small
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # and where others use the machine, they would wait very long

import pytest
import torch

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = Path(str(getattr(find_spec("nerf_pl"), "origin", ""))).parent  # beside the tests, or installed from a wheel
collect_ignore = [] if (PROJECT / "nerf_pl").is_dir() else ["test_structure.py"]  # which is about the source tree

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when a kernel is defined, so before nerf_pl.ops loads one

# Triton and Numba compile the source of kernels, so nothing may be wrapped around them; what calls them is checked.
KERNEL_MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for name in ("triton*.py", "numba*.py")
    for path in (PACKAGE / "ops").rglob(name)
}
# the lock file has beartype; where it is missing the other tests are still worth running, and the header says so
SHAPES_CHECKED = find_spec("beartype") is not None
if SHAPES_CHECKED:
    from shapes import check_shapes

    check_shapes("nerf_pl", without=KERNEL_MODULES)


def _take_any_module_for_a_model() -> None:
    """Model and Renderer have data that a module keeps among its buffers, where Python 3.12 and newer do not look when
    they check a protocol. pyright checks them; here a torch.nn.Module will do."""
    from nerf_pl.methods.model import Model
    from nerf_pl.rendering import Renderer

    for protocol in (Model, Renderer):
        protocol.register(torch.nn.Module)


_take_any_module_for_a_model()


def _remember_sources() -> None:
    """tyro looks for the texts below options each time that it reads a command line, a third of the time that takes."""
    whole = inspect.getsource
    remembered = cache(whole)
    inspect.getsource = lambda each: remembered(each) if inspect.isclass(each) else whole(each)


_remember_sources()


def pytest_configure() -> None:
    """A shell that starts the tests in the background has them ignore Ctrl-C, and nohup the end of the terminal; but
    there are tests of both."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Look for garbage less often, and not among what stays: modules and tests. It took a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def pytest_report_header() -> list[str]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, kernels in Triton's interpreter"
    return [
        f"torch: {torch.__version__} on {device}",
        f"shapes and types: {'checked' if SHAPES_CHECKED else 'NOT checked, pip install beartype'}",
        f"real scenes: {os.environ.get('NERF_PL_DATA') or 'none, NERF_PL_DATA is not set'}",
    ]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real scenes (nerf_synthetic/lego and so on)."""
    folder = os.environ.get("NERF_PL_DATA")
    if not folder:
        pytest.skip("needs real scenes: set NERF_PL_DATA to the folder that holds nerf_synthetic")
    if not Path(folder).is_dir():
        pytest.fail(f"NERF_PL_DATA {folder} is not a folder: correct it or unset it")
    return Path(folder).resolve()  # tests change their folder


@pytest.fixture(scope="session")
def scene_dir(tmp_path_factory) -> Path:
    """A scene of a few tiny pictures, in the Blender layout. Not to be changed: copy it first."""
    from nerf_pl.scenes.demo import make_demo

    return make_demo(tmp_path_factory.mktemp("scene") / "toys", size=16, n_train=4, n_val=1, n_test=2)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, scene_dir) -> Path:
    """The folder of a run of twelve steps on it. Not to be changed: copy it first."""
    from tiny import config

    from nerf_pl.options import RunFolders
    from nerf_pl.training.run import train

    run = tmp_path_factory.mktemp("runs") / "tiny"
    train(config(), scene_dir, RunFolders.modern(run))
    return run


@pytest.fixture(scope="session")
def trained_ngp(tmp_path_factory, scene_dir) -> Path:
    """The folder of a run of twenty steps of the hash grid on it. Not to be changed: copy it first."""
    from tiny import config

    from nerf_pl.options import RunFolders
    from nerf_pl.training.run import train

    run = tmp_path_factory.mktemp("runs") / "tiny-ngp"
    train(config("ngp", max_steps=20), scene_dir, RunFolders.modern(run))
    return run
