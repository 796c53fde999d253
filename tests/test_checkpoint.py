"""Reading files that may be damaged or hostile, and writing files that may not fit."""

import argparse
import errno
import os
import pickle
import random
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from safetensors.torch import save_file
from tiny import equal

from nerf_pl.checkpoints import files, read_checkpoint
from nerf_pl.checkpoints.files import duplicate
from nerf_pl.errors import UserError
from nerf_pl.training.checkpoint_io import HELD, AtomicCheckpointIO


def weights() -> dict[str, torch.Tensor]:
    return {f"layer_{i}.weight": torch.randn(64, 32) for i in range(4)}


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_safetensors(tmp_path):
    content = weights()
    save_file(content, tmp_path / "weights.safetensors")
    read = read_checkpoint(str(tmp_path / "weights.safetensors"))
    assert read.keys() == content.keys()
    assert all(torch.equal(read[name], content[name]) for name in content)


def unreadable(path: Path, *parts: str) -> None:
    for read in (read_checkpoint, AtomicCheckpointIO().load_checkpoint):
        with pytest.raises(UserError) as error:
            read(path)
        message = one_line(error)
        assert str(path) in message
        for part in parts:
            assert part in message


def test_files_that_are_not_there(tmp_path):
    unreadable(tmp_path / "none.ckpt", "does not exist", "give a .ckpt")
    unreadable(tmp_path, "is a folder")


def test_checksums_are_read_once_unless_the_file_changes(tmp_path, monkeypatch):
    path, looks = tmp_path / "last.ckpt", []
    look = files._require_sums
    monkeypatch.setattr(files, "_require_sums", lambda path: (looks.append(path), look(path)))
    torch.save({"state_dict": weights()}, path)
    read_checkpoint(path)
    read_checkpoint(path)
    assert len(looks) == 2  # just written: it may be written again without another time
    os.utime(path, (1e9, 1e9))
    for read in (read_checkpoint, AtomicCheckpointIO().load_checkpoint, read_checkpoint):
        read(path)
    assert len(looks) == 3
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(400) + whole[middle + 400 :])
    unreadable(path, "damaged")
    os.utime(path, (1.1e9, 1.1e9))
    unreadable(path, "damaged")
    path.write_bytes(whole)
    read_checkpoint(path)


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_damaged_files(tmp_path, suffix):
    path = tmp_path / f"damaged{suffix}"
    path.touch()
    unreadable(path, "is empty")
    generator = random.Random(0)
    for size in (1, 10, 1000, 20_000):
        path.write_bytes(generator.randbytes(size))
        unreadable(path, "damaged", "fetch it again")
    path.write_text("<!DOCTYPE html><title>Not found</title>")
    unreadable(path, "damaged")


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.99])
def test_truncated_files(tmp_path, new_format, kept):
    path = tmp_path / "whole.ckpt"
    torch.save({"state_dict": weights()}, path, _use_new_zipfile_serialization=new_format)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    unreadable(path, "damaged")


@pytest.mark.parametrize("suffix", [".ckpt", ".tar"])
@pytest.mark.parametrize("lazily", [True, False])
def test_weights_that_changed_on_the_disk(tmp_path, suffix, lazily):
    """torch reads them without a word."""
    path = tmp_path / f"zeroed{suffix}"
    torch.save({"state_dict": {"weight": torch.randn(1000)}}, path)
    read_checkpoint(path, lazily=lazily)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)
    assert (torch.load(path)["state_dict"]["weight"] == 0).sum() >= 99
    unreadable(path, f"{path} is damaged or no checkpoint: fetch it again")
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(path, lazily=lazily)


