"""Fit the baselines of all tables and pictures, and choose the frames on which they are scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnade_lightning.baselines import VAR, Options
from rnade_lightning.datamodules import FrameDataModule, FrameSequence
from rnade_lightning.datamodules.core.frames import Split
from rnade_lightning.datamodules.core.sequences import Sequences
from rnade_lightning.scoring import energy_score

PIECE = 4096
"""Frames that are looked at together, so that a long sequence takes no more memory."""

_CHOSEN_ON = 5_000  # validation frames, at most, that options are chosen on
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

    def energy(self, frames: Tensor, first: int, n_samples: int) -> Tensor:
        """Return the energy score of draws of the frames from ``first`` on, ``(T - first,)``."""

        def of(piece: Tensor) -> Tensor:
            x = piece[self.model.n_lags :, : len(self.model.A)].double()
            return energy_score(self.model.draws(piece, n_samples), x)

        return torch.cat(list(self._over(of, frames, first)))

    def _over(self, of: Callable[[Tensor], Any], frames: Tensor, first: int) -> Iterator[Any]:
        """Yield figures of the frames from ``first`` on, a piece at a time."""
        for start in range(first, len(frames), PIECE):
            yield of(frames[start - self.model.n_lags : start + PIECE])


class FittedBaselines:
    """Copying the last frame and a vector autoregression (VAR), tuned as models are: fitted to the
    training part, with options chosen on the validation part, then fitted to all that is known.

    Args:
        max_lags: most lags of the VAR that are tried.
        max_frames: frames to fit on; where there are more, stretches of all sequences. Options are
            chosen on 5,000 at most.
    """

    def __init__(self, max_lags: int, max_frames: int) -> None:
        self.max_lags, self.max_frames = max_lags, max_frames
        self._tuned: list[VAR] = []
        self._fitted: dict[str, list[Baseline]] = {}

    def first_scored(self, data: FrameDataModule) -> int:
        """Return the number of the first frame that the model and every baseline score."""
        return max(data.warmup, self.max_lags)

    def scored(self, data: FrameDataModule, split: str) -> Sequences:
        """Return the sequences of a part that have scored frames."""
        return data.sequences(split).longer_than(self.first_scored(data))  # type: ignore[arg-type]

    def known(self, data: FrameDataModule, split: str) -> list[FrameSequence]:
        """Return what is known before a part: the training part, and for the test, once all options
        are chosen, the validation part too; so many frames, spread over all files."""
        parts: Sequence[Split] = ("train",) if split == "val" else ("train", "val")
        return self._select(data, parts, spread)

    def known_whole(self, data: FrameDataModule) -> list[FrameSequence]:
        """Return sequences known before the test, spread over all files as well, each from its
        beginning: what some kinds of frames mean depends on all frames before them."""
        return self._select(data, ("train", "val"), spread_whole)

    def _select(
        self, data: FrameDataModule, parts: Sequence[Split], select: Select, most: int | None = None
    ) -> list[FrameSequence]:
        found = [data.sequences(part) for part in parts]
        where = [(part, i) for part in found for i in range(len(part))]
        n = min(self.max_frames, most or self.max_frames)
        spans = select([length for part in found for length in part.lengths], n)
        return [where[k][0].stretch(where[k][1], *span) for k, span in spans]

    def n_known(self, data: FrameDataModule) -> tuple[int, int]:
        """Return how many frames the baselines of the test are fitted on, and of how many."""
        lengths = [n for part in ("train", "val") for n in data.sequences(part).lengths]
        spans = spread(lengths, self.max_frames)
        return sum(stop - start for _, (start, stop) in spans), sum(lengths)

    def fitted(self, data: FrameDataModule, split: str) -> list[Baseline]:
        """Return the baselines for a part, fitted once to the data known before it."""
        if split not in self._fitted:
            models = self._tuned = self._tuned or self._tune(data)
            if split != "val":
                known = [sequence.with_context() for sequence in self.known(data, split)]
                models = [model.refitted(known) for model in models]
            names = ("copy_last", "copy the last frame"), ("var", "VAR")
            self._fitted[split] = [
                Baseline(*name, model) for name, model in zip(names, models, strict=True)
            ]
        return self._fitted[split]

    def options(self, data: FrameDataModule) -> str:
        """Return the options of the baselines of the test, in words."""
        found = "; ".join(f"{b.title}: {b.model.options}" for b in self.fitted(data, "test"))
        if self._validation(data):
            return f"{found}; chosen on the validation part"
        return f"{found}; not tuned, for lack of validation frames"

    def _validation(self, data: FrameDataModule) -> list[Tensor]:
        """Return the validation frames that options are chosen on."""
        some = self._select(data, ("val",), spread, _CHOSEN_ON)
        found = (sequence.with_context() for sequence in some)
        return [frames for frames in found if len(frames) > self.max_lags]

    def _tune(self, data: FrameDataModule) -> list[VAR]:
        """Return copying and the VAR, fitted to the training part."""
        train = [sequence.with_context() for sequence in self.known(data, "val")]
        n = 0 if data.given is None else sum(data.given.sizes)
        if validation := self._validation(data):
            how = train, validation, self.max_lags
            return [VAR.tuned(*how, copy, n) for copy in (True, False)]
        copying = Options(1, math.inf, True, shrinkage=0.1)
        var = Options(self.max_lags, 1.0, True, shrinkage=0.1)
        return [VAR.fit(train, *options, n_given=n) for options in (copying, var)]


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
