"""Read sound files whole, or refuse them.

Conventions:
    Samples are float64 with full scale 1: the integer k of b bits is ``k / 2**(b - 1)``. A sound is
    ``(N, C)``, channels last. Rates are in samples per second.
"""

import math
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.sound import ffmpeg
from rnade_lightning.datamodules.sound.flac import Signature
from rnade_lightning.datamodules.sound.mp3 import frames_fault, is_mp3, length_fault, quiet

EXTENSIONS = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd",
    ".caf", ".w64", ".rf64", ".sph", ".nist", ".voc", ".sf", *ffmpeg.EXTENSIONS,
)  # fmt: skip
"""Endings of files that can be read without being told rate and format."""

SAMPLE_RATES = (1000, 768_000)
"""Lowest and highest sample rate; a file with another is refused as damaged."""

_BITS = {
    "PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32,
    "ALAC_16": 16, "ALAC_20": 20, "ALAC_24": 24, "ALAC_32": 32,
}  # fmt: skip
_LOUDEST = 1e6  # times full scale; more is damage
_BLOCK = 1 << 16  # frames read at a time, so that a damaged header cannot ask for memory
_TRUNCATED = re.compile(
    r"(RIFF|riff|Riff size|data|FORM|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)"
)
_OPEN_END = (1 << 63) - 1  # frames, by libsndfile, of a FLAC file that does not tell
_NIST_COUNT = re.compile(rb"\nsample_count -i (\d+)\n")
_MISPLACED = re.compile(
    r"\*\*\* .*(?:Exiting parser|not equal to frame count|does not match)|truncated file"
)
"""What libsndfile's log says of a file whose parts do not follow each other; it reads on."""

_CHUNK = re.compile(rb"[A-Za-z0-9_ ]{4}")
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICS")  # what players write behind a sound, of its title
_NEVER_WRITTEN = re.compile(r"FORM : 0 \(should be(?s:.*)SSND : 0 \(should be")
_OPEN_W64 = re.compile(
    r"riff : -1 (?s:.*)Block Align +: (\d+)(?s:.*)data : -?9223372036854775\d{3}\n"
)
"""What libsndfile's log says of files that were written to a pipe, which cannot go back."""

_NOT_KNOWN = re.compile("unimplemented|not implemented|unsupported|not supported", re.IGNORECASE)
"""What libsndfile says of a format that it knows and cannot read."""

_BYTE_RATE = re.compile(r"Bytes/sec\s*: (\d+) \(should be (\d+)\)")
_FIXED_WIDTH = re.compile(
    r"Format *: 0x(?:1|3|6|7|FFFE) .*\n *Channels *: (\d+).*\n *Sample Rate.*\n"
    r" *Block Align *: (\d+).*\n *Bit Width *: (\d+)"
)
"""Header of a WAV file whose samples all take as many bytes."""


class Sound(NamedTuple):
    """The content of a sound file.

    Attributes:
        samples: ``(N, C)``.
        rate: Samples per second.
        bits: Bits of an integer sample; None if the file stores none (lossy, floating point).
    """

    samples: Array
    rate: int
    bits: int | None


