"""Train a model: the loss, its logging, the optimiser; a thin layer over `rnn_rnade`.

Conventions:
    Batches as in `loaders`; plain loaders of frames are taken, too. ``*/nll`` is in nats per frame,
    lower is better: the true mean over all scored frames, whatever their batch or device.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torchmetrics import MeanMetric

from rnade_lightning import densities
from rnade_lightning.checkpoint_files import refusal
from rnade_lightning.class_paths import class_and_arguments, locate, public_path
from rnade_lightning.contexts import argument
from rnade_lightning.densities import RNNDensity
from rnade_lightning.density import FrameDensity, full_float32
from rnade_lightning.ensemble import Ensemble
from rnade_lightning.loaders import Batch, as_batch
from rnade_lightning.ranks import of_every_rank, of_this_rank
from rnade_lightning.recurrent_model import RecurrentModel
from rnade_lightning.rnn_experts import RNNExperts
from rnade_lightning.rnn_rnade import RNNRNADE
from rnade_lightning.sequence_density import SequenceDensity
from rnade_lightning.stored_module import StoredModule


class SequenceModule(StoredModule):
    """Trains a `SequenceDensity` by maximum likelihood.

    A subclass calls ``super().__init__`` and sets ``self.model``. Its own arguments, as far as they
    are plain values, are its hyperparameters without a further call.

    Args:
        lr: learning rate; on the command line it is that of ``--optimizer``.
    """

    def __init__(self, lr: float = 1e-3) -> None:
        super().__init__()
        self.lr = lr
        self._clipped: list[Tensor] = []  # for each step of the epoch, whether it was clipped
        self._train_nll = MeanMetric()  # of the epoch so far, which a checkpoint inside it keeps

    def setup(self, stage: str) -> None:
        """Refuse data of integers, whose log p is a log mass, with a model whose log p is none, and
        the reverse. Recurrent nets in float32 are computed in float32 from here on."""
        full_float32()
        data, model = self._trainer_data(), type(self.model).__name__
        of_data = getattr(data, "log_mass", self.model.log_mass)
        if of_data and not self.model.log_mass:
            raise ValueError(
                f"the frames are integers, and log p of {model} is no log mass of integers: give a "
                "model whose log_mass is true, or another data.kind"
            )
        if self.model.log_mass and not of_data:
            raise ValueError(
                f"log p of {model} is a log mass of integers, and the frames are no integers: give "
                "a data.kind of integers, or another model"
            )

    def forward(
        self, frames: Tensor, mask: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """Return the log density of every frame given its context, ``(B, T)``."""
        return self.model.log_prob(frames, mask, **argument(context))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        nll, n_frames = self._nll(batch, "train")
        if not torch.isfinite(nll):
            added = as_batch(batch).get("log_jacobian")
            if added is not None and added.isneginf().any():
                sequences = getattr(self._trainer_data(), "sequences", None)
                where = sequences("train").first_break() if sequences else f"batch {batch_idx}"
                raise ValueError(
                    f"{where} breaks a relation that held in the data of the checkpoint, so that "
                    "it has density 0 under it: leave such files out, or train a new model"
                )
            valid = as_batch(batch)
            if not valid["frames"][valid["mask"]].isfinite().all():
                raise ValueError(
                    f"frames of batch {batch_idx} hold nan or inf: mend the data, or mask those "
                    "frames"
                )
            raise FloatingPointError(
                f"the loss is {nll.item()} at epoch {self.current_epoch}, batch {batch_idx}; "
                "training stopped before this step, the last checkpoint is good. Lower the "
                "learning rate or raise model.floor"
            )
        # Every device divides by the mean count, so that the averaged gradient is that of the mean
        # over all frames of all devices.
        return nll * n_frames / self._mean_over_devices(n_frames).clamp(min=1)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._nll(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._nll(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int) -> Batch:
        """Return the log density ``(B, T)`` and one-step mean ``(B, T, D)`` (100 draws) of every
        frame."""
        batch = as_batch(batch)
        frames, generator = batch["frames"], torch.Generator(self.device).manual_seed(0)
        context = argument(batch.get("context"))
        log_p = self(frames, batch["mask"], **context)
        if "log_jacobian" in batch:
            log_p = log_p + batch["log_jacobian"]
        if self.model.context_by_feature:  # no mean of a frame is known before its features are
            return {"log_prob": log_p}
        mean = self.model.predictive_mean(frames, n_samples=100, generator=generator, **context)
        return {"log_prob": log_p, "mean": mean}

    def _nll(self, batch: Any, stage: str) -> tuple[Tensor, Tensor]:
        """Log the nats per scored frame of a batch; return them and the number of those frames."""
        batch = as_batch(batch)
        scored = batch.get("scored", batch["mask"]) & batch["mask"]  # padding never counts
        n_frames = scored.sum()
        if "continues" in batch:
            log_p = self._carried(batch, stage)
        else:
            log_p = self(batch["frames"], batch["mask"], **argument(batch.get("context")))
        if "log_jacobian" in batch:
            log_p = log_p + batch["log_jacobian"]
        nll = -log_p.where(scored, log_p.new_zeros(())).sum() / n_frames.clamp(min=1)
        if stage == "train":
            if self._train_nll.dtype != torch.get_default_dtype():
                self._train_nll.set_dtype(torch.get_default_dtype())
            self._train_nll.update(nll.detach(), n_frames)
        self.log(
            f"{stage}/nll",
            self._train_nll if stage == "train" else nll,
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            sync_dist=True,
            # Lightning averages the counts of all devices and rounds down: a multiple stays whole
            batch_size=int(n_frames) * self.trainer.world_size,
        )
        return nll, n_frames

    def _carried(self, batch: Batch, stage: str) -> Tensor:
        """Return the log density of windows whose rows go on from the batch before, ``(B, T)``."""
        u = self.model.initial_state(len(batch["frames"]))
        if stage in self._states:
            u = torch.where(batch["continues"][:, None], self._states[stage].to(u), u)
        given = batch["frames"], batch["mask"], u
        log_p, after = self.model.log_prob_and_state(*given, **argument(batch.get("context")))
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
        """Log the gradient's norm, refuse one that is not finite, and clip."""
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

    def on_train_start(self) -> None:
        for model in self.modules():
            root = model.root if isinstance(model, RecurrentModel) else None
            if root is not None and root.equal(torch.eye(len(root)).to(root)):
                rank_zero_warn(
                    "model.whiten changes nothing without the units that the callback LinearStart "
                    "finds from the training frames, after past frames: add it to "
                    "trainer.callbacks, with model.n_past 1 or more"
                )

    def on_train_epoch_end(self) -> None:
        """Log the share of clipped steps."""
        if self._clipped:
            self.log("grad_norm/clipped", torch.stack(self._clipped).float().mean(), sync_dist=True)
            self._clipped.clear()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the epoch where a checkpoint inside it has left it."""
        super().on_load_checkpoint(checkpoint)
        if so_far := of_this_rank(checkpoint.get("epoch_so_far", [])):
            self._states = so_far["states"]
            self._clipped = [torch.tensor(clipped) for clipped in so_far["clipped"]]
            for name, value in so_far["nll"].items():
                setattr(self._train_nll, name, value)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the epoch has collected so far."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["epoch_so_far"] = of_every_rank({
            "states": self._states,
            "clipped": [bool(clipped) for clipped in self._clipped],
            "nll": dict(self._train_nll.metric_state),
        })  # fmt: skip

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam; the command line replaces it (``--optimizer``, ``--lr_scheduler``)."""
        return torch.optim.Adam(self.parameters(), lr=self.lr)


