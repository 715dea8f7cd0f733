"""Sound to frames and back: agreement with librosa, exact bits, clean edges, refusals."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import librosa
import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from fuzz import listed, outcome
from PIL import Image

from rnade_lightning.__main__ import main
from rnade_lightning.datamodules import DataError, FrameDataModule
from rnade_lightning.datamodules.sound.audio import AudioDataModule
from rnade_lightning.datamodules.sound.corpora import PATTERNS, read_manifest
from rnade_lightning.datamodules.sound.soundfiles import EXTENSIONS, read_sound, write_sound
from rnade_lightning.datamodules.sound.spectra import (
    Mel,
    cepstra,
    deltas,
    from_cepstra,
    log_spectral_distance,
)
from rnade_lightning.datamodules.sound.speechlike import speechlike, write_speechlike

RATE = 16_000
CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def utterance() -> np.ndarray:
    return speechlike(seed=0, seconds=1.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven short utterances, 16-bit, 16 kHz; three of them are readings of one prompt."""
    folder = tmp_path_factory.mktemp("corpus")
    for i, name in enumerate(("a1_x", "a1_y", "a1_z", "a2_x", "a3_x", "a4_x", "a4_y")):
        soundfile.write(folder / f"{name}.wav", speechlike(i, 1.0), RATE, subtype="PCM_16")
    return folder


def tone(path: Path, rate: int = RATE, n: int = 8000, **kwargs: Any) -> Path:
    """440 Hz on the first channel, 880 Hz on the second."""
    t = np.arange(n) / rate
    both = 0.2 * np.sin(2 * np.pi * np.stack([440 * t, 880 * t], axis=-1))
    soundfile.write(path, both if kwargs.pop("stereo", False) else both[:, 0], rate, **kwargs)
    return path


def module(root: Path | None, **kwargs: Any) -> AudioDataModule:
    return AudioDataModule(str(root) if root else None, **{"window": 8, "warmup": 1, **kwargs})


