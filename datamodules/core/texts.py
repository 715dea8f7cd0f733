"""Read text files of any encoding that programs write: UTF-8, UTF-16, UTF-32 or Latin.

Conventions:
    Lines end in ``\\n``, whatever they end in on disk. Zeros and the mark of DOS after the end
    are left out.
"""

import codecs
import gzip
import zlib
from collections import Counter
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_info

from rnade_lightning.datamodules.core import DataError
from rnade_lightning.datamodules.core.limits import Limit

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins like UTF-16: stands before it
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by the bytes that a file begins with."""
_ZEROS = {(False, True): "utf-16-le", (True, False): "utf-16-be"}
"""Encodings of plain letters without a mark, by which of the first two bytes are zero."""


def read_text(path: Path, limit: Limit) -> str:
    """Return the text of a file, of one that ends in ``.gz`` as it is unpacked.

    Args:
        path: File to read.
        limit: What it may take when unpacked.

    Raises:
        DataError: It cannot be read, or it is too long.
    """
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path) as file:
                data = limit.unpacked(file)
        else:
            data = path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}): get the whole file again") from error
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    zeros = tuple(byte == 0 for byte in data[:2])
    encoding = encoding or _ZEROS.get(zeros, "utf-8")  # type: ignore[arg-type]
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode("latin-1" if encoding == "utf-8" else encoding, errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\0\x1a")


def told_apart(path: Path, names: list[str], what: str) -> list[str]:
    """Return names with a number after each that comes again: ``LKNE``, ``LKNE_2``.

    Args:
        path: File to name in the message that says so.
        names: Names in the order of the file.
        what: What they are names of, in the plural.
    """
    taken, found, counts = set(names), list[str](), Counter[str]()
    for name in names:
        counts[name] += 1
        if counts[name] > 1:
            while f"{name}_{counts[name]}" in taken:
                counts[name] += 1
            name = f"{name}_{counts[name]}"
            taken.add(name)
        found.append(name)
    if found != names:
        again = [name for m, name in enumerate(found) if name != names[m]]
        rank_zero_info(f"{path}: {what} share a name: one is called {', '.join(again[:5])}")
    return found
