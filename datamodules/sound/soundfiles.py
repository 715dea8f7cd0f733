"""Read sound files whole, or refuse them.

Conventions:
    Samples are float64 with full scale 1: the integer k of b bits is ``k / 2**(b - 1)``. A sound is
    ``(N, C)``, channels last. Rates are in samples per second.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.sound.mp3 import mp3_fault

EXTENSIONS = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd",
    ".caf", ".w64", ".rf64", ".sph", ".nist", ".voc", ".sf",
)  # fmt: skip
"""Endings of files that libsndfile reads without being told rate and format."""

SAMPLE_RATES = (1000, 768_000)
"""Lowest and highest sample rate; a file with another is refused as damaged."""

_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "ALAC_16": 16, "ALAC_24": 24}
_LOUDEST = 1e6  # times full scale; more is damage
_BLOCK = 1 << 16  # frames read at a time, so that a damaged header cannot ask for memory
_TRUNCATED = re.compile(
    r"(RIFF|riff|Riff size|data|FORM|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)"
)
_NIST_COUNT = re.compile(rb"\nsample_count -i (\d+)\n")
_MISPLACED = re.compile(
    r"\*\*\* .*(?:Exiting parser|not equal to frame count|does not match)|truncated file"
)
"""What libsndfile's log says of a file whose parts do not follow each other; it reads on."""


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


def read_sound(path: Path) -> Sound:
    """Read a whole sound file.

    Raises:
        DataError: the file is no sound, damaged, truncated, empty, or holds a sample that is not a
            number.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty: get it again")
    blocks: list[Array] = []
    n_read = 0
    try:
        with soundfile.SoundFile(path) as file:
            rate, declared, log = file.samplerate, file.frames, file.extra_info
            bits, container, kind = _BITS.get(file.subtype), file.format, file.subtype
            if not SAMPLE_RATES[0] <= rate <= SAMPLE_RATES[1]:
                raise DataError(f"{path}: the header tells {rate} samples a second: repair it")
            while len(block := file.read(_BLOCK, dtype="float64", always_2d=True)):
                blocks.append(block)
                n_read += len(block)
    except (soundfile.SoundFileError, RuntimeError, ValueError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        reason = str(error).split(": ", 1)[-1].strip(" .") or type(error).__name__
        where = f"after sample {n_read} " if n_read else ""
        raise DataError(f"{path}: cannot be read {where}({reason}): get it again") from None
    if container == "OGG" and not _ogg_ends(path):
        raise DataError(f"{path}: truncated after sample {n_read}: get it again")
    for part, promised, found in _TRUNCATED.findall(log):
        # Programs that write to a pipe leave a length near 2 or 4 GiB: then the end of the file is
        # the end of the sound. The last byte of a whole file may be padding.
        least = int(promised) - (part in ("RIFF", "riff", "Riff size", "FORM"))
        if int(found) < least and int(promised) < 0x7FFF0000:
            raise DataError(f"{path}: truncated: {found} bytes of {promised}: get it again")
    if n_read == 0:
        raise DataError(f"{path}: holds no samples: remove the file")
    if _MISPLACED.search(log):
        raise DataError(
            f"{path}: damaged: its {n_read} samples are not followed by what its header tells,"
            " as if bytes had been put in or added: save it again"
        )
    if container == "NIST" and (count := _NIST_COUNT.search(path.read_bytes()[:1024])):
        declared = int(count[1])  # which libsndfile does not look at
    if kind == "MPEG_LAYER_III":
        if fault := mp3_fault(path.read_bytes(), n_read, declared):
            raise DataError(f"{path}: {fault}")
    elif n_read < declared:
        raise DataError(f"{path}: truncated: {n_read} samples of {declared}: get it again")
    samples = np.concatenate(blocks)
    with np.errstate(invalid="ignore"):
        for i, c in np.argwhere(~(np.abs(samples) < _LOUDEST))[:1]:
            where = f"sample {i} ({i / rate:.3f} s), channel {c}"
            raise DataError(f"{path}: {where} is {samples[i, c]:g}: repair or remove the file")
    return Sound(samples, rate, bits)


def _ogg_ends(path: Path) -> bool:
    """Tell whether the last page of an Ogg file is marked as the last."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - (1 << 17), 0))  # a page is below 64 KiB
        end = file.read()
    page = end.rfind(b"OggS")
    return page >= 0 and len(end) > page + 5 and bool(end[page + 5] & 4)
