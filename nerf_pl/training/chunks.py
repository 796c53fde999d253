"""The data module that drives training in short chunks of steps."""

from collections.abc import Callable, Sequence

import lightning as L
import torch
from torch.utils.data import DataLoader


class Numbers(torch.utils.data.Dataset[int]):
    """A list of numbers, one item each."""

    def __init__(self, numbers: Sequence[int]):
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> int:
        return self.numbers[index]


class SceneData(L.LightningDataModule):
    """In training one item is a number of steps to take at once, and one pass ends at the next validation.

    In validation one item is the number of a slot, in which the system renders a view. Each process takes its share.
    """

    def __init__(self, next_chunks: Callable[[], Sequence[int]], validation_slots: int):
        super().__init__()
        self.next_chunks, self.validation_slots = next_chunks, validation_slots

    def train_dataloader(self) -> DataLoader[int]:
        return DataLoader(Numbers(self.next_chunks()), batch_size=None)

    def val_dataloader(self) -> DataLoader[int]:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DataLoader(Numbers(range(rank, self.validation_slots, world)), batch_size=None)
