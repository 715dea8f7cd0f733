"""The learning rate falls to its end over the run, whatever its length."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from rnade_lightning.callbacks import CosineRate
from rnade_lightning.lightning_module import RNNRNADEModule


class Rates(pl.Callback):
    """Notes the learning rate of every step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def trained(
    tmp_path: Path, ckpt_path: Path | None = None, module: Any = None, **options: Any
) -> list[float]:
    noted, loader = Rates(), DataLoader(TensorDataset(torch.ones(4, 3, 2)), batch_size=2)
    given = {"callbacks": [CosineRate(0.1), noted], "logger": False, "accelerator": "cpu"} | options
    trainer = pl.Trainer(
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, **given
    )
    trainer.fit(module or RNNRNADEModule(2, 2, 2, 1, lr=0.5), loader, ckpt_path=ckpt_path)
    trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt")
    return noted.rates


def expected(n_steps: int) -> list[float]:
    return [0.5 * (0.1 + 0.45 * (1 + math.cos(math.pi * t / n_steps))) for t in range(n_steps)]


@pytest.mark.parametrize("options", [{"max_epochs": 3}, {"max_steps": 6}])
def test_the_rate_follows_the_length_of_the_run(tmp_path: Path, options: dict[str, int]) -> None:
    assert trained(tmp_path, **options) == pytest.approx(expected(6))


def test_a_resumed_run_goes_on_at_its_rate(tmp_path: Path) -> None:
    first, options = Rates(), {"max_epochs": 3}
    trained(tmp_path, callbacks=[CosineRate(0.1), Stop(1), first], **options)
    rest = trained(tmp_path, tmp_path / "2.ckpt", **options)
    assert [*first.rates, *rest] == pytest.approx(expected(6))


class Stop(pl.Callback):
    """Stops after some epochs."""

    def __init__(self, n_epochs: int) -> None:
        self.n_epochs = n_epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.n_epochs


class Scheduled(RNNRNADEModule):
    """Brings a scheduler of its own."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"set trainer\.max_epochs or max_steps"):
        trained(tmp_path, max_epochs=-1)
    with pytest.raises(ValueError, match="leave out --lr_scheduler"):
        trained(tmp_path, module=Scheduled(2, 2, 2, 1), max_epochs=1)
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        CosineRate(1.5)
