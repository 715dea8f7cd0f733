"""Write pictures as an MP4 file, by the ffmpeg that the package ``imageio-ffmpeg`` brings.

Conventions:
    H.264 in yuv420p with its index at the start, which browsers and slides play. Sides are even, as
    that asks: an odd one gets a row or column of white.
"""

import importlib
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from PIL import Image

from rnade_lightning.datamodules.core import DataError
from rnade_lightning.datamodules.core.store import whole_file

_QUALITY = ["-preset", "veryfast", "-crf", "20"]  # half the time and the same size as "medium"


@cache
def encoder() -> str | None:
    """Return the ffmpeg program; None if the extra ``ffmpeg`` is not installed."""
    try:
        return str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except (ImportError, RuntimeError):  # no package, or no program for this machine in it
        return None


def write_mp4(path: Path, images: list[Image.Image], fps: float, program: str) -> None:
    """Write images of one size as MP4.

    Args:
        path: File to write.
        images: The frames.
        fps: Frames per second.
        program: See `encoder`.

    Raises:
        DataError: The program failed; says why.
    """
    width, height = images[0].size
    source = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -framerate {fps:.6f} -i -".split()
    even = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2:color=white"]
    form = ["-c:v", "libx264", *_QUALITY, "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    with whole_file(path) as part, tempfile.TemporaryFile() as said:
        command = [program, "-v", "error", "-y", *source, *even, *form, "-f", "mp4", str(part)]
        try:
            with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said) as process:
                assert process.stdin is not None
                for image in images:
                    process.stdin.write(image.convert("RGB").tobytes())
            fault = f"status {process.returncode}" if process.returncode else ""
        except OSError as error:  # it does not start, or ended before it had all frames
            fault = str(error.strerror or error)
        if fault:
            said.seek(0)
            lines = said.read().decode(errors="replace").split("\n")
            reason = next((line for line in lines if line.strip()), fault).strip()
            raise DataError(
                f"{path}: ffmpeg could not write it ({reason[:200]}): free space, or install"
                " imageio-ffmpeg again, or uninstall it to do without MP4"
            )
