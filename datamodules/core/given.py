"""Tell what a model is given beside the past: features, signals of other files, and labels.

What is given is the *context* of a frame. It is not modelled, so log p is that of the other
features given it. Controls are numbers of each frame: features of the file itself, or signals of a
second file that goes with it. A label is a class of a whole sequence, such as an action or a
speaker, read from the name of its file or from a table.

Conventions:
    ``context (T, C)``, float32: the controls of a frame, standardised, those of the frames around
    it beside them, then one number a class, 1 for the sequence's own. NaN where it is not known.
    A control is in the units of its file, ``(T, G)``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rnade_lightning.datamodules.core import Array, DataError

_NOTHING, _TINY = 1e-6, 0.03  # of the size of training controls: rounding, and other units


@dataclass(frozen=True)
class Known:
    """Raw frames ``(T, D_raw)`` with what is known beside them; it slices as they do.

    Attributes:
        frames: The frames of the file, which are read when they are asked for.
        labels: Class of the whole sequence by name of the label; none where it is not known.
        beside: Signals of a second file ``(T, n)``.
    """

    frames: Any
    labels: Mapping[str, str] = field(default_factory=dict)
    beside: Array | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, span: slice) -> "Known":
        beside = None if self.beside is None else self.beside[span]
        return Known(self.frames[span], self.labels, beside)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.frames, dtype or np.float64)

    def whole(self) -> Array:
        """Return the features, and the signals behind them."""
        frames = np.asarray(self)
        return frames if self.beside is None else np.hstack([frames, self.beside])


@dataclass(frozen=True)
class Given:
    """Turns what is given of every frame into a context.

    Attributes:
        names: Names of the controls; those of a second file stand last.
        columns: Their places among the raw features and the signals behind them, ``(G,)``.
        mean: Their means on the training frames, ``(G,)``.
        std: Their deviations, ``(G,)``.
        classes: Classes by name of the label.
        window: Frames before and after a frame whose controls it is given, too.
        reach: Lowest and highest value of each control on the training frames.
        usual: Values of each control between which 99 % of the training frames are.
    """

    names: list[str]
    columns: list[int]
    mean: list[float]
    std: list[float]
    classes: dict[str, list[str]]
    window: tuple[int, int] = (0, 0)
    reach: list[list[float]] = field(default_factory=list)
    usual: list[list[float]] = field(default_factory=list)  # older checkpoints have none

    def __str__(self) -> str:
        labels = [f"{name} ({len(of)} classes)" for name, of in self.classes.items()]
        return listed([*self.names, *labels])

    @property
    def sizes(self) -> list[int]:
        """Return how many numbers of a context each part takes: the controls, then each label."""
        n = len(self.names) * (1 + sum(self.window))
        return [n] * (n > 0) + [len(of) for of in self.classes.values()]

    def columns_of(self, label: str) -> slice:
        """Return where the classes of a label stand in a context."""
        before = list(self.classes).index(label)
        start = sum(self.sizes[: len(self.sizes) - len(self.classes) + before])
        return slice(start, start + len(self.classes[label]))

    def of(self, raw: Any, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Return the context ``(T, C)`` of the frames of a sequence from one on and before
        another."""
        stop = len(raw) if stop is None else min(stop, len(raw))
        first = max(start - self.window[0], 0)
        control = None
        if self.names:
            near = raw[first : stop + self.window[1]]
            whole = near.whole() if isinstance(near, Known) else np.asarray(near, np.float64)
            control = whole[:, self.columns]
        return self.make(control, stop - start, getattr(raw, "labels", {}), start - first)

    def make(
        self,
        control: npt.ArrayLike | None,
        n_frames: int,
        labels: Mapping[str, str],
        skip: int = 0,
    ) -> torch.Tensor:
        """Return a context ``(n_frames, C)``.

        Args:
            control: Controls ``(T, G)`` in their units, of at least n_frames frames after those
                skipped; beyond the ends they stay as they are. None if they are absent.
            n_frames: Frames of the context.
            labels: Class by name of the label; a label that is not there is absent.
            skip: First frames of the control that are before the context's.

        Raises:
            DataError: A class or label that is not known; lists those that are.
        """
        before, after = self.window
        parts = []
        if self.names and control is None:
            parts.append(np.full((n_frames, self.sizes[0]), np.nan))
        elif self.names:
            scaled = (np.asarray(control, np.float64) - self.mean) / self.std
            at = np.arange(skip, skip + n_frames)[:, None] + np.arange(-before, after + 1)
            near = scaled[np.clip(at, 0, max(len(scaled) - 1, 0))]  # (T, W, G)
            parts.append(near.reshape(n_frames, self.sizes[0]))
        if unknown := sorted(set(labels) - set(self.classes)):
            raise DataError(f"label {unknown[0]!r} is none of {listed(self.classes) or 'none'}")
        for name, classes in self.classes.items():
            row = np.full(len(classes), np.nan)
            if (own := labels.get(name)) is not None:
                if own not in classes:
                    raise DataError(f"{name} {own!r} is none of {listed(classes)}")
                row = np.eye(len(classes))[classes.index(own)]
            parts.append(np.tile(row, (n_frames, 1)))
        return torch.from_numpy(np.hstack(parts).astype(np.float32))

    def control_of(self, context: torch.Tensor) -> Array:
        """Return the controls ``(T, G)``, in their units, that a context ``(T, C)`` was made of."""
        n, before = len(self.names), self.window[0]
        own = context[:, before * n : (before + 1) * n].double().numpy(force=True)
        return np.asarray(own * self.std + self.mean)

    def beyond(self, control: npt.ArrayLike) -> list[str]:
        """Return a line on each control ``(T, G)`` that goes beyond all training frames, or one on
        all of them if they are so small that they may be in other units."""
        found, lines = np.asarray(control, np.float64), []
        rms = np.sqrt(np.square(found).mean(axis=0)) if len(found) else np.zeros(found.shape[1])
        share = rms / np.hypot(self.mean, self.std)
        if _NOTHING < share.max() < _TINY:
            return [
                f"{listed(self.names)} are {share.max():.1%} of what they are in training frames at"
                " most: are they in the same units?"
            ]
        usual = self.usual or [[]] * len(self.names)
        for name, of, (low, high), most in zip(self.names, found.T, self.reach, usual, strict=True):
            share = float(((of < low) | (of > high)).mean())
            if share > 0:
                worst = of[np.argmax(np.maximum(of - high, low - of))]
                also = f"; 99 % of them are in {most[0]:.3g} to {most[1]:.3g}" if most else ""
                lines.append(
                    f"{name} is {worst:.3g} and the like in {share:.0%} of the frames, beyond all"
                    f" training frames ({low:.3g} to {high:.3g}{also})"
                )
        return lines

    def state(self) -> dict[str, Any]:
        """Return it in plain types."""
        return {**vars(self), "window": list(self.window)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Given":
        """Return it from its `state`."""
        return cls(**{**state, "window": tuple(state["window"])})


def joined(frames: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
    """Return frames ``(..., T, D)`` with their context behind them, as data read them, ``(..., T, D
    + C)``; 0 where it is absent. A context by feature ``(..., T, D, C)`` is left out."""
    if context is None or context.dim() > frames.dim():
        return frames
    return torch.cat((frames, context.nan_to_num(0.0).to(frames)), -1)


def listed(names: Any, most: int = 12) -> str:
    """Return names as text, the first of many."""
    names = list(names)
    return ", ".join(names[:most]) + (f", .. ({len(names)} in all)" if len(names) > most else "")
