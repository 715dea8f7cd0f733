"""Turn sequences into splits, windows and padded batches, in an order that can be repeated.

Training, validation and test parts are set apart so that nothing leaks: the end of every sequence
(`tail`), whole files by a seeded shuffle (`whole_files`), or groups of files that belong together,
such as readings of one sentence (`whole_groups`).

Two kinds of order. `ShareSampler` shares out items that stand for themselves: shuffled windows, or
whole sequences by length. `RowSampler` lays whole sequences end to end, one row of the batch after
another, for training that carries the state from window to window.

Conventions:
    A batch is a dictionary: ``frames (B, T, D)`` float32, ``mask (B, T)`` true on valid frames
    (padding is on the right), ``scored (B, T)`` true on the valid frames that count, and
    ``log_jacobian (B, T)``, to add to log p of each frame (see `standardise`). An item dealt
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


def tail(
    n_frames: int, val_fraction: float, test_fraction: float, warmup: int = 0
) -> dict[str, slice]:
    """Return the span of each part in one sequence; a part of fraction 0 is left out.

    A part of the end that is not longer than the warm-up has no frame that is scored: these frames
    stay with the part before them.

    >>> tail(10, val_fraction=0.1, test_fraction=0.2)
    {'train': slice(0, 7, None), 'val': slice(7, 8, None), 'test': slice(8, 10, None)}
    >>> tail(10, val_fraction=0.1, test_fraction=0.2, warmup=1)
    {'train': slice(0, 8, None), 'test': slice(8, 10, None)}
    """
    test = n_frames - round(n_frames * test_fraction)
    if test_fraction > 0 and not scores(n_frames - test, warmup):
        test = n_frames
    val = test - round(n_frames * val_fraction)
    if val_fraction > 0 and not scores(test - val, warmup):
        val = test
    spans = {"train": slice(0, val), "val": slice(val, test), "test": slice(test, n_frames)}
    return {part: span for part, span in spans.items() if span.start < span.stop}


def scores(n_frames: int, warmup: int) -> bool:
    """Tell whether a sequence has a frame that is scored: one past the warm-up."""
    return n_frames > warmup


def whole_files(n_files: int, val_fraction: float, test_fraction: float, seed: int) -> list[str]:
    """Return the part of each file. Every part with a fraction above 0 gets at least one file.

    Raises:
        DataError: Too few files.
    """
    n_test = max(round(n_files * test_fraction), 1) if test_fraction > 0 else 0
    n_val = max(round(n_files * val_fraction), 1) if val_fraction > 0 else 0
    n_train = n_files - n_test - n_val
    if n_train < 1:
        raise DataError(
            f"{n_files} files are too few for {n_test} of test, {n_val} of validation and one to"
            " train: add files, lower the fractions, or set split to tail"
        )
    labels = ["test"] * n_test + ["val"] * n_val + ["train"] * n_train
    order = np.random.default_rng([seed, n_files]).permutation(n_files)
    return [labels[i] for i in order]


def whole_groups(
    groups: Sequence[str], val_fraction: float, test_fraction: float, seed: int
) -> list[str]:
    """Return the part of each file, given the group of each. All files of a group are in one part.

    Fractions are those of the groups.

    Raises:
        DataError: Too few groups.
    """
    names = sorted(set(groups))
    try:
        parts = whole_files(len(names), val_fraction, test_fraction, seed)
    except DataError as error:
        if len(names) == len(groups):
            raise
        raise DataError(str(error).replace("files", "groups of files")) from None
    part_of = dict(zip(names, parts, strict=True))
    return [part_of[group] for group in groups]


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
    """

    raw: npt.NDArray[np.float64]
    start: int


class Spans(Dataset[Item]):
    """Spans of sequences as items, read when they are asked for.

    Args:
        sequences: Raw sequences, each ``(T, D_raw)``: arrays, or frames on disk.
        spans: Sequence, first frame and one past the last frame of each item.
    """

    def __init__(self, sequences: Sequence[Any], spans: Sequence[Span]) -> None:
        self.sequences, self.spans = sequences, spans

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> Item:
        sequence, start, stop = self.spans[index] if index != _NOTHING else (0, 0, 0)
        return Item(np.asarray(self.sequences[sequence][start:stop], np.float64), start)


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
        Spans(raw, spans),
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=Collate(standardiser, padded, 0 if train else warmup, stateful),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # leaves the global one alone
    )
