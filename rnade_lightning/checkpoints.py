"""Make models, data modules and ensembles of checkpoints; see `checkpoint_files`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from rnade_lightning.checkpoint_files import (
    ARGUMENTS,
    DATA_ARGUMENTS,
    FORMAT,
    Checkpoint,
    data_key,
    data_parts,
    load_checkpoint,
    origin_of,
    package_version,
    refusal,
)
from rnade_lightning.class_paths import Trust, UntrustedClass, public_path, trusting
from rnade_lightning.datamodules import FrameDataModule
from rnade_lightning.hyperparameters import remade
from rnade_lightning.lightning_module import EnsembleModule, SequenceModule
from rnade_lightning.sequence_density import SequenceDensity
from rnade_lightning.stored_module import located, module_class

__all__ = [
    "Checkpoint", "Trust", "combine_checkpoints", "load_checkpoint", "load_data", "load_model",
    "module_class",
]  # fmt: skip

_ALIKE = 1e-9  # relative difference of numbers that are alike


def load_model(checkpoint: Checkpoint, trust: Trust = ()) -> SequenceDensity:
    """Return the trained model in a checkpoint, in evaluation mode, on the CPU.

    Args:
        checkpoint: see `load_checkpoint`.
        trust: packages, or one, outside this package whose classes the checkpoint may name.

    Raises:
        ValueError: the checkpoint does not fit: the line says what differs and what to do.
    """
    return SequenceModule.from_checkpoint(checkpoint, trust).model.eval()


def load_data(checkpoint: Checkpoint, trust: Trust = ()) -> FrameDataModule:
    """Return the data module that a model was trained with, without its files.

    Args:
        checkpoint: see `load_checkpoint`.
        trust: packages, or one, outside this package whose classes the checkpoint may name.

    Raises:
        ValueError: the model was trained without a data module, or what the checkpoint tells of it
            does not fit: the line says what differs and what to do.
    """
    if checkpoint["data_class"] is None:
        raise ValueError(
            f"{origin_of(checkpoint)} holds no data module: use one saved by a run with data"
        )
    kind = located(checkpoint, "data_class", FrameDataModule, trust)
    arguments = {k: v for k, v in checkpoint[DATA_ARGUMENTS].items() if k[0] != "_"}
    try:
        with trusting(trust):
            data: FrameDataModule = remade(kind, arguments)
        data.load_state_dict(checkpoint[data_key(checkpoint)])
    except UntrustedClass as error:
        raise UntrustedClass(f"{origin_of(checkpoint)}: {error}") from error
    except ValueError as error:
        raise refusal(checkpoint, str(error)) from error
    if data.n_features != checkpoint["n_features"]:
        theirs = checkpoint["n_features"]
        told = f"its data have {data.n_features} features a frame, its model {theirs}"
        raise refusal(checkpoint, told)
    return data


def combine_checkpoints(checkpoints: Sequence[Checkpoint], trust: Trust = ()) -> Checkpoint:
    """Return a checkpoint of the ensemble of models in checkpoints, with the data module of the
    first.

    Args:
        checkpoints: see `load_checkpoint`.
        trust: packages, or one, outside this package whose classes the checkpoints may name.

    Raises:
        ValueError: they were not trained on the same features, scaled alike, or one of them does
            not fit.
    """
    first = checkpoints[0]
    for other in checkpoints[1:]:
        if not all(_equal(of(first), of(other)) for of in (_data_state, lambda c: c["data_class"])):
            raise ValueError(
                f"{origin_of(first)} and {origin_of(other)} were not trained on the same data; "
                "combine such that were"
            )
    members = [
        {"module_class": c["module_class"], ARGUMENTS: dict(c[ARGUMENTS])} for c in checkpoints
    ]
    models = [load_model(checkpoint, trust) for checkpoint in checkpoints]
    with trusting(trust):
        together = EnsembleModule(first["n_features"], members)
    for member, model in zip(together.model.members, models, strict=True):
        member.load_state_dict(model.state_dict())
    of_training = ("current_model_state", "averaging_state")  # of one member, by `AveragedWeights`
    of_lightning = {"pytorch-lightning_version": pl.__version__, "epoch": 0, "global_step": 0}
    kept = {key: value for key, value in first.items() if key not in of_training}
    content = (
        of_lightning
        | kept
        | {
            "format": FORMAT,
            "package_version": package_version(),
            "module_class": public_path(EnsembleModule),
            ARGUMENTS: dict(together.hparams),
            "state_dict": together.state_dict(),
            "states": {},
            "callbacks": {},
            "optimizer_states": [],
            "lr_schedulers": [],
        }
    )
    return Checkpoint(content | data_parts(first), "of the ensemble")


def _data_state(checkpoint: Checkpoint) -> Any:
    """Return the state of the data module; None where there was none."""
    return None if checkpoint["data_class"] is None else checkpoint[data_key(checkpoint)]


def _equal(one: Any, other: Any) -> bool:
    """Return whether two states of data are alike but for rounding, which may differ from process
    to process."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if not (one.is_floating_point() and one.dtype == other.dtype and one.shape == other.shape):
            return torch.equal(one, other)
        size = float(one.abs().nan_to_num(0.0, 0.0, 0.0).max()) if one.numel() else 0.0
        return torch.allclose(one, other, _ALIKE, _ALIKE * size, equal_nan=True)
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_ALIKE, abs_tol=1e-3 * _ALIKE)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
