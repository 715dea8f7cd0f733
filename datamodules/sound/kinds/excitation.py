"""Frames of samples whitened by log mel power of the same sound, which is given; see `envelope`.

A model of such frames is a vocoder: it turns mel frames into sound. The mel of a frame looks ahead,
as far as half a window of the transform, and is no part of log p.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.core.standardise import LOG_JACOBIAN
from rnade_lightning.datamodules.sound.kinds import MelTransform, SampleFrames

_NEAR = 0.05  # nats that the mel of a sound may be off, 0.2 dB


@dataclass(frozen=True)
class Excitation(MelTransform, SampleFrames):
    """``frame_length`` samples in a row, each less its prediction and over its gain as the mel
    tells them; then the log mel power of the frame.

    Args:
        predictor_order: samples that predict the next.
    """

    predictor_order: int

    reader_version = 1
    from_start = True

    @property
    def feature_names(self) -> list[str]:
        own = [f"excitation_{i}" for i in range(self.frame_length)]
        return [*own, LOG_JACOBIAN, *self.given_names]

    @property
    def given_names(self) -> list[str]:
        return [f"mel_{i}" for i in range(self.n_mels)]

    @property
    def min_samples(self) -> int:
        return max(self.frame_length, self.n_fft // 2 + 1)

    def pieces(self, samples: Iterable[Array], rate: int) -> Iterator[Array]:
        from rnade_lightning.datamodules.sound import envelope

        mel, past = self.mel(rate), np.zeros(self.predictor_order)
        heard, whitened = itertools.tee(samples)
        mels = envelope.AtFrames(mel.pieces(heard), self.hop_length, self.frame_length)
        for piece in self.whole_frames(whitened):
            log_mel = mels.read(len(piece) // self.frame_length)
            weights, gains = envelope.filters(mel, log_mel, self.predictor_order)
            own = envelope.whitened(piece, past, weights, gains).reshape(-1, self.frame_length)
            yield np.column_stack([own, -self.frame_length * np.log(gains), log_mel])
            past = np.concatenate([past, piece])[-self.predictor_order :]

    def log_mel(self, frames: Array) -> Array:
        """Return the log mel power of frames, ``(T, n_mels)``."""
        return frames[:, self.frame_length + 1 :]

    def to_samples(self, frames: Array, rate: int) -> Array:
        from rnade_lightning.datamodules.sound import envelope

        how = envelope.filters(self.mel(rate), self.log_mel(frames), self.predictor_order)
        return envelope.coloured(self.numbers(frames), np.zeros(self.predictor_order), *how)

    def finished(self, samples: Array, frames: Array, rate: int) -> Array:
        from rnade_lightning.datamodules.sound import envelope, inversion

        if len(samples) < self.min_samples:
            return samples
        steps, mel = (self.hop_length, self.frame_length), self.mel(rate)
        own = envelope.AtFrames([mel.log_mel(samples)], *steps).read(len(frames))
        given = envelope.at_hops(self.log_mel(frames), *steps)
        away = np.abs(envelope.at_hops(own, *steps) - given).max(1)
        return inversion.fitted(mel, samples, given, away > _NEAR)

    def beside(self, samples: Array, frames: Array, rate: int) -> dict[str, Array]:
        from rnade_lightning.datamodules.sound import envelope

        given = envelope.at_hops(self.log_mel(frames), self.hop_length, self.frame_length)
        short = len(samples) < self.min_samples
        made = {} if short else {"mel of the sound": self.mel(rate).log_mel(samples)}
        return {"mel given": given, **made}

    def given(self, log_mel: Array) -> Array:
        """Return what frames are given ``(n, n_mels)`` of log mel power at its own rate
        ``(T, n_mels)``: as many as last until its last frame, one at least."""
        from rnade_lightning.datamodules.sound import envelope

        n = max((len(log_mel) - 1) * self.hop_length // self.frame_length, 1)
        return envelope.AtFrames([log_mel], self.hop_length, self.frame_length).read(n)

    def log_jacobian(self, frames: Array, rate: int) -> Array:
        from rnade_lightning.datamodules.sound import envelope

        gains = envelope.filters(self.mel(rate), self.log_mel(frames), self.predictor_order)[1]
        return -self.frame_length * np.log(gains)
