"""MP3 files: read whole, or refused where decoders lose sound in silence."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import RATE

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.sound.soundfiles import read_sound


def mp3(path: Path, mode: str, n: int = 32_000) -> tuple[Path, bytes, int]:
    """Return noise that comes and goes, the file's bytes, and the end of its first frame."""
    rng = np.random.default_rng(0)
    sound = 0.3 * np.cos(np.arange(n) / 3000) ** 8 * rng.normal(size=n)
    soundfile.write(path, sound, RATE, format="MP3", bitrate_mode=mode, compression_level=0.5)
    data = path.read_bytes()
    return path, data, data.index(data[:2], 4)


def test_an_mp3_is_read_whole_with_or_without_tags_and_a_length(tmp_path: Path) -> None:
    path, data, first = mp3(tmp_path / "a.mp3", "CONSTANT")
    samples = read_sound(path).samples
    assert len(samples) == 32_000
    path.write_bytes(b"ID3\4\0\0\0\0\1\2" + bytes(130) + data + b"TAG" + bytes(125))
    np.testing.assert_array_equal(read_sound(path).samples, samples)
    path.write_bytes(data[first:])  # the decoder has to guess how long it is
    assert 32_000 < len(read_sound(path).samples) < 35_000


DAMAGE: list[tuple[str, Callable[[bytes, int], bytes], str]] = [
    ("CONSTANT", lambda b, first: b[:-50], "truncated: .* samples of 32000"),
    ("CONSTANT", lambda b, first: b[first:-50], "truncated in the frame at byte"),
    ("CONSTANT", lambda b, first: b[:3000] + b[3001:], "no MP3 frame at byte"),
    ("CONSTANT", lambda b, first: b[:3000] + b"x" + b[3000:], "no MP3 frame at byte"),
    ("CONSTANT", lambda b, first: b[: 10 * first], "truncated: .* samples of 32000"),
    ("CONSTANT", lambda b, first: b + b, "32000 samples of .* can be read"),
    ("VARIABLE", lambda b, first: b[first:], "samples of .* does not tell of all"),
]


@pytest.mark.parametrize(("mode", "change", "match"), DAMAGE)
def test_an_mp3_that_decoders_read_in_part_is_refused(
    mode: str, change: Callable[[bytes, int], bytes], match: str, tmp_path: Path
) -> None:
    path, data, first = mp3(tmp_path / "a.mp3", mode)
    path.write_bytes(change(data, first))
    with pytest.raises(DataError, match=rf"a\.mp3: .*{match}"):
        read_sound(path)


@pytest.mark.parametrize(("mode", "change", "match"), DAMAGE)
def test_the_decoder_alone_loses_sound_in_silence(
    mode: str, change: Callable[[bytes, int], bytes], match: str, tmp_path: Path
) -> None:
    """Libsndfile reads the same files without an error: this is why the checks are needed."""
    path, data, first = mp3(tmp_path / "a.mp3", mode)
    whole = soundfile.read(path)[0]
    path.write_bytes(change(data, first))
    found = soundfile.read(path)[0]
    n_files = 2 if len(change(data, first)) > 1.5 * len(data) else 1
    assert not np.array_equal(found, np.tile(whole, n_files))


@pytest.mark.parametrize("name", ["noise.mp3", "noise.wav"])
@pytest.mark.parametrize("start", [b"", b"ID3\4\0\0\0\0\1\2", b"\xff\xfb\x90\x00"])
def test_what_is_no_mp3_is_refused_without_a_word_of_the_decoder(
    name: str, start: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 20_000, dtype=np.uint8).tobytes()
    path = tmp_path / name
    path.write_bytes(start + noise)
    with pytest.raises(DataError, match=rf"{name}: ") as caught:
        read_sound(path)
    assert "does not exist" not in str(caught.value)
    assert name == "noise.wav" or "no MP3 frame" in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("mode", "change", "match"), DAMAGE)
def test_damage_is_told_without_a_word_of_the_decoder(
    mode: str,
    change: Callable[[bytes, int], bytes],
    match: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path, data, first = mp3(tmp_path / "a.mp3", mode)
    path.write_bytes(change(data, first))
    with pytest.raises(DataError):
        read_sound(path)
    assert capfd.readouterr().err == ""
