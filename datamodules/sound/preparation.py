"""Prepare the samples of a file for frames: one channel, trimmed, resampled, dequantised.

Conventions:
    Samples have full scale 1. An integer sample k of b bits becomes ``(k + u) 2**(1 - b)`` with u
    uniform on (-1/2, 1/2), since a density on the integers themselves has no bound. The noise u is
    a function of the file's name and of the place in the file, and not of its content: where one
    content stands under two names, a model that has seen one of them knows nothing of the noise of
    the other. The density of such samples, integrated over the cells of the integers, bounds the
    integers' probability from below on average, so bits per sample that follow from it are a code
    length.

    Frames of integers are made of the integers themselves, in steps and without noise. They are
    those of the file or, where a bit depth is given, its samples rounded to that depth.

    Samples come in pieces, so that memory does not hold a long sound.
"""

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import soxr

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.sound.soundfiles import SoundFile, effective_bits

SIDES = {"left": 0, "right": 1}
"""Channels that have a name, by it."""

GAINS = {
    "peak": lambda levels: 1 / levels.peak,  # to full scale
    "rms": lambda levels: 0.1 / levels.rms,  # to -20 dB
}
"""What brings samples to one level, by its name."""

MOST_BITS = 24
"""Bits of the widest integers that float32 tells apart."""

_DEFAULT_BITS = 16  # of the step that the noise spans where a file stores no integers
_ROUNDING = 2.0**-23  # of a standardised sample in float32, relative to it
_HOP, _PER_FRAME = 512, 4  # of trimming: samples of a step, steps of a frame whose level counts


@dataclass
class Levels:
    """The figures of samples that went by.

    Attributes:
        n: their number.
        peak: largest absolute value.
        power: sum of squares.
    """

    n: int = 0
    peak: float = 0.0
    power: float = 0.0

    def add(self, samples: Array) -> None:
        """Take in samples ``(N,)``."""
        if len(samples):
            self.n += len(samples)
            self.peak = max(self.peak, float(np.abs(samples).max()))
            self.power += float(np.square(samples).sum())

    @property
    def rms(self) -> float:
        """Root mean square."""
        return math.sqrt(self.power / max(self.n, 1))


@dataclass
class Signal:
    """Samples that are ready for frames.

    Attributes:
        samples: pieces ``(N,)``; of integers, if they were asked for.
        rate: samples per second.
        step: step of the integers, or of what stands for them, that the noise spans.
        bits: bits of the file's integer samples, if these are they and nothing else; of the
            integers that were asked for.
        source: the file they are of.
        levels: of the samples of the file, complete when the pieces have gone by.
    """

    samples: Iterator[Array]
    rate: int
    step: float
    bits: int | None
    source: SoundFile
    levels: Levels = field(default_factory=Levels)
    used: int = 0  # the file's integers, combined by "or"
    narrowed: float = 0.0  # steps that the noise lacks to span a whole one, summed over samples
    content: Any = field(default_factory=hashlib.blake2b)

    def facts(self) -> dict[str, Any]:
        """Return what the file holds, in plain types, when the pieces have gone by."""
        bits, levels = self.source.bits, self.levels
        return {
            "rate": self.source.rate,
            "channels": self.source.n_channels,
            "bits": bits,
            "effective_bits": None if bits is None else effective_bits(bits, self.used),
            "noise": 1 - self.narrowed / max(levels.n, 1),  # of a step, on average
            "seconds": levels.n / self.source.rate,
            "peak": levels.peak,
            "rms": levels.rms,
            "content": self.content.hexdigest()[:32],
        }


