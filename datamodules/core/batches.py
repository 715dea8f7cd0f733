"""Turn sequences into windows and padded batches, in an order that can be repeated.

Two kinds of order. `ShareSampler` shares out items that stand for themselves: shuffled windows, or
whole sequences by length. `RowSampler` lays whole sequences end to end, one row of the batch after
another, for training that carries the state from window to window.

Conventions:
    A batch is a dictionary: ``frames (B, T, D)`` float32, ``mask (B, T)`` true on valid frames
    (padding is on the right), ``scored (B, T)`` true on the valid frames that count, and
    ``log_jacobian (B, T)``, to add to log p of each frame (see `standardise`); where a model is
    given something beside the past, ``context (B, T, C)`` (see `given`), or ``(B, T, D, C)`` (see
    `side`), zeros where there is padding. An item dealt
    only to give every rank equal work is all zeros and fully masked. In batches of `RowSampler`
    there is also ``continues (B,)``, true where a row goes on from the same row of the batch
    before, and all batches of an epoch have the same number of rows.
"""

import heapq
import itertools
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from rnade_lightning.datamodules.core import DataError
from rnade_lightning.datamodules.core.given import Given
from rnade_lightning.datamodules.core.side import Side
from rnade_lightning.datamodules.core.standardise import Standardiser

Batch = dict[str, torch.Tensor]
Span = tuple[int, int, int]  # sequence, first frame, one past the last

_NOTHING = -1  # index of a fully masked item


def check_windows(window: int, stride: int, batch_size: int, warmup: int, stateful: bool) -> None:
    """Refuse windows that cannot be cut; sizes in frames, and windows in a batch.

    Raises:
        DataError: Says which option to change.
    """
    if min(window, stride, batch_size) < 1 or warmup < 0:
        raise DataError("window, stride and batch_size must be 1 or more, warmup 0 or more")
    if stride > window:
        raise DataError(f"stride {stride} skips frames: make it at most window ({window})")
    if stateful and stride != window:
        raise DataError("stateful windows do not overlap: leave stride out")


