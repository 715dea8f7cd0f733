"""Sequences to padded batches: each frame once per device count, in an order that can be repeated.

Conventions:
    A batch is a dictionary: ``frames (B, T, D)`` float32, ``mask (B, T)`` true on valid frames
    (padding is on the right), ``scored (B, T)`` true on the valid frames that count. An item dealt
    only to give every rank equal work is all zeros and fully masked.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

Batch = dict[str, torch.Tensor]
Span = tuple[int, int, int]  # sequence, first frame, one past the last

_NOTHING = -1  # index of a fully masked item


def cut(n_frames: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Windows over a sequence; the last may be shorter, so that no frame is lost.

    >>> cut(10, window=4, stride=3)
    [(0, 4), (3, 7), (6, 10)]
    >>> cut(9, window=4, stride=4)
    [(0, 4), (4, 8), (8, 9)]
    """
    n_windows = 1 + max(0, -(-(n_frames - window) // stride))
    return [(i * stride, min(i * stride + window, n_frames)) for i in range(n_windows)]


class Spans(Dataset[Batch]):
    """Spans of sequences as items.

    Args:
        sequences: Standardised sequences, each ``(T, D)``.
        spans: Sequence, first frame and one past the last frame of each item.
        warmup: Number of frames at the start of each item that are not scored.
    """

    def __init__(
        self, sequences: Sequence[torch.Tensor], spans: Sequence[Span], warmup: int
    ) -> None:
        self.sequences, self.spans, self.warmup = sequences, spans, warmup

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> Batch:
        if index == _NOTHING:
            nothing = torch.zeros(1, dtype=torch.bool)
            frames = self.sequences[0].new_zeros(1, self.sequences[0].shape[-1])
            return {"frames": frames, "mask": nothing, "scored": nothing}
        sequence, start, stop = self.spans[index]
        frames = self.sequences[sequence][start:stop]  # (T, D)
        mask = torch.ones(len(frames), dtype=torch.bool)
        return {"frames": frames, "mask": mask, "scored": torch.arange(len(frames)) >= self.warmup}


class Collate:
    """Pads items on the right to ``n_frames``, or to the longest of the batch when it is None."""

    def __init__(self, n_frames: int | None = None) -> None:
        self.n_frames = n_frames

    def __call__(self, items: list[Batch]) -> Batch:
        n_frames = self.n_frames or max(len(item["mask"]) for item in items)
        batch = {}
        for key, value in items[0].items():
            batch[key] = value.new_zeros(len(items), n_frames, *value.shape[1:])
            for row, item in zip(batch[key], items, strict=True):
                row[: len(item[key])] = item[key]
        return batch


class Deal(Sampler[int]):
    """Deals items to ranks like cards: all of them, once, the same number to each.

    The order is a function of ``seed`` and the epoch alone, so that a run can be repeated or taken
    up again, and the union of the ranks' k-th batches does not depend on how the frames are read.

    Args:
        n_items: Number of items over all ranks.
        world_size: Number of ranks.
        rank: This rank.
        seed: Shuffles the order anew each epoch; None keeps the order of the items.
    """

    def __init__(self, n_items: int, world_size: int, rank: int, seed: int | None = None) -> None:
        self.n_items, self.world_size, self.rank, self.seed = n_items, world_size, rank, seed
        self.epoch = 0
        self.skip = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.n_items // self.world_size)

    def __iter__(self) -> Iterator[int]:
        order = np.arange(self.n_items)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        mine = order[self.rank :: self.world_size].tolist()
        mine += [_NOTHING] * (len(self) - len(mine))
        skip, self.skip = self.skip, 0
        return iter(mine[skip:])


class FrameLoader(DataLoader[Batch]):
    """A loader that a checkpoint taken inside an epoch takes up at the next batch."""

    n_done = 0
    _resume_after = 0

    def __iter__(self) -> Any:
        done, self._resume_after = self._resume_after, 0
        if isinstance(self.sampler, Deal):
            self.sampler.skip = done * (self.batch_size or 1)
        self.n_done = done
        for batch in super().__iter__():
            self.n_done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Number of batches taken in this epoch; Lightning saves it with the loop's progress."""
        return {"n_done": self.n_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Makes the next epoch begin after the batches already taken, unless it was complete."""
        self._resume_after = state["n_done"] % max(len(self), 1)
