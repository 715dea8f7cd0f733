"""Damage that every check sum of a frame lets through is seen by the sum of all samples."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.sound.flac import Signature
from rnade_lightning.datamodules.sound.soundfiles import read_sound

RATE = 16_000


def made(path: Path, bits: int = 16, n_channels: int = 1) -> np.ndarray:
    """Write noise; return its integers of 32 bits ``(N, C)``."""
    rng = np.random.default_rng(0)
    integers = rng.integers(-(2 ** (bits - 3)), 2 ** (bits - 3), (70_000, n_channels)) << (
        32 - bits
    )
    subtype = {8: "PCM_S8", 16: "PCM_16", 24: "PCM_24"}[bits]
    soundfile.write(path, integers.astype(np.int32), RATE, subtype=subtype)
    return integers


@pytest.mark.parametrize("bits", [8, 16, 24])
@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_the_sum_of_a_whole_file_holds(bits: int, n_channels: int, tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    integers = made(path, bits, n_channels)
    sound = read_sound(path)
    np.testing.assert_array_equal(sound.samples * 2.0**31, integers)
    signature = Signature.of(path, sound.bits)
    assert signature is not None
    for start in range(0, len(sound.samples), 30_000):
        signature.add(sound.samples[start : start + 30_000])
    assert signature.holds()
    signature.add(sound.samples[:1])
    assert not signature.holds()


def test_samples_that_are_not_those_encoded_are_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "a.flac", tmp_path / "b.flac"
    made(path)
    soundfile.write(other, np.zeros((70_000, 1)), RATE, subtype="PCM_16")
    data, header = bytearray(path.read_bytes()), other.read_bytes()
    data[26:42] = header[26:42]  # as if all frames were others that fit their check sums
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.flac: damaged: its 70000 samples are not those of"):
        read_sound(path)
    data[26:42] = bytes(16)  # an encoder of a stream knows no sum
    path.write_bytes(data)
    assert len(read_sound(path).samples) == 70_000


def test_other_formats_have_no_signature(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(9), RATE)
    assert Signature.of(tmp_path / "a.wav", 16) is None
