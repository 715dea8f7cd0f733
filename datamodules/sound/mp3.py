"""Find faults that MP3 decoders pass over in silence: missing frames, and guessed lengths.

libsndfile reads such files without an error and returns other sound than they hold:
``tests/datamodules/sound/test_mp3.py`` shows it (`test_the_decoder_alone_loses_sound_in_silence`).
`frames_fault` and `length_fault` find them, the first before a decoder is asked.

Conventions:
    A file is a row of layer III frames. Each has a header of four bytes that gives its length. Tags
    may come before and after. The first frame may give the number of frames (Xing, LAME and
    Fraunhofer write it). If it does not, libsndfile guesses the number from the size of the file
    and reads at most that much.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_COMMON = 0xFFFE0C00  # bits of a header that all frames share: sync, version, layer, rate
_SAMPLE_RATES = (44_100, 48_000, 32_000)  # Hz, of MPEG 1
_BIT_RATES = (  # kbit/s, of MPEG 2 and 2.5, and of MPEG 1
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_LENGTH_MARKS = (b"Xing", b"Info", b"VBRI")
_TRIMMED = 1152 + 2 * 4095  # samples at most: the first frame, and what is cut at both ends
_END_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")


class _Walk(NamedTuple):
    """The figures that the headers of all frames tell.

    Attributes:
        n_samples: samples of the frames.
        has_length: whether the first frame gives the number of frames.
        last: byte at which the last frame begins.
        end: byte after the last frame.
        fault: what is wrong between frames, None if nothing.
    """

    n_samples: int
    has_length: bool
    last: int
    end: int
    fault: str | None


def is_mp3(path: Path) -> bool:
    """Tell whether a decoder would take a file for MP3: by its name, or by how it begins."""
    with path.open("rb") as file:
        start = file.read(4)
        data = start + (file.read() if start[:3] == b"ID3" else b"")
    return path.suffix.lower() == ".mp3" or _frame(_head(data, _after_tags(data))) > 0


def frames_fault(data: bytes) -> str | None:
    """Return what is wrong with the frames of an MP3 file, None if nothing is.

    Args:
        data: bytes of the file.
    """
    return _walk(data).fault


def length_fault(data: bytes, n_read: int, declared: int) -> str | None:
    """Return what is wrong with the length of an MP3 file that was decoded, None if nothing is.

    Args:
        data: bytes of the file.
        n_read: number of samples that were decoded.
        declared: number of samples that the decoder had announced.
    """
    walk = _walk(data)
    if walk.has_length and n_read < declared:
        return f"truncated: {n_read} samples of {declared}: get it again"
    if walk.end > len(data):
        return f"truncated in the frame at byte {walk.last}: get it again"
    if walk.n_samples - n_read > (_TRIMMED if walk.has_length else 0):
        return (
            f"{n_read} samples of {walk.n_samples} can be read, since its first frame does not tell"
            " of all: convert it to FLAC"
        )
    return None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what a decoder in C writes to the standard error from the user, while the block runs:
    files that it complains of are refused by the checks here, in one line."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _walk(data: bytes) -> _Walk:
    last, common, n_samples, has_length, fault = 0, None, 0, False, None
    at = _after_tags(data)
    while at < len(data):
        head = _head(data, at)
        length = _frame(head)
        if not length or (common is not None and head & _COMMON != common):
            if common is None or (any(data[at:]) and not data.startswith(_END_TAGS, at)):
                fault = f"damaged: no MP3 frame at byte {at}: get it again"
            break
        if common is None:
            has_length = any(mark in data[at : at + length] for mark in _LENGTH_MARKS)
        last, at, common = at, at + length, head & _COMMON
        n_samples += 1152 if head >> 19 & 1 else 576
    if common is None and fault is None:
        fault = "holds no MP3 frame: get it again"
    return _Walk(n_samples, has_length, last, at, fault)


def _after_tags(data: bytes) -> int:
    """Return the byte after the tags at the beginning."""
    at = 0
    while data.startswith(b"ID3", at) and len(data) > at + 10:
        size = sum(digit << 7 * (3 - i) for i, digit in enumerate(data[at + 6 : at + 10]))
        at += 10 + size + 10 * (data[at + 5] >> 4 & 1)
    return at


def _head(data: bytes, at: int) -> int:
    """Return the four bytes at a place, as one number."""
    return int.from_bytes(data[at : at + 4], "big")


def _frame(head: int) -> int:
    """Return the length in bytes of a layer III frame with this header; 0 if it is no header."""
    version, layer, bit_rate, rate = head >> 19 & 3, head >> 17 & 3, head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or version == 1 or layer != 1 or bit_rate in (0, 15) or rate == 3:
        return 0
    per_second = _SAMPLE_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]  # MPEG 1, 2 and 2.5
    bits = 1000 * _BIT_RATES[version == 3][bit_rate - 1]
    return (144 if version == 3 else 72) * bits // per_second + (head >> 9 & 1)
