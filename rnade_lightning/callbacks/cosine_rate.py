"""Lower the learning rate over the whole run, however long it is."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl


class CosineRate(pl.Callback):
    """Lowers the learning rate along half a cosine, from the optimiser's own at the first step to a
    share of it at the last. It follows ``max_epochs`` or ``max_steps`` by itself (Loshchilov and
    Hutter, *SGDR*, 2017, without restarts).

    Args:
        final: the share at the end.

    Raises:
        ValueError: the run has no last step, or has a scheduler of the learning rate already.
    """

    def __init__(self, final: float = 0.01) -> None:
        if not 0 <= final <= 1:
            raise ValueError(f"final must be between 0 and 1, got {final}")
        self.final = final
        self._n_steps = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.lr_scheduler_configs:
            raise ValueError("CosineRate sets the learning rate: leave out --lr_scheduler, or it")
        self._n_steps = float(trainer.estimated_stepping_batches)
        if math.isinf(self._n_steps):
            raise ValueError("CosineRate needs the last step: set trainer.max_epochs or max_steps")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        passed = min(trainer.global_step / max(self._n_steps, 1), 1)
        share = self.final + (1 - self.final) * (1 + math.cos(math.pi * passed)) / 2
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:  # a checkpoint keeps initial_lr
                group["lr"] = share * group.setdefault("initial_lr", group["lr"])
