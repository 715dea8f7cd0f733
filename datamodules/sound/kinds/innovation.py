"""Frames of prediction residuals over a scale that follows their level; see `predictor`, `gain`.

Each frame carries the log-Jacobian of that division, the sum of minus the log scales of its
samples, so a log density of innovations plus the log-Jacobian is one of samples.
"""

from rnade_lightning.datamodules.core.standardise import LOG_JACOBIAN
from rnade_lightning.datamodules.sound.kinds import PredictedFrames


class Innovation(PredictedFrames):
    """``frame_length`` residuals in a row, each over a scale of those before it."""

    reader_version = 2
    scaled = True

    @property
    def feature_names(self) -> list[str]:
        return [*(f"innovation_{i}" for i in range(self.frame_length)), LOG_JACOBIAN]