class SoundFile:
    """A sound file that is read in pieces, as often as it is asked for.

    Args:
        path: File to read.
        as_is: Take any sample rate, and a file without samples.

    Attributes:
        container: Name of the format in libsndfile, such as ``WAV`` or ``FLAC``.
        rate: Samples per second.
        n_channels: Channels, C.
        bits: Bits of an integer sample; None if the file stores none (lossy, floating point).

    Raises:
        DataError: the file is no sound, or its header is damaged.
    """

    def __init__(self, path: Path, as_is: bool = False) -> None:
        self.path = self._source = path
        self._as_is = as_is
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty: get it again")
        bits = None
        if path.suffix.lower() in ffmpeg.EXTENSIONS:
            self._folder = tempfile.TemporaryDirectory()  # lasts as long as this object
            self._source = Path(self._folder.name, "decoded.wav")
            bits = ffmpeg.decode(path, self._source)
        self._quiet: Callable[[], AbstractContextManager[None]] = nullcontext
        if self._source == path and is_mp3(path):
            self._quiet = quiet
            if fault := frames_fault(path.read_bytes()):  # with a reason that the decoder lacks
                raise DataError(f"{path}: {fault}")
        with self._open() as file:
            self.container, self.rate, self.n_channels = file.format, file.samplerate, file.channels
            self.bits = bits or _BITS.get(file.subtype)
            open_end = file.format == "FLAC" and file.frames == _OPEN_END
        if open_end:
            raise DataError(
                f"{path}: its header does not tell how many samples it has, as in FLAC without any"
                " or written to a pipe: encode it anew, into a file"
            )
        if not (as_is or SAMPLE_RATES[0] <= self.rate <= SAMPLE_RATES[1]):
            raise DataError(f"{path}: the header tells {self.rate} samples a second: repair it")

    def blocks(self) -> Iterator[Array]:
        """Yield the samples in pieces ``(N, C)``.

        Raises:
            DataError: the file is damaged, truncated, without samples, or holds a sample that is
                not a number.
        """
        path, n_read = self.path, 0
        signature = Signature.of(self._source, self.bits)
        try:
            with self._open() as file:
                declared = file.frames
                while True:
                    with self._quiet():
                        block = file.read(_BLOCK, dtype="float64", always_2d=True)
                    if not len(block):
                        break
                    n_read += len(block)
                    self._check_samples(block, n_read - len(block))
                    if signature:
                        signature.add(block)
                    yield block
                log, container, kind = file.extra_info, file.format, file.subtype
        except (soundfile.SoundFileError, RuntimeError, MemoryError) as error:
            raise self._unreadable(error, n_read) from None
        if container == "OGG" and not _ogg_ends(path):
            raise DataError(f"{path}: truncated after sample {n_read}: get it again")
        if fault := _header_fault(log):
            raise DataError(f"{path}: {fault}")
        if n_read == 0 and (rest := _behind_header(self._source, container)):
            raise DataError(
                f"{path}: its header tells of no samples, and {rest} bytes follow it, as where a"
                " recorder lost power: write its header anew"
            )
        if n_read == 0 and not self._as_is:
            raise DataError(f"{path}: holds no samples: remove the file")
        if _NEVER_WRITTEN.search(log):
            raise DataError(
                f"{path}: its header tells lengths of 0, as in AIFF written to a pipe, so that it"
                " may be cut: encode it anew, into a file"
            )
        if _MISPLACED.search(log) and not _is_whole(self._source, container, log, n_read):
            raise DataError(
                f"{path}: damaged: its {n_read} samples are not followed by what its header tells,"
                " as if bytes had been put in or added: save it again"
            )
        if container == "NIST" and (count := _NIST_COUNT.search(_start(path))):
            declared = int(count[1])  # which libsndfile does not look at
        if kind == "MPEG_LAYER_III":
            if fault := length_fault(path.read_bytes(), n_read, declared):
                raise DataError(f"{path}: {fault}")
        elif n_read < declared:
            raise DataError(f"{path}: truncated: {n_read} samples of {declared}: get it again")
        if signature and not signature.holds():
            raise DataError(
                f"{path}: damaged: its {n_read} samples are not those of the MD5 sum in its header:"
                " get it again"
            )

    def _open(self) -> soundfile.SoundFile:
        try:
            with self._quiet():
                return soundfile.SoundFile(self._source)
        except (soundfile.SoundFileError, RuntimeError, ValueError, MemoryError) as error:
            raise self._unreadable(error, 0) from None

    def _unreadable(self, error: Exception, n_read: int) -> DataError:
        reason = str(error).split(": ", 1)[-1].strip(" .") or type(error).__name__
        where = f"after sample {n_read} " if n_read else ""
        remedy = "get it again"
        if _NOT_KNOWN.search(reason):  # the file may be whole
            remedy = "convert it to WAV or FLAC of 16 or 24 bits"
        return DataError(f"{self.path}: cannot be read {where}({reason}): {remedy}")

    def _check_samples(self, block: Array, start: int) -> None:
        with np.errstate(invalid="ignore"):
            for i, c in np.argwhere(~(np.abs(block) < _LOUDEST))[:1]:
                where = f"sample {start + i} ({(start + i) / self.rate:.3f} s), channel {c}"
                raise DataError(
                    f"{self.path}: {where} is {block[i, c]:g}: repair or remove the file"
                )


