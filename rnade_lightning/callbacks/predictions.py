"""Write what ``predict`` leaves: one-step mean and log p of every frame, a file a sequence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch import Tensor


class PredictionWriter(pl.Callback):
    """Writes ``predictions/<sequence>.npz`` into the run folder, in folders as the files are in:
    ``frames`` and ``mean`` ``(T, D_raw)`` in the data's own units, ``log_prob (T,)`` in nats per
    frame in standardised units, and ``log_scale``, to be subtracted from it for the data's own
    units. A model that is given side information of every feature has no mean of a frame."""

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        index = batch_idx * trainer.world_size + trainer.global_rank
        log_dir = trainer.log_dir  # on every rank: it is broadcast
        if log_dir is None or index >= len(data.sequences("test")):
            return  # padding that gives every device the same number of batches
        path = Path(log_dir, "predictions", f"{data.sequences('test')[index].name}.npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        context = batch["context"][0].cpu() if "context" in batch else None
        mean = {}
        if "mean" in outputs:
            mean = {"mean": data.destandardise(outputs["mean"][0].cpu(), context)}
        np.savez(
            path,
            frames=data.destandardise(batch["frames"][0].cpu(), context),
            log_prob=outputs["log_prob"][0].cpu().numpy(),
            log_scale=data.log_scale,
            **mean,
        )