def strongest(samples: np.ndarray, rate: int) -> float:
    """Frequency of the largest component, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


# Spectral frames


@pytest.mark.parametrize(
    ("n_fft", "win_length", "hop_length", "n_mels", "f_min", "f_max"),
    [(1024, 1024, 256, 80, 0.0, 8000.0), (512, 400, 160, 40, 60.0, 7600.0)],
)
def test_features_are_those_of_librosa(
    utterance: np.ndarray, n_fft: int, win_length: int, hop_length: int, n_mels: int,
    f_min: float, f_max: float,
) -> None:  # fmt: skip
    mel = Mel(RATE, n_fft, win_length, hop_length, n_mels, f_min, f_max)
    power = librosa.feature.melspectrogram(
        y=utterance, sr=RATE, n_fft=n_fft, win_length=win_length, hop_length=hop_length,
        n_mels=n_mels, fmin=f_min, fmax=f_max, pad_mode="reflect",
    )  # fmt: skip
    decibels = librosa.power_to_db(power, amin=1e-10, top_db=None)
    ours = mel.log_mel(utterance)
    assert ours.shape == (1 + len(utterance) // hop_length, n_mels)
    np.testing.assert_allclose(10 / np.log(10) * ours, decibels.T, atol=0.02)
    theirs = librosa.feature.mfcc(S=decibels, n_mfcc=13, dct_type=2, norm="ortho").T
    np.testing.assert_allclose(10 / np.log(10) * cepstra(ours, 13), theirs, atol=0.02)
    slopes = librosa.feature.delta(ours.T, width=5, mode="nearest").T
    np.testing.assert_allclose(deltas(ours), slopes, atol=1e-9)


def test_all_cepstra_give_the_mel_frames_back(utterance: np.ndarray) -> None:
    frames = Mel(RATE, 1024, 1024, 256, 40, 0, 8000).log_mel(utterance)
    np.testing.assert_allclose(from_cepstra(cepstra(frames, 40), 40), frames, atol=1e-3)


def test_mel_frames_come_back_as_sound_with_nearly_the_same_frames(utterance: np.ndarray) -> None:
    mel = Mel(RATE, 1024, 1024, 256, 80, 0, 8000)
    sound = mel.samples(mel.log_mel(utterance))
    n = len(utterance) // 256 * 256
    assert sound.shape == (n,)
    assert log_spectral_distance(sound, utterance) < 6
    assert log_spectral_distance(utterance[::-1].copy(), utterance) > 12  # it is heard
    level = np.sqrt(np.mean(sound**2) / np.mean(utterance[:n] ** 2))
    assert 0.8 < level < 1.25


def test_log_spectral_distance_of_a_change_in_level_is_that_change(utterance: np.ndarray) -> None:
    loud = np.random.default_rng(0).normal(size=20_000)  # no part 60 dB below the rest
    assert log_spectral_distance(loud / 2, loud) == pytest.approx(20 * np.log10(2), abs=0.01)
    assert log_spectral_distance(utterance, utterance) == 0


def test_inversion_is_repeatable_and_leaves_the_random_state_alone(utterance: np.ndarray) -> None:
    mel = Mel(RATE, 512, 512, 128, 40, 0, 8000)
    frames, state = mel.log_mel(utterance[:4000]), torch.get_rng_state()
    first = mel.samples(frames)
    torch.randn(3)
    np.testing.assert_array_equal(mel.samples(frames), first)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    mel.samples(frames)
    assert torch.equal(torch.get_rng_state(), state)


def test_inversion_of_absurd_frames_is_finite_and_not_far_beyond_full_scale() -> None:
    mel = Mel(RATE, 512, 512, 128, 40, 0, 8000)
    for frames in (np.full((5, 40), 1e6), np.full((5, 40), -1e6), np.zeros((1, 40))):
        assert np.abs(mel.samples(frames)).max() < 40


def test_a_full_scale_sine_comes_back_at_full_scale() -> None:
    mel = Mel(RATE, 1024, 1024, 256, 80, 0, 8000)
    sound = mel.samples(mel.log_mel(np.sin(2 * np.pi * 1000 * np.arange(8192) / RATE)))
    assert 0.6 < np.abs(sound[1024:-1024]).max() < 1.6


# Waveform frames


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24"])
def test_waveform_comes_back_exact_to_one_step(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", speechlike(1, 1.0), RATE, subtype=subtype)
    data = module(tmp_path / "a.wav", split="tail", frame_length=20)
    bits, (samples, _, _) = data.bit_depth, read_sound(tmp_path / "a.wav")
    assert bits == {"PCM_U8": 8, "PCM_16": 16, "PCM_24": 24}[subtype]
    raw = np.concatenate(
        [data.destandardise(data.sequences(s)[0].frames) for s in ("train", "val", "test")]  # type: ignore[arg-type]
    )
    error = np.abs(raw.reshape(-1) - samples[:, 0]) * 2.0 ** (bits - 1)
    assert error.max() < 1
    assert error.mean() == pytest.approx(0.25, abs=0.02)  # of uniform noise of one step
    (wav, png) = data.render(data.score_input(tmp_path / "a.wav").frames, tmp_path / "out" / "b.1")
    assert (wav.name, png.name) == ("b.1.wav", "b.1.png")
    written, rate = soundfile.read(wav)
    inner = slice(100, -100)  # without the fades
    step = 2.0 ** (1 - min(bits, 16))
    assert rate == RATE
    assert np.abs(written - samples[:, 0])[inner].max() <= step * 1.01
    assert Image.open(png).size == (1000, 500)


@pytest.mark.parametrize("standardise", [True, False])
def test_bits_per_sample_are_the_entropy_of_a_known_source(
    tmp_path: Path, standardise: bool
) -> None:
    """Integers drawn from p; the density p_k over the cell of k costs what p says they cost."""
    p = np.array([0.5, 0.25, 0.125, 0.0625, 0.0625])  # of 100, 200, .. 500
    rng = np.random.default_rng(0)
    drawn = rng.choice(5, p=p, size=8000)
    soundfile.write(tmp_path / "a.wav", (100 * (drawn + 1)).astype(np.int16), RATE)
    data = module(tmp_path / "a.wav", split="tail", frame_length=10, standardise=standardise)
    frames = data.score_input(tmp_path / "a.wav").frames
    raw = data.destandardise(frames)
    k = np.round(raw * 2**15 / 100).astype(int) - 1
    assert (np.abs(raw * 2**15 - 100 * (k + 1)) <= 0.5001).all()  # within the cell of the integer
    log_prob = (np.log(p[k]) + 15 * np.log(2)).sum(-1)  # the density: p_k over 2^-15
    standardised = log_prob + data.log_scale
    expected = -np.log2(p[drawn]).mean()  # by hand; the entropy is 1.875 bits
    assert data.bits_per_sample(standardised.mean()) == pytest.approx(expected, abs=1e-9)
    assert expected == pytest.approx(1.875, abs=0.05)


def test_a_gaussian_costs_what_theory_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = np.round(rng.normal(0, 1000, 80_000)).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    data = module(tmp_path / "a.wav", split="tail")
    z = data.score_input(tmp_path / "a.wav").frames.double()
    log_prob = float((-0.5 * z**2 - 0.5 * np.log(2 * np.pi)).sum(-1).mean())
    expected = 0.5 * np.log2(2 * np.pi * np.e * 1000**2)
    assert data.bits_per_sample(log_prob) == pytest.approx(expected, abs=0.02)


def test_no_bits_are_told_where_samples_are_not_the_files_integers(tmp_path: Path) -> None:
    for kwargs in (
        {"sample_rate": 8000}, {"normalise": "peak"}, {"normalise": "rms"}, {"kind": "log_mel"},
        {"bit_depth": 16},
    ):  # fmt: skip
        data = module(tone(tmp_path / "a.wav"), split="tail", frame_length=20, n_mels=20, **kwargs)
        assert data.bits_per_sample(-1.0) is None, kwargs
    for name, kwargs in (
        ("mixed.wav", {"stereo": True}), ("lossy.ogg", {}), ("lossy.mp3", {}),
        ("float.wav", {"subtype": "FLOAT"}), ("law.wav", {"subtype": "ULAW"}),
    ):  # fmt: skip
        data = module(tone(tmp_path / name, **kwargs), split="tail", frame_length=20)
        assert data.bits_per_sample(-1.0) is None, name
    data = module(tmp_path / "mixed.wav", split="tail", frame_length=20, channel=1, trim_db=60)
    assert data.bits_per_sample(-1.0) is not None  # one channel, trimmed: the file's integers


def test_noise_is_a_function_of_the_content(tmp_path: Path) -> None:
    frames = []
    samples = np.round(3000 * np.sin(0.1 * np.arange(8000))).astype(np.int16)
    for name in ("a.wav", "elsewhere.flac"):
        soundfile.write(tmp_path / name, samples, RATE)
        frames.append(module(None).read(tmp_path / name).frames[""])
    np.testing.assert_array_equal(*frames)
    noise = frames[0].reshape(-1).astype(float) * 2**15 - samples
    assert np.abs(noise).max() <= 0.501
    assert noise.std() == pytest.approx(1 / np.sqrt(12), abs=0.01)
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.05


# Rates, channels, levels


@pytest.mark.parametrize(("rate", "target"), [(44_100, 16_000), (8000, 16_000), (22_050, 8000)])
def test_resampling_keeps_pitch_and_duration(tmp_path: Path, rate: int, target: int) -> None:
    data = module(None, sample_rate=target)
    recording = data.read(tone(tmp_path / "a.wav", rate, n=rate))
    samples = recording.frames[""].reshape(-1)
    assert abs(len(samples) - target) <= 200
    assert strongest(samples, target) == pytest.approx(440, abs=2)
    assert recording.frame_rate == target / 200
    assert np.abs(samples[400:-400]).max() == pytest.approx(0.2, rel=0.01)


def test_channels_are_mixed_or_picked(tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav", stereo=True)
    left, right, mix = (
        module(None, channel=c).read(path).frames[""].reshape(-1)
        for c in (0, 1, "mix")
    )  # fmt: skip
    assert strongest(left, RATE) == pytest.approx(440, abs=2)
    assert strongest(right, RATE) == pytest.approx(880, abs=2)
    np.testing.assert_allclose(mix, (left + right) / 2, atol=2.0**-14)
    with pytest.raises(DataError, match=r"a\.wav: no channel 2: it has 2"):
        module(None, channel=2).read(path)


def test_levels_and_trimming(tmp_path: Path) -> None:
    padded = np.concatenate(
        [np.zeros(8000), 0.05 * np.sin(np.arange(16_000) * 0.2), np.zeros(8000)]
    )
    soundfile.write(tmp_path / "a.wav", padded, RATE)

    def samples(**kwargs: Any) -> np.ndarray:
        return module(None, **kwargs).read(tmp_path / "a.wav").frames[""].reshape(-1)

    assert np.abs(samples(normalise="peak")).max() == pytest.approx(1, abs=1e-3)
    assert np.sqrt(np.mean(samples(normalise="rms") ** 2)) == pytest.approx(0.1, rel=1e-3)
    trimmed = samples(trim_db=40)
    assert 16_000 <= len(trimmed) <= 16_000 + 2 * 2048
    assert len(samples()) == 32_000


@pytest.mark.parametrize(
    "ending", [".wav", ".flac", ".ogg", ".mp3", ".aiff", ".au", ".caf", ".w64"]
)
def test_every_format_gives_the_same_sound(tmp_path: Path, ending: str) -> None:
    assert ending in EXTENSIONS
    sound = read_sound(tone(tmp_path / f"a{ending}", n=RATE))
    assert sound.rate == RATE
    assert sound.samples.shape == (RATE, 1)
    assert strongest(sound.samples[:, 0], RATE) == pytest.approx(440, abs=2)
    assert sound.bits == (None if ending in (".ogg", ".mp3") else 16)


# Files to play


def test_edges_have_no_click_and_the_inside_is_untouched(tmp_path: Path) -> None:
    held = np.full(8000, 0.5)  # as loud a click as there is, if it is not faded
    write_sound(tmp_path / "a.wav", held, RATE)
    samples, _ = soundfile.read(tmp_path / "a.wav")
    padded = np.pad(samples, 1)
    assert np.abs(np.diff(padded)).max() < 0.02
    assert np.abs(np.diff(np.pad(held, 1))).max() == 0.5  # the fault, if it is left in
    np.testing.assert_array_equal(samples[48:-48], held[48:-48])


def test_what_would_clip_is_made_quieter_and_said_so(tmp_path: Path) -> None:
    loud = 3 * np.sin(np.arange(8000) * 0.05)
    with pytest.warns(UserWarning, match=r"a\.wav: 9\.5 dB quieter"):
        write_sound(tmp_path / "a.wav", loud, RATE)
    samples, _ = soundfile.read(tmp_path / "a.wav")
    np.testing.assert_allclose(samples[48:-48], loud[48:-48] / np.abs(loud).max(), atol=1e-4)
    wrapped = np.round(loud * 2**15).astype(np.int64).astype(np.int16) / 2**15
    assert np.abs(np.diff(wrapped)).max() > 1 > np.abs(np.diff(samples)).max()  # the fault


@pytest.mark.parametrize("kind", ["waveform", "residual", "log_mel", "mfcc"])
def test_every_kind_is_written_as_sound(corpus: Path, tmp_path: Path, kind: Any) -> None:
    data = module(corpus, kind=kind, n_mels=40, n_mfcc=20, deltas=True)
    sequence = data.sequences("test")[0]
    wav, _ = data.render(sequence.frames, tmp_path / "sample")
    samples, rate = soundfile.read(wav)
    original, _ = soundfile.read(corpus / f"{sequence.name}.wav")
    assert rate == RATE
    assert abs(len(samples) - len(original)) <= 256
    most = {"waveform": 0.5, "residual": 0.5, "log_mel": 8, "mfcc": 10}[kind]
    assert log_spectral_distance(samples, original) < most
    assert not list(tmp_path.glob(".*"))
    data.render(sequence.frames[:1], tmp_path / "short")


# Splits


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_in_two_splits(corpus: Path, seed: int) -> None:
    data = module(corpus, group="a[0-9]", seed=seed)
    groups = [{s.name[:2] for s in data.sequences(p)} for p in ("train", "val", "test")]  # type: ignore[arg-type]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 4
    assert sum(len(data.sequences(p)) for p in ("train", "val", "test")) == 7  # type: ignore[arg-type]


def test_a_split_by_file_would_leak_groups(corpus: Path) -> None:
    leaks = []
    for seed in range(5):
        data = module(corpus, seed=seed)
        groups = [{s.name[:2] for s in data.sequences(p)} for p in ("train", "val", "test")]  # type: ignore[arg-type]
        leaks.append(sum(map(len, groups)) > len(set.union(*groups)))
    assert any(leaks)


def manifest(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_a_manifest_says_which_files_and_where(corpus: Path, tmp_path: Path) -> None:
    rows = [("a1_x.wav", "test"), ("a3_x.wav", "train"), ("a4_x.wav", "val"), ("a2_x.wav", "train")]
    path = manifest(corpus / "list.csv", rows, ("path", "split"))
    data = module(path, frame_length=20)
    found = {p: [s.name for s in data.sequences(p)] for p in ("train", "val", "test")}  # type: ignore[arg-type]
    assert found == {"train": ["a3_x", "a2_x"], "val": ["a4_x"], "test": ["a1_x"]}
    rows = [(str(corpus / f"a{i}_x.wav"), f"speaker{i % 3}") for i in (1, 2, 3, 4)]
    data = module(manifest(tmp_path / "list.csv", rows, ("path", "group")), frame_length=20)
    assert {len(data.sequences(p)) for p in ("train", "val", "test")} <= {1, 2}  # type: ignore[arg-type]
    assert [e.group for e in read_manifest(tmp_path / "list.csv")] == [g for _, g in rows]


BAD_MANIFESTS: dict[str, tuple[list[tuple[str, ...]], tuple[str, ...], str]] = {
    "no path": ([("a1_x.wav",)], ("file",), "no column called path: its columns are file"),
    "no lines": ([], ("path",), "lists no files"),
    "missing": ([("a1_x.wav",), ("gone.wav",)], ("path",), r"line 3: .*gone\.wav: no such file"),
    "twice": ([("a1_x.wav",), ("./a1_x.wav",)], ("path",), "twice"),
    "odd split": ([("a1_x.wav", "dev")], ("path", "split"), "line 2: split 'dev' is none of"),
    "half": ([("a1_x.wav", ""), ("a2_x.wav", "val")], ("path", "split"), "line 3: some lines"),
    "leak": (
        [("a1_x.wav", "train", "a"), ("a1_y.wav", "test", "a")],
        ("path", "split", "group"),
        "line 3: group 'a' is in train too",
    ),
    "few cells": ([("a1_x.wav",)], ("path", "group"), "line 2: not as many cells as .* 2"),
    "more cells": ([("a1_x.wav", "b", "c")], ("path", "group"), "line 2: not as many cells"),
    "nobody's home": ([("~no one/a.wav",)], ("path",), "line 2: .*~no one/a.wav: no such file"),
    "long": ([(300 * "a",)], ("path",), "line 2: .*aaa: no such file"),
    "no test": ([("a1_x.wav", "train"), ("a1_y.wav", "val")], ("path", "split"), "no file of test"),
    "few": ([("a1_x.wav", "a"), ("a2_x.wav", "b")], ("path", "group"), "2 files are too few"),
}


@pytest.mark.parametrize("fault", BAD_MANIFESTS)
def test_a_bad_manifest_is_refused(corpus: Path, fault: str) -> None:
    rows, header, match = BAD_MANIFESTS[fault]
    path = manifest(corpus / "bad.csv", rows, header)
    with pytest.raises(DataError, match=match) as caught:
        module(path).setup()
    assert str(caught.value).startswith(str(path))


def test_manifests_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        module(tmp_path / "gone.csv").setup()
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="not a table of comma-separated text"):
        module(tmp_path / "a.csv").setup()


TABLE: dict[str, list[Any]] = {
    "path": [f"a{i}_x.wav" for i in (4, 3, 2, 1)],
    "other": [1.5, None, 2.0, 0.0],
    "split": ["train", "val", "train", "test"],
    "group": ["four", "three", "two", "one"],
}


def parquet(path: Path, table: dict[str, list[Any]], **kwargs: Any) -> Path:
    pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    import pyarrow
    from pyarrow.parquet import write_table

    write_table(pyarrow.table(table), path, **kwargs)
    return path


@pytest.mark.parametrize("columns", [["path"], ["path", "group"], ["path", "split", "group"]])
def test_a_manifest_in_parquet_gives_the_same_data(corpus: Path, columns: list[str]) -> None:
    table = {name: TABLE[name] for name in ["other", *columns]}
    lines = list(zip(*(TABLE[name] for name in columns), strict=True))
    paths = (
        manifest(corpus / "same.csv", lines, tuple(columns)),
        parquet(corpus / "same.parquet", table),
    )
    assert read_manifest(paths[0]) == read_manifest(paths[1])
    ours, theirs = (module(path, frame_length=20) for path in paths)
    for part in ("train", "val", "test"):
        a, b = ours.sequences(part), theirs.sequences(part)  # type: ignore[arg-type]
        assert [s.name for s in a] == [s.name for s in b]
        assert all(torch.equal(x.frames, y.frames) for x, y in zip(a, b, strict=True))


def test_groups_may_be_numbers_and_0_is_one(corpus: Path) -> None:
    path = parquet(corpus / "groups.parquet", {"path": TABLE["path"], "group": [0, 0, 1, None]})
    assert [entry.group for entry in read_manifest(path)] == ["0", "0", "1", ""]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"path": None}, r"no column called path: its columns are other, split, group$"),
        ({"path": [1, 2, 3, 4]}, r"row 1: path is '1', no text"),
        ({"path": [b"a1_x.wav"] * 4}, r"row 1: path is .*, no text"),
        ({"path": ["a1_x.wav", None, "a2_x.wav", "a3_x.wav"]}, "row 2: no path"),
        ({"path": ["a1_x.wav", "b\n.wav", "a2_x.wav", "a3_x.wav"]}, r"row 2: .*/b \.wav: no such"),
        ({"split": [1, 2, 3, 1]}, r"row 1: split is '1', no text"),
        ({"group": [1.0, 2.0, float("nan"), 1.0]}, r"row 1: group is '1\.0', no text"),
        ({"group": [["a"], ["b"], [], []]}, r"row 1: group is .*, no text"),
    ],
)
def test_a_manifest_in_parquet_that_says_something_else_is_refused(
    corpus: Path, change: dict[str, list[Any] | None], match: str
) -> None:
    table = {name: values for name, values in (TABLE | change).items() if values is not None}
    path = parquet(corpus / "bad.parquet", table)
    with pytest.raises(DataError, match=match) as caught:
        module(path).setup()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_damaged_manifest_in_parquet_is_refused(corpus: Path) -> None:
    path = parquet(corpus / "a.parquet", TABLE, write_page_checksum=True)
    whole = path.read_bytes()
    good, n_read = read_manifest(path), 0
    cuts = [whole[:n] for n in (0, 4, 30, len(whole) // 2, len(whole) - 9, len(whole) - 1)]
    changed = [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(0, len(whole), 7)]
    for content in [b"path\na1_x.wav\n", *cuts, *changed]:
        path.write_bytes(content)
        found = outcome(path, listed)
        assert found in ("read", "refused")
        if found == "read":
            assert [entry.path for entry in read_manifest(path)] == [entry.path for entry in good]
            n_read += 1
    assert n_read < len(changed)


def test_parquet_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"a\.parquet: reading Parquet needs pyarrow: pip install"):
        module(tmp_path / "a.parquet").setup()


# MP3


def mp3(path: Path, mode: str, n: int = 32_000) -> tuple[Path, bytes, int]:
    """Noise that comes and goes, the file's bytes, and the end of its first frame."""
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


