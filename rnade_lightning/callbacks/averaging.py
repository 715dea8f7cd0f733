"""Average the weights over training steps: the average is validated, kept and tested."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor


class AveragedWeights(WeightAveraging):
    """Keeps an exponential moving average of the weights, by Lightning's callback. Training goes on
    from the weights themselves. Checkpoints hold both, and their ``state_dict`` is the average.

    Args:
        decay: share of the average that a step keeps. It is smaller in the first steps, (1 + n) /
            (10 + n) after n of them, so that the average forgets where training began.
    """

    def __init__(self, decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay}")

        def blend(average: Any, current: Any, n_averaged: Tensor | int) -> None:
            n = int(n_averaged)
            torch._foreach_lerp_(average, current, 1 - min(decay, (1 + n) / (10 + n)))

        super().__init__(use_buffers=False, multi_avg_fn=blend)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the average in the test after ``fit``, where Lightning would load the weights
        instead."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
