"""An unstable path is said to be one, and mended in the best checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from rnade_lightning.callbacks import BestCheckpoint, LastCheckpoint, StablePath
from rnade_lightning.lightning_module import RNNRNADEModule
from rnade_lightning.linear_path import STABLE, spectral_radius


def trained(folder: Path, radius: float) -> tuple[pl.Trainer, RNNRNADEModule]:
    module = RNNRNADEModule(2, 2, 2, 1, n_past=2, lr=1e-6)
    with torch.no_grad():
        module.model.A[0].fill_diagonal_(radius)
    loader = DataLoader(TensorDataset(torch.ones(4, 3, 2)), batch_size=2)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
        callbacks=[LastCheckpoint(), BestCheckpoint(), StablePath()],
    )  # fmt: skip
    trainer.fit(module, loader, loader)
    return trainer, module


@pytest.mark.parametrize("radius", [0.9, 1.2])
def test_the_best_weights_are_stable(
    tmp_path: Path, radius: float, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="pytorch_lightning"):
        trainer, module = trained(tmp_path, radius)
    assert float(trainer.callback_metrics["path/spectral_radius"]) == pytest.approx(
        radius, abs=1e-3
    )
    best = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    kept = torch.load(best, weights_only=True)["state_dict"]["model.A"]
    unstable = radius > 1
    assert spectral_radius(kept) == pytest.approx(STABLE if unstable else radius, abs=1e-3)
    assert torch.equal(kept, module.model.A) != unstable  # training itself is left alone
    assert ("was unstable, of spectral radius 1.2" in caplog.text) == unstable


def test_a_path_that_stays_unstable_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "rnade_lightning.callbacks.stable_path.make_stable", lambda *_: (1.01, 1.01)
    )
    with pytest.warns(UserWarning, match=r"is unstable, of .* 1.01.* smaller model.kappa"):
        trained(tmp_path, 0.9)
