"""Checkpoints for Lightning: it writes and reads them with the functions of `checkpoints`."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from nerf_pl.checkpoints import read_own_checkpoint, write_checkpoint

HELD = "held"  # storage_options of a checkpoint that stays in memory for now


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints on the local disk. A file is written whole or not at all, and reading it runs no code.

    With `HELD` a checkpoint stays in memory, in place of one that was held before, until `write_held` or `drop_held`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: tuple[dict[str, Any], Path] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object | None = None
    ) -> None:
        """See `checkpoints.write_checkpoint`. Raises TypeError for other storage_options than HELD, which local files
        do not have."""
        if storage_options == HELD:
            self.drop_held()  # first, or memory would have to hold both
            self._held = _copied(checkpoint), Path(path)
            return
        if storage_options is not None:
            raise TypeError("storage_options are for remote storage: AtomicCheckpointIO writes local files")
        write_checkpoint(checkpoint, Path(path))

    def write_held(self) -> None:
        """Write what is held, if anything is. Raises UserError if that fails; it is then held no longer."""
        held, self._held = self._held, None
        if held is not None:
            write_checkpoint(*held)

    def drop_held(self) -> None:
        """Forget what is held."""
        self._held = None

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """See `checkpoints.read_own_checkpoint`. No code of the file runs, whatever weights_only says."""
        return read_own_checkpoint(Path(path), map_location)


def _copied(value: Any) -> Any:
    """All tensors of a checkpoint as they are now, on the CPU. The bytes of a file would take several times as long."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    return type(value)(map(_copied, value)) if isinstance(value, list | tuple) else value
