"""Compare what was decoded of a FLAC file with the signature in its header.

Frames of FLAC carry a check sum of 16 bits, which damage of many bytes fits once in 65,536. The
header holds the MD5 sum of all samples, which decoders of a stream do not look at.

Conventions:
    Samples are float64 with full scale 1, as in `soundfiles`. In the sum they are integers,
    channels side by side, the lowest byte first.
"""

import hashlib
from pathlib import Path

import numpy as np

from rnade_lightning.datamodules.core import Array

_HEADER = 42  # bytes of the mark, the head of the first block, and the block, STREAMINFO


class Signature:
    """The sum of the samples of a file, as they are read."""

    def __init__(self, expected: bytes, bits: int) -> None:
        self._expected, self._bits = expected, bits
        self._sum = hashlib.md5(usedforsecurity=False)

    @classmethod
    def of(cls, path: Path, bits: int | None) -> "Signature | None":
        """Return the signature of a file; None where it has none, or holds other samples.

        Args:
            path: A file of sound, of any format.
            bits: Bits of a sample as it is decoded.
        """
        with path.open("rb") as file:
            head = file.read(_HEADER)
        if head[:4] != b"fLaC" or len(head) < _HEADER or head[4] & 0x7F:
            return None
        stored = ((head[20] & 1) << 4 | head[21] >> 4) + 1
        expected = head[26:]
        return cls(expected, stored) if stored == bits and any(expected) else None

    def add(self, block: Array) -> None:
        """Take samples ``(N, C)`` into the sum."""
        integers = np.round(block * 2.0 ** (self._bits - 1)).astype("<i4")
        width = -(-self._bits // 8)
        parts = integers.reshape(-1, 1).view(np.uint8)[:, :width]
        self._sum.update(parts.tobytes())

    def holds(self) -> bool:
        """Tell whether the samples are those that were encoded."""
        return self._sum.digest() == self._expected
