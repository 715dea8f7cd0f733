"""Resume exactly: the random states are part of the checkpoint."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_warn

from rnade_lightning.ranks import of_every_rank, of_this_rank


class RandomState(pl.Callback):
    """Saves the random states of Python, NumPy and torch, of every rank, in every checkpoint, and
    sets them again before training goes on. The data module's order of an epoch depends on its seed
    and number only. So a run that was killed and resumed ends with the same weights as one that was
    not."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"ranks": of_every_rank(self._state())}

    def _state(self) -> dict[str, Any]:
        name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  the state others draw from
        return {
            "python": random.getstate(),
            "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._loaded is None:
            return
        state, self._loaded = of_this_rank(self._loaded["ranks"]), None
        if state is None:
            rank_zero_warn("the number of devices has changed: random states are drawn anew")
            return
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))
        name, keys, *rest = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
        torch.set_rng_state(state["torch"])
        if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
