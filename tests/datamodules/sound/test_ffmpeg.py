"""Sound that ffmpeg decodes: to the integers where they are stored, or refused in one line."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from films import needs_encoder
from sounds import RATE

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core import mp4
from rnade_lightning.datamodules.sound import ffmpeg
from rnade_lightning.datamodules.sound.soundfiles import read_sound


def made(folder: Path, name: str, codec: list[str], bits: int = 16) -> tuple[Path, np.ndarray]:
    """A file of two channels of noise, and its integers of 32 bits."""
    integers = np.random.default_rng(0).integers(-(2**12), 2**12, (RATE, 2)) << (32 - bits)
    soundfile.write(folder / "a.wav", integers.astype(np.int32), RATE, subtype=f"PCM_{bits}")
    program, path = str(mp4.encoder()), folder / name
    subprocess.run([program, "-v", "error", "-y", "-i", folder / "a.wav", *codec, path], check=True)
    return path, integers


@needs_encoder
@pytest.mark.parametrize(
    ("name", "codec", "bits"),
    [
        ("alac.m4a", ["-c:a", "alac"], 16),
        ("deep.m4a", ["-c:a", "alac", "-sample_fmt", "s32p"], 24),
        ("flac.mka", ["-c:a", "flac"], 16),
    ],
)
def test_lossless_sound_gives_its_integers(
    name: str, codec: list[str], bits: int, tmp_path: Path
) -> None:
    path, integers = made(tmp_path, name, codec, bits)
    sound = read_sound(path)
    assert (sound.rate, sound.bits) == (RATE, bits)
    np.testing.assert_array_equal(sound.samples * 2.0**31, integers)


@needs_encoder
def test_a_colon_in_a_path_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a:b").mkdir()
    path, integers = made(tmp_path, "c.m4a", ["-c:a", "alac"])
    path.rename(path := Path("a:b", "c.m4a"))
    np.testing.assert_array_equal(read_sound(path).samples * 2.0**31, integers)
    path.write_bytes(b"no sound")
    with pytest.raises(DataError, match=r"^a:b/c\.m4a: ffmpeg cannot decode it \((?!.*file:)"):
        read_sound(path)


@needs_encoder
@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.m4a", ["-c:a", "aac"], RATE),
        ("a.aac", ["-c:a", "aac"], RATE),
        ("a.webm", ["-c:a", "libopus"], 48_000),
        ("b.webm", ["-c:a", "libvorbis"], RATE),
    ],
)
def test_lossy_sound_is_as_long_and_has_no_integers(
    name: str, codec: list[str], rate: int, tmp_path: Path
) -> None:
    sound = read_sound(made(tmp_path, name, codec)[0])
    assert (sound.rate, sound.bits, sound.samples.shape[1]) == (rate, None, 2)
    assert abs(len(sound.samples) / rate - 1) < 0.15


@needs_encoder
@pytest.mark.parametrize("name", ["a.m4a", "a.webm", "a.aac"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_damage_is_named_in_one_line(name: str, share: float, tmp_path: Path) -> None:
    codec = {"a.webm": "libopus"}.get(name, "aac")
    path, _ = made(tmp_path, name, ["-c:a", codec])
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content)) - 5] if share else b"hello" * 300)
    with pytest.raises(DataError, match=rf"{name}: ffmpeg cannot decode it \(") as caught:
        read_sound(path)
    assert "\n" not in str(caught.value)


def test_without_the_extra_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.m4a").write_bytes(b"some sound")
    monkeypatch.setattr(ffmpeg, "encoder", lambda: None)
    with pytest.raises(DataError, match=r"a\.m4a: reading \.m4a needs ffmpeg: pip install"):
        read_sound(tmp_path / "a.m4a")
