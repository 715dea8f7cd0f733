"""Hold standardised sequences, with what is to be added to their log p, and read them when needed.

Conventions:
    A sequence is ``(T, D)``, time first. Standardised frames are float32 tensors; raw frames
    ``(T, D_raw)`` slice like arrays and are read by ``np.asarray``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import torch

from rnade_lightning.datamodules.core.given import Given, joined
from rnade_lightning.datamodules.core.side import Side
from rnade_lightning.datamodules.core.standardise import Standardiser

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class FrameSequence:
    """A standardised sequence; it unpacks as name and frames.

    Attributes:
        name: Where it comes from: the file's name, and a number if the file holds several.
        frames: ``(T, D)``, float32.
        log_jacobian: To add to log p of each frame, ``(T,)``; 0 where frames are the data, -inf
            where a frame breaks a relation of the training data.
        breaks: The feature that breaks it, by number of the frame.
        raw: Raw frames ``(T, D_raw)`` as they were read, where they are at hand.
        context: What a model is given of each frame, ``(T, C)`` (see `given`), or of each feature,
            ``(T, D, C)`` (see `side`); None where nothing is.
        labels: Class of the sequence by name of the label.
    """

    name: str
    frames: torch.Tensor
    log_jacobian: torch.Tensor
    breaks: dict[int, str] = field(default_factory=dict)
    raw: Any = None
    context: torch.Tensor | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.name, self.frames))

    def start(self, n: int) -> "FrameSequence":
        """Return the first n frames of the sequence."""
        return self.stretch(0, n)

    def stretch(self, start: int, stop: int) -> "FrameSequence":
        """Return the frames from one on and before another."""
        return replace(
            self,
            frames=self.frames[start:stop],
            log_jacobian=self.log_jacobian[start:stop],
            breaks={t - start: name for t, name in self.breaks.items() if start <= t < stop},
            raw=None if self.raw is None else self.raw[start:stop],
            context=None if self.context is None else self.context[start:stop],
        )

    def context_of(self, start: int, frames: torch.Tensor) -> torch.Tensor | None:
        """Return the context of frames ``(1, T, D)`` from one on, as a model takes it."""
        if self.context is None:
            return None
        return self.context[None, start : start + frames.shape[1]].to(frames)

    def with_context(self) -> torch.Tensor:
        """Return the frames with their context behind them, 0 where it is absent, ``(T, D + C)``;
        for linear predictors, which are given no context by feature."""
        return joined(self.frames, self.context)

    @classmethod
    def of(
        cls,
        name: str,
        raw: Any,
        standardiser: Standardiser,
        given: Given | Side | None = None,
        span: tuple[int, int] | None = None,
    ) -> "FrameSequence":
        """Return raw frames ``(T, D_raw)`` as standardised ones, all or those of a span."""
        start, stop = span or (0, len(raw))
        own = raw[start:stop] if span else raw
        frames = np.asarray(own, dtype=np.float64)
        breaks = standardiser.breaks(frames)
        added = standardiser.log_jacobian(frames, breaks)
        context = None if given is None else given.of(raw, start, stop)
        labels = getattr(raw, "labels", {})
        return cls(name, standardiser.forward(frames), added, breaks, own, context, labels)


class Sequences(Sequence[FrameSequence]):
    """Standardised sequences, read when they are asked for."""

    def __init__(
        self,
        raw: Sequence[tuple[str, npt.ArrayLike]],
        standardiser: Standardiser,
        given: Given | Side | None = None,
    ) -> None:
        self._raw, self._how = raw, (standardiser, given)

    def __len__(self) -> int:
        return len(self._raw)

    @property
    def lengths(self) -> list[int]:
        """Return the number of frames of each sequence; nothing is read."""
        return [len(frames) for _, frames in self._raw]  # type: ignore[arg-type]

    def stretch(self, index: int, start: int, stop: int) -> FrameSequence:
        """Return the frames of a sequence from one on and before another; no others are read."""
        name, raw = self._raw[index]
        return FrameSequence.of(name, raw, *self._how, (start, stop))

    def first_break(self) -> str:
        """Return which sequence, frame and feature is the first to break a relation of the training
        data; all are read up to there."""
        found = (f"{s.name}: {name} of frame {t}" for s in self for t, name in s.breaks.items())
        return next(found, "a frame")

    def longer_than(self, n: int) -> "Sequences":
        """Return the sequences of more than n frames."""
        pairs = zip(self._raw, self.lengths, strict=True)
        return Sequences([raw for raw, length in pairs if length > n], *self._how)

    @overload
    def __getitem__(self, index: int) -> FrameSequence: ...
    @overload
    def __getitem__(self, index: slice) -> "Sequences": ...
    def __getitem__(self, index: int | slice) -> "FrameSequence | Sequences":
        if isinstance(index, slice):
            return Sequences(self._raw[index], *self._how)
        return FrameSequence.of(*self._raw[index], *self._how)