@dataclass(frozen=True)
class Preparation:
    """Prepares the samples of a file, by the options of `AudioDataModule` with these names; as
    integers without noise if they are asked for."""

    sample_rate: int | None
    channel: Literal["mix", "left", "right"] | int
    normalise: Literal["peak", "rms"] | None
    trim_db: float | None
    bit_depth: int | None
    integers: bool = False

    def prepare(self, source: SoundFile, name: str) -> Signal:
        """Return the samples of a file, ready for frames.

        Args:
            source: the file.
            name: its name, of which the noise is a function.

        Raises:
            DataError: the file has no such channel, no level, or no integers.
        """
        rate = self.sample_rate or source.rate
        step = 2.0 ** (1 - (self.bit_depth or source.bits or _DEFAULT_BITS))
        mixed = self.channel == "mix" and source.n_channels > 1
        changed = mixed or rate != source.rate or self.normalise or self.bit_depth
        bits = None if changed else source.bits
        if self.integers:
            bits = self._checked(source, self.bit_depth or bits)
        signal = Signal(iter(()), rate, step, bits, source)
        start, stop = self._span(source)
        signal.samples = self._noisy(signal, start, stop, name)
        if self.normalise is not None:
            levels = Levels()
            for piece in self._noisy(Signal(iter(()), rate, step, bits, source), start, stop, name):
                levels.add(piece)
            if levels.peak < step:
                raise DataError(
                    f"{source.path}: nothing but silence, which has no level: remove the file"
                )
            gain = float(GAINS[self.normalise](levels))
            signal.samples = (piece * gain for piece in signal.samples)
        if self.integers and bits is not None:
            signal.samples = in_steps(signal.samples, bits)
        return signal

    def _checked(self, source: SoundFile, bits: int | None) -> int:
        """Return the bits of integer samples; refuse a file that has none to model exactly."""
        if bits is not None and bits <= MOST_BITS:
            return bits
        if bits is not None:
            why, depth = f"stores integers of {bits} bits, more than {MOST_BITS}", f" {MOST_BITS}"
        else:
            why, depth = "stores no integers (lossy or floating-point)", ""
            if source.bits is not None:
                why = "is mixed, resampled or normalised, so that its integers are gone"
        raise DataError(
            f"{source.path}: {why}, and this kind of frames is of integers: set bit_depth{depth} to"
            " round samples to that depth, or choose another kind"
        )

    def _noisy(self, signal: Signal, start: int, stop: float, name: str) -> Iterator[Array]:
        """Yield samples at the signal's rate with noise; the signal learns of those in the file."""
        noise = np.random.default_rng(list(hashlib.blake2b(name.encode()).digest()))
        pieces = self._between(signal, start, stop)
        for piece in resampled(pieces, signal.source.rate, signal.rate):
            if self.integers:
                yield piece
                continue
            room = _room(piece, signal.step)
            signal.narrowed += float(np.sum(1 - room))
            yield piece + signal.step * room * (noise.random(len(piece)) - 0.5)

    def _between(self, signal: Signal, start: int, stop: float) -> Iterator[Array]:
        at = 0
        for block in signal.source.blocks():
            samples = self._one_channel(block, signal.source)
            if signal.source.bits is not None:
                integers = (block * 2.0 ** (signal.source.bits - 1)).astype(np.int64)
                signal.used |= int(np.bitwise_or.reduce(integers, axis=None))
            kept = samples[max(start - at, 0) : int(min(max(stop - at, 0), len(samples)))]
            at += len(samples)
            signal.levels.add(kept)
            signal.content.update(np.ascontiguousarray(kept))
            yield kept

    def _span(self, source: SoundFile) -> tuple[int, float]:
        """Return the first sample that is not silent, and one past the last."""
        if self.trim_db is None:
            return 0, math.inf
        return loud_span((self._one_channel(x, source) for x in source.blocks()), self.trim_db)

    def _one_channel(self, block: Array, source: SoundFile) -> Array:
        if self.channel == "mix":
            return block.mean(axis=1)
        number = SIDES.get(str(self.channel), self.channel)
        if not isinstance(number, int) or number >= source.n_channels:
            raise DataError(
                f"{source.path}: no channel {self.channel}: it has {source.n_channels}, from 0:"
                " set channel to one of them, or to mix"
            )
        return block[:, number]