@pytest.mark.parametrize(
    ("mode", "change", "match"),
    [
        ("CONSTANT", lambda b, first: b[:-50], "truncated: .* samples of 32000"),
        ("CONSTANT", lambda b, first: b[first:-50], "truncated in the frame at byte"),
        ("CONSTANT", lambda b, first: b[:3000] + b[3001:], "no MP3 frame at byte"),
        ("CONSTANT", lambda b, first: b[:3000] + b"x" + b[3000:], "no MP3 frame at byte"),
        ("CONSTANT", lambda b, first: b[: 10 * first], "truncated: .* samples of 32000"),
        ("CONSTANT", lambda b, first: b + b, "32000 samples of .* can be read"),
        ("VARIABLE", lambda b, first: b[first:], "samples of .* does not tell of all"),
    ],
)
def test_an_mp3_that_decoders_read_in_part_is_refused(
    mode: str, change: Callable[[bytes, int], bytes], match: str, tmp_path: Path
) -> None:
    path, data, first = mp3(tmp_path / "a.mp3", mode)
    path.write_bytes(change(data, first))
    with pytest.raises(DataError, match=rf"a\.mp3: .*{match}"):
        read_sound(path)


# Refusals

BAD: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "empty": (".wav", lambda b: b"", "the file is empty"),
    "text": (".wav", lambda b: b"hello, this is no sound at all", "cannot be read .*ormat not rec"),
    "header only": (".wav", lambda b: b[:30], "cannot be read|no samples|truncated"),
    "no samples": (".wav", lambda b: b[:40] + bytes(4), "no samples|truncated"),
    "short wav": (".wav", lambda b: b[:-1000], r"truncated: \d+ bytes of \d+"),
    "short aiff": (".aiff", lambda b: b[:-1000], r"truncated: \d+ bytes of \d+"),
    "short au": (".au", lambda b: b[:-1000], r"truncated: \d+ bytes of \d+"),
    "short w64": (".w64", lambda b: b[:-1000], r"truncated: \d+ bytes of \d+"),
    "short caf": (".caf", lambda b: b[:-1000], "cannot be read|truncated"),
    "short flac": (".flac", lambda b: b[: len(b) * 2 // 3], "cannot be read after sample 0|cannot"),
    "short ogg": (".ogg", lambda b: b[: len(b) * 2 // 3], "truncated|no samples"),
    "short mp3": (".mp3", lambda b: b[: len(b) * 2 // 3], r"truncated: \d+ samples of 16000"),
    "flipped flac": (
        ".flac",
        lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 0x55]) + b[len(b) // 2 + 1 :],
        "cannot be read",
    ),
    "rate 0": (".wav", lambda b: b[:24] + bytes(4) + b[28:], "samples a second|cannot be read"),
    "rate huge": (".wav", lambda b: b[:24] + b"\xff\xff\xff\x7f" + b[28:], "samples a second"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_damaged_file_is_named(tmp_path: Path, fault: str) -> None:
    ending, damage, match = BAD[fault]
    path = tmp_path / f"bad{ending}"
    t = np.arange(RATE) / RATE
    noisy = 0.2 * np.sin(2000 * t) + 0.02 * np.random.default_rng(0).normal(size=RATE)
    soundfile.write(path, noisy, RATE)
    read_sound(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=match) as caught:
        module(path, split="tail").setup()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_any_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    for ending in (".wav", ".flac", ".ogg", ".mp3"):
        whole = tone(tmp_path / f"whole{ending}", n=RATE).read_bytes()
        for n in np.linspace(0, len(whole) - 9, 25).astype(int):
            path = tmp_path / f"cut{ending}"
            path.write_bytes(whole[:n])
            with pytest.raises(DataError, match=r"cut\."):
                read_sound(path)


def test_a_recording_of_a_pipe_may_leave_its_length_open(tmp_path: Path) -> None:
    content = bytearray(tone(tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(content)
    assert len(read_sound(tmp_path / "a.wav").samples) == 8000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_a_sample_that_is_no_number_is_named(tmp_path: Path, value: float) -> None:
    samples = np.zeros((8000, 2), dtype=np.float32)
    samples[1600, 1] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(DataError, match=r"a\.wav: sample 1600 \(0\.100 s\), channel 1 is "):
        module(tmp_path / "a.wav", split="tail").setup()


def test_files_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    for i in range(5):
        tone(tmp_path / f"{i}.wav", n=RATE)
    tone(tmp_path / "odd.wav", rate=22_050)
    with pytest.raises(DataError, match=r"odd\.wav: .*22050 samples a second, not 16000 \(set sam"):
        module(tmp_path).setup()
    tone(tmp_path / "odd.wav", subtype="PCM_24")
    with pytest.raises(DataError, match=r"odd\.wav: .*are 24 here and 16 there \(set bit_depth"):
        module(tmp_path).setup()
    module(tmp_path, bit_depth=16, frame_length=20).setup()
    module(tmp_path, kind="log_mel", n_mels=40).setup()


def test_files_too_short_for_a_frame_are_refused(tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav", n=150)
    with pytest.raises(DataError, match=r"a\.wav: 150 samples where a frame needs 200"):
        module(path, split="tail").setup()
    with pytest.raises(DataError, match=r"a\.wav: 150 samples where a frame needs 513"):
        module(path, split="tail", kind="mfcc").setup()


def test_silence_has_no_level(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), RATE)
    with pytest.raises(DataError, match=r"a\.wav: nothing but silence"):
        module(tmp_path / "a.wav", split="tail", normalise="rms").setup()


def test_too_little_sound_for_its_frames_is_refused(tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav", n=RATE)
    with pytest.raises(DataError, match=r"a\.wav: \d+ of the 200 samples of a frame say nothing"):
        module(path, split="tail").setup()


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"hop_length": 0}, "hop_length must be 1 or more"),
        ({"hop_length": 2000}, "hop_length at most win_length"),
        ({"win_length": 2000}, "win_length must be at most n_fft"),
        ({"n_mfcc": 100}, "n_mfcc 100 is more than n_mels 80"),
        ({"sample_rate": 10}, "sample_rate must be between"),
        ({"channel": -1}, "channel must be"),
        ({"bit_depth": 32}, "bit_depth must be"),
        ({"trim_db": 0.0}, "trim_db must be"),
        ({"dataset": "NOISE"}, "dataset NOISE is none of CMUARCTIC"),
        ({"predictor_order": 0}, "predictor_order must be 1 or more"),
        ({"forgetting": 1.0}, "forgetting must be between 0 and 1"),
        ({"kind": "residual", "split": "tail"}, "from a file's start on: set split to file"),
        ({"group": "a["}, r"group 'a\[' is no regular expression"),
    ],
)
def test_arguments_that_cannot_be_met_are_refused(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        module(None, **kwargs)


def test_bands_that_the_transform_cannot_fill_are_refused(tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav")
    with pytest.raises(DataError, match="of 200 mel bands lie between two frequencies"):
        module(path, split="tail", kind="log_mel", n_mels=200, n_fft=512).setup()
    with pytest.raises(DataError, match=r"f_min 0 and f_max 9000 Hz .*8000 Hz"):
        module(path, split="tail", kind="log_mel", f_max=9000.0).setup()
    with pytest.raises(DataError, match=r"a\.wav: group 'b\[0-9\]' finds nothing"):
        module(path, group="b[0-9]").setup()


# Checkpoints


@pytest.mark.parametrize("kind", ["waveform", "residual", "log_mel"])
def test_state_round_trip_needs_no_files(corpus: Path, tmp_path: Path, kind: Any) -> None:
    data = module(corpus, kind=kind, group="a[0-9]", n_mels=40)
    checkpoint = {
        "datamodule_hyper_parameters": {**data.hparams, "root": "gone"},
        "AudioDataModule": data.state_dict(),
    }
    torch.save(checkpoint, tmp_path / "data.ckpt")
    again = FrameDataModule.from_checkpoint(torch.load(tmp_path / "data.ckpt", weights_only=True))
    assert isinstance(again, AudioDataModule)
    assert (again.n_features, again.frame_rate) == (data.n_features, data.frame_rate)
    assert again.bits_per_sample(-3.0) == data.bits_per_sample(-3.0)
    frames = data.score_input(corpus / "a2_x.wav").frames
    assert torch.equal(again.score_input(corpus / "a2_x.wav").frames, frames)
    ours, theirs = (d.render(frames, tmp_path / n)[0] for d, n in ((data, "a"), (again, "b")))
    assert ours.read_bytes() == theirs.read_bytes()


# Sound from nothing


def test_generated_sound_is_a_function_of_its_seed() -> None:
    np.testing.assert_array_equal(speechlike(3, 0.5), speechlike(3, 0.5))
    assert np.abs(speechlike(3, 0.5) - speechlike(4, 0.5)).max() > 0.05


@pytest.mark.parametrize("seed", range(4))
def test_generated_sound_is_like_speech(seed: int) -> None:
    sound = speechlike(seed)
    assert len(sound) == 2 * RATE
    assert np.abs(sound).max() < 0.9  # nothing clips
    assert np.sqrt(np.mean(sound**2)) == pytest.approx(0.06, rel=0.01)
    level = 20 * np.log10(librosa.feature.rms(y=sound, frame_length=512, hop_length=256)[0])
    assert np.mean(level < level.max() - 35) > 0.1  # pauses
    assert level.min() > -80  # that hiss: no digital silence
    centroid = librosa.feature.spectral_centroid(y=sound, sr=RATE, n_fft=512, hop_length=256)[0][
        level > level.max() - 15
    ]
    assert 400 < np.median(centroid) < 2500
    pitch = librosa.yin(sound, fmin=60, fmax=300, sr=RATE, frame_length=1024, hop_length=256)
    voiced = pitch[: len(level)][level[: len(pitch)] > level.max() - 8]
    assert 85 < np.median(voiced) < 165


def test_without_files_sound_is_generated_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(
        "rnade_lightning.datamodules.sound.audio.write_speechlike",
        lambda folder: write_speechlike(folder, 6, 1.0),
    )
    data = module(None)
    data.prepare_data()
    files = sorted(tmp_path.rglob("*.wav"))
    first = [(file.read_bytes(), file.stat().st_mtime_ns) for file in files]
    assert len(files) == 6
    files[2].unlink()
    data.setup()
    assert (data.n_features, data.bit_depth) == (200, 16)
    again = [(file.read_bytes(), file.stat().st_mtime_ns) for file in files]
    assert [a for a, _ in again] == [a for a, _ in first]
    assert [a[1] == b[1] for a, b in zip(first, again, strict=True)].count(False) == 1


# Downloads


def test_without_network_one_line_says_where_files_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(root: str, download: bool) -> None:
        Path(root, "half.tar").touch()
        raise URLError("no network")

    monkeypatch.setattr(torchaudio.datasets, "YESNO", refuse)
    with pytest.raises(DataError, match=r"could not download YESNO .*no network.*waves_yesno/\*"):
        module(tmp_path, dataset="YESNO").setup()
    assert not list(tmp_path.iterdir())


def test_a_download_is_done_once_and_read_by_our_own_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def give(root: str, download: bool) -> None:
        calls.append(root)
        for i in range(5):
            (Path(root) / "waves_yesno").mkdir(exist_ok=True)
            tone(Path(root) / "waves_yesno" / f"{i}.wav", rate=8000)

    monkeypatch.setattr(torchaudio.datasets, "YESNO", give)
    for _ in range(2):
        data = module(tmp_path, dataset="YESNO", frame_length=20)
        data.setup()
        assert data.frame_rate == 8000 / 20
    assert len(calls) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["waves_yesno"]


@pytest.mark.parametrize("dataset", PATTERNS)
def test_every_public_set_is_one_of_torchaudio(dataset: str) -> None:
    assert isinstance(getattr(torchaudio.datasets, dataset), type)


# Recipes


RECIPES = ["audio_demo", "speech_waveform", "speech_innovation", "speech_log_mel"]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "speech"
    for i in range(5):
        folder.mkdir(exist_ok=True)
        path = folder / f"arctic_a000{i}_1.wav"
        soundfile.write(path, speechlike(i, 1.2), RATE, subtype="PCM_16")
    small = ["--model.init_args.n_hidden=4", "--model.init_args.n_recurrent=4", "--data.window=16"]
    runs = [
        f"--trainer.{k}" for k in ("limit_train_batches=1", "limit_val_batches=1", "max_epochs=1")
    ]
    quiet = ["--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={tmp_path}"]
    plain = ["--trainer.callbacks=Samples", "--trainer.callbacks.n_frames=8"]
    plain += ["--trainer.callbacks.n_prefix=4", "--trainer.limit_test_batches=1"]
    bars = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    config = ["--config", str(CONFIGS / f"{name}.yaml"), f"--data.root={folder}"]
    main(["fit", *config, *small, *runs, *quiet, *plain, *bars])
    names = {path.name for path in tmp_path.rglob("samples/*.wav")}
    kinds = ("truth", "continuation", "one_step", "free", "free_2")
    assert names == {f"test_{kind}.wav" for kind in kinds}
