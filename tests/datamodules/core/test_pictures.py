"""Films of pictures."""

import sys
from pathlib import Path

import numpy as np
import pytest

from rnade_lightning.datamodules.core import mp4, pictures


def test_without_the_encoder_there_is_a_gif(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    mp4.encoder.cache_clear()
    try:
        written = pictures.write_pictures(tmp_path / "a.gif", np.zeros((4, 6, 6)), 30.0)
    finally:
        mp4.encoder.cache_clear()
    assert written == list(tmp_path.iterdir()) == [tmp_path / "a.gif"]