def test_a_file_without_checksums_is_read(tmp_path):
    """Others may have told torch to leave them out."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(weights(), tmp_path / "weights.ckpt")
    finally:
        torch.serialization.set_crc32_options(before)
    assert read_checkpoint(tmp_path / "weights.ckpt").keys() == weights().keys()


def test_truncated_safetensors(tmp_path):
    path = tmp_path / "whole.safetensors"
    save_file(weights(), path)
    path.write_bytes(path.read_bytes()[:-100])
    unreadable(path, "damaged")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "locked.ckpt"
    torch.save({}, path)

    def deny(*args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", deny)
    unreadable(path, "Permission denied", "permissions")


@pytest.mark.parametrize("content", [[1, 2], {1: 2}, torch.ones(2)])
def test_something_else_than_a_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "other.ckpt")
    unreadable(tmp_path / "other.ckpt", "no checkpoint", "state_dict")


class Malicious:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("how", ["system", "open", "exec"])
def test_no_code_of_a_file_is_run(tmp_path, form, how):
    path, trace = tmp_path / "evil.ckpt", tmp_path / "trace"
    attack = {
        "system": Malicious(os.system, f"touch {trace}"),
        "open": Malicious(open, str(trace), "w"),
        "exec": Malicious(exec, f"open({str(trace)!r}, 'w')"),
    }[how]
    content = {"state_dict": weights(), "epoch": attack}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    unreadable(path, "evil.ckpt", *([how, "could run code"] if form != "pickle" else []))
    assert not trace.exists()


def test_stand_ins_call_nothing(tmp_path):
    """Even arguments that the real class would act on stay without effect, and the allowance ends with the call."""
    torch.save({"a": argparse.Namespace(x=1), "n": np.float64(2)}, tmp_path / "file.ckpt")
    allowed = set(torch.serialization.get_safe_globals())
    read = read_checkpoint(tmp_path / "file.ckpt")
    assert not isinstance(read["a"], argparse.Namespace)
    assert set(torch.serialization.get_safe_globals()) == allowed


def test_save_and_load(tmp_path):
    checkpoint_io, path = AtomicCheckpointIO(), tmp_path / "runs" / "lego" / "last.ckpt"
    for step in (1, 2):
        checkpoint_io.save_checkpoint({"step": step, "weights": torch.full((3,), float(step))}, path)
        loaded = checkpoint_io.load_checkpoint(path, weights_only=False)
        assert loaded["step"] == step
        assert torch.equal(loaded["weights"], torch.full((3,), float(step)))
    assert os.listdir(path.parent) == ["last.ckpt"]


@pytest.mark.parametrize("new_format", [True, False])
def test_reading_as_needed(tmp_path, new_format):
    path = tmp_path / "a.ckpt"
    torch.save({"weights": torch.arange(5.0), "step": 3}, path, _use_new_zipfile_serialization=new_format)
    found = read_checkpoint(path, lazily=True)
    assert found["step"] == 3
    assert found["weights"].tolist() == [0, 1, 2, 3, 4]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(path, lazily=True)


def test_a_copy_of_a_file(tmp_path):
    """Damage to one of the two leaves the other."""
    writer = AtomicCheckpointIO()
    best, last = (tmp_path / name for name in ("best.ckpt", "last.ckpt"))
    writer.save_checkpoint({"step": 0}, best)
    writer.save_checkpoint({"step": 1}, last)
    duplicate(last, best)
    last.write_bytes(last.read_bytes()[:100])
    assert writer.load_checkpoint(best)["step"] == 1
    assert sorted(os.listdir(tmp_path)) == ["best.ckpt", "last.ckpt"]


def test_saved_files_obey_the_umask(tmp_path):
    AtomicCheckpointIO().save_checkpoint({"a": 1}, tmp_path / "a.ckpt")
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.ckpt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def assert_first_survives(tmp_path: Path, fail) -> None:
    checkpoint_io, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    checkpoint_io.save_checkpoint({"step": 1}, path)
    before = path.read_bytes()
    with pytest.raises(UserError) as error:
        fail(lambda: checkpoint_io.save_checkpoint({"step": 2, "weights": torch.ones(100_000)}, path))
    assert str(path) in one_line(error)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_a_full_disk_leaves_the_earlier_file(tmp_path, monkeypatch):
    def fail(save):
        def full(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        save()

    assert_first_survives(tmp_path, fail)


def test_a_limit_on_file_sizes_leaves_the_earlier_file(tmp_path):
    def fail(save):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        try:
            save()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert_first_survives(tmp_path, fail)


def test_a_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(UserError) as error:
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "runs" / "last.ckpt")
    assert str(tmp_path / "runs" / "last.ckpt") in one_line(error)


def test_storage_options_are_refused(tmp_path):
    with pytest.raises(TypeError, match="storage_options"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "a.ckpt", storage_options={})


def test_what_is_held_is_written_as_it_was(tmp_path):
    """A training goes on with the same tensors. The later of two is kept."""
    writer, path = AtomicCheckpointIO(), tmp_path / "best.ckpt"
    weights = {"a": torch.zeros(3), "groups": [{"step": 1, "moments": (torch.ones(2), "text")}]}
    writer.save_checkpoint({"step": 0}, path, storage_options=HELD)
    writer.save_checkpoint(weights, path, storage_options=HELD)
    weights["a"] += 1
    weights["groups"][0]["moments"][0].zero_()
    assert not path.exists()
    writer.write_held()
    was = {"a": torch.zeros(3), "groups": [{"step": 1, "moments": (torch.ones(2), "text")}]}
    assert equal(writer.load_checkpoint(path), was)
    path.unlink()
    writer.write_held()
    assert not path.exists()


def test_resuming_refuses_what_it_would_lose(tmp_path):
    torch.save({"state": np.float64(1)}, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"numpy\S*scalar"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")


class Line(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return (self.layer(batch) - 2 * batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.1)


class Batches:
    def __iter__(self):
        return iter([torch.linspace(-1, 1, 8)[:, None]] * 4)

    def __len__(self):
        return 4


def test_lightning_saves_and_resumes_through_it(tmp_path):
    data = Batches()

    def trainer(max_epochs: int) -> Trainer:
        return Trainer(
            accelerator="cpu",
            max_epochs=max_epochs,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=tmp_path,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    torch.manual_seed(0)
    whole, first = Line(), Line()
    first.load_state_dict(whole.state_dict())
    trainer(2).fit(whole, data)
    run = trainer(1)
    run.fit(first, data)
    run.save_checkpoint(tmp_path / "last.ckpt")
    resumed = Line()
    trainer(2).fit(resumed, data, ckpt_path=str(tmp_path / "last.ckpt"))
    assert torch.equal(resumed.layer.weight, whole.layer.weight)