def in_steps(pieces: Iterable[Array], bits: int) -> Iterator[Array]:
    """Yield samples ``(N,)`` rounded to integers of so many bits, in steps of these.

    >>> next(in_steps([np.array([0.5, -0.26, 1.0])], 3)).tolist()
    [2.0, -1.0, 3.0]
    """
    full = 2.0 ** (bits - 1)
    return (np.clip(np.round(piece * full), -full, full - 1) for piece in pieces)


def at_least(n_samples: int, pieces: Iterable[Array]) -> Iterator[Array]:
    """Yield the pieces ``(N,)`` of a sound.

    Raises:
        DataError: it has fewer samples.
    """
    n, held = 0, []
    for piece in pieces:
        n += len(piece)
        held.append(piece)
        if n >= n_samples:
            yield from held
            held = []
    if held:
        raise DataError(
            f"{n} samples where a frame needs {n_samples}: remove the file or make frames shorter"
        )


def _room(samples: Array, step: float) -> Array | float:
    """Return the share of a step that noise may span, so that float32 keeps samples ``(N,)`` in
    their cells; all of it for steps of 16 bits and wider."""
    return 1.0 if step >= 2.0**-15 else np.maximum(1 - 2 * np.abs(samples) * _ROUNDING / step, 0)


def sound_card(files: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what files hold as sound, in plain types.

    Args:
        files: the `Signal.facts` of each.

    Returns:
        Sample rates, channels, bits and effective bits (of the file that has most) of the files,
        their length in seconds, and their level in dB of full scale.
    """
    seconds = sum(file["seconds"] for file in files)
    power = sum(file["rms"] ** 2 * file["seconds"] for file in files) / max(seconds, 1e-9)
    used = [file["effective_bits"] for file in files if file["effective_bits"] is not None]

    def values(key: str) -> Any:
        found = sorted({file[key] for file in files}, key=str)
        return found[0] if len(found) == 1 else found

    return {
        "file_sample_rate": values("rate"),
        "file_channels": values("channels"),
        "bits": values("bits"),
        "effective_bits": max(used, default=None),
        "seconds": round(seconds, 3),
        "rms_db": round(10 * math.log10(max(power, 1e-20)), 2),
        "peak_db": round(20 * math.log10(max([1e-10, *(file["peak"] for file in files)])), 2),
    }


def resampled(pieces: Iterator[Array], rate: int, target: int) -> Iterator[Array]:
    """Yield pieces ``(N,)`` of a sound at another sample rate, by soxr's high quality."""
    if rate == target:
        yield from pieces
        return
    stream = soxr.ResampleStream(rate, target, 1, dtype="float64", quality="HQ")
    for piece in pieces:
        yield stream.resample_chunk(piece)
    yield stream.resample_chunk(np.zeros(0), last=True)


def loud_span(pieces: Iterator[Array], trim_db: float) -> tuple[int, int]:
    """Return the first sample that is not silent and one past the last, as `librosa.effects.trim`
    finds them: by the level of frames of 2048 samples, every 512.

    Args:
        pieces: of a sound, ``(N,)`` each.
        trim_db: silence is so many dB below the loudest frame.
    """
    energies, n, left = [], 0, np.zeros(0)
    for piece in itertools.chain(pieces, [None]):
        if piece is None:  # the end: the last step is padded with zeros
            held = np.pad(left, (0, -len(left) % _HOP))
        else:
            held, n = np.concatenate([left, piece]), n + len(piece)
        n_steps = len(held) // _HOP
        left = held[n_steps * _HOP :]
        energies.append(np.square(held[: n_steps * _HOP].reshape(-1, _HOP)).sum(1))
    steps = np.concatenate(energies)
    half = _PER_FRAME // 2
    sums = np.convolve(np.pad(steps, half), np.ones(_PER_FRAME), "valid")[: 1 + n // _HOP]
    power = np.maximum(sums / (_PER_FRAME * _HOP), 1e-10)
    loud = np.flatnonzero(10 * np.log10(power / power.max()) > -trim_db)
    return int(loud[0]) * _HOP, min(int(loud[-1] + 1) * _HOP, n)
