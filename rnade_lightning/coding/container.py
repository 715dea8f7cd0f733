"""Store coded sound as a stream of blocks, each with its checks: the format ``.rnade``.

All numbers have their lowest byte first. *Short* ones take a byte for each 7 bits, whose highest
bit tells that more follow; n is stored as 2 n, or -2 n - 1 if it is below 0. The header takes some
40 bytes in mono and 50 in stereo:

| bytes | holds |
|---|---|
| 6 | ``rnade`` and the byte 26 |
| 1 | version of the format, 2 |
| 8 | digest of the model and of the coder's version |
| 1 | bits of a sample |
| 1 | format of the file: 0 WAV, 1 FLAC, 2 WAVEX; 4 more for mean and difference in stereo |
| 8 | checksum of all samples, see `channels.Checksum` |
| short | sample rate; channels, C; samples of each channel |
| short, 3 C | of each coded channel: smallest value, largest, zero bits shifted out |
| 4 | CRC-32 of all of the header before it |

A block follows for every `BLOCK` samples of each channel; the last has the rest:

| bytes | holds |
|---|---|
| 4 | length of the payload |
| 2 | the low half of the CRC-32 of the coded channels, as 64-bit integers |
| 4 | CRC-32 of the six bytes above and of the payload, begun with that of the block before |
| any | payload: what the coder made |

The CRC of the first block begins with that of the header. This chain finds blocks
that were exchanged, not only damage inside them. The two bytes find a decoder that computes
otherwise than the encoder, where it first does. The stream ends with its last block. One that was
cut or damaged is good up to the block before that place. The length that a header claims reserves
no memory.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np

from rnade_lightning.coding.channels import (
    CONTAINERS,
    MAX_CHANNELS,
    Integers,
    Signal,
    to_coded,
    to_samples,
    within,
)
from rnade_lightning.datamodules import DataError

EXTENSION = ".rnade"
MAGIC, VERSION = b"rnade\x1a", 2
BLOCK = 1 << 14
"""Samples of each channel in a block: about a second of speech, and the most that a cut loses
before it."""

_HEAD = struct.Struct("<6sB8sBB8s")
_CRC = struct.Struct("<I")
_BLOCK = struct.Struct("<IH")
_TOGETHER = 4  # added to the format of stereo that is coded as mean and difference
_MOST_BITS = 63  # of a short number

CUT, DAMAGED = "is cut", "is damaged"
OTHERWISE = "decodes to other samples here than those that were coded"
REMEDIES = {CUT: "get the whole of it again", DAMAGED: "get it again",
            OTHERWISE: "decode it where it was made, with the versions that made it"}  # fmt: skip
"""Faults of a stream, and what to do."""


class Coder(Protocol):
    """A coder of blocks, whose state is carried from block to block."""

    def encode(self, samples: Integers, /) -> bytes:
        """Return the next block ``(n, C)``, coded."""

    def decode(self, data: bytes, n: int, /) -> Integers:
        """Return the next block ``(n, C)``.

        Raises:
            ValueError: The data cannot be a block.
        """


class Codec(NamedTuple):
    """A way to code.

    Attributes:
        make: Takes the lows, the highs and the sample rate of a `Signal`, and returns a new coder.
        digest: 8 bytes, of the model and of the coder's version.
    """

    make: Callable[[list[int], list[int], int], Coder]
    digest: bytes


def write(file: BinaryIO, signal: Signal, blocks: Iterable[Integers], codec: Codec) -> None:
    """Write a stream.

    Args:
        file: File to write to.
        signal: What the blocks are of.
        blocks: All samples, in pieces of `BLOCK`.
        codec: How they are coded.
    """
    kind = CONTAINERS.index(signal.container) + (0 if signal.apart else _TOGETHER)
    header = _HEAD.pack(MAGIC, VERSION, codec.digest, signal.bits, kind, signal.checksum)
    header += _short(signal.rate, signal.n_channels, signal.n_samples)
    for channel in zip(signal.lows, signal.highs, signal.shifts, strict=True):
        header += _short(*channel)
    crc = zlib.crc32(header)
    file.write(header + _CRC.pack(crc))
    coder = codec.make([*signal.lows], [*signal.highs], signal.rate)
    for samples in blocks:
        coded = to_coded(samples, signal.shifts, signal.apart)
        payload = coder.encode(coded)
        if len(payload) > (most := _longest(coded.size)):
            raise ValueError(f"a block of {len(payload)} bytes is above the {most} of the format")
        head = _BLOCK.pack(len(payload), _check(coded))
        crc = zlib.crc32(payload, zlib.crc32(head, crc))
        file.write(head + _CRC.pack(crc) + payload)


class Stream:
    """A stream to read. All its bytes are checked at once; nothing is decoded.

    Args:
        file: File at the start of the stream.
        path: Its name, for messages.

    Attributes:
        signal: What the stream is of.
        digest: Of the model that it was made with.
        n_good: Samples of each channel in the blocks before a cut or damage.
        fault: One of `REMEDIES`, `OTHERWISE` only once decoded; None if there is none.

    Raises:
        DataError: It is no stream, of another version, has a damaged header or more than it should.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self.digest, self.signal, self._crc = _header(file, path)
        self._start = file.tell()
        self._end = file.seek(0, os.SEEK_END)
        self.n_good = 0
        self.fault: str | None = None
        for n, *_ in self._blocks():
            self.n_good += n
        if self.fault is None and file.tell() < self._end:
            raise DataError(
                f"{path}: goes on behind its end, as if something had been added: get it again, or"
                f" keep its first {file.tell()} bytes only"
            )

    def samples(self, codec: Codec) -> Iterator[Integers]:
        """Yield the samples of every block before a cut or damage, in pieces ``(n, C)``.

        Where `fault` tells at the end that something was lost, every piece before it is right.

        Raises:
            DataError: The stream was made with another model.
        """
        if codec.digest != self.digest:
            raise DataError(
                f"{self._path}: was made with another model or version of the coder"
                f" ({self.digest.hex()[:8]}) than this one ({codec.digest.hex()[:8]}): give the"
                " checkpoint that it was made with as --ckpt_path"
            )
        signal, self.n_good, self.fault = self.signal, 0, None
        coder = codec.make([*signal.lows], [*signal.highs], signal.rate)
        for n, check, payload in self._blocks():
            try:
                coded = coder.decode(payload, n)
            except ValueError:
                self.fault = OTHERWISE
                return
            if coded.shape != (n, signal.n_channels) or _check(coded) != check:
                self.fault = OTHERWISE
                return
            samples = to_samples(coded, signal.shifts, signal.apart)
            if not within(samples, signal.bits):
                self.fault = OTHERWISE
                return
            self.n_good += n
            yield samples

    def _blocks(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield the samples, the check and the payload of each good block; tell of a fault."""
        file, crc, n_samples = self._file, self._crc, self.signal.n_samples
        file.seek(self._start)
        for start in range(0, n_samples, BLOCK):
            n = min(BLOCK, n_samples - start)
            head, expected = file.read(_BLOCK.size), file.read(_CRC.size)
            if len(expected) < _CRC.size:
                self.fault = CUT
                return
            length, check = _BLOCK.unpack(head)
            if length > _longest(n * self.signal.n_channels):
                self.fault = DAMAGED
                return
            if length > self._end - file.tell():
                self.fault = CUT
                return
            payload = file.read(length)
            crc = zlib.crc32(payload, zlib.crc32(head, crc))
            if _CRC.pack(crc) != expected:
                self.fault = DAMAGED
                return
            yield n, check, payload


def _header(file: BinaryIO, path: Path) -> tuple[bytes, Signal, int]:
    """Read a header: the digest of the model, the signal and the CRC-32."""
    start = file.tell()
    head = file.read(_HEAD.size)
    if not head or head[: len(MAGIC)] != MAGIC[: len(head)]:
        raise DataError(f"{path}: not a stream of {EXTENSION}: give files that compress wrote")
    if len(head) > len(MAGIC) and (version := head[len(MAGIC)]) != VERSION:
        remedy = "update it" if version > VERSION else "decompress it with the one that made it"
        raise DataError(
            f"{path}: of version {version} of the format, or damaged; this package reads version"
            f" {VERSION}: {remedy}, or get the file again"
        )
    damaged = DataError(f"{path}: its header is cut or damaged, nothing can be saved: get it again")
    if len(head) < _HEAD.size:
        raise damaged
    _, _, digest, bits, kind, checksum = _HEAD.unpack(head)
    together, container = divmod(kind, _TOGETHER)
    try:
        rate, n_channels, n_samples = _shorts(file, 3)
        if together > 1 or container >= len(CONTAINERS) or not 1 <= n_channels <= MAX_CHANNELS:
            raise damaged
        channels = _shorts(file, 3 * n_channels)
    except ValueError:
        raise damaged from None
    n_bytes = file.tell() - start
    file.seek(start)
    crc = zlib.crc32(file.read(n_bytes))
    if file.read(_CRC.size) != _CRC.pack(crc):
        raise damaged
    lows, highs, shifts = (tuple(channels[i::3]) for i in range(3))
    signal = Signal(
        CONTAINERS[container], rate, bits, n_samples, checksum, lows, highs, shifts, not together
    )
    if fault := signal.fault():
        raise DataError(f"{path}: its header tells of {fault}: get it again")
    return digest, signal, crc


def _short(*numbers: int) -> bytes:
    """Return whole numbers in few bytes."""
    found = bytearray()
    for number in numbers:
        n = 2 * number if number >= 0 else -2 * number - 1
        while n > 127:
            found.append(n & 127 | 128)
            n >>= 7
        found.append(n)
    return bytes(found)


def _shorts(file: BinaryIO, n: int) -> list[int]:
    """Read numbers that `_short` wrote."""
    found = []
    for _ in range(n):
        number = 0
        for shift in range(0, _MOST_BITS, 7):
            byte = file.read(1)
            if not byte:
                raise ValueError("a number is cut")
            number |= (byte[0] & 127) << shift
            if byte[0] < 128:
                break
        else:
            raise ValueError("a number has no end")
        found.append(-(number + 1) // 2 if number & 1 else number // 2)
    return found


def _longest(n_values: int) -> int:
    """Return the most bytes of a payload; more is damage."""
    return 1024 + 8 * n_values


def _check(coded: Integers) -> int:
    return zlib.crc32(np.ascontiguousarray(coded, "<i8").tobytes()) & 0xFFFF
