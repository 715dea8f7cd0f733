"""Prepare the samples of a file for frames: one channel, trimmed, resampled, dequantised.

Conventions:
    Samples have full scale 1. An integer sample k of b bits becomes ``(k + u) 2**(1 - b)`` with u
    uniform on (-1/2, 1/2), since a density on the integers themselves has no bound. The noise u is
    a function of the file's content. The density of such samples, integrated over the cells of the
    integers, bounds the integers' probability from below on average, so bits per sample that follow
    from it are a code length.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import librosa
import numpy as np

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.sound.soundfiles import Sound

GAINS = {
    "peak": lambda samples: 1 / np.abs(samples).max(),  # to full scale
    "rms": lambda samples: 0.1 / np.sqrt(np.mean(np.square(samples))),  # to -20 dB
}
"""What brings samples to one level, by its name."""

_DEFAULT_BITS = 16  # of the step that the noise spans where a file stores no integers


class Signal(NamedTuple):
    """Samples that are ready for frames.

    Attributes:
        samples: ``(N,)``.
        rate: samples per second.
        step: step of the integers, or of what stands for them, that the noise spans.
        bits: bits of the file's integer samples, if these are they and nothing else.
    """

    samples: Array
    rate: int
    step: float
    bits: int | None


@dataclass(frozen=True)
class Preparation:
    """Prepares the samples of a file, by the options of `AudioDataModule` with these names."""

    sample_rate: int | None
    channel: Literal["mix"] | int
    normalise: Literal["peak", "rms"] | None
    trim_db: float | None
    bit_depth: int | None

    def prepare(self, path: Path, sound: Sound) -> Signal:
        """Return the samples of a file that was read, ready for frames.

        Raises:
            DataError: the file has no such channel, or no level.
        """
        samples, rate = self._one_channel(path, sound), self.sample_rate or sound.rate
        if self.trim_db is not None:
            samples = librosa.effects.trim(samples, top_db=self.trim_db)[0]
        if rate != sound.rate:
            samples = librosa.resample(samples, orig_sr=sound.rate, target_sr=rate)
        step = 2.0 ** (1 - (self.bit_depth or sound.bits or _DEFAULT_BITS))
        samples = samples + step * _noise(samples)
        if self.normalise is not None:
            samples = samples * self._gain(path, samples, step)
        mixed = self.channel == "mix" and sound.samples.shape[1] > 1
        changed = mixed or rate != sound.rate or self.normalise or self.bit_depth
        return Signal(samples, rate, step, None if changed else sound.bits)

    def _one_channel(self, path: Path, sound: Sound) -> Array:
        if self.channel == "mix":
            return sound.samples.mean(axis=1)
        if self.channel >= (n_channels := sound.samples.shape[1]):
            raise DataError(f"{path}: no channel {self.channel}: it has {n_channels}, from 0")
        return sound.samples[:, self.channel]

    def _gain(self, path: Path, samples: Array, step: float) -> float:
        if np.abs(samples).max() < step:
            raise DataError(f"{path}: nothing but silence, which has no level: remove the file")
        return float(GAINS[self.normalise or ""](samples))


def _noise(samples: Array) -> Array:
    """Return noise that is uniform on (-1/2, 1/2), one for each sample, a function of them all."""
    key = zlib.crc32(np.ascontiguousarray(samples).tobytes())
    return np.random.default_rng([key, len(samples)]).random(len(samples)) - 0.5