def cut(n_frames: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Return the windows over a sequence. The last may be shorter, so that no frame is lost.

    >>> cut(10, window=4, stride=3)
    [(0, 4), (3, 7), (6, 10)]
    >>> cut(9, window=4, stride=4)
    [(0, 4), (4, 8), (8, 9)]
    """
    n_windows = 1 + max(0, -(-(n_frames - window) // stride))
    return [(i * stride, min(i * stride + window, n_frames)) for i in range(n_windows)]


class Item(NamedTuple):
    """A span of a sequence, as it was read.

    Attributes:
        raw: Raw frames ``(T, D_raw)``, float64; none for an item that is fully masked.
        start: The first frame's number in its sequence.
        context: What is given of them, ``(T, C)`` or ``(T, D, C)``; None for nothing.
    """

    raw: npt.NDArray[np.float64]
    start: int
    context: torch.Tensor | None = None


class Spans(Dataset[Item]):
    """Spans of sequences as items, read when they are asked for.

    Args:
        sequences: Raw sequences, each ``(T, D_raw)``: arrays, or frames on disk.
        spans: Sequence, first frame and one past the last frame of each item.
        given: How a context is made; None where nothing is given.
    """

    def __init__(
        self, sequences: Sequence[Any], spans: Sequence[Span], given: Given | Side | None = None
    ) -> None:
        self.sequences, self.spans, self.given = sequences, spans, given

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> Item:
        sequence, start, stop = self.spans[index] if index != _NOTHING else (0, 0, 0)
        frames = self.sequences[sequence]
        context = None if self.given is None else self.given.of(frames, start, stop)
        return Item(np.asarray(frames[start:stop], np.float64), start, context)


class Collate:
    """Standardises the frames of a batch, all at once, and pads them on the right.

    Args:
        standardiser: Map from raw frames.
        n_frames: Length to pad to; None for the longest item of the batch.
        warmup: Frames at the start of each sequence that are not scored.
        stateful: Batches say which rows continue the batch before.
    """

    def __init__(
        self,
        standardiser: Standardiser,
        n_frames: int | None = None,
        warmup: int = 0,
        stateful: bool = False,
    ) -> None:
        self.standardiser, self.n_frames = standardiser, n_frames
        self.warmup, self.stateful = warmup, stateful

    def __call__(self, items: list[Item]) -> Batch:
        lengths = torch.tensor([len(item.raw) for item in items])
        starts = torch.tensor([item.start for item in items])
        at = torch.arange(self.n_frames or max(int(lengths.max()), 1))
        mask = at < lengths[:, None]  # (B, T)
        raw = np.concatenate([item.raw for item in items])  # (sum T, D_raw)
        valid, log_jacobian = self.standardiser.forward(raw), torch.zeros(mask.shape)
        log_jacobian[mask] = self.standardiser.log_jacobian(raw)
        if mask.all():
            frames = valid.unflatten(0, mask.shape)
        else:
            frames = valid.new_zeros(*mask.shape, valid.shape[1])
            frames[mask] = valid
        batch = {"frames": frames, "mask": mask, "log_jacobian": log_jacobian}
        batch["scored"] = mask & (starts[:, None] + at >= self.warmup)
        contexts = [item.context for item in items if item.context is not None]
        if contexts:
            context = contexts[0].new_zeros(*mask.shape, *contexts[0].shape[1:])
            context[mask] = torch.cat(contexts)
            batch["context"] = context
        return batch | ({"continues": starts > 0} if self.stateful else {})


class ResumableSampler(Sampler[int]):
    """An order of items for one rank, a function of ``seed`` and the epoch alone.

    So a run can be repeated or resumed, and the union of the ranks' k-th batches does not depend on
    how the frames are read, nor on the number of ranks if they share one batch size.

    Args:
        world_size: Number of ranks.
        rank: This rank.
        seed: Shuffles the order anew each epoch; None keeps the order of the items.
    """

    def __init__(self, world_size: int, rank: int, seed: int | None) -> None:
        self.world_size, self.rank, self.seed = world_size, rank, seed
        self.epoch = 0
        self.skip = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before every epoch."""
        self.epoch = epoch

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def order(self, rng: np.random.Generator | None) -> list[int]:
        """Return the items of this rank; every rank has as many."""

    def __iter__(self) -> Iterator[int]:
        rng = None if self.seed is None else np.random.default_rng([self.seed, self.epoch])
        skip, self.skip = self.skip, 0
        return iter(self.order(rng)[skip:])


class ShareSampler(ResumableSampler):
    """Deals items to ranks like cards: every item once, and the same number to each rank.

    Args:
        n_items: Number of items over all ranks.
        world_size: Number of ranks.
        rank: This rank.
        seed: Shuffles the order anew each epoch; None keeps the order of the items.
    """

    def __init__(self, n_items: int, world_size: int, rank: int, seed: int | None = None) -> None:
        super().__init__(world_size, rank, seed)
        self.n_items = n_items

    def __len__(self) -> int:
        return -(-self.n_items // self.world_size)

    def order(self, rng: np.random.Generator | None) -> list[int]:
        order = np.arange(self.n_items)
        if rng is not None:
            order = rng.permutation(order)
        mine: list[int] = order[self.rank :: self.world_size].tolist()
        return mine + [_NOTHING] * (len(self) - len(mine))


class RowSampler(ResumableSampler):
    """Lays sequences end to end in lanes, one for each row of the batches of all ranks.

    A lane holds whole sequences, and a sequence's windows stand one below the other, so that row i
    of a batch goes on where row i of the batch before stopped. The longest sequences are laid
    first, each into the lane that is shortest; where lanes end early, nothing fills them up. The
    lengths of the lanes, and with them the number of batches, are the same in every epoch. The
    shuffle changes only where equally long sequences go, and the order inside a lane.

    Args:
        n_windows: Number of windows of each sequence; they are numbered through.
        n_rows: Rows of a batch on one rank.
        world_size: Number of ranks.
        rank: This rank.
        seed: Shuffles the order anew each epoch; None keeps it.
    """

    def __init__(
        self,
        n_windows: Sequence[int],
        n_rows: int,
        world_size: int,
        rank: int,
        seed: int | None = None,
    ) -> None:
        super().__init__(world_size, rank, seed)
        self.n_windows, self.n_rows = np.asarray(n_windows, dtype=int), n_rows
        self.first = np.cumsum(self.n_windows) - self.n_windows
        self.n_batches = max((len(lane) for lane in self._lay(None)), default=0)

    def __len__(self) -> int:
        return self.n_batches * self.n_rows

    def order(self, rng: np.random.Generator | None) -> list[int]:
        mine = self._lay(rng)[self.rank :: self.world_size]
        rows = [lane + [_NOTHING] * (self.n_batches - len(lane)) for lane in mine]
        return [item for batch in zip(*rows, strict=True) for item in batch]

    def _lay(self, rng: np.random.Generator | None) -> list[list[int]]:
        """Return the windows of each lane of all ranks."""
        n = len(self.n_windows)
        ties = np.arange(n) if rng is None else rng.permutation(n)
        n_lanes = self.n_rows * self.world_size
        lanes: list[list[int]] = [[] for _ in range(n_lanes)]
        shortest = [(0, lane) for lane in range(n_lanes)]
        for i in np.lexsort((ties, -self.n_windows)).tolist():
            length, lane = heapq.heappop(shortest)
            lanes[lane].append(i)
            heapq.heappush(shortest, (length + int(self.n_windows[i]), lane))
        if rng is not None:
            lanes = [[lane[k] for k in rng.permutation(len(lane))] for lane in lanes]
        first, n_windows = self.first.tolist(), self.n_windows.tolist()
        return [[first[i] + k for i in lane for k in range(n_windows[i])] for lane in lanes]


class FrameLoader(DataLoader[Item]):
    """A loader that goes on at the next batch after a checkpoint that was taken inside an epoch.

    Random numbers of its workers depend on the sampler's seed, epoch and rank alone.
    """

    n_done = 0
    _resume_after = 0

    def __iter__(self) -> Any:
        done, self._resume_after = self._resume_after, 0
        if isinstance(self.sampler, ResumableSampler):
            self.sampler.skip = done * (self.batch_size or 1)
            entropy = [self.sampler.seed or 0, self.sampler.epoch, self.sampler.rank]
            (seed,) = np.random.SeedSequence(entropy).generate_state(1)
            self.generator.manual_seed(int(seed))  # workers', not the global one
        self.n_done = done
        batches: Iterator[Any] = super().__iter__()
        if not isinstance(self.sampler, ResumableSampler):  # Lightning's, such as to overfit
            batches = itertools.islice(batches, done, None)
        for batch in batches:
            self.n_done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches taken in this epoch, which Lightning saves with the loop's
        progress."""
        return {"n_done": self.n_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next epoch after the batches already taken, unless it was complete."""
        self._resume_after = state["n_done"] % max(len(self), 1)


def make_loader(
    frames: Sequence[Any],
    standardiser: Standardiser,
    windows: tuple[int, int],
    batch_size: int,
    *,
    given: Given | Side | None = None,
    stateful: bool,
    train: bool,
    warmup: int,
    seed: int,
    ranks: tuple[int, int],
    num_workers: int,
) -> FrameLoader:
    """Return the loader of a part: shuffled windows to train on, or else whole sequences, long ones
    first. If stateful, windows go on row by row.

    Args:
        frames: raw sequences ``(T, D_raw)``.
        standardiser: map from raw frames, fitted to the training part.
        windows: length of a window, and frames from one to the next.
        batch_size: windows or sequences in a batch, on each rank.
        given: how a context is made; None where nothing is given.
        stateful: rows go on from batch to batch.
        train: whether it is the training part.
        warmup: first frames of each sequence that are not scored in evaluation.
        seed: seed of the order of training windows.
        ranks: number of ranks, and this one.
        num_workers: processes that prepare batches.
    """
    raw, whole = list(frames), not (train or stateful)
    cuts = [[(0, len(x))] if whole else cut(len(x), *windows) for x in raw]
    if whole and batch_size > 1:  # neighbours of like length need little padding
        order = sorted(range(len(raw)), key=lambda i: -len(raw[i]))
        raw, cuts = [raw[i] for i in order], [cuts[i] for i in order]
    spans = [(i, *span) for i, spans in enumerate(cuts) for span in spans]
    shuffled = seed if train else None
    sampler: ResumableSampler = ShareSampler(len(spans), *ranks, shuffled)
    if stateful:
        batch_size = min(batch_size, -(-len(raw) // ranks[0]))
        sampler = RowSampler(list(map(len, cuts)), batch_size, *ranks, shuffled)
    padded = windows[0] if train else None
    return FrameLoader(
        Spans(raw, spans, given),
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=Collate(standardiser, padded, 0 if train else warmup, stateful),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # leaves the global one alone
    )
