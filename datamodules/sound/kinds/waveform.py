"""Frames of samples as they are."""

import numpy as np

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.sound.kinds import SampleFrames
from rnade_lightning.datamodules.sound.predictor import analyse


class Waveform(SampleFrames):
    """``frame_length`` samples in a row."""

    reader_version = 1

    @property
    def feature_names(self) -> list[str]:
        return [f"sample_{i}" for i in range(self.frame_length)]

    def to_frames(self, samples: Array, rate: int) -> Array:
        return self.whole_frames(samples).reshape(-1, self.frame_length)

    def to_samples(self, frames: Array, rate: int) -> Array:
        return frames.reshape(-1)

    def noise_scale(self, step: float, std: Array) -> float:
        """Return the deviation of uniform noise of one step, relative to the largest feature."""
        return float(step / np.sqrt(12) / np.max(std))

    def residuals(self, frames: Array) -> Array:
        return analyse(self.numbers(frames), self.predictor_order, self.forgetting)
