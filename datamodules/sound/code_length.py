"""The length of a code that follows from the likelihood of a sound's integers.

Conventions:
    Log p of frames is in nats, ``(T,)``; bits are per sample. Where frames are integers plus noise,
    see `preparation`.
"""

from abc import ABC
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning.utilities import rank_zero_warn

from rnade_lightning.datamodules import DataError, FrameSequence, Recording
from rnade_lightning.datamodules.sound.measured import MeasuredDataModule

LEAST_NOISE = 0.9
"""Of a step, on average over a file. Float32 has no room for more near full scale where integers
have more than 16 bits. A density may then fall between two integers, which makes bits per sample
too few: by -log2 s at most for a share s, and by as much as its floor lets it."""

_ROUNDING = 1e-3
"""Nats by which rounding in float32 may raise log p of a frame."""


class CodedDataModule(MeasuredDataModule, ABC):
    """Frames of sound whose likelihood is the length of a code, where they are of integers."""

    def __init__(self, root: str | None = None, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self._noise = 1.0  # of a step, in the file that has least

    @property
    def log_mass(self) -> bool:
        return self._kind.of_integers

    @property
    def units(self) -> str:
        return "steps of the integers" if self.log_mass else super().units

    @property
    def caveats(self) -> list[str]:
        told = "log p of the model is a log mass of integers, that of copy and VAR a log density"
        ahead = "what is given looks ahead and takes bits of its own: bits given it code nothing"
        given = self.bits_name != super().bits_name
        known = super().caveats + [told] * self.log_mass + [ahead] * given
        return known + self.of_narrow_noise()

    def of_narrow_noise(self) -> list[str]:
        """Return the caveat of samples that are too loud for the noise of a whole step, if so."""
        if self.log_mass or self.layout["bits"] is None or self._noise >= LEAST_NOISE:
            return []
        return [
            f"samples of {self.layout['bits']} bits are so loud that float32 has room for noise of"
            f" {self._noise:.2f} steps instead of one: bits per sample may be too few:"
            " convert the files to 16 bits, or set kind to experts"
        ]

    def note(self, recording: Recording) -> None:
        self._noise = min(self._noise, recording.layout["file"]["noise"])

    def _read(self, path: Path, reference: Recording, origin: str) -> Recording:
        recording, told = super()._read(path, reference, origin), self.of_narrow_noise()
        self.note(recording)
        for caveat in () if told else self.of_narrow_noise():
            rank_zero_warn(f"{path}: {caveat}")
        return recording

    @property
    def bits_name(self) -> str:
        given = self.given is not None and self.given.names and self.bit_depth is not None
        return "bits_per_sample_given" if given else super().bits_name

    @property
    def bit_depth(self) -> int | None:
        """Return the bits of the files' integer samples, if frames are just those samples."""
        if self.log_mass:
            return self.layout["bits"]
        whole = self._kind.invertible and self.n_features == self._kind.samples_per_frame
        return self.layout["bits"] if whole else None

    @property
    def noise_scale(self) -> float:
        """Return the standard deviation, in standardised units, that the noise of one step gives
        every sample of a waveform of integers; 0 for other frames."""
        standardiser, reference = self._fitted()
        bits = reference.layout["bits"]
        if bits is None or not self.rescale:
            return 0.0
        return self._kind.noise_scale(2.0 ** (1 - bits), standardiser.std)

    def bits_per_sample(self, log_prob: float) -> float | None:
        """Return the bits that a sample of the files' integers takes under a model.

        With L samples a frame and b bits, an integer is ``2**(b - 1)`` times the amplitude, so

        ``bits = (-(log_prob - log_scale) / L + (b - 1) ln 2) / ln 2``.

        Where log p is a log mass of the integers, it is ``-log_prob / (L ln 2)``.

        Args:
            log_prob: Mean log density of a standardised frame, or log mass of one, in nats.

        Returns:
            Bits, or None where frames are not the files' integer samples: spectra, lossy or
            floating-point files, and what was resampled, mixed, or changed in level.

        Raises:
            DataError: It is said to be a log mass, and is above 0.
        """
        if self.log_mass:
            self._check_mass("a frame", log_prob)
            return max(-log_prob / self._kind.samples_per_frame / float(np.log(2)), 0.0)
        bits = self.bit_depth
        if bits is None:
            return None
        nats = -(log_prob - self.log_scale) / self._kind.samples_per_frame
        return float(nats / np.log(2) + bits - 1)

    def log_jacobian(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the log-Jacobian ``(T,)`` of standardised frames ``(T, D)`` from a beginning."""
        found = self._kind.log_jacobian(self.destandardise(frames), self.layout["sample_rate"])
        return torch.from_numpy(found.astype(np.float32))

    def check_likelihood(self, name: str, log_prob: npt.ArrayLike) -> None:
        """Refuse a code length below 0 by more than four standard errors, and any mass above 1.

        Args:
            name: of the sequence.
            log_prob: log p of its frames, with the log-Jacobian, ``(T,)``.

        Raises:
            DataError: its bits per sample cannot be: the model knows the noise of dequantising.
        """
        log_p = np.asarray(log_prob, np.float64)
        if self.log_mass:
            self._check_mass(name, float(log_p.max(initial=0.0)))
            return
        mean = float(log_p.mean()) if len(log_p) else 0.0
        bits = self.bits_per_sample(mean)
        error = 4 * log_p.std() / np.sqrt(max(len(log_p), 1)) / np.log(2)
        if bits is not None and bits < -error / self._kind.samples_per_frame:
            raise DataError(
                f"{name}: {bits:.3f} bits per sample, and no code is shorter than 0: the model has"
                " seen the noise of this file, or its samples have fewer bits than the file says:"
                " leave the file out, or set bit_depth"
            )

    @staticmethod
    def _check_mass(what: str, log_prob: float) -> None:
        if log_prob > _ROUNDING:
            raise DataError(
                f"{what}: log p is {log_prob:.3g}, and the log of a probability is at most 0: the"
                " model's log p is no log mass of integers (log_mass)"
            )

    def references(
        self, known: Sequence[FrameSequence], test: Sequence[FrameSequence]
    ) -> dict[str, list[torch.Tensor]]:
        """Return further rivals of a model of this kind of frames; see `Kind.references`."""
        raw = ((self.destandardise(x.frames) for x in part) for part in (known, test))
        return {
            name: [torch.from_numpy(x) + self.log_scale for x in log_p]
            for name, log_p in self._kind.references(*raw).items()
        }
