"""Test sounds are coded for real, in the bits that the likelihood says."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import soundfile
import torch
from pytorch_lightning.loggers import CSVLogger

from rnade_lightning.__main__ import main
from rnade_lightning.callbacks import CodedFiles
from rnade_lightning.datamodules import AudioDataModule
from rnade_lightning.lightning_module import RNNExpertsModule, RNNRNADEModule

ROOT = Path(__file__).parents[2]


def trainer(folder: Path, n_files: int) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", logger=CSVLogger(folder), callbacks=[CodedFiles(n_files)],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        use_distributed_sampler=False,
    )  # fmt: skip


@pytest.mark.slow
def test_bits_as_coded_are_those_of_the_likelihood(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(6):
        x = np.cumsum(np.random.default_rng(i).normal(size=4000)) * 40
        soundfile.write(tmp_path / f"{i}.wav", x.astype(np.int16), 8000)
    data = AudioDataModule(
        str(tmp_path), kind="experts", frame_length=4, split="file", cache_dir=str(tmp_path / "c")
    )
    torch.manual_seed(0)
    module = RNNExpertsModule(
        4, n_recurrent=5, n_hidden=8, n_components=3, n_lags=6, n_context=data.n_context
    )
    trainer(tmp_path, 1).test(module, data, verbose=False)
    (path,) = tmp_path.rglob("coded_files.csv")
    (row,) = csv.DictReader(path.open())
    assert int(row["samples"]) == 4000
    # at the start the bank is better than a net that was not trained
    assert 0.9 < float(row["coded"]) / float(row["likelihood"]) < 1.01
    assert "decoded alike" in capsys.readouterr().out


def test_a_model_without_masses_is_refused(tmp_path: Path) -> None:
    class Run:
        log_dir, is_global_zero = str(tmp_path), True

    with pytest.raises(ValueError, match="a RNNRNADE gives integers no mass: leave it out"):
        CodedFiles(1).on_test_end(Run(), RNNRNADEModule(3, 4, 5, 2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n_files must be at least 1"):
        CodedFiles(0)


@pytest.mark.slow
def test_a_run_ends_in_streams_that_its_model_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fit, score, predict, sample and compress, from the command line."""
    monkeypatch.chdir(tmp_path)
    for i in range(6):
        x = np.cumsum(np.random.default_rng(i).normal(size=2400)) * 40
        soundfile.write(tmp_path / f"{i}.wav", x.astype(np.int16), 8000)
    main([
        "fit", "--config", str(ROOT / "configs" / "speech_bits.yaml"), "--data.root=.",
        "--data.group=null", "--data.frame_length=4", "--data.window=50", "--data.cache_dir=c",
        "--model.n_recurrent=4", "--model.n_hidden=6", "--trainer.max_epochs=1",
        "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=runs", "--code_files=1",
        "--trainer.enable_progress_bar=false",
    ])  # fmt: skip
    assert "by the likelihood" in capsys.readouterr().out
    (run,) = (tmp_path / "runs").glob("*/version_0")
    with (run / "comparison.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    ours = rows["RNNExperts"]
    assert 0 < float(ours["bits_per_sample"]) < 16
    assert ours["error_of_mean"] in ("", "nan")
    best = str(run / "checkpoints" / "best.ckpt")
    main(["compress", "0.wav", "--out", "packed", "--ckpt_path", best])
    main(["decompress", "packed", "--out", "back", "--ckpt_path", best])
    assert (soundfile.read("back/0.wav")[0] == soundfile.read("0.wav")[0]).all()
    main(["score", "--ckpt_path", best, "--files", "0.wav", "--out", "scores.csv"])
    config = str(run / "config.yaml")
    main(["predict", "--config", config, "--ckpt_path", best])
    assert list((tmp_path / "runs").rglob("*.npz"))
    main(["sample", "--ckpt_path", best, "--seconds", "0.1", "--out", "drawn"])
    main(["sample", "--ckpt_path", best, "--prefix", "0.wav", "--seconds", "0.1", "--out", "drawn"])
    assert len(list((tmp_path / "drawn").glob("*.wav"))) > 1
