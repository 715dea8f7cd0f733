"""Generated sequences, written as files that a person can play."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch


class Samples(pl.Callback):
    """Writes, into the run folder's ``samples/``, a free-running sample and the continuation of a
    held-out sequence beside the sequence itself: on a schedule during ``fit`` (validation data) and
    after ``test`` (test data). Draws come from a generator of its own.

    Args:
        every_n_epochs: epochs between two sets during ``fit``; 0 for none.
        n_frames: frames of each sample.
        n_prefix: frames of the held-out sequence that a continuation is given.
        seed: of the draws.
    """

    def __init__(
        self, every_n_epochs: int = 0, n_frames: int = 150, n_prefix: int = 30, seed: int = 0
    ) -> None:
        self.every_n_epochs, self.n_frames = every_n_epochs, n_frames
        self.n_prefix, self.seed = n_prefix, seed

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        epoch = trainer.current_epoch + 1
        if self.every_n_epochs and epoch % self.every_n_epochs == 0:
            self._write(trainer, pl_module, "val", f"epoch{epoch:04d}")

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._write(trainer, pl_module, "test", "test")

    def _write(self, trainer: pl.Trainer, pl_module: Any, split: str, stem: str) -> None:
        log_dir = trainer.log_dir  # on every rank: it is broadcast
        if not trainer.is_global_zero or log_dir is None:
            return
        data, model = trainer.datamodule, pl_module.model  # type: ignore[attr-defined]
        folder = Path(log_dir, "samples")
        folder.mkdir(parents=True, exist_ok=True)
        was_training = model.training
        model.eval()  # no dropout in a sample
        generator = torch.Generator(pl_module.device).manual_seed(self.seed)
        truth = max((s.frames for s in data.sequences(split)), key=len)[
            : self.n_prefix + self.n_frames
        ]
        prefix = truth[: self.n_prefix].to(pl_module.device)
        free = model.sample(self.n_frames, generator=generator)[0, 0]
        more = model.sample(self.n_frames, prefix=prefix[None], generator=generator)[0, 0]
        model.train(was_training)
        figures = {}
        for kind, frames in (
            ("free", free),
            ("continuation", torch.cat((prefix, more))),
            ("truth", truth),
        ):
            if not torch.isfinite(frames).all():
                pl.utilities.rank_zero_warn(f"the {kind} sample diverged; it is not written")
                continue
            data.render(frames.cpu(), folder / f"{stem}_{kind}")
            if hasattr(data, "figures"):  # what this kind of data measures of itself
                figures[kind] = data.figures(frames.cpu())
        if figures:
            (folder / f"{stem}_figures.json").write_text(json.dumps(figures, indent=2) + "\n")
