"""Frames of the residuals of an adaptive linear predictor of samples; see `predictor`.

The predictor's Jacobian is 1, so a density of residuals is one of samples.
"""

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.sound.kinds import SampleFrames
from rnade_lightning.datamodules.sound.predictor import analyse, synthesise


class Residual(SampleFrames):
    """``frame_length`` samples in a row, each less its prediction from those before it."""

    reader_version = 1
    from_start = True

    @property
    def feature_names(self) -> list[str]:
        return [f"residual_{i}" for i in range(self.frame_length)]

    def to_frames(self, samples: Array, rate: int) -> Array:
        whole = self.whole_frames(samples)
        residuals = analyse(whole, self.predictor_order, self.forgetting)
        return residuals.reshape(-1, self.frame_length)

    def to_samples(self, frames: Array, rate: int) -> Array:
        return synthesise(self.residuals(frames), self.predictor_order, self.forgetting)

    def residuals(self, frames: Array) -> Array:
        return self.numbers(frames)
