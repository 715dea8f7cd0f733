"""Frames of mel-frequency cepstral coefficients (MFCC); see `spectra`."""

from dataclasses import dataclass

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.sound.kinds import SpectralFrames
from rnade_lightning.datamodules.sound.spectra import cepstra, from_cepstra


@dataclass(frozen=True)
class MFCC(SpectralFrames):
    """The first ``n_mfcc`` coefficients of the orthonormal DCT of log mel power.

    Args:
        n_mfcc: cepstral coefficients.
    """

    n_mfcc: int

    reader_version = 1

    @property
    def static_names(self) -> list[str]:
        return [f"mfcc_{i}" for i in range(self.n_mfcc)]

    def from_log_mel(self, log_mel: Array) -> Array:
        return cepstra(log_mel, self.n_mfcc)

    def to_log_mel(self, features: Array) -> Array:
        return from_cepstra(features, self.n_mels)
