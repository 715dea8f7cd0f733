r"""Read sound files as integers and write them back, exactly and in pieces.

Conventions:
    Samples are int64 ``(n, C)``, channels last. A sample of b bits lies in
    $[-2^{b-1}, 2^{b-1} - 1]$, in 8-bit WAV too, whose bytes are unsigned (the sample plus 128).
    Coded channels, also ``(n, C)``, are what a coder gets.

Zero bits. Where the last s bits of all samples of a channel are 0 (8-bit sound in a 16-bit file has
s = 8), the channel is divided by $2^s$. The two channels of stereo share one s.

Stereo. In place of left and right, L and R, the coded channels are their mean and difference,

$$m = \lfloor (L + R) / 2 \rfloor, \quad d = L - R.$$

The sum L + R is even where d is even, so that it is $2m + (d \bmod 2)$. Half the sum of L + R and
L - R is L:

$$L = (2m + (d \bmod 2) + d) / 2, \quad R = L - d.$$

Left and right are coded *apart*, as they are, where they have not the same zero bits, or where
fewer bits would be left of them so by fixed predictors, which is how FLAC decides: of channels that
have nothing in common, say. More channels than two are always coded apart.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core import MachineError
from rnade_lightning.datamodules.sound.soundfiles import SoundFile

Integers = npt.NDArray[np.int64]

EXTENSIONS = (".wav", ".flac")
"""Endings of the files that can be coded."""

CONTAINERS = ("WAV", "FLAC", "WAVEX")
"""Formats of files, by libsndfile's names; a stream holds the place in this list."""

BITS = (8, 16, 24)
"""Bits of a sample."""

MAX_CHANNELS = 64
MAX_RATE = 1 << 24
MAX_SAMPLES = 1 << 44  # of each channel; more is damage

_PIECE = 4096  # samples for which one predictor is best
_EXTENSIBLE = 0xFFFE  # of a WAV header with valid bits and a mask of channels
_SUBTYPES = {8: "PCM_U8", 16: "PCM_16", 24: "PCM_24"}
_WAV_BYTES = (1 << 32) - 4096  # what the 32-bit lengths of WAV leave for samples
_FLAC_CHANNELS, _FLAC_RATE = 8, 655_350


class Signal(NamedTuple):
    """A file of sound without its samples.

    Attributes:
        container: One of `CONTAINERS`.
        rate: Samples per second.
        bits: Bits of a sample.
        n_samples: Samples of each channel.
        checksum: 8 bytes; see `Checksum`.
        lows: Smallest value of each coded channel.
        highs: Largest value of each coded channel.
        shifts: Zero bits at the end of all samples of each channel.
        apart: Left and right are coded as they are, not as mean and difference.
    """

    container: str
    rate: int
    bits: int
    n_samples: int
    checksum: bytes
    lows: tuple[int, ...]
    highs: tuple[int, ...]
    shifts: tuple[int, ...]
    apart: bool = True

    @property
    def n_channels(self) -> int:
        return len(self.lows)

    @property
    def seconds(self) -> float:
        return self.n_samples / self.rate

    @property
    def n_bytes(self) -> int:
        """Bytes of all samples without coding."""
        return self.n_samples * self.n_channels * self.bits // 8

    def fault(self) -> str | None:
        """Return why no file can be like this, in words; None if one can."""
        flac = self.container == "FLAC"
        if not 1 <= self.n_channels <= (_FLAC_CHANNELS if flac else MAX_CHANNELS):
            return f"{self.n_channels} channels"
        if not 1 <= self.rate <= (_FLAC_RATE if flac else MAX_RATE):
            return f"{self.rate} samples a second"
        if self.bits not in BITS:
            return f"{self.bits} bits a sample"
        if not flac <= self.n_samples <= MAX_SAMPLES:
            return f"{self.n_samples} samples"
        if not flac and self.n_bytes > _WAV_BYTES:
            return f"{self.n_bytes} bytes, more than a WAV file holds"
        if not all(0 <= shift < self.bits for shift in self.shifts):
            return f"shifts by {max(self.shifts)} bits"
        full = 1 << (self.bits - 1)
        if not self.apart and self.n_channels != 2:
            return f"mean and difference of {self.n_channels} channels"
        if self.n_channels == 2 and self.shifts[0] != self.shifts[1]:
            return "other shifts on the left than on the right"
        for i, (low, high) in enumerate(zip(self.lows, self.highs, strict=True)):
            most = full if self.apart or i == 0 else 2 * full
            if not -most <= low <= high < most:
                return f"values from {low} to {high} in channel {i}"
        return None


