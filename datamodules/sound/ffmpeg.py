"""Sound that libsndfile does not read, decoded by the ffmpeg of the wheel ``imageio-ffmpeg``.

Conventions:
    A lossless stream of integers (ALAC, FLAC) becomes WAV of the same integers; any other becomes
    WAV of 32-bit floats.
"""

import re
import subprocess
from pathlib import Path

from rnade_lightning.datamodules.core import DataError
from rnade_lightning.datamodules.core.mp4 import encoder

EXTENSIONS = (".m4a", ".m4b", ".aac", ".webm", ".mka", ".wma")
"""Endings of files that ffmpeg decodes."""

_STREAM = re.compile(r"Stream #\d+:(\d+)\S*: Audio: (\w+).*?, (s16|s32|s24)p?(?: \((\d+) bit\))?")
_LOSSLESS = ("alac", "flac", "wmalossless", "tta", "pcm_s16le", "pcm_s24le", "pcm_s32le")


def decode(path: Path, target: Path) -> int | None:
    """Write the first stream of sound in a file as WAV (RF64 where it is long).

    Args:
        path: File to read.
        target: WAV file to write.

    Returns:
        Bits of an integer sample, None if the file stores none.

    Raises:
        DataError: the extra is not installed, or the file cannot be decoded whole.
    """
    program = encoder()
    if program is None:
        raise DataError(
            f"{path}: reading {path.suffix} needs ffmpeg: pip install 'rnade-lightning[ffmpeg]', or"
            " convert the file to FLAC"
        )
    source = f"file:{path}"  # without it, what stands before a colon is taken for a protocol
    about = _run([program, "-hide_banner", "-nostdin", "-i", source])
    stream = next(iter(_STREAM.findall(about)), None)
    bits = None
    if stream is not None and stream[1] in _LOSSLESS:
        bits = int(stream[3] or stream[2][1:])
    width = "f32" if bits is None else f"s{min(w for w in (16, 24, 32) if w >= bits)}"
    read = [program, "-v", "error", "-nostdin", "-xerror", "-i", source, "-map", "0:a:0"]
    form = ["-c:a", f"pcm_{width}le", "-bitexact", "-f", "wav", "-rf64", "auto", "-y", str(target)]
    said = _run([*read, *form])
    if said or not target.is_file():
        lines = [line.split("] ")[-1].strip() for line in said.splitlines() if line.strip()]
        reason = lines[0].replace(source, "it")[:200] if lines else "nothing was decoded"
        raise DataError(f"{path}: ffmpeg cannot decode it ({reason.rstrip('.')}): get it again")
    return bits


def _run(command: list[str]) -> str:
    """Return what a program writes to its standard error."""
    try:
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except OSError as error:
        return f"it does not start: {error.strerror or error}"
    return done.stderr.decode(errors="replace")