class RNNRNADEModule(SequenceModule):
    """RNN-RNADE, trained by maximum likelihood.

    Args:
        n_features: D, features of a frame; taken from the data.
        *sizes: n_hidden, n_recurrent and so on, in the order of `RNNRNADE`.
        lr: learning rate.
        pretrain_epochs: first epochs, in which RNADE is trained alone, without the state.
        noise_scale: deviation of the noise that stands for the steps of integer data, in
            standardised units; taken from the data. A smaller floor is raised to it.
        **kwargs: see `RNNRNADE`.
    """

    model: RNNRNADE
    model_class = RNNRNADE

    def __init__(
        self,
        n_features: int,
        *sizes: Any,
        lr: float = 1e-3,
        pretrain_epochs: int = 0,
        noise_scale: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(lr)
        self.pretrain_epochs = pretrain_epochs
        self.model = RNNRNADE(n_features, *sizes, **kwargs)
        if noise_scale and self.model.root is not None:
            raise ValueError(
                "the floor of a model that whitens is in other units than the steps of these data: "
                "leave out model.whiten"
            )
        if noise_scale > self.model.floor:
            self.model.rnade.floor = noise_scale
            self.save_hyperparameters({"floor": noise_scale})

    def on_train_start(self) -> None:
        super().on_train_start()
        self.on_train_epoch_start()  # which Lightning leaves out where it goes on inside an epoch

    def on_train_epoch_start(self) -> None:
        self.model.conditioned_on_state = self.current_epoch >= self.pretrain_epochs

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the state out if the checkpoint is of an epoch without it."""
        super().on_load_checkpoint(checkpoint)
        conditioned = checkpoint.get("conditioned_on_state")
        if type(conditioned) is not bool:
            raise refusal(checkpoint, f"its conditioned_on_state is {conditioned!r}, no bool")
        self.model.conditioned_on_state = conditioned

    def _describe(self, checkpoint: dict[str, Any]) -> None:
        super()._describe(checkpoint)
        checkpoint["conditioned_on_state"] = self.model.conditioned_on_state


class RNNDensityModule(SequenceModule):
    """A rival of RNN-RNADE: the same recurrent net with another density of a frame.

    Args:
        n_features: D, features of a frame; taken from the data.
        density: class of the density of a frame: ``Gaussian`` (independent features),
            ``LowRankGaussian``, ``GaussianMixture`` (RNN-GMM), ``Flow`` (masked autoregressive flow
            by zuko), or the path of a class of your own, made with n_features; with arguments,
            ``{class_path: .., init_args: {..}}``.
        lr: learning rate.
        **kwargs: see `RNNDensity`.
    """

    model_class = RNNDensity

    def __init__(
        self,
        n_features: int,
        density: str | dict[str, Any] = "GaussianMixture",
        *,
        lr: float = 1e-3,
        **kwargs: Any,
    ) -> None:
        super().__init__(lr)
        of_frame = make_density(density, n_features)
        self.model = RNNDensity(of_frame, **kwargs)
        if not isinstance(density, str):  # the path, where a short name was given
            self.save_hyperparameters(
                {"density": density | {"class_path": public_path(type(of_frame))}}
            )


class RNNExpertsModule(SequenceModule):
    """RNN-Experts, trained by maximum likelihood on frames of the kind ``experts``.

    Args:
        n_features: D, samples of a frame; taken from the data.
        lr: learning rate.
        **kwargs: see `RNNExperts`.
    """

    model: RNNExperts
    model_class = RNNExperts

    def __init__(self, n_features: int, *, lr: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(lr)
        self.model = RNNExperts(n_features, **kwargs)


class EnsembleModule(SequenceModule):
    """Trained models as one; ``python -m rnade_lightning combine`` makes its checkpoint.

    Args:
        n_features: D, features of a frame; taken from the data.
        members: for each member, the ``module_class`` and the ``hyper_parameters`` of its
            checkpoint.
        lr: learning rate.
    """

    model: Ensemble

    def __init__(self, n_features: int, members: list[dict[str, Any]], lr: float = 1e-3) -> None:
        super().__init__(lr)
        self.model = Ensemble([_model_of(member) for member in members])


def _model_of(member: Mapping[str, Any]) -> SequenceDensity:
    """Return the model of a member of an ensemble, not trained."""
    kind = locate(member["module_class"], SequenceModule)
    return kind.from_hyperparameters(member["hyper_parameters"]).model


def make_density(density: str | Mapping[str, Any], n_features: int) -> FrameDensity:
    """Return a density of a frame.

    Args:
        density: as in `density_class`, or a mapping with that as ``class_path`` and with arguments
            as ``init_args``.
        n_features: D, features of a frame.

    Raises:
        ValueError: there is no such class, or it does not take these arguments.
    """
    path, given = class_and_arguments(density, "density")
    kind = density_class(path)
    try:
        return kind(n_features, **given)
    except TypeError as error:
        raise ValueError(f"density {path}: {error}") from error


def density_class(name: str) -> type[FrameDensity]:
    """Return a density by the name of a class of `densities`, or any other by its path.

    Raises:
        ValueError: there is none; the message lists those of `densities`.
    """
    if "." in name:
        return locate(name, FrameDensity)  # type: ignore[type-abstract]
    if name not in (own := _own_densities()):
        raise ValueError(
            f"density {name!r} is none of {', '.join(own)}; give one of these, or the path of a "
            "class of your own"
        )
    return own[name]


def _own_densities() -> dict[str, type[FrameDensity]]:
    """Return the classes of `densities`, by name."""
    return {
        name: kind
        for name, kind in vars(densities).items()
        if isinstance(kind, type)
        and issubclass(kind, FrameDensity)
        and kind.__module__ == densities.__name__
        and not inspect.isabstract(kind)
    }
