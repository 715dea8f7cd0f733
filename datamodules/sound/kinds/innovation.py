"""Frames of prediction residuals, each over a scale that follows their level; see `gain`.

Each frame carries the log-Jacobian of that division, the sum of minus the log scales of its
samples, so a log density of innovations plus the log-Jacobian is one of samples.
"""

import numpy as np

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.core.standardise import LOG_JACOBIAN
from rnade_lightning.datamodules.sound.gain import to_innovations, to_residuals
from rnade_lightning.datamodules.sound.kinds import SampleFrames
from rnade_lightning.datamodules.sound.predictor import analyse, synthesise


class Innovation(SampleFrames):
    """``frame_length`` residuals in a row, each over a scale of those before it."""

    reader_version = 1
    from_start = True

    @property
    def feature_names(self) -> list[str]:
        return [*(f"innovation_{i}" for i in range(self.frame_length)), LOG_JACOBIAN]

    def to_frames(self, samples: Array, rate: int) -> Array:
        whole = self.whole_frames(samples)
        residuals = analyse(whole, self.predictor_order, self.forgetting)
        innovations, log_scale = to_innovations(residuals)
        log_jacobian = -log_scale.reshape(-1, self.frame_length).sum(1)
        return np.column_stack([innovations.reshape(-1, self.frame_length), log_jacobian])

    def to_samples(self, frames: Array, rate: int) -> Array:
        return synthesise(self.residuals(frames), self.predictor_order, self.forgetting)

    def residuals(self, frames: Array) -> Array:
        return to_residuals(self.numbers(frames))
