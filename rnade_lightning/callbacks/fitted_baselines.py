"""Fit the baselines of all tables and pictures, and choose the frames on which they are scored."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor

from rnade_lightning.baselines import VAR
from rnade_lightning.datamodules import FrameDataModule, FrameSequence


class Baseline(NamedTuple):
    """One baseline, fitted."""

    key: str  # in log keys and columns
    title: str  # for people
    model: VAR

    def feature_log_prob(self, frames: Tensor, first: int) -> Tensor:
        """Return the log density of every feature of the frames from ``first`` on, ``(T - first,
        D)``, in nats."""
        return self.model.feature_log_prob(frames)[first - self.model.n_lags :]

    def log_prob(self, frames: Tensor, first: int) -> Tensor:
        """Return the log density of the frames from ``first`` on, ``(T - first,)``, nats."""
        return self.model.log_prob(frames)[first - self.model.n_lags :]

    def squared_errors(self, frames: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Return `VAR.squared_errors` of the frames from ``first`` on, each ``(T - first,)``."""
        of_draw, of_mean = self.model.squared_errors(frames)
        skip = first - self.model.n_lags
        return of_draw[skip:], of_mean[skip:]


class FittedBaselines:
    """Copying the last frame and a vector autoregression (VAR), fitted to the known data.

    Args:
        n_lags: p of the VAR.
        ridge: its ridge penalty.
        max_frames: most frames to fit to, and most frames of a part to score.
    """

    def __init__(self, n_lags: int, ridge: float, max_frames: int) -> None:
        self.n_lags, self.ridge, self.max_frames = n_lags, ridge, max_frames
        self._fitted: dict[str, list[Baseline]] = {}

    def first_scored(self, data: FrameDataModule) -> int:
        """Return the number of the first frame that the model and every baseline score."""
        return max(data.warmup, self.n_lags)

    def scored(self, data: FrameDataModule, split: str) -> list[FrameSequence]:
        """Return the sequences of a part that have scored frames."""
        return first_frames(data.sequences(split), self.max_frames, self.first_scored(data))  # type: ignore[arg-type]

    def known(self, data: FrameDataModule, split: str) -> list[FrameSequence]:
        """Return the sequences known before a part: those of the training part. For the test, they
        include the validation part, since baselines have nothing to select."""
        parts = ("train",) if split == "val" else ("train", "val")
        sequences = (data.sequences(part) for part in parts)  # type: ignore[arg-type]
        return first_frames(itertools.chain.from_iterable(sequences), self.max_frames)

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


def first_frames(
    sequences: Iterable[FrameSequence], n_frames: int, longer_than: int = 0
) -> list[FrameSequence]:
    """Return the first sequences, the last one cut where there are enough frames.

    Args:
        sequences: sequences of frames.
        n_frames: frames wanted in all.
        longer_than: sequences that are not longer, in frames, are left out.
    """
    found: list[FrameSequence] = []
    for sequence in sequences:
        if n_frames <= 0:
            break
        part = sequence.start(n_frames)
        if len(part.frames) > longer_than:
            found.append(part)
            n_frames -= len(part.frames)
    return found
