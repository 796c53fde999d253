"""Checkpoints on disk: read without running code, written whole or not at all."""

import io
import os
import re
import shutil
import time
import warnings
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from nerf_pl.checkpoints.portable import SUFFIX
from nerf_pl.checkpoints.sound import require_plain
from nerf_pl.errors import DamagedError, UserError
from nerf_pl.writing import atomic_write

ZIP = b"PK\x03\x04"  # how a zip begins, by which torch knows one
AT_ONCE = 2**20  # bytes
SETTLED = 2.0  # seconds after which a file that is written again has another time, also on coarse clocks


class _Inert:
    """Stands in for an object that nothing needs: it accepts all that a file says about it and does nothing."""

    def __new__(cls, *_: object) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _PlainDict:
    """Stands in for a dictionary of some other class, and makes a plain dict of it."""

    def __new__(cls, *items: Any) -> Any:
        return dict(*items)


# Checkpoints of nerf_pl and nerf-pytorch from old versions of PyTorch Lightning hold objects of these classes beside
# tensors. The two classes above stand in for them, so the packages need not be installed and none of their code runs.
_STAND_INS: list[tuple[Any, str]] = [
    (_Inert, "argparse.Namespace"),
    (_Inert, "pathlib.PosixPath"),
    (_Inert, "pathlib.WindowsPath"),
    (_Inert, "numpy.dtype"),
    (_Inert, "numpy.ndarray"),
    *((_Inert, f"numpy.{core}.multiarray.{name}") for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    # classes of callbacks, keys to their state
    (_Inert, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
    (_Inert, "pytorch_lightning.callbacks.early_stopping.EarlyStopping"),
    (_Inert, "pytorch_lightning.callbacks.lr_monitor.LearningRateMonitor"),
    (_PlainDict, "pytorch_lightning.utilities.parsing.AttributeDict"),
    (_PlainDict, "lightning_fabric.utilities.data.AttributeDict"),
    (_PlainDict, "lightning.fabric.utilities.data.AttributeDict"),
]


def read_checkpoint(path: str | Path, *, lazily: bool = False) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU: .ckpt and .tar as written by torch.save, or .safetensors.

    lazily: tensors are read from the disk as they are used, where the file allows that. No code in the file runs. Old
    checkpoints hold settings as objects, which come back as empty stand-ins. Tensors, numbers, texts, lists and
    dictionaries come back as they are. Raises UserError if the file is missing, empty, damaged or no checkpoint, or if
    it calls anything else.
    """
    return _read(path, _STAND_INS, lazily=lazily)


def _read(
    path: str | Path, stand_ins: Sequence[tuple[Any, str]], map_location: Any = "cpu", *, lazily: bool = False
) -> dict[str, Any]:
    path = Path(path)
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"checkpoint {path} {reason}: give a .ckpt, .tar or .safetensors file")
    try:
        with path.open("rb") as file:
            first = file.read(len(ZIP))
    except OSError as error:
        raise UserError(f"cannot read checkpoint {path}: {error.strerror or error}; check its permissions") from error
    if not first:
        raise DamagedError(f"checkpoint {path} is empty: the copy or download failed, fetch it again")
    if path.suffix.lower() == SUFFIX:
        told = "is a portable scene, which holds too little to train on or to import"
        raise UserError(f"{path} {told}: give the folder of its run, or a checkpoint (.ckpt)")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        is_zip = first == ZIP  # files of old versions of PyTorch are none
        if is_zip:
            _require_sums_once(path)
        with torch.serialization.safe_globals(list(stand_ins)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, in files that are then refused
            checkpoint = torch.load(path, map_location=map_location, weights_only=True, mmap=lazily and is_zip)
    except Exception as error:  # damaged bytes make torch raise nearly any type
        raise _refusal(path, error) from error
    if not isinstance(checkpoint, dict) or not all(isinstance(key, str) for key in checkpoint):
        raise UserError(f"{path} holds no checkpoint but a {type(checkpoint).__name__}: give a file with a state_dict")
    require_plain(checkpoint, path)
    return checkpoint


def _require_sums_once(path: Path) -> None:
    """`_require_sums`, but of a file that this process has read, and that did not change since, not again: on a slow
    disk it takes seconds, and a training that goes on reads its checkpoint several times."""
    found = path.stat()
    if time.time() - found.st_mtime < SETTLED:
        _require_sums(path)
    else:
        _remembered(path.resolve(), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=16)
def _remembered(path: Path, *_: int) -> None:
    """What raises an error is not remembered."""
    _require_sums(path)


def _require_sums(path: Path) -> None:
    """Raises BadZipFile if a part of a zip is not what it was when its checksum was taken, which torch does not look
    at: damaged weights would be taken for good ones. 300 MB take a twentieth of a second."""
    with zipfile.ZipFile(path) as parts:
        for part in parts.infolist():
            if part.CRC == 0:  # torch.serialization.set_crc32_options(False) leaves them out
                continue
            with parts.open(part) as content:
                while content.read(AT_ONCE):
                    pass


def _refusal(path: Path, error: Exception) -> UserError:
    """One line for what torch.load says in many."""
    if isinstance(error, UnpicklingError) and (named := re.search(r"GLOBAL ([\w.]+)", str(error))):
        remedy = "save only its state_dict where it was made"
        told = f"it wants to call {named.group(1)}, which could run code"
        return UserError(f"checkpoint {path} was not loaded, {told}: {remedy}")
    if isinstance(error, MemoryError):  # a whole one must not be told as damaged, or it would be given up
        told = f"{path} needs more memory than there is, or is damaged"
        return UserError(f"{told}: end other programs and try again, or fetch it again")
    return DamagedError(f"{path} is damaged or no checkpoint: fetch it again or give a .ckpt or .tar file")


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint. An earlier file of that name is replaced once the new one is safe on the disk.

    Raises UserError if the file cannot be written (a full disk, for example). The earlier file then stays as it was.
    """
    # in memory first: if torch itself writes to a full disk, its error does not name the cause
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())


def read_own_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read what `write_checkpoint` wrote: tensors and plain Python values. Raises UserError as `read_checkpoint` does.

    No object gets a stand-in here, because a resumed run needs all of the checkpoint.
    """
    return _read(path, (), map_location)


def duplicate(source: Path, path: Path) -> None:
    """A copy of a file. No link: where one of the two is damaged, the other one is the remedy."""
    with atomic_write(path) as temporary:
        shutil.copyfile(source, temporary)


def stamp_of(checkpoint: Path) -> str:
    """A text that identifies the weights in a file. It changes when the file is written."""
    found = checkpoint.stat()
    return f"{checkpoint.name} {found.st_size} {found.st_mtime_ns}"