class Checksum:
    """BLAKE2b, in 8 bytes, of samples as 64-bit integers, the lowest byte first, channels side by
    side."""

    def __init__(self) -> None:
        self._sum = hashlib.blake2b(digest_size=8)

    def add(self, samples: Integers) -> None:
        self._sum.update(np.ascontiguousarray(samples, "<i8").tobytes())

    def digest(self) -> bytes:
        return self._sum.digest()


def measure(path: Path) -> Signal:
    """Read a file once, and return all that is to be known before its samples are coded.

    Raises:
        DataError: It is no WAV or FLAC file of 8, 16 or 24 bits, or damaged.
    """
    file = _opened(path)
    checksum, n_samples = Checksum(), 0
    used = np.zeros(file.n_channels, np.int64)
    ends = {way: np.full((2, file.n_channels), [[1 << 62], [-1 << 62]]) for way in (True, False)}
    left = dict.fromkeys(ends, 0.0)
    for samples in _integers(file):
        checksum.add(samples)
        n_samples += len(samples)
        used |= np.bitwise_or.reduce(samples)
        for apart, (lows, highs) in ends.items():
            coded = to_coded(samples, [0] * file.n_channels, apart)
            np.minimum(lows, coded.min(0), out=lows)
            np.maximum(highs, coded.max(0), out=highs)
            left[apart] += _left(coded) if file.n_channels == 2 else 0.0
    stereo, zeros = file.n_channels == 2, [zero_bits(x) for x in used.tolist()]
    shifts = [zero_bits(int(used[0] | used[1]))] * 2 if stereo else zeros
    apart = not stereo or zeros[0] != zeros[1] or left[True] < left[False]
    lows, highs = ends[apart] if n_samples else np.zeros((2, file.n_channels), np.int64)
    signal = Signal(
        file.container, file.rate, file.bits or 0, n_samples, checksum.digest(),
        tuple((lows >> shifts).tolist()), tuple((highs >> shifts).tolist()), tuple(shifts), apart,
    )  # fmt: skip
    if fault := signal.fault():
        raise DataError(f"{path}: has {fault}: it cannot be coded; leave it out")
    return signal


def read(path: Path, signal: Signal, n: int) -> Iterator[Integers]:
    """Yield the samples of a file, n at a time; the last piece may be shorter.

    Args:
        path: File to read.
        signal: What `measure` returned of it.
        n: Samples of each channel in a piece.

    Raises:
        DataError: The file is no longer what it was.
    """
    checksum, n_samples = Checksum(), 0
    rest = np.empty((0, signal.n_channels), np.int64)
    for samples in _integers(_opened(path)):
        checksum.add(samples)
        n_samples += len(samples)
        if samples.shape[1] != signal.n_channels or n_samples > signal.n_samples:
            break
        rest = np.concatenate((rest, samples))
        while len(rest) >= n:
            yield rest[:n]
            rest = rest[n:]
    if checksum.digest() != signal.checksum:
        raise DataError(f"{path}: changed while it was read: compress it again")
    if len(rest):
        yield rest


def not_kept(path: Path, signal: Signal) -> str:
    """Return what of a WAV file's header is not in the file that comes back, in words; nothing if
    all of it is, but for titles and other tags."""
    if signal.container == "FLAC":
        return ""
    made = io.BytesIO()
    with soundfile.SoundFile(made, "w", **_format(signal)):  # the header that comes back
        pass
    with path.open("rb") as file:
        bits, mask = _bits_and_mask(file.read(1 << 16))
    _, usual = _bits_and_mask(made.getvalue())
    lost = [f"that {bits} of its {signal.bits} bits are used"] * (bits != signal.bits)
    lost += [f"where its loudspeakers stand (mask {mask:#x})"] * (mask != usual)
    return " and ".join(lost)


def _bits_and_mask(start: bytes) -> tuple[int, int]:
    """Return the valid bits and the mask of channels in the header of a WAV file; a mask of 0
    where it has none."""
    at = start.find(b"fmt ") + 8
    kind, width, valid, mask = (
        int.from_bytes(start[at + i : at + i + n], "little")
        for i, n in ((0, 2), (14, 2), (18, 2), (20, 4))
    )
    return (valid or width, mask) if kind == _EXTENSIBLE else (width, 0)


