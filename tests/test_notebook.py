"""The notebook is stored without outputs, and runs on the checkpoint of a training."""

from dataclasses import replace
from pathlib import Path

import pytest
from nerf_pl.config import PRESETS, Config, ModelOptions

from nerf_pl.options import RunFolders
from nerf_pl.scenes.demo import make_demo
from nerf_pl.training.run import train

nbformat = pytest.importorskip("nbformat", reason="needs nerf_pl[notebook]")
nbclient = pytest.importorskip("nbclient", reason="needs nerf_pl[notebook]")

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "test.ipynb"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """What a few steps on a tiny scene leave behind."""
    root = make_demo(tmp_path_factory.mktemp("notebook") / "scene", size=24, n_train=4, n_val=1, n_test=2)
    model = ModelOptions(N_samples=8, N_importance=8, noise_std=0.0, net_depth=2, net_width=32, net_skip=1)
    options = replace(PRESETS["nerf"].train, batch_size=64, max_steps=10, num_gpus=0)
    return train(Config(model=model, train=options), root, RunFolders.modern(root.with_name("run")))


def test_stored_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


def test_shows_a_view_of_a_trained_model(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("NERF_PL_CKPT", str(checkpoint))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # whatever the caller's shell says
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))  # nothing of the user's takes part
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folders = {"metadata": {"path": str(NOTEBOOK.parent)}}
    # python3 is the kernel that belongs to this very interpreter
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=folders).execute()

    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    warned = [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert str(checkpoint) in printed
    assert "view r_0: PSNR " in printed
    assert len(pictures) == 1
    assert not warned
