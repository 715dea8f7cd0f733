"""Limit how much a file may grow while it is read, so that memory and work are bounded by its size.

A compressed file can unpack to a thousand times its size, and a few lines can ask for billions of
numbers. A file may take 100 times its size, and a small one 1,000 times up to 64 MiB, unless the
user says more.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rnade_lightning.datamodules.core import DataError

_TIMES, _TIMES_SMALL, _SMALL = 100, 1000, 64 << 20
_TEXT = 4
"""Bytes that a character of a text takes while its numbers are read, about."""


class _Stream(Protocol):
    def read(self, n_bytes: int, /) -> bytes: ...


@dataclass(frozen=True)
class Limit:
    """The memory that one file may take.

    Attributes:
        path: The file.
        n_bytes: Bytes of memory that its content may take.
    """

    path: Path
    n_bytes: int

    @classmethod
    def of(cls, path: Path, max_bytes: int | None = None) -> "Limit":
        """Return the limit of a file: ``max_bytes``, or what its size allows.

        Raises:
            DataError: The file is not there.
        """
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        return cls(path, max_bytes or max(_TIMES * size, min(_TIMES_SMALL * size, _SMALL)))

    def check(self, n_bytes: int, what: str, more: str = "") -> None:
        """Refuse a content that takes too much; call it before the memory is taken.

        Args:
            n_bytes: What the content takes.
            what: Which content, in words.
            more: ``"more than "`` where ``n_bytes`` is only known to be passed.

        Raises:
            DataError: It is too much.
        """
        if n_bytes > self.n_bytes:
            raise DataError(
                f"{self.path}: {what} would take {more}{n_bytes:,} bytes where"
                f" {self.n_bytes:,} are allowed to a file of its size: leave it out or, if you"
                f" trust it, raise --data.max_bytes (to {2 * n_bytes if more else n_bytes})"
            )

    def unpacked(self, stream: "_Stream") -> bytes:
        """Return all of a stream of compressed text.

        Raises:
            DataError: It is longer than the limit allows to a text.
        """
        most = self.n_bytes // _TEXT
        content = stream.read(most + 1)
        self.check(len(content) * _TEXT, "the text in it", "more than ")
        return content
