"""Films, decoded."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from rnade_lightning.datamodules.core import mp4

needs_encoder = pytest.mark.skipif(
    mp4.encoder() is None, reason="the extra ffmpeg is not installed"
)


def decoded(path: Path) -> tuple[np.ndarray, float, str]:
    """Return frames ``(T, height, width, 3)``, frames per second, and what the program says."""
    program = str(mp4.encoder())
    said = subprocess.run([program, "-i", path], capture_output=True, text=True).stderr
    width, height = map(int, re.findall(r", (\d+)x(\d+)", said)[0])
    command = [program, "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    rate = float(re.findall(r"([\d.]+) fps", said)[0])
    return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3), rate, said
