"""Samples made ready for frames: noise, sample rate, channels, levels."""

from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
from sounds import RATE, audio_module, strongest, tone

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core.spool import Spooled
from rnade_lightning.datamodules.sound.preparation import loud_span, resampled
from rnade_lightning.datamodules.sound.speechlike import speechlike


def test_noise_is_a_function_of_the_name_and_the_place(tmp_path: Path) -> None:
    """One content under two names has two noises; wherever the root lies, and in whatever
    format a file of that name is, it is the same."""
    samples = np.round(3000 * np.sin(0.1 * np.arange(8000))).astype(np.int16)
    noise = {}
    for name in ("one/a.wav", "one/b.wav", "two/a.wav", "one/c/a.wav"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        soundfile.write(path, samples, RATE)
        root = tmp_path / name.split("/")[0]
        frames = audio_module(root).read(path).frames[""]
        noise[name] = frames.reshape(-1).astype(float) * 2**15 - samples
    np.testing.assert_array_equal(noise["one/a.wav"], noise["two/a.wav"])
    alone = audio_module(tmp_path / "one" / "a.wav").read(tmp_path / "one" / "a.wav").frames[""]
    assert np.array_equal(alone.reshape(-1).astype(float) * 2**15 - samples, noise["one/a.wav"])
    for name in ("one/b.wav", "one/c/a.wav"):
        assert abs(np.corrcoef(noise["one/a.wav"], noise[name])[0, 1]) < 0.05
    longer = np.concatenate([samples, samples])
    soundfile.write(tmp_path / "one" / "a.wav", longer, RATE)
    frames = audio_module(tmp_path / "one").read(tmp_path / "one" / "a.wav").frames[""]
    both = frames.reshape(-1).astype(float) * 2**15 - longer
    np.testing.assert_array_equal(both[:8000], noise["one/a.wav"])
    assert abs(np.corrcoef(both[:8000], both[8000:])[0, 1]) < 0.05
    assert np.abs(both).max() <= 0.501
    assert both.std() == pytest.approx(1 / np.sqrt(12), abs=0.01)
    assert abs(np.corrcoef(both[1:], both[:-1])[0, 1]) < 0.05


@pytest.mark.parametrize("bits", [8, 16, 24])
def test_samples_stay_in_the_cells_of_their_integers(tmp_path: Path, bits: int) -> None:
    """Standardised in float32 and back they round to the file's integers, also loud ones."""
    rng = np.random.default_rng(0)
    half = 2 ** (bits - 1)
    integers = rng.integers(-half, half, 16_000)
    kind = {8: "PCM_U8", 16: "PCM_16", 24: "PCM_24"}[bits]
    path = tmp_path / "a.wav"
    soundfile.write(path, (integers << (32 - bits)).astype(np.int32), RATE, subtype=kind)
    data = audio_module(path, split="tail", frame_length=20)
    back = data.destandardise(data.score_input(path).frames).reshape(-1) * half
    assert np.abs(back - integers).max() <= 0.505
    assert (back - integers).std() > 0.1


def test_one_content_in_two_parts_is_named(tmp_path: Path) -> None:
    for i in range(6):
        tone(tmp_path / f"{i}.wav", n=RATE + 10 * i)
    module = {"frame_length": 20, "parts": {"val": ["1"], "test": ["2"]}}
    data = audio_module(tmp_path, **module)
    data.setup()
    assert data.doubled() == []
    (tmp_path / "2.wav").write_bytes((tmp_path / "0.wav").read_bytes())
    data = audio_module(tmp_path, **module)
    with pytest.warns(UserWarning, match=r"0 and 2 hold the same sound .*\(1 such sets\)"):
        data.setup()
    assert data.describe()["doubled"] == [["0", "2"]]


@pytest.mark.parametrize(("rate", "target"), [(44_100, 16_000), (8000, 16_000), (22_050, 8000)])
def test_resampling_keeps_pitch_and_duration(tmp_path: Path, rate: int, target: int) -> None:
    data = audio_module(None, sample_rate=target)
    recording = data.read(tone(tmp_path / "a.wav", rate, n=rate))
    samples = recording.frames[""].reshape(-1)
    assert abs(len(samples) - target) <= 200
    assert strongest(samples, target) == pytest.approx(440, abs=2)
    assert recording.frame_rate == target / 200
    assert np.abs(samples[400:-400]).max() == pytest.approx(0.2, rel=0.01)


def test_channels_are_mixed_or_picked(tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav", stereo=True)
    left, right, mix = (
        audio_module(None, channel=c).read(path).frames[""].reshape(-1) for c in (0, 1, "mix")
    )
    for name, same in (("left", left), ("right", right)):
        found = audio_module(None, channel=name).read(path).frames[""].reshape(-1)
        np.testing.assert_array_equal(found, same)
    assert strongest(left, RATE) == pytest.approx(440, abs=2)
    assert strongest(right, RATE) == pytest.approx(880, abs=2)
    np.testing.assert_allclose(mix, (left + right) / 2, atol=2.0**-14)
    with pytest.raises(DataError, match=r"a\.wav: no channel 2: it has 2"):
        audio_module(None, channel=2).read(path)


def test_levels_and_trimming(tmp_path: Path) -> None:
    padded = np.concatenate(
        [np.zeros(8000), 0.05 * np.sin(np.arange(16_000) * 0.2), np.zeros(8000)]
    )
    soundfile.write(tmp_path / "a.wav", padded, RATE)

    def samples(**kwargs: Any) -> np.ndarray:
        return audio_module(None, **kwargs).read(tmp_path / "a.wav").frames[""].reshape(-1)

    assert np.abs(samples(normalise="peak")).max() == pytest.approx(1, abs=1e-3)
    assert np.sqrt(np.mean(samples(normalise="rms") ** 2)) == pytest.approx(0.1, rel=1e-3)
    trimmed = samples(trim_db=40)
    assert 16_000 <= len(trimmed) <= 16_000 + 2 * 2048
    assert len(samples()) == 32_000


@pytest.mark.parametrize("n", [1000, 2047, 33_333, 40_000])
@pytest.mark.parametrize("trim_db", [10, 30, 60])
@pytest.mark.slow
def test_trimming_in_pieces_is_that_of_librosa(n: int, trim_db: float) -> None:
    t = np.arange(n)
    x = np.exp(-(((t - 0.4 * n) / (0.1 * n)) ** 2)) * np.random.default_rng(0).normal(size=n)
    expected = librosa.effects.trim(x, top_db=trim_db)[1]
    for cuts in ([], sorted([1, 700, 701, n // 2])):
        assert loud_span(iter(np.split(x, cuts)), trim_db) == tuple(expected)


@pytest.mark.parametrize(("rate", "target"), [(48_000, 16_000), (16_000, 22_050)])
@pytest.mark.slow
def test_resampling_in_pieces_is_that_of_the_whole(rate: int, target: int) -> None:
    x = np.random.default_rng(0).normal(size=30_000)
    expected = librosa.resample(x, orig_sr=rate, target_sr=target)
    found = np.concatenate(list(resampled(iter(np.split(x, [1, 2000, 29_000])), rate, target)))
    assert abs(len(found) - len(expected)) <= 1
    n = min(len(found), len(expected))
    np.testing.assert_allclose(found[:n], expected[:n], atol=1e-12)


@pytest.mark.parametrize("kind", ["waveform", "residual", "innovation", "log_mel", "mfcc"])
@pytest.mark.slow
def test_a_long_sound_is_kept_in_a_file_with_the_same_frames(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.concatenate([speechlike(i) for i in range(6)]), RATE)
    options = {"kind": kind, "frame_length": 20, "n_mels": 40, "split": "file"}
    options |= {"val_fraction": 0.0, "test_fraction": 0.0}
    whole = audio_module(path, cache_dir=str(tmp_path / "one"), **options)
    expected = np.asarray(whole.sequences("train")[0].frames)
    monkeypatch.setattr("rnade_lightning.datamodules.core.spool.gathered.__defaults__", (1000,))
    spooled = audio_module(path, cache_dir=str(tmp_path / "two"), **options)
    assert isinstance(spooled.read(path).frames[""], Spooled)
    np.testing.assert_array_equal(spooled.sequences("train")[0].frames, expected)


def test_the_card_tells_what_the_files_hold(tmp_path: Path) -> None:
    integers = np.random.default_rng(0).integers(-64, 64, 40_000) * 256
    soundfile.write(tmp_path / "a.wav", integers.astype(np.int16), RATE)
    data = audio_module(tmp_path / "a.wav", split="tail", frame_length=20)
    card = data.describe()["sound"]
    assert card["file_sample_rate"] == RATE
    assert (card["bits"], card["effective_bits"], card["seconds"]) == (16, 8, 2.5)
    assert card["peak_db"] == pytest.approx(-6.02, abs=0.1)
    assert card["rms_db"] == pytest.approx(20 * np.log10(0.5 / np.sqrt(3)), abs=0.1)
    assert "file" not in data.layout


def test_silence_has_no_level(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), RATE)
    with pytest.raises(DataError, match=r"a\.wav: nothing but silence"):
        audio_module(tmp_path / "a.wav", split="tail", normalise="rms").setup()
