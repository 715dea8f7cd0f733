"""Frames of samples as they are."""

from collections.abc import Iterable, Iterator

import numpy as np

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.sound.kinds import LinearFrames


class Waveform(LinearFrames):
    """``frame_length`` samples in a row."""

    reader_version = 1

    @property
    def feature_names(self) -> list[str]:
        return [f"sample_{i}" for i in range(self.frame_length)]

    def pieces(self, samples: Iterable[Array], rate: int) -> Iterator[Array]:
        return (x.reshape(-1, self.frame_length) for x in self.whole_frames(samples))

    def to_samples(self, frames: Array, rate: int) -> Array:
        return frames.reshape(-1)

    def noise_scale(self, step: float, std: Array) -> float:
        """Return the deviation of uniform noise of one step, relative to the largest feature."""
        return float(step / np.sqrt(12) / np.max(std))
