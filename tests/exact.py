"""Kinds of sound frames with side information, of integers too, and a model of such integers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from scipy.signal import lfilter
from torch import Tensor, nn

from rnade_lightning import arguments
from rnade_lightning.datamodules.sound.kinds import Kind
from rnade_lightning.datamodules.sound.kinds.waveform import Waveform
from rnade_lightning.lightning_module import SequenceModule
from rnade_lightning.sequence_density import SequenceDensity

SIDE = ["before", "size"]


def side_of(samples: np.ndarray) -> np.ndarray:
    """Return the sample before each, and the mean size of steps before it, ``(N, 2)``; the mean
    begins at 256."""
    before = np.concatenate([[0.0], samples[:-1]])
    steps = np.abs(np.diff(before, prepend=0.0))
    size, _ = lfilter([0.1], [1, -0.9], steps, zi=[0.9 * 256])
    return np.stack([before, size + 1e-3], -1)


class Exact(Kind):
    """Integers in a row."""

    reader_version = 1
    of_integers = True

    def __init__(self, frame_length: int) -> None:
        self.frame_length = frame_length

    @property
    def feature_names(self) -> list[str]:
        return [f"integer_{i}" for i in range(self.frame_length)]

    @property
    def side_names(self) -> list[str]:
        return SIDE

    @property
    def samples_per_frame(self) -> int:
        return self.frame_length

    @property
    def min_samples(self) -> int:
        return self.frame_length

    def to_frames(self, samples: np.ndarray, rate: int) -> np.ndarray:
        x = samples[: len(samples) // self.frame_length * self.frame_length]
        return np.hstack(
            [y.reshape(-1, self.frame_length * n) for y, n in ((x, 1), (side_of(x), 2))]
        )

    def to_samples(self, frames: np.ndarray, rate: int) -> np.ndarray:
        return np.round(frames[:, : self.frame_length]).reshape(-1)


class Plain(Exact):
    """Integers in a row, without side information."""

    reader_version = 2

    @property
    def side_names(self) -> list[str]:
        return []

    def to_frames(self, samples: np.ndarray, rate: int) -> np.ndarray:
        return super().to_frames(samples, rate)[:, : self.frame_length]


class Guessed(Waveform):
    """Samples in a row as a waveform's, with side information."""

    reader_version = 1

    @property
    def side_names(self) -> list[str]:
        return SIDE

    def pieces(self, samples: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
        frames = np.concatenate(list(super().pieces(samples, rate)))
        side = side_of(frames.reshape(-1))
        yield np.hstack([frames, side.reshape(len(frames), -1)])

    def to_samples(self, frames: np.ndarray, rate: int) -> np.ndarray:
        return self.numbers(frames)


class DiscreteLogistic(SequenceDensity):
    """Integers, each of the mass that a logistic distribution around the one before it gives to its
    cell; its scale is the size of steps times a factor, which is learnt."""

    log_mass = True
    context_by_feature = True
    n_history = 0
    floor = 0.0

    def __init__(self, n_features: int, n_context: int = 2) -> None:
        super().__init__()
        self.n_features, self.n_context = n_features, n_features * n_context
        self.log_factor = nn.Parameter(torch.zeros(()))

    def initial_state(self, batch_size: int) -> Tensor:
        return self.log_factor.new_zeros(batch_size, 0)

    def states(
        self,
        frames: Tensor,
        u: Tensor | None = None,
        mask: Tensor | None = None,
        context: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        frames, u, mask, context = arguments.sequences(self, frames, u, mask, context)
        assert context is not None
        return context, self.initial_state(len(frames))

    def step(self, x: Tensor, u: Tensor, context: Tensor | None = None) -> Tensor:
        return u

    def _of(self, history: Tensor) -> tuple[Tensor, Tensor]:
        before, size = history.unflatten(-1, (self.n_features, 2)).unbind(-1)
        return before, size.clamp(min=1e-3) * self.log_factor.exp()  # 0 where there is padding

    def feature_log_prob_given(self, history: Tensor, frames: Tensor) -> Tensor:
        mean, scale = self._of(history)
        low, high = (frames - mean - 0.5) / scale, (frames - mean + 0.5) / scale
        log = nn.functional.logsigmoid
        return log(high) + log(-low) + torch.log(-torch.expm1(-1 / scale))

    def log_prob_given(self, history: Tensor, frames: Tensor) -> Tensor:
        return self.feature_log_prob_given(history, frames).sum(-1)

    def sample_given(
        self,
        history: Tensor,
        sample_shape: Sequence[int] = (),
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        mean, scale = self._of(history)
        p = torch.rand((*sample_shape, *mean.shape), generator=generator).clamp(1e-6, 1 - 1e-6)
        return torch.round(mean + temperature * scale * torch.logit(p))

    def mean_given(
        self, history: Tensor, n_samples: int = 100, generator: torch.Generator | None = None
    ) -> Tensor:
        return self._of(history)[0]


class ExactModule(SequenceModule):
    """Trains `DiscreteLogistic`.

    Args:
        n_features: D.
        n_context: C.
        context_by_feature: has to be true.
        lr: learning rate.
    """

    def __init__(
        self,
        n_features: int,
        n_context: int = 2,
        context_by_feature: bool = False,
        lr: float = 0.1,
    ) -> None:
        super().__init__(lr)
        assert context_by_feature
        self.model = DiscreteLogistic(n_features, n_context)


def integers(n: int, seed: int, bits: int = 16) -> np.ndarray:
    """Return a sound of integers that fills a sixteenth of its range."""
    noise = np.random.default_rng(seed).normal(size=n) * 2.0 ** (bits - 8)
    return np.round(lfilter([1], [1, -1.2, 0.6], noise)).astype(np.int64)


def write_integers(folder: Path, lengths: Sequence[int], bits: int = 16) -> Path:
    """Write files of integers, 8 to 24 bits."""
    folder.mkdir(exist_ok=True)
    kind = {8: "PCM_U8", 16: "PCM_16", 24: "PCM_24"}[bits]
    for i, n in enumerate(lengths):
        pcm = (integers(n, i, bits) << (32 - bits)).astype(np.int32)
        soundfile.write(folder / f"{i}.wav", pcm, 16_000, subtype=kind)
    return folder
