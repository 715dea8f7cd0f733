"""Print progress where the output is no terminal: one line an epoch, and no bar that redraws."""

from __future__ import annotations

import time

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar

KEYS = ("train/nll", "val/nll")
"""What a line tells, in nats per frame."""


class EpochLines(ProgressBar):
    """Prints one line at the end of every epoch: its number, the losses in nats per frame and the
    seconds it took. It takes the place of the progress bar where the output is a file or a pipe."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._start = 0.0

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        """Print nothing, as on every rank but the first."""
        self._enabled = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.monotonic()  # also where a run goes on inside an epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._enabled:
            return
        found = trainer.callback_metrics
        figures = [f"{key} {float(found[key]):.4f}" for key in KEYS if key in found]
        seconds = time.monotonic() - self._start
        line = ", ".join([*figures, f"{seconds:.1f} s"])
        print(f"epoch {trainer.current_epoch + 1}: {line}", flush=True)
