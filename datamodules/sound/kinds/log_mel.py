"""Frames of the natural logarithm of mel power; see `spectra`."""

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.sound.kinds import SpectralFrames


class LogMel(SpectralFrames):
    """Log power in ``n_mels`` bands."""

    reader_version = 1

    @property
    def static_names(self) -> list[str]:
        return [f"mel_{i}" for i in range(self.n_mels)]

    def from_log_mel(self, log_mel: Array) -> Array:
        return log_mel

    def to_log_mel(self, features: Array) -> Array:
        return features
