"""Training: the loss, its logging, the optimiser; thin over `rnn_rnade`.

Conventions:
    A batch is a dict: ``frames (B, T, D)``, ``mask (B, T)`` (valid frames, right padding), and
    ``scored (B, T)``, the valid frames that count (all of them if missing). Where frames are a
    transformation of the data, ``log_jacobian (B, T)`` is added to log p of each. With
    ``continues (B,)`` the rows so marked go on from the state in which the batch before left them
    (truncated back-propagation through time), the others start at u_0. ``*/nll`` is in nats per
    frame, lower is better: the true mean over all scored frames, whatever their batch
    or device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from rnade_lightning.densities import (
    Flow,
    Gaussian,
    GaussianMixture,
    LowRankGaussian,
    RNNDensity,
)
from rnade_lightning.density import FrameDensity, SequenceDensity
from rnade_lightning.ensemble import Ensemble
from rnade_lightning.rnade import Activation, Backend
from rnade_lightning.rnn_rnade import RNNRNADE

Batch = dict[str, Tensor]


class SequenceModule(pl.LightningModule):
    """Trains a `SequenceDensity` by maximum likelihood; a subclass sets ``self.model``."""

    model: SequenceDensity
    pretrain_epochs = 0

    def __init__(self) -> None:
        super().__init__()
        self._states: dict[str, Tensor] = {}  # by stage, where its last batch left the rows (B, S)
        self._clipped: list[Tensor] = []  # for each step of the epoch, whether it was clipped

    def forward(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log density of every frame, ``(B, T)``."""
        return self.model.log_prob(frames, mask)

    def on_train_epoch_start(self) -> None:
        self.model.conditioned_on_state = self.current_epoch >= self.pretrain_epochs

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        nll, n_frames = self._nll(batch, "train")
        if not torch.isfinite(nll):
            raise FloatingPointError(
                f"the loss is {nll.item()} at epoch {self.current_epoch}, batch {batch_idx}; "
                "training stopped before this step, the last checkpoint is good. Lower the "
                "learning rate or raise model.floor"
            )
        # Every device divides by the mean count, so that the averaged gradient is that of the mean
        # over all frames of all devices.
        return nll * n_frames / self._mean_over_devices(n_frames).clamp(min=1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._nll(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._nll(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Batch:
        """Log density ``(B, T)`` and one-step mean ``(B, T, D)`` (100 draws) of every frame."""
        frames, generator = batch["frames"], torch.Generator(self.device).manual_seed(0)
        mean = self.model.predictive_mean(frames, n_samples=100, generator=generator)
        log_p = self(frames, batch["mask"])
        if "log_jacobian" in batch:
            log_p = log_p + batch["log_jacobian"]
        return {"log_prob": log_p, "mean": mean}

    def _nll(self, batch: Batch, stage: str) -> tuple[Tensor, Tensor]:
        """Nats per scored frame of a batch, logged, and the number of those frames."""
        scored = batch.get("scored", batch["mask"])
        n_frames = scored.sum()
        if "continues" in batch:
            log_p = self._carried(batch, stage)
        else:
            log_p = self(batch["frames"], batch["mask"])
        if "log_jacobian" in batch:
            log_p = log_p + batch["log_jacobian"]
        nll = -(log_p * scored).sum() / n_frames.clamp(min=1)
        self.log(
            f"{stage}/nll",
            nll,
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            sync_dist=True,
            # Lightning averages the counts of all devices and rounds down: a multiple stays whole
            batch_size=int(n_frames) * self.trainer.world_size,
        )
        return nll, n_frames

    def _carried(self, batch: Batch, stage: str) -> Tensor:
        """Log density of windows whose rows go on from the batch before, ``(B, T)``."""
        u = self.model.initial_state(len(batch["frames"]))
        if stage in self._states:
            u = torch.where(batch["continues"][:, None], self._states[stage].to(u), u)
        log_p, after = self.model.log_prob_and_state(batch["frames"], batch["mask"], u)
        self._states[stage] = after.detach()
        return log_p

    def _mean_over_devices(self, value: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return value
        return self.trainer.strategy.reduce(value.to(torch.get_default_dtype()), reduce_op="mean")

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Logs the gradient's norm, refuses one that is not finite, and clips."""
        grads = [p.grad for p in self.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if not torch.isfinite(norm):
            named = self.model.named_parameters()
            bad = [n for n, p in named if p.grad is not None and not p.grad.isfinite().all()]
            culprit = bad[0] if bad else "all parameters together"  # each finite, their norm not
            raise FloatingPointError(
                f"the gradient of {culprit} is not finite at step {self.global_step}; training "
                "stopped before this step, the last checkpoint is good. Raise model.floor"
            )
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.global_step + 1) % every == 0:
            self.log("grad_norm/total", norm)  # which costs more than the norm: when it is kept
        if gradient_clip_val and gradient_clip_algorithm != "value":
            self._clipped.append(norm > gradient_clip_val)
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_epoch_end(self) -> None:
        """Logs the share of clipped steps."""
        if self._clipped:
            self.log("grad_norm/clipped", torch.stack(self._clipped).float().mean())
            self._clipped.clear()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        theirs = checkpoint["hyper_parameters"]["n_features"]
        if theirs != self.model.n_features:
            raise ValueError(
                f"the checkpoint does not fit the data: it was trained on {theirs} features a "
                f"frame, the data have {self.model.n_features}; give the data it was trained on"
            )
        self._states = dict(checkpoint["states"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["module_class"] = type(self).__name__
        checkpoint["states"] = self._states

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam at 1e-3; the command line replaces it (``--optimizer``, ``--lr_scheduler``)."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class RNNRNADEModule(SequenceModule):
    """RNN-RNADE, trained by maximum likelihood.

    Args:
        n_features: D, features of a frame; taken from the data.
        n_hidden: H, RNADE's hidden units.
        n_recurrent: R, recurrent units.
        n_components: K, mixture components of each feature.
        cell: recurrent cell, ``sigmoid``, ``tanh``, ``gru`` or ``lstm``.
        conditioned: which of ``alpha``, ``mu``, ``sigma`` the recurrent state sets.
        component: ``gaussian`` or ``laplace``.
        activation: RNADE's units, ``sigmoid`` or ``relu``.
        floor: smallest scale of a component, in standardised units; part of density and sampler.
            It is raised to the deviation of the noise in the data that stands for their steps.
        linear: a linear path inside the frame, from the features before to the means.
        n_past: p, frames of the linear path to the next frame, which starts at copying the last; 0
            for none.
        learn_past: learn that path, or keep to copying.
        dropout: share of the state's units that a frame does not see in training.
        backend: ``compiled``, or ``torch``: torch operations as the equations are written.
        n_layers: recurrent layers, each reading the units of the one below; a frame sees the last.
        input_noise: standard deviation of noise on what the recurrent net reads in training.
        feature_order: order in which features are visited: 0 for that of the data, another number
            is the seed of a permutation.
        scale_mean_gradient: narrow components' means move slower, the authors' heuristic; see
            `RNADE`.
        pretrain_epochs: epochs at first in which RNADE is trained alone: frames are not told the
            state.
        noise_scale: deviation of that noise, in standardised units; taken from the data.
        censor_at: bounds at which features are censored, for Laplace components, in the units of
            frames: for features that often lie exactly on a bound, as black pixels.
    """

    def __init__(
        self,
        n_features: int,
        n_hidden: int = 50,
        n_recurrent: int = 100,
        n_components: int = 2,
        cell: str = "sigmoid",
        conditioned: Sequence[str] = ("alpha", "mu", "sigma"),
        component: str = "gaussian",
        activation: Activation = "sigmoid",
        floor: float = 0.0,
        linear: bool = False,
        n_past: int = 0,
        learn_past: bool = True,
        dropout: float = 0.0,
        backend: Backend = "compiled",
        n_layers: int = 1,
        input_noise: float = 0.0,
        feature_order: int | None = None,
        scale_mean_gradient: bool = False,
        pretrain_epochs: int = 0,
        noise_scale: float = 0.0,
        censor_at: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        conditioned, censor_at = list(conditioned), censor_at and list(censor_at)
        self.pretrain_epochs = pretrain_epochs
        floor = max(floor, noise_scale)
        self.save_hyperparameters()
        self.model = RNNRNADE(
            n_features, n_hidden, n_recurrent, n_components, cell, conditioned,
            component, activation, floor, linear, scale_mean_gradient, censor_at, n_past=n_past,
            learn_past=learn_past, dropout=dropout, backend=backend, n_layers=n_layers,
            input_noise=input_noise, feature_order=feature_order,
        )  # fmt: skip


class RNNDensityModule(SequenceModule):
    """What RNN-RNADE has to beat: the same recurrent net with another density of a frame.

    Args:
        n_features: D, features of a frame; taken from the data.
        density: ``gaussian`` (independent features), ``low_rank`` (Gaussian with a covariance of
            ``rank`` directions and a diagonal), ``mixture`` (of ``n_components`` Gaussians,
            RNN-GMM) or ``flow`` (masked autoregressive flow by zuko).
        n_recurrent: R, recurrent units.
        n_components: K of the mixture.
        rank: directions of the low-rank covariance.
        n_context: numbers that the state hands to the flow.
        n_transforms: transforms of the flow.
        n_hidden: units of each of their two layers.
        cell: recurrent cell, ``sigmoid``, ``tanh``, ``gru`` or ``lstm``.
        floor: smallest scale, in standardised units (the flow has none).
        n_past: p, frames of the linear path to the next frame, which starts at copying the last; 0
            for none.
        learn_past: learn that path, or keep to copying.
        dropout: share of the state's units that a frame does not see in training.
        backend: ``compiled``, or ``torch``: torch operations as the equations are written.
        n_layers: recurrent layers, each reading the units of the one below; a frame sees the last.
        input_noise: standard deviation of noise on what the recurrent net reads in training.
    """

    def __init__(
        self,
        n_features: int,
        density: Literal["gaussian", "low_rank", "mixture", "flow"] = "mixture",
        n_recurrent: int = 100,
        n_components: int = 10,
        rank: int = 8,
        n_context: int = 32,
        n_transforms: int = 3,
        n_hidden: int = 100,
        cell: str = "gru",
        floor: float = 0.0,
        n_past: int = 0,
        learn_past: bool = True,
        dropout: float = 0.0,
        backend: Backend = "compiled",
        n_layers: int = 1,
        input_noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        of_frame: FrameDensity
        if density == "gaussian":
            of_frame = Gaussian(n_features, floor)
        elif density == "low_rank":
            of_frame = LowRankGaussian(n_features, rank, floor)
        elif density == "mixture":
            of_frame = GaussianMixture(n_features, n_components, floor)
        else:
            of_frame = Flow(n_features, n_context, n_transforms, n_hidden)
        self.model = RNNDensity(
            of_frame,
            n_recurrent,
            cell=cell,
            n_past=n_past,
            learn_past=learn_past,
            dropout=dropout,
            backend=backend,
            n_layers=n_layers,
            input_noise=input_noise,
        )


class EnsembleModule(SequenceModule):
    """Trained models as one; ``python -m rnade_lightning combine`` makes its checkpoint.

    Args:
        n_features: D, features of a frame; taken from the data.
        members: of each member the ``module_class`` and the ``hyper_parameters`` of its checkpoint.
    """

    def __init__(self, n_features: int, members: list[dict[str, Any]]) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = Ensemble([_module_of(member).model for member in members])


def combine_checkpoints(checkpoints: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A checkpoint of the ensemble of models in checkpoints, with the data module of the first.

    Raises:
        ValueError: they were not trained on the same features, scaled alike.
    """
    first = dict(checkpoints[0])
    data = {k: v for k, v in first.items() if isinstance(v, dict) and "standardiser" in v}
    for other in checkpoints[1:]:
        if not all(k in other and _equal(v, other[k]) for k, v in data.items()):
            raise ValueError(
                "the checkpoints were not trained on the same data; combine such that were"
            )
    first["module_class"], first["states"], first["callbacks"] = "EnsembleModule", {}, {}
    first["optimizer_states"], first["lr_schedulers"] = [], []
    for of_training in ("current_model_state", "averaging_state"):  # by `AveragedWeights`
        first.pop(of_training, None)
    members = [{k: c[k] for k in ("module_class", "hyper_parameters")} for c in checkpoints]
    n_features = first["hyper_parameters"]["n_features"]
    first["hyper_parameters"] = {"n_features": n_features, "members": members}
    first["state_dict"] = {
        name.replace("model.", f"model._members.{i}.", 1): value
        for i, checkpoint in enumerate(checkpoints)
        for name, value in checkpoint["state_dict"].items()
    }
    return first


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    return bool(one == other)


def load_checkpoint(path: str) -> dict[str, Any]:
    """A Lightning checkpoint as a dict of plain values and tensors, on the CPU.

    Raises:
        ValueError: one line that says why the file is no checkpoint of this package.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such checkpoint") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder; name the .ckpt file in it") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is not a readable checkpoint ({reason}); use another") from None
    if not isinstance(checkpoint, dict) or "module_class" not in checkpoint:
        raise ValueError(f"{path} is not a checkpoint of this package; use one that fit wrote")
    return checkpoint


def load_model(checkpoint: dict[str, Any]) -> SequenceDensity:
    """The trained model in a checkpoint, in evaluation mode, on the CPU."""
    module = _module_of(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    return module.model.eval()


def _module_of(checkpoint: dict[str, Any]) -> SequenceModule:
    """An untrained module of the kind and sizes of a checkpoint."""
    return module_class(checkpoint)(**checkpoint["hyper_parameters"])


def module_class(checkpoint: dict[str, Any]) -> type[SequenceModule]:
    """The class that a checkpoint was made by; it has to be imported already."""
    kinds, found = [SequenceModule], {}
    while kinds:
        kind = kinds.pop()
        found[kind.__name__] = kind
        kinds += kind.__subclasses__()
    return found[checkpoint["module_class"]]
