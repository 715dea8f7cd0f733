r"""Kinds of sound frames, one class in each file of this package.

A kind turns the samples of a sound into frames, and frames back into samples. It also says what
follows from that: the names of a frame's features, how many samples it takes, whether a density of
frames is one of the samples, and what a model of such frames has to beat.

To add a kind, write a class of your own (`Kind` says what it needs) and name it by its path, or put
it into a file of this package and name it by the file. The tests of every kind
(``tests/datamodules/sound/kinds``) find it by themselves.

Conventions:
    Samples are ``(N,)`` with full scale 1, from the beginning of a sound. Frames are
    ``(T, D_raw)``, time first. Both are float64. Rates are in samples per second. The features of
    a frame are in the order of `Kind.feature_names`. The one named `LOG_JACOBIAN`, if there is one,
    turns a log density of frames into one of samples, when it is added (see `standardise`).

    For a kind `of_integers`, samples are the integers of a file, in steps of its bit depth and
    without noise. For a kind with `side_names`, the C numbers that are known of each feature when
    it is drawn stand behind the features, ``(T, D_raw + D_raw C)``: those of feature 0, those of
    feature 1, and so on (see `side`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rnade_lightning.class_paths import short_names
from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.standardise import LOG_JACOBIAN

if TYPE_CHECKING:  # where it runs, each is imported by the frames that need it: numba takes time
    from rnade_lightning.datamodules.sound.predictor import Predictor
    from rnade_lightning.datamodules.sound.spectra import Mel


class Kind(ABC):
    """A kind of sound frames.

    ``__init__`` takes the options it needs of `AudioDataModule`, each by its name.
    """

    reader_version: ClassVar[int | None] = None
    """Version of `to_frames`. A class declares it in its own body and raises it with every change
    of what it makes of samples. Without it no frames are kept from one run to the next."""

    invertible: ClassVar[bool] = False
    """True where a frame holds as many numbers as samples and its density is that of the samples.
    Then bits per sample are known, and no feature may be left out."""

    from_start: ClassVar[bool] = False
    """True where frames can only be turned back from the beginning of a file."""

    rank_tolerance: ClassVar[float] = math.inf
    """The largest `rank_tolerance` of the data module that is safe: a larger one would take
    features for functions of others."""

    of_integers: ClassVar[bool] = False
    """True where samples are a file's integers, float64, in steps of its bit depth. The features of
    a frame are then modelled as they are, log p of a frame is the log mass of its integers, and so
    are `references`."""

    @property
    @abstractmethod
    def feature_names(self) -> list[str]:
        """Return the names of the features of a frame, ``D_raw`` of them."""

    @property
    def side_names(self) -> list[str]:
        """Return the names of the C numbers that are known of every feature when it is drawn."""
        return []

    @property
    def given_names(self) -> list[str]:
        """Return the names of those features that are given and never modelled: what looks ahead,
        such as the mel of the same sound."""
        return []

    @property
    @abstractmethod
    def samples_per_frame(self) -> int:
        """Return the samples from one frame to the next."""

    @property
    @abstractmethod
    def min_samples(self) -> int:
        """Return the samples of the shortest sound that gives a frame."""

    @abstractmethod
    def to_frames(self, samples: Array, rate: int) -> Array:
        """Return the frames ``(T, D_raw)`` of samples ``(N,)``, N at least `min_samples`; with
        their side information, if the kind has any, ``(T, D_raw + D_raw C)``."""

    @abstractmethod
    def to_samples(self, frames: Array, rate: int) -> Array:
        """Return the samples ``(N,)`` of frames, exact or close to them. What stands behind the
        first ``D_raw`` numbers of a frame may be missing."""

    def pieces(self, samples: Iterable[Array], rate: int) -> Iterator[Array]:
        """Yield the frames of a sound that comes in pieces, in pieces, so that memory holds
        neither whole. A kind that does not know better takes the sound whole.

        Args:
            samples: pieces ``(N,)`` of a sound, at least `min_samples` in all.
            rate: samples per second.
        """
        yield self.to_frames(np.concatenate(list(samples)), rate)

    def log_jacobian(self, frames: Array, rate: int) -> Array:
        """Return what turns a log density of frames ``(T, D_raw)`` from the beginning of a sound
        into one of samples, ``(T,)``, computed from the other features."""
        return np.zeros(len(frames))

    def finished(self, samples: Array, frames: Array, rate: int) -> Array:
        """Return the samples ``(N,)`` of frames ``(T, D_raw)`` as they are written: nearer to what
        is given, where a model may have drawn them; samples of true frames as they are."""
        return samples

    def beside(self, samples: Array, frames: Array, rate: int) -> dict[str, Array]:
        """Return log mel power ``(T, n_mels)`` to draw below the picture of samples ``(N,)`` made
        of frames ``(T, D_raw)``, by what is to be said of it."""
        return {}

    def noise_scale(self, step: float, std: Array) -> float:
        """Return the standard deviation that the noise of one step gives every standardised feature
        given all else; 0 where there is no such noise.

        Args:
            step: difference of neighbouring integer samples, as samples.
            std: standard deviation of each feature ``(D,)`` before it was standardised.
        """
        return 0.0

    def references(self, known: Iterable[Array], test: Iterable[Array]) -> dict[str, list[Array]]:
        """Return further rivals of a model of these frames: by name, the log density ``(T,)`` of
        the frames of every test sound, in nats, under a predictor fitted to the known sounds.

        Args:
            known: frames ``(T, D_raw)`` of each sound to fit to.
            test: frames ``(T, D_raw)`` of each sound to score.
        """
        return {}


def kind_names() -> list[str]:
    """Return the short names of the kinds of this package."""
    return short_names(__name__)


@dataclass(frozen=True)
class SampleFrames(Kind):
    """Frames of some number of samples in a row, or of a one-to-one function of all samples.

    What is left over at the end of a sound is not used.

    Args:
        frame_length: samples of a frame.
    """

    frame_length: int

    invertible = True
    rank_tolerance = 1e-6
    """The noise of dequantising keeps any sample of 24 bits or fewer above it."""

    @property
    def samples_per_frame(self) -> int:
        return self.frame_length

    @property
    def min_samples(self) -> int:
        return self.frame_length

    def to_frames(self, samples: Array, rate: int) -> Array:
        return np.concatenate(list(self.pieces([samples], rate)))

    def whole_frames(self, samples: Iterable[Array]) -> Iterator[Array]:
        """Yield the samples ``(N,)`` that fill whole frames, from pieces of any length."""
        left = np.zeros(0)
        for piece in samples:
            piece = np.concatenate([left, piece])
            n = len(piece) // self.frame_length * self.frame_length
            left = piece[n:]
            if n:
                yield piece[:n]

    def numbers(self, frames: Array) -> Array:
        """Return the numbers of frames one after the other, ``(N,)``, without a log-Jacobian."""
        return frames[:, : self.frame_length].reshape(-1)


@dataclass(frozen=True)
class LinearFrames(SampleFrames):
    """Frames of samples that have an adaptive linear predictor for a rival.

    Args:
        frame_length: samples of a frame.
        predictor_order: samples from which the linear predictor tells the next.
        forgetting: weight that it gives to a sample relative to the next one.
    """

    predictor_order: int
    forgetting: float

    def residuals(self, frames: Array) -> Array:
        """Return what the linear predictor leaves of the samples of these frames, ``(N,)``."""
        samples = self.to_samples(frames, 0)  # of any rate
        return samples - self.predictor().predict(samples)[0]

    def predictor(self, scaled: bool = False) -> Predictor:
        """Return the predictor at the beginning of a sound; see `predictor`."""
        from rnade_lightning.datamodules.sound.predictor import Predictor

        return Predictor(self.predictor_order, self.forgetting, scaled)

    def references(self, known: Iterable[Array], test: Iterable[Array]) -> dict[str, list[Array]]:
        """Return the log density under the predictor, with Student's t of an adaptive scale for
        its residuals."""
        from rnade_lightning.datamodules.sound.gain import AdaptiveStudent

        density = AdaptiveStudent([self.residuals(frames) for frames in known])
        log_p = [density.log_prob(self.residuals(frames)) for frames in test]
        name = f"RLS({self.predictor_order}), adaptive Student"
        return {name: [x.reshape(-1, self.frame_length).sum(1) for x in log_p]}


@dataclass(frozen=True)
class PredictedFrames(LinearFrames):
    """Frames of what an adaptive predictor leaves of samples; see `predictor`."""

    from_start = True
    scaled: ClassVar[bool]
    """Whether residuals are divided by the scale of those before them; see `gain`."""

    def pieces(self, samples: Iterable[Array], rate: int) -> Iterator[Array]:
        from rnade_lightning.datamodules.sound.predictor import settled

        predictor, n_done = self.predictor(self.scaled), 0
        for piece in self.whole_frames(samples):
            predictions, log_scale = predictor.predict(piece)
            piece, lost = settled(piece, predictions, log_scale)
            if lost is not None:
                where = f"sample {n_done + lost} ({(n_done + lost) / rate:.3f} s)"
                raise DataError(
                    f"{where} is {piece[lost]:.3g} times full scale, where its prediction is"
                    f" {predictions[lost]:.3g}: no way back to samples is known: set normalise to"
                    " peak, or kind to waveform"
                )
            n_done += len(piece)
            numbers = (piece - predictions) / np.exp(log_scale)
            yield self._columns(numbers.reshape(-1, self.frame_length), log_scale)

    def to_samples(self, frames: Array, rate: int) -> Array:
        return self.predictor(self.scaled).synthesise(self.numbers(frames))[0]

    def log_jacobian(self, frames: Array, rate: int) -> Array:
        log_scale = self.predictor(self.scaled).synthesise(self.numbers(frames))[1]
        return -log_scale.reshape(-1, self.frame_length).sum(1)

    def _columns(self, numbers: Array, log_scale: Array) -> Array:
        if LOG_JACOBIAN not in self.feature_names:
            return numbers
        return np.column_stack([numbers, -log_scale.reshape(-1, self.frame_length).sum(1)])


@dataclass(frozen=True)
class MelTransform:
    """The options of the mel transform.

    Args:
        n_fft: length of the Fourier transform, in samples.
        win_length: length of the window, in samples; n_fft if None.
        hop_length: samples from one frame to the next.
        n_mels: mel bands.
        f_min: lowest frequency of the mel bands, in Hz.
        f_max: highest frequency, in Hz; half the sample rate if None.
    """

    n_fft: int
    win_length: int | None
    hop_length: int
    n_mels: int
    f_min: float
    f_max: float | None

    def mel(self, rate: int) -> Mel:
        """Return the mel transform at a sample rate.

        Raises:
            DataError: the transform cannot fill the mel bands.
        """
        f_max = rate / 2 if self.f_max is None else self.f_max
        win_length = self.win_length or self.n_fft
        return _mel(rate, self.n_fft, win_length, self.hop_length, self.n_mels, self.f_min, f_max)


@dataclass(frozen=True)
class SpectralFrames(MelTransform, Kind):
    """Frames of a function of log mel power, which `spectra` turns back into sound.

    Args:
        deltas: append slopes over five frames.
    """

    deltas: bool

    @property
    @abstractmethod
    def static_names(self) -> list[str]:
        """Return the names of the features without their slopes."""

    @abstractmethod
    def from_log_mel(self, log_mel: Array) -> Array:
        """Return the features ``(T, D)`` of log mel power ``(T, n_mels)``, without slopes."""

    @abstractmethod
    def to_log_mel(self, features: Array) -> Array:
        """Return log mel power ``(T, n_mels)`` that has these features ``(T, D)``."""

    @property
    def feature_names(self) -> list[str]:
        names = self.static_names
        return names + [f"delta_{name}" for name in names] * self.deltas

    @property
    def samples_per_frame(self) -> int:
        return self.hop_length

    @property
    def min_samples(self) -> int:
        return self.n_fft // 2 + 1

    def to_frames(self, samples: Array, rate: int) -> Array:
        return np.concatenate(list(self.pieces([samples], rate)))

    def pieces(self, samples: Iterable[Array], rate: int) -> Iterator[Array]:
        from rnade_lightning.datamodules.sound.spectra import with_deltas

        features = map(self.from_log_mel, self.mel(rate).pieces(samples))
        return with_deltas(features) if self.deltas else features

    def to_samples(self, frames: Array, rate: int) -> Array:
        from rnade_lightning.datamodules.sound.inversion import from_noise

        features = frames[:, : len(self.static_names)]
        return from_noise(self.mel(rate), self.to_log_mel(features))


@lru_cache(maxsize=8)
def _mel(*sizes: Any) -> Mel:
    """Return a mel transform, whose filters are made once."""
    from rnade_lightning.datamodules.sound.spectra import Mel

    return Mel.checked(*sizes)
