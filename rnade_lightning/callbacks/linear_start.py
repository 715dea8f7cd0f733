"""Start the linear paths of a model at their least-squares fit to the training frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from rnade_lightning.linear_path import fit_path
from rnade_lightning.recurrent_model import RecurrentModel

_LEAST = 0.01
"""Smallest unit of a whitened feature, in deviations of the frames."""


class LinearStart(pl.Callback):
    """Starts a new run at a vector autoregression. The linear path from past frames starts at its
    ridge regression on the training frames. RNADE's path inside the frame, and its scales, start at
    the Gaussian of the residuals. Training then begins where a linear predictor ends.

    Without it, the path starts at copying the last frame, and features are independent.

    Args:
        ridge: penalty that draws the path to copying (``past: free``) or to no differences
            (``past: reverting``), beside sums over frames.
        max_frames: training frames, at most, that are looked at.
        context_ridge: penalty on the part of a context in the path, which cannot make it unstable.
        own_ridge: penalty on the part of each feature's own past; without it, ``ridge``.
    """

    def __init__(
        self,
        ridge: float = 1.0,
        max_frames: int = 100_000,
        context_ridge: float = 1.0,
        own_ridge: float | None = None,
    ) -> None:
        ridges = [r for r in (ridge, context_ridge, own_ridge) if r is not None]
        if not min(ridges) > 0 or max_frames < 1:
            raise ValueError(
                "ridge, own_ridge and context_ridge must be above 0, and max_frames 1 or more"
            )
        self.ridge, self.max_frames, self.context_ridge = ridge, max_frames, context_ridge
        self.own_ridge = own_ridge

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.ckpt_path or trainer.global_step or data is None:
            return
        for model in pl_module.modules():
            if isinstance(model, RecurrentModel) and model.n_past:
                frames = self._some(s.with_context() for s in data.sequences("train"))
                of = model._parameters, model.n_past, model.kappa
                ridges = self.ridge, self.context_ridge, self.own_ridge
                covariance = fit_path(*of, frames, *ridges)
                if model.feature_order:
                    covariance = covariance[model.feature_order][:, model.feature_order]
                if model.root is not None:
                    S = covariance + _LEAST**2 * torch.eye(len(covariance))
                    model.root.copy_(torch.linalg.cholesky(S))
                elif not model.density.shift_means:
                    model.density.start_at(covariance)

    def _some(self, sequences: Iterable[Tensor]) -> Iterable[Tensor]:
        n = 0
        for frames in sequences:
            yield frames
            n += len(frames)
            if n >= self.max_frames:
                return