def _format(signal: Signal) -> dict[str, Any]:
    """Return what soundfile has to know to write a signal."""
    flac8 = signal.container == "FLAC" and signal.bits == 8
    return {
        "samplerate": signal.rate, "channels": signal.n_channels, "format": signal.container,
        "subtype": "PCM_S8" if flac8 else _SUBTYPES[signal.bits],
    }  # fmt: skip


class Writer:
    """A sound file that is written in pieces; use it in a ``with`` block.

    Args:
        path: File to write, whatever its ending.
        signal: Its format, rate and width.

    Attributes:
        checksum: Of all samples written so far.

    Raises:
        MachineError: It cannot be written.
    """

    def __init__(self, path: Path, signal: Signal) -> None:
        self.path, self._bits, self.checksum = path, signal.bits, Checksum()
        try:
            self._file = soundfile.SoundFile(path, "w", **_format(signal))
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise self._unwritable(error) from None

    def write(self, samples: Integers) -> None:
        """Write samples ``(n, C)``, which must be `within` the file's bits."""
        self.checksum.add(samples)
        try:
            self._file.write((samples << (32 - self._bits)).astype(np.int32))
        except (soundfile.SoundFileError, RuntimeError, AssertionError) as error:
            raise self._unwritable(error) from None

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def _unwritable(self, error: Exception) -> MachineError:
        reason = str(error).split(": ", 1)[-1].strip(" .") or "is the disk full?"
        return MachineError(f"{self.path}: cannot be written ({reason}): make room")


def to_coded(samples: Integers, shifts: Sequence[int], apart: bool) -> Integers:
    """Return the coded channels of samples.

    >>> to_coded(np.array([[5, -2], [-4, -4]]), [0, 0], apart=False).tolist()
    [[1, 7], [-4, 0]]
    """
    if not apart and samples.shape[1] == 2:
        left, right = samples.T
        samples = np.stack(((left + right) >> 1, left - right), axis=1)
    return np.asarray(samples >> np.asarray(shifts))


def to_samples(coded: Integers, shifts: Sequence[int], apart: bool) -> Integers:
    """Return the samples of coded channels; the inverse of `to_coded`.

    >>> to_samples(np.array([[1, 7], [-4, 0]]), [0, 0], apart=False).tolist()
    [[5, -2], [-4, -4]]
    """
    if not apart and coded.shape[1] == 2:
        mean, difference = coded.T
        left = (2 * mean + (difference & 1) + difference) >> 1
        coded = np.stack((left, left - difference), axis=1)
    return np.asarray(coded << np.asarray(shifts))


def within(samples: Integers, bits: int) -> bool:
    """Return whether all samples can be written with so many bits.

    >>> within(np.array([[-128, 127]]), 8), within(np.array([[128]]), 8)
    (True, False)
    """
    full = 1 << (bits - 1)
    return bool((samples >= -full).all() and (samples < full).all())


def zero_bits(x: int) -> int:
    """Return how many bits at the end of a number are 0; 0 for 0."""
    return max((x & -x).bit_length() - 1, 0)


def _left(coded: Integers) -> float:
    """Return about how many bits coded channels take by themselves: Laplace noise about the best of
    the fixed predictors, or all values alike."""
    bits = 0.0
    for at in range(0, len(coded), _PIECE):
        piece = coded[at : at + _PIECE]
        residuals = [np.diff(piece, order, axis=0) for order in range(min(4, len(piece)))]
        size = np.min([np.abs(residual).mean(0) for residual in residuals], axis=0)
        each = np.minimum(np.log2(1.0 + 2.0 * np.e * size), np.log2(1.0 + np.ptp(piece, axis=0)))
        bits += len(piece) * float(each.sum())
    return bits


def _opened(path: Path) -> SoundFile:
    """Open a file of integers, or refuse it."""
    file = SoundFile(path, as_is=True)
    if file.container not in CONTAINERS or file.bits not in BITS:
        bits = f"of {file.bits} bits" if file.bits else "without integer samples"
        raise DataError(
            f"{path}: a file of {file.container} {bits}: only WAV and FLAC of 8, 16 or 24 bits can"
            " be coded without loss; convert it to one of them"
        )
    if not 1 <= file.n_channels <= MAX_CHANNELS:
        raise DataError(f"{path}: {file.n_channels} channels: at most {MAX_CHANNELS} can be coded")
    return file


def _integers(file: SoundFile) -> Iterator[Integers]:
    """Yield the samples of a file as integers: `SoundFile` has them over full scale, which is a
    power of two, so that nothing is rounded."""
    assert file.bits
    full = 2.0 ** (file.bits - 1)
    for block in file.blocks():
        yield (block * full).astype(np.int64)
