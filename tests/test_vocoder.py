"""A vocoder from fit to sound: its table, its refusals, and mel frames that become sound."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from toy import refused

from rnade_lightning.__main__ import main
from rnade_lightning.datamodules.sound.kinds.log_mel import LogMel
from rnade_lightning.datamodules.sound.speechlike import speechlike

RATE = 16_000
MEL = {"n_fft": 512, "hop_length": 128, "n_mels": 40}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speechlike")
    for i in range(6):
        soundfile.write(folder / f"{i}.wav", speechlike(i, 1.2), RATE, subtype="PCM_16")
    return folder


def fitted(folder: Path, out: Path, *options: str) -> Path:
    """Return the checkpoint of a small model."""
    main([
        "fit", "--data", "AudioDataModule", f"--data.root={folder}", "--data.window=20",
        *(f"--data.{name}={value}" for name, value in MEL.items()), *options,
        "--model.n_hidden=4", "--model.n_recurrent=4", "--model.n_components=1",
        "--model.n_past=0",
        "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.logger=CSVLogger",
        f"--trainer.logger.save_dir={out}", "--trainer.callbacks=LastCheckpoint",
        "--trainer.callbacks+=Comparison", "--trainer.callbacks.n_samples=2",
        "--trainer.callbacks.n_mean=2", "--trainer.enable_progress_bar=false",
    ])  # fmt: skip
    return next(out.rglob("last.ckpt"))


@pytest.fixture(scope="module")
def vocoder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    short = ("--data.kind=excitation", "--data.frame_length=32", "--data.predictor_order=16")
    return fitted(folder, tmp_path_factory.mktemp("vocoder"), *short)


@pytest.fixture(scope="module")
def log_mel(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted(folder, tmp_path_factory.mktemp("log_mel"), "--data.kind=log_mel")


def test_bits_given_the_mel_stand_in_a_column_of_their_own(vocoder: Path) -> None:
    run = vocoder.parents[1]
    rows = list(csv.DictReader((run / "comparison.csv").open()))
    assert "bits_per_sample_given" in rows[0]
    assert "bits_per_sample" not in rows[0]
    assert float(rows[0]["bits_per_sample_given"]) > 0
    note = (run / "comparison.md").read_text()
    assert "given and not modelled: mel_0" in note
    assert "looks ahead" in note
    assert "given (no code length)" in note


def test_rivals_that_are_given_nothing_keep_their_column(folder: Path, tmp_path: Path) -> None:
    """Waveforms given the signals of a second file, beside the predictor alone."""
    for path in folder.glob("*.wav"):
        path.with_suffix(".csv").write_text("seconds,level\n0,0.1\n1.2,0.3\n")
    options = "--data.kind=waveform", "--data.frame_length=32", "--data.control_files={name}.csv"
    run = fitted(folder, tmp_path, *options).parents[1]
    rows = {row["name"]: row for row in csv.DictReader((run / "comparison.csv").open())}
    alone = rows.pop("RLS(24), adaptive Student")
    assert alone["bits_per_sample"]
    assert not alone["bits_per_sample_given"]
    for row in rows.values():
        assert row["bits_per_sample_given"]
        assert not row["bits_per_sample"]


def test_score_names_bits_given_the_mel_as_such(
    vocoder: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.csv"
    main(["score", f"--ckpt_path={vocoder}", f"--files={folder}/0.wav", f"--out={out}"])
    assert out.read_text().splitlines()[0].split(",")[-1] == "bits_per_sample_given"


def test_a_file_tells_the_mel_of_a_sound(vocoder: Path, folder: Path, tmp_path: Path) -> None:
    """Even of a model that has learnt nothing, since what is drawn is fitted to the mel."""
    control = folder / "2.wav"
    how = [f"--ckpt_path={vocoder}", f"--control={control}", "--n_samples=1", f"--out={tmp_path}"]
    main(["sample", *how])
    made, given, other = (
        soundfile.read(path)[0] for path in (tmp_path / "sample_0.wav", control, folder / "3.wav")
    )
    assert abs(len(made) - len(given)) < 32
    assert distance(made, given) < 0.3 < 1 < distance(made, other)
    assert (tmp_path / "sample_0.png").is_file()


def distance(samples: np.ndarray, reference: np.ndarray) -> float:
    """Return the mean absolute difference of log mel power, without the ends."""
    kind = LogMel(512, None, 128, 40, 0.0, None, False)
    ours, theirs = (kind.to_frames(x, RATE) for x in (samples, reference))
    n = min(len(ours), len(theirs))
    return float(np.abs(ours[:n] - theirs[:n])[5:-10].mean())


def test_mel_frames_that_a_model_drew_become_sound(
    vocoder: Path, log_mel: Path, folder: Path, tmp_path: Path
) -> None:
    how = ["sample", f"--ckpt_path={log_mel}", "--n_frames=40", "--n_samples=1"]
    how += [f"--prefix={folder}/1.wav", "--n_prefix=50"]
    main([*how, f"--out={tmp_path}/griffin_lim"])
    main([*how, f"--out={tmp_path}/vocoder", f"--vocoder={vocoder}"])
    plain, made = (
        soundfile.read(tmp_path / name / "continuation_of_1_0.wav")[0]
        for name in ("griffin_lim", "vocoder")
    )
    assert abs(len(plain) - len(made)) < 32
    given = soundfile.read(folder / "1.wav")[0]
    assert distance(made[: 40 * 128], given[: 40 * 128]) < 0.3


def test_what_does_not_fit_is_refused_in_one_line(
    vocoder: Path,
    log_mel: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sample = ["sample", f"--out={tmp_path}", "--n_samples=1"]
    other = fitted(folder, tmp_path / "other", "--data.kind=log_mel", "--data.n_mels=32")
    for options, said in (
        ([f"--ckpt_path={vocoder}"], r"the model is given mel_0, .* \(40 in all\): give --control"),
        (
            [f"--ckpt_path={log_mel}", f"--vocoder={log_mel}"],
            "is no model of samples given their mel",
        ),
        ([f"--ckpt_path={vocoder}", f"--vocoder={vocoder}"], "the model draws no mel frames"),
        (
            [f"--ckpt_path={other}", f"--vocoder={vocoder}"],
            "it has n_mels 40, not 32: train it with",
        ),
        ([f"--ckpt_path={vocoder}", "--control=gone.wav"], "gone.wav"),
    ):
        assert re.search(said, refused(capsys, *sample, *options)), options
