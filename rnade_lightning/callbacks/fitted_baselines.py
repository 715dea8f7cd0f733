"""Fit the baselines of all tables and pictures, and choose the frames on which they are scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnade_lightning.baselines import VAR
from rnade_lightning.datamodules import FrameDataModule, FrameSequence
from rnade_lightning.datamodules.core.sequences import Sequences

PIECE = 4096
"""Frames that are looked at together, so that a long sequence takes no more memory."""

_STRETCH = 64  # frames, at least, of each sequence of a selection


Select = Callable[[Sequence[int], int], list[tuple[int, tuple[int, int]]]]
"""Selects so many frames of sequences of these lengths; see `spread`."""


class Baseline(NamedTuple):
    """One baseline, fitted."""

    key: str  # in log keys and columns
    title: str  # for people
    model: VAR

    def feature_log_prob(self, frames: Tensor, first: int) -> Tensor:
        """Return the log density of every feature of the frames from ``first`` on, ``(T - first,
        D)``, in nats."""
        return torch.cat(list(self._over(self.model.feature_log_prob, frames, first)))

    def log_prob(self, frames: Tensor, first: int) -> Tensor:
        """Return the log density of the frames from ``first`` on, ``(T - first,)``, nats."""
        return torch.cat(list(self._over(self.model.log_prob, frames, first)))

    def squared_errors(self, frames: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Return `VAR.squared_errors` of the frames from ``first`` on, each ``(T - first,)``."""
        pairs = self._over(self.model.squared_errors, frames, first)
        of_draw, of_mean = zip(*pairs, strict=True)
        return torch.cat(of_draw), torch.cat(of_mean)

    def _over(self, of: Callable[[Tensor], Any], frames: Tensor, first: int) -> Iterator[Any]:
        """Yield figures of the frames from ``first`` on, a piece at a time."""
        for start in range(first, len(frames), PIECE):
            yield of(frames[start - self.model.n_lags : start + PIECE])


class FittedBaselines:
    """Copying the last frame and a vector autoregression (VAR), fitted to the known data.

    Args:
        n_lags: p of the VAR.
        ridge: its ridge penalty.
        max_frames: frames to fit on; where more are known, stretches of all sequences.
    """

    def __init__(self, n_lags: int, ridge: float, max_frames: int) -> None:
        self.n_lags, self.ridge, self.max_frames = n_lags, ridge, max_frames
        self._fitted: dict[str, list[Baseline]] = {}

    def first_scored(self, data: FrameDataModule) -> int:
        """Return the number of the first frame that the model and every baseline score."""
        return max(data.warmup, self.n_lags)

    def scored(self, data: FrameDataModule, split: str) -> Sequences:
        """Return the sequences of a part that have scored frames."""
        return data.sequences(split).longer_than(self.first_scored(data))  # type: ignore[arg-type]

    def known(self, data: FrameDataModule, split: str) -> list[FrameSequence]:
        """Return what is known before a part: the training part, and for the test, as baselines
        have nothing to select, the validation part too; so many frames, spread over all files."""
        return self._known(data, split, spread)

    def known_whole(self, data: FrameDataModule) -> list[FrameSequence]:
        """Return sequences known before the test, spread over all files as well, each from its
        beginning: what some kinds of frames mean depends on all frames before them."""
        return self._known(data, "test", spread_whole)

    def _known(self, data: FrameDataModule, split: str, select: Select) -> list[FrameSequence]:
        found = data.sequences("train"), data.sequences("val")
        parts = found[:1] if split == "val" else found
        where = [(part, i) for part in parts for i in range(len(part))]
        spans = select([length for part in parts for length in part.lengths], self.max_frames)
        return [where[k][0].stretch(where[k][1], *span) for k, span in spans]

    def n_known(self, data: FrameDataModule) -> tuple[int, int]:
        """Return how many frames the baselines of the test are fitted on, and of how many."""
        lengths = [n for part in ("train", "val") for n in data.sequences(part).lengths]
        spans = spread(lengths, self.max_frames)
        return sum(stop - start for _, (start, stop) in spans), sum(lengths)

    def fitted(self, data: FrameDataModule, split: str) -> list[Baseline]:
        """Return the baselines for a part, fitted once to the data known before it."""
        if split not in self._fitted:
            known = [sequence.frames for sequence in self.known(data, split)]
            var = VAR.fit(known, self.n_lags, self.ridge)
            self._fitted[split] = [
                Baseline("copy_last", "copy the last frame", VAR.copy_last(known)),
                Baseline("var", f"VAR({self.n_lags})", var),
            ]
        return self._fitted[split]


def spread(lengths: Sequence[int], n_frames: int) -> list[tuple[int, tuple[int, int]]]:
    """Return a selection of frames that is spread over all sequences, whatever their order.

    All frames, if they are no more; else a stretch in the middle of each sequence, in proportion to
    its length. Where such stretches would be very short, there are fewer of them, evenly chosen.

    Args:
        lengths: frames of each sequence.
        n_frames: frames to select.

    Returns:
        Number of the sequence, and its first frame and one past its last one.

    >>> spread([100, 300], 200)
    [(0, (25, 75)), (1, (75, 225))]
    """
    if sum(lengths) <= n_frames:
        return [(i, (0, length)) for i, length in enumerate(lengths)]
    most = max(n_frames // _STRETCH, 1)
    chosen = np.arange(len(lengths))
    if len(chosen) > most:
        chosen = (np.arange(most) * len(lengths)) // most
    total = sum(lengths[i] for i in chosen.tolist())
    share = min(n_frames / total, 1.0)
    found = []
    for i in chosen.tolist():
        n = max(round(lengths[i] * share), 1)
        start = (lengths[i] - n) // 2
        found.append((i, (start, start + n)))
    return found


def spread_whole(lengths: Sequence[int], n_frames: int) -> list[tuple[int, tuple[int, int]]]:
    """Return a selection as `spread` does, of whole sequences, evenly chosen; the last one may be
    cut.

    >>> spread_whole([100] * 6, 250)
    [(0, (0, 100)), (3, (0, 100))]
    >>> spread_whole([300], 250)
    [(0, (0, 250))]
    """
    n_chosen = len(lengths)
    if sum(lengths) > n_frames:
        n_chosen = max(n_frames * len(lengths) // sum(lengths), 1)
    found = []
    for i in ((np.arange(n_chosen) * len(lengths)) // n_chosen).tolist():
        n = min(lengths[i], n_frames)
        found += [(i, (0, n))] * (n > 0)
        n_frames -= n
    return found
