"""Sound files to frames and back: exact bits, splits, clean edges, refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from sounds import RATE, audio_module, tone

from rnade_lightning.__main__ import main
from rnade_lightning.datamodules import AudioDataModule, DataError
from rnade_lightning.datamodules.sound.kinds import kind_names
from rnade_lightning.datamodules.sound.speechlike import speechlike, write_speechlike


def test_no_bits_are_told_where_samples_are_not_the_files_integers(tmp_path: Path) -> None:
    for kwargs in (
        {"sample_rate": 8000}, {"normalise": "peak"}, {"normalise": "rms"}, {"kind": "log_mel"},
        {"bit_depth": 16},
    ):  # fmt: skip
        data = audio_module(
            tone(tmp_path / "a.wav"), split="tail", frame_length=20, n_mels=20, **kwargs
        )
        assert data.bits_per_sample(-1.0) is None, kwargs
    for name, kwargs in (
        ("mixed.wav", {"stereo": True}), ("lossy.ogg", {}), ("lossy.mp3", {}),
        ("float.wav", {"subtype": "FLOAT"}), ("law.wav", {"subtype": "ULAW"}),
    ):  # fmt: skip
        data = audio_module(tone(tmp_path / name, **kwargs), split="tail", frame_length=20)
        assert data.bits_per_sample(-1.0) is None, name
    data = audio_module(
        tmp_path / "mixed.wav", split="tail", frame_length=20, channel=1, trim_db=60
    )
    assert data.bits_per_sample(-1.0) is not None  # one channel, trimmed: the file's integers


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_in_two_splits(corpus: Path, seed: int) -> None:
    data = audio_module(corpus, group="a[0-9]", seed=seed)
    groups = [{s.name[:2] for s in data.sequences(p)} for p in ("train", "val", "test")]  # type: ignore[arg-type]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 4
    assert sum(len(data.sequences(p)) for p in ("train", "val", "test")) == 7  # type: ignore[arg-type]


def test_a_split_by_file_would_leak_groups(corpus: Path) -> None:
    leaks = []
    for seed in range(5):
        data = audio_module(corpus, seed=seed)
        groups = [{s.name[:2] for s in data.sequences(p)} for p in ("train", "val", "test")]  # type: ignore[arg-type]
        leaks.append(sum(map(len, groups)) > len(set.union(*groups)))
    assert any(leaks)


def test_files_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    for i in range(5):
        tone(tmp_path / f"{i}.wav", n=RATE)
    tone(tmp_path / "odd.wav", rate=22_050)
    with pytest.raises(DataError, match=r"odd\.wav: .*22050 samples a second, not 16000 \(set sam"):
        audio_module(tmp_path).setup()
    tone(tmp_path / "odd.wav", subtype="PCM_24")
    with pytest.raises(DataError, match=r"odd\.wav: .*are 24 here and 16 there \(set bit_depth"):
        audio_module(tmp_path).setup()
    audio_module(tmp_path, bit_depth=16, frame_length=20).setup()
    audio_module(tmp_path, kind="log_mel", n_mels=40).setup()


def test_a_file_of_other_bits_is_refused_with_what_helps(tmp_path: Path) -> None:
    for i in range(4):
        tone(tmp_path / f"{i}.wav", n=RATE + i, subtype="PCM_U8")
    data = audio_module(tmp_path, frame_length=20)
    data.setup()
    deep = tone(tmp_path / "deep.wav", subtype="PCM_16")
    with pytest.raises(
        DataError, match=r"deep\.wav: .* 16 here and 8 there \(convert the .* to 8 b.*: give"
    ):
        data.score_input(deep)
    deep.unlink()
    both = tone(tmp_path / "both.wav", subtype="PCM_U8", stereo=True)
    with pytest.raises(
        DataError, match=r"both\.wav: .*\(convert the file to one channel of 8 bits"
    ):
        data.score_input(both)
    with pytest.raises(DataError, match=r"both\.wav: .*not known here and 8 .*set channel to left"):
        audio_module(tmp_path, frame_length=20).setup()
    audio_module(tmp_path, frame_length=20, channel="left").setup()


def test_files_too_short_for_a_frame_are_refused(tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav", n=150)
    with pytest.raises(DataError, match=r"a\.wav: 150 samples where a frame needs 200"):
        audio_module(path, split="tail").setup()
    with pytest.raises(DataError, match=r"a\.wav: 150 samples where a frame needs 513"):
        audio_module(path, split="tail", kind="mfcc").setup()


@pytest.mark.slow
def test_too_little_sound_for_its_frames_is_refused(tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav", n=RATE)
    with pytest.raises(DataError, match=r"a\.wav: \d+ frames to train on, of 200 samples each"):
        audio_module(path, split="tail").setup()


@pytest.mark.slow
@pytest.mark.parametrize("kind", kind_names())
def test_state_round_trip_needs_no_files(corpus: Path, tmp_path: Path, kind: Any) -> None:
    data = audio_module(corpus, kind=kind, group="a[0-9]", n_mels=40)
    torch.save(data.state_dict(), tmp_path / "data.pt")
    options = {k: v for k, v in data.hparams.items() if k[0] != "_"} | {"root": "gone"}
    again = AudioDataModule(**options)
    again.load_state_dict(torch.load(tmp_path / "data.pt", weights_only=True))
    assert (again.n_features, again.frame_rate) == (data.n_features, data.frame_rate)
    assert again.bits_per_sample(-3.0) == data.bits_per_sample(-3.0)
    frames = data.score_input(corpus / "a2_x.wav").with_context()
    assert torch.equal(again.score_input(corpus / "a2_x.wav").with_context(), frames)
    ours, theirs = (d.render(frames, tmp_path / n)[0] for d, n in ((data, "a"), (again, "b")))
    assert ours.read_bytes() == theirs.read_bytes()


def test_without_files_sound_is_generated_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(
        "rnade_lightning.datamodules.sound.speechlike.write_speechlike",
        lambda folder: write_speechlike(folder, 6, 1.0),
    )
    data = audio_module(None)
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


@pytest.mark.parametrize("kind", ["waveform", "residual", "innovation"])
def test_sound_of_eight_bits_is_written_without_its_noise(kind: str, tmp_path: Path) -> None:
    """Full scale comes back as it was given, too."""
    rng = np.random.default_rng(0)
    for i in range(4):
        integers = np.clip(np.round(40 * rng.standard_normal(8000)), -128, 127).astype(np.int16)
        soundfile.write(tmp_path / f"{i}.wav", integers << 8, RATE, subtype="PCM_U8")
    data = audio_module(tmp_path, kind=kind, frame_length=20)
    frames = data.score_input(tmp_path / "3.wav").frames
    back, _ = soundfile.read(data.render(frames, tmp_path / "out" / "a")[0], dtype="int16")
    assert (integers == -128).any()
    np.testing.assert_array_equal(back[48:-48], integers[48:-48] << 8)


CONFIGS = Path(__file__).parents[3] / "configs"


RECIPES = ["audio_demo", "speech_waveform", "speech_innovation", "speech_log_mel", "vocoder"]


@pytest.mark.slow
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
    kinds = {"truth", "continuation", "one_step", "free", "free_2"}
    if name in ("speech_innovation", "vocoder"):  # what no predictor tells has a mean that is noise
        kinds -= {"one_step"}
    assert names == {f"test_{kind}.wav" for kind in kinds}
