"""The notebook is stored without outputs, and runs on what a training of any method leaves behind."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nerf_pl[notebook]")
nbclient = pytest.importorskip("nbclient", reason="needs nerf_pl[notebook]")

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "test.ipynb"


def test_stored_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


def test_shows_a_view_of_a_trained_model(trained, trained_ngp, tmp_path, monkeypatch):
    """Of both methods, one after the other in one kernel, which takes long to start."""
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # whatever the caller's shell says
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))  # nothing of the user's takes part
    runs, notebook = {"nerf": trained, "ngp": trained_ngp / "checkpoints" / "best.ckpt"}, nbformat.v4.new_notebook()
    parts = {}
    for method, path in runs.items():
        choose = nbformat.v4.new_code_cell(f"import os\nos.environ['NERF_PL_CKPT'] = {str(path)!r}")
        parts[method] = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
        for cell in parts[method]:
            cell.id = f"{method}-{cell.id}"
        notebook.cells += [choose, *parts[method]]
    folders = {"metadata": {"path": str(NOTEBOOK.parent)}}
    # python3 is the kernel that belongs to this very interpreter
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=folders).execute()
    for method, path in runs.items():
        check(parts[method], method, path)


def check(cells: list, method: str, path: Path) -> None:
    outputs = [output for cell in cells for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    warned = [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert f"{path}: method {method}, " in printed
    assert "view r_0: PSNR " in printed
    assert "the ray through the middle hides " in printed
    assert len(pictures) == 2
    assert not warned
