"""The table of long samples: after a test, for data that have such figures."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from bodies import PARTS
from toy import options

from rnade_lightning.__main__ import main
from rnade_lightning.callbacks import SampleFigures
from rnade_lightning.datamodules import AudioDataModule, MocapDataModule
from rnade_lightning.datamodules.sound.speechlike import write_speechlike
from rnade_lightning.lightning_module import RNNRNADEModule


@pytest.mark.slow
def test_samples_and_held_out_data_stand_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([
        "fit", "--model.n_hidden=4", "--model.n_recurrent=5", "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=1", "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false", "--trainer.callbacks=SampleFigures",
        "--trainer.callbacks.n_samples=2", "--trainer.callbacks.seconds=4",
        "--trainer.callbacks.every_n_epochs=1", "--trainer.logger=CSVLogger",
        f"--trainer.logger.save_dir={tmp_path}",
    ])  # fmt: skip
    (path,) = tmp_path.rglob("samples/figures.csv")
    with open(path) as file:
        found = {row["figure"]: row for row in csv.DictReader(file)}
    assert {"bad seconds", "frechet poses", "one step skate", "auc"} < set(found)
    assert set(found["speed"]) == {"figure", "from nothing", "continued", "held-out data"}
    assert float(found["speed"]["held-out data"]) == 1
    assert found["spectral radius"]["from nothing"] == found["spectral radius"]["continued"] != ""
    said = capsys.readouterr().out
    assert "| frechet poses |" in said
    assert (path.parent / "figures.md").read_text().startswith("| samples of 4 s |")
    metrics = (path.parents[1] / "metrics.csv").read_text()
    assert "figures/from_nothing/bad_seconds" in metrics


@pytest.mark.slow
def test_samples_that_diverge_have_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    data = MocapDataModule(parts=PARTS)
    module = RNNRNADEModule(data.n_features, 4, 5, 1)

    def far(n_frames: int, **options: Any) -> torch.Tensor:
        given = options["u"] if "u" in options else options["prefix"]
        return torch.full((len(given), 1, n_frames, data.n_features), 1e30)

    monkeypatch.setattr(module.model, "sample", far)
    trainer: Any = SimpleNamespace(datamodule=data, is_global_zero=True)
    with pytest.warns(UserWarning, match="samples of 2 s diverged"):
        assert SampleFigures()._figures(trainer, module, "test", 1, 2.0) == {}


@pytest.mark.slow
def test_other_data_are_passed_over(root: Path, tmp_path: Path) -> None:
    few = ("--trainer.max_epochs=1", "--trainer.callbacks+=SampleFigures")
    main(["fit", *options(root, tmp_path, *few)])
    assert not list(tmp_path.rglob("figures.*"))


@pytest.mark.slow
def test_samples_of_sound_are_measured_beside_sound(tmp_path: Path) -> None:
    write_speechlike(tmp_path, n_files=8, seconds=1.5)
    data = AudioDataModule(str(tmp_path), kind="innovation", frame_length=80)
    module = RNNRNADEModule(data.n_features, 4, 5, 1)
    trainer: Any = SimpleNamespace(datamodule=data, is_global_zero=True)
    module.train()
    found = SampleFigures()._figures(trainer, module, "test", 2, 1.5)
    assert set(found) == {"from nothing", "continued", "held-out data"}
    assert module.model.training
    for row in found.values():
        assert {"level", "spectral_distance", "clicks", "auc"} < set(row)
        assert np.isfinite(row["level"])
    assert -40 < found["held-out data"]["level"] < -10
    assert SampleFigures()._seconds(trainer) == 10
    assert SampleFigures(seconds=3)._seconds(trainer) == 3


def test_data_with_side_information_are_passed_over_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = SimpleNamespace(measures_samples=True, context_by_feature=True)
    trainer: Any = SimpleNamespace(datamodule=data, is_global_zero=True)
    module: Any = SimpleNamespace(model=None)
    with caplog.at_level(logging.INFO):
        assert SampleFigures()._figures(trainer, module, "test", 1, 1.0) == {}
    assert "no figures of samples: their side information" in caplog.text


def test_arguments_that_draw_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="n_samples must be 1 or more"):
        SampleFigures(n_samples=0)
    with pytest.raises(ValueError, match="seconds and n_prefix_seconds above 0"):
        SampleFigures(seconds=-1)
