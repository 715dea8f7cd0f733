r"""Teach a model to come back: frames of training that leave the data and return to them.

One step ahead, it is worth next to nothing to come back to the data from where samples go. So in
training, windows are disturbed, and the disturbance dies away while the window goes on,

$$x'_t = x_t + e_t, \qquad e_t = \sum_{i=1}^p \lambda^i A_i e_{t-i} + s\, b_t\, C \epsilon_t$$

A_i and C are the model's linear path and the root of the covariance of what it leaves unexplained;
$\epsilon_t$ is white, of Laplace density and variance 1. A disturbance is a wrong draw and what the
path makes of it, but it dies away faster than the path alone would let it, by $\lambda < 1$ a
frame. To predict $x'_t$, the model has to tell $e_{t-1}$ from its history, and to take
$A_i - \lambda^i A_i$ of it back. Frames with b_t = 1 jump for no reason and are not scored, so that
noise does not become wider. (Noise in the demonstrations, from which the way back is learnt:
Laskey et al., *DART: Noise Injection for Robust Imitation Learning*, 2017.)
"""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from rnade_lightning.loaders import Batch
from rnade_lightning.recurrent_model import RecurrentModel


class Disturbances(pl.Callback):
    """Disturbs training windows, so that the model learns to return to the data.

    A disturbance has the shape of the model's own noise: LinearStart finds its units. Windows of
    validation and test are as they were; ``train/nll`` is of disturbed frames, without those at
    which a disturbance begins.

    Args:
        share: share of the windows that are disturbed, from their first frame on.
        rate: probability that a disturbance begins at any other frame of them.
        size: largest s, in deviations of what the path leaves unexplained; that of a window is
            uniform below it.
        decay: what a disturbance is multiplied by each frame, beside what the path does to it.
    """

    def __init__(
        self, share: float = 0.9, rate: float = 0.15, size: float = 3.0, decay: float = 0.88
    ) -> None:
        if not (0 <= share <= 1 and 0 <= rate < 1 and size > 0 and 0 <= decay <= 1):
            raise ValueError(
                "share and decay must be between 0 and 1, rate at least 0 and below 1, and size "
                f"above 0; got {share}, {decay}, {rate} and {size}"
            )
        self.share, self.rate, self.size, self.decay = share, rate, size, decay

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        model = pl_module.model
        if not isinstance(model, RecurrentModel) or not model.n_past or model.root is None:
            raise ValueError(
                "Disturbances follow a model's linear path, in its white units: set model.n_past "
                "to 1 or more and model.whiten to true, or leave the callback out"
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if not isinstance(batch, dict) or "mask" not in batch or "continues" in batch:
            raise ValueError(
                "Disturbances need batches of windows that begin anew, with frames and mask: set "
                "data.stateful to false, or leave the callback out"
            )
        mask = batch["mask"]
        begins, added = self.draw(pl_module.model, *mask.shape)  # type: ignore[arg-type]
        if not (batch.get("scored", mask) & ~begins).any():
            rank_zero_warn(
                "Disturbances leave batches as they are in which no frame would be scored: set "
                "data.window to 2 or more"
            )
            return
        batch["frames"] = batch["frames"] + added.where(mask[..., None], added.new_zeros(()))
        batch["scored"] = batch.get("scored", mask) & ~begins

    @torch.no_grad()
    def draw(self, model: RecurrentModel, n_windows: int, n_frames: int) -> tuple[Tensor, Tensor]:
        """Draw where disturbances begin in windows, ``(B, T)``, and what they add to frames, ``(B,
        T, D)``. Nothing begins, and nothing is added, in windows that are left as they are."""
        A, root = model.past_weights(), model.root
        assert root is not None
        p, D = len(A), model.n_features
        chosen = torch.rand(n_windows, 1, device=A.device) < self.share
        begins = torch.rand(n_windows, n_frames, device=A.device) < self.rate
        begins[:, :1] = True
        begins &= chosen
        size = self.size * torch.rand(n_windows, 1, 1, device=A.device)
        white = torch.distributions.Laplace(A.new_zeros(()), 0.5**0.5)
        jumps = size * begins[..., None] * (white.sample((n_windows, n_frames, D)) @ root.mT)
        if model.feature_order is not None:  # C is of features as they are visited
            jumps = jumps[..., torch.tensor(model.feature_order).argsort()]
        powers = self.decay ** torch.arange(1, p + 1, dtype=A.dtype, device=A.device)
        path = (A * powers[:, None, None]).flip(0).transpose(1, 2).flatten(0, 1)  # (p D, D)
        added = A.new_zeros(n_windows, p + n_frames, D)
        for t in range(n_frames):
            added[:, p + t] = added[:, t : p + t].flatten(1) @ path + jumps[:, t]
        return begins, added[:, p:]
