"""Frames of the residuals of an adaptive linear predictor of samples; see `predictor`.

The predictor's Jacobian is 1, so a density of residuals is one of samples.
"""

from rnade_lightning.datamodules.sound.kinds import PredictedFrames


class Residual(PredictedFrames):
    """``frame_length`` samples in a row, each less its prediction from those before it."""

    reader_version = 2
    scaled = False

    @property
    def feature_names(self) -> list[str]:
        return [f"residual_{i}" for i in range(self.frame_length)]