def read_sound(path: Path) -> Sound:
    """Read a whole sound file.

    Raises:
        DataError: the file is no sound, damaged, truncated, empty, or holds a sample that is not a
            number.
    """
    file = SoundFile(path)
    return Sound(np.concatenate(list(file.blocks())), file.rate, file.bits)


def effective_bits(bits: int, used: int) -> int:
    """Return how many of the bits of integer samples say anything.

    Args:
        bits: Bits of a sample.
        used: All samples, combined bit by bit with "or".

    >>> effective_bits(16, 0b1_0000_0000)
    8
    """
    return bits - int(math.log2(used & -used)) if used else 0


def _header_fault(log: str) -> str | None:
    """Return what libsndfile's log says against a header that it has read over; None if nothing."""
    for told, right in _BYTE_RATE.findall(log):
        if _FIXED_WIDTH.search(log):
            return (
                f"its header contradicts itself: {told} bytes a second, where its rate and width"
                f" make {right}: get it again or write its header anew"
            )
    for channels, block, width in _FIXED_WIDTH.findall(log):
        least = int(channels) * -(-int(width) // 8)
        if int(block) != least:
            return (
                f"its header contradicts itself: {block} bytes a block, where {channels} channels"
                f" of {width} bits make {least}: get it again or write its header anew"
            )
    for part, promised, found in _TRUNCATED.findall(log):
        # Programs that write to a pipe leave a length near 2 or 4 GiB: then the end of the file is
        # the end of the sound. The last byte of a whole file may be padding, and some count the
        # eight bytes ahead of the length too.
        least = int(promised) - 8 * (part in ("RIFF", "riff", "Riff size", "FORM"))
        if int(found) < least and int(promised) < 0x7FFF0000:
            return f"truncated: {found} bytes of {promised}: get it again"
    return None


def _behind_header(path: Path, container: str) -> int:
    """Return the bytes behind a data chunk of length 0 at the end of what a WAV file tells of."""
    start = _start(path) if container in ("WAV", "WAVEX") else b""
    at = start.find(b"data\0\0\0\0")
    told = int.from_bytes(start[4:8], "little")
    lost = at >= 0 and (told in (0, at) or not _fills_riff(path))
    return path.stat().st_size - at - 8 if lost else 0


def _is_whole(path: Path, container: str, log: str, n_read: int) -> bool:
    """Tell whether a file is whole, of which libsndfile's log says that parts are misplaced: a WAV
    file with a tag behind it or without the byte that pads a chunk, or W64 written to a pipe."""
    if container in ("WAV", "WAVEX"):
        return _fills_riff(path)
    if container == "W64" and (found := _OPEN_W64.search(log)):
        begin = _start(path).find(b"data\xf3\xac\xd3\x11") + 24
        return path.stat().st_size == begin + n_read * int(found[1])
    return False


def _fills_riff(path: Path) -> bool:
    """Tell whether the chunks of a WAV file fill what its header tells, and nothing but tags stands
    behind them."""
    with path.open("rb") as file:
        end, at = 8 + int.from_bytes(file.read(8)[4:], "little"), 12
        while at < end:
            file.seek(at)
            head = file.read(8)
            if len(head) < 8 or not _CHUNK.match(head):
                return False
            size = int.from_bytes(head[4:], "little")
            at += 8 + size
            file.seek(at)
            if size % 2 and not _CHUNK.match(file.read(4)):  # the next one stands behind a zero
                at += 1
        file.seek(end)
        behind = file.read(8)
    return at - end in (0, 1) and (not behind or behind.startswith(_TAGS))


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1024)


def _ogg_ends(path: Path) -> bool:
    """Tell whether the last page of an Ogg file is marked as the last."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - (1 << 17), 0))  # a page is below 64 KiB
        end = file.read()
    page = end.rfind(b"OggS")
    return page >= 0 and len(end) > page + 5 and bool(end[page + 5] & 4)
