"""Bits per sample that may not be the length of a code are told with that."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import RATE, audio_module


def coin_flips(path: Path, level: float) -> Path:
    """Write flips of the last of 24 bits about a level: one bit per sample."""
    flips = np.random.default_rng(int(1000 * level)).integers(0, 2, RATE)
    integers = (int(level * 2**23) + flips) << 8
    soundfile.write(path, integers.astype(np.int32), RATE, subtype="PCM_24")
    return path


@pytest.mark.parametrize("kind", ["waveform", "residual"])
def test_it_is_said_where_float32_has_no_room_for_the_noise(kind: str, tmp_path: Path) -> None:
    for name in ("quiet", "loud"):
        (tmp_path / name).mkdir()
        for i in range(4):
            coin_flips(tmp_path / name / f"{i}.wav", 0.01 * (i + 1) + 0.4 * (name == "loud"))
    data = audio_module(tmp_path / "quiet", kind=kind, frame_length=20)
    assert not data.caveats
    with pytest.warns(UserWarning, match=r"3\.wav: samples of 24 bits are so loud .* 0\.12 steps"):
        data.score_input(tmp_path / "loud" / "3.wav")
    data = audio_module(tmp_path / "loud", kind=kind, frame_length=20)
    with pytest.warns(UserWarning, match=r"loud: samples of 24 bits are so loud .* to experts"):
        data.setup()
    assert any("24 bits" in caveat for caveat in data.describe()["caveats"])
