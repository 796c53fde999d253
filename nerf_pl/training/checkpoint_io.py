"""Checkpoints for Lightning: it writes and reads them with the functions of `checkpoints`."""

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO

from nerf_pl.checkpoints import read_own_checkpoint, write_checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints on the local disk. A file is written whole or not at all, and reading it runs no code."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object | None = None
    ) -> None:
        """See `checkpoints.write_checkpoint`. Raises TypeError for storage_options, which local files do not have."""
        if storage_options is not None:
            raise TypeError("storage_options are for remote storage: AtomicCheckpointIO writes local files")
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """See `checkpoints.read_own_checkpoint`. No code of the file runs, whatever weights_only says."""
        return read_own_checkpoint(Path(path), map_location)
