"""nerf import of checkpoints that others have trained."""

import shutil
from pathlib import Path

import pytest
import torch
from tiny import nerf, refused

from nerf_pl.checkpoints import load_model, read_checkpoint


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_import(scene_dir, data_dir):
    nerf("import", data_dir / "parity" / "nerf_pl_lego.ckpt", "--scene", scene_dir)
    found = load_model(Path("runs/nerf_pl_lego/checkpoints/last.ckpt"), torch.device("cpu"))
    assert found.root == scene_dir
    options = found.config.model
    assert (options.net_depth, options.net_width, options.net_skip) == (8, 256, 4)
    theirs = read_checkpoint(data_dir / "parity" / "nerf_pl_lego.ckpt")["state_dict"]
    assert torch.equal(found.model.fine.layers()["rgb"][0], theirs["nerf_fine.rgb.0.weight"])


def test_an_import_leaves_a_run_alone_that_has_its_best_weights_only(trained, data_dir, capsys):
    run = Path(shutil.copytree(trained, "runs/tiny"))
    (run / "checkpoints" / "last.ckpt").unlink()
    told = refused(capsys, "import", data_dir / "parity" / "nerf_pl_lego.ckpt", "--out", run)
    assert f"{run / 'checkpoints' / 'best.ckpt'} exists: give another --out" in told
    assert not (run / "checkpoints" / "last.ckpt").exists()
