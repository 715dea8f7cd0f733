r"""Frames of the level of log mel power, and of its bands about that level.

A model that visits one band after the other has to tell from the lowest band whether speech begins.
Here the level comes first: the frame of log mel power $x$ is reflected,

$$y = x - 2 v v^T x, \qquad v \propto n^{-1/2} (1, .., 1) - (1, 0, .., 0), \quad |v| = 1$$

so that $y_0 = \sqrt{n} \bar x$, and a louder sound, $x + c$, moves no other feature. Lengths and
volumes stay as they are, so a density of these frames is one of log mel power.
"""

import numpy as np

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.sound.kinds import SpectralFrames


class LevelMel(SpectralFrames):
    """Level and colours of log power in ``n_mels`` bands."""

    reader_version = 1

    @property
    def static_names(self) -> list[str]:
        return ["level", *(f"colour_{i}" for i in range(1, self.n_mels))]

    def from_log_mel(self, log_mel: Array) -> Array:
        n = log_mel.shape[-1]
        v = np.full(n, n**-0.5)
        v[0] -= 1
        v /= np.linalg.norm(v) or 1.0  # of one band, the level is all there is
        return log_mel - 2 * np.outer(log_mel @ v, v)

    def to_log_mel(self, features: Array) -> Array:
        return self.from_log_mel(features)  # a reflection is its own inverse
