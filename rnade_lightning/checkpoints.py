"""Load checkpoints, without training.

Conventions:
    A checkpoint is the dict that Lightning saves, in plain values and tensors, and beside that

        module_class    path of the `SequenceModule` that was trained
        data_class      path of the data module, None for plain loaders
        n_features      D
        states          where the last batches left the recurrent states

    The state of the data module stands under the short name of its class, as Lightning has it.
    Classes are named by their public path (see `class_paths`). One from outside this package that
    is not imported yet needs trust: importing a module runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rnade_lightning.class_paths import locate, public_path, trusting
from rnade_lightning.datamodules import FrameDataModule
from rnade_lightning.density import SequenceDensity
from rnade_lightning.hyperparameters import accepted
from rnade_lightning.lightning_module import EnsembleModule, SequenceModule

Checkpoint = dict[str, Any]
Trust = Sequence[str] | str
"""Packages, or one, outside this package whose classes a checkpoint may name."""


def load_checkpoint(path: str) -> Checkpoint:
    """Return a Lightning checkpoint as a dict of plain values and tensors, on the CPU.

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
    if "data_class" not in checkpoint:
        raise ValueError(
            f"{path} was written by an earlier version of this package, which this one does not "
            "read; train the model again"
        )
    return checkpoint


def module_class(checkpoint: Checkpoint, trust: Trust = ()) -> type[SequenceModule]:
    """Return the class of the module that was trained, and import all classes that its
    hyperparameters name.

    Raises:
        ValueError: a class is missing, or its package is not trusted.
    """
    with trusting(trust):
        for path in _named_classes(hyperparameters(checkpoint)):
            locate(path, object)
        return locate(checkpoint["module_class"], SequenceModule)


def hyperparameters(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the arguments that the module in a checkpoint was made with."""
    return dict(checkpoint.get(SequenceModule.CHECKPOINT_HYPER_PARAMS_KEY, {}))


def load_model(checkpoint: Checkpoint, trust: Trust = ()) -> SequenceDensity:
    """Return the trained model in a checkpoint, in evaluation mode, on the CPU.

    Args:
        checkpoint: see `load_checkpoint`.
        trust: packages, or one, outside this package whose classes the checkpoint may name.

    Raises:
        ValueError: a class that the checkpoint names is missing, or its package is not trusted.
    """
    kind = module_class(checkpoint, trust)
    with trusting(trust):
        module = kind.from_hyperparameters(hyperparameters(checkpoint))
    module.load_state_dict(checkpoint["state_dict"])
    return module.model.eval()


def load_data(checkpoint: Checkpoint, trust: Trust = ()) -> FrameDataModule:
    """Return the data module that a model was trained with, without its files.

    Args:
        checkpoint: see `load_checkpoint`.
        trust: packages, or one, outside this package whose classes the checkpoint may name.

    Raises:
        ValueError: the model was trained without a data module, its class is missing, or the
            package of that is not trusted.
    """
    path = checkpoint["data_class"]
    if path is None:
        raise ValueError("the checkpoint holds no data module: use one saved by a run with data")
    with trusting(trust):
        kind = locate(path, FrameDataModule)  # type: ignore[type-abstract]
        given = checkpoint.get(FrameDataModule.CHECKPOINT_HYPER_PARAMS_KEY, {})
        try:
            data = kind(**accepted(kind, {k: v for k, v in given.items() if k[0] != "_"}))
        except TypeError as error:
            raise ValueError(f"{path} cannot be made from the checkpoint: {error}") from error
    data.load_state_dict(_data_state(checkpoint))
    return data


def combine_checkpoints(checkpoints: Sequence[Checkpoint], trust: Trust = ()) -> Checkpoint:
    """Return a checkpoint of the ensemble of models in checkpoints, with the data module of the
    first.

    Args:
        checkpoints: see `load_checkpoint`.
        trust: packages, or one, outside this package whose classes the checkpoints may name.

    Raises:
        ValueError: they were not trained on the same features, scaled alike, or a class that they
            name is missing or not trusted.
    """
    first = checkpoints[0]
    for other in checkpoints[1:]:
        if not all(_equal(of(first), of(other)) for of in (_data_state, lambda c: c["data_class"])):
            raise ValueError(
                "the checkpoints were trained on different data; combine models of the same data"
            )
    members = [
        {"module_class": c["module_class"], "hyper_parameters": hyperparameters(c)}
        for c in checkpoints
    ]
    models = [load_model(checkpoint, trust) for checkpoint in checkpoints]
    with trusting(trust):
        together = EnsembleModule(first["n_features"], members)
    for member, model in zip(together.model.members, models, strict=True):
        member.load_state_dict(model.state_dict())
    of_training = ("current_model_state", "averaging_state")  # of one member, by `AveragedWeights`
    return {key: value for key, value in first.items() if key not in of_training} | {
        "module_class": public_path(EnsembleModule),
        "hyper_parameters": dict(together.hparams),
        "state_dict": together.state_dict(),
        "states": {},
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
    }


def _data_state(checkpoint: Checkpoint) -> Any:
    """Return the state of the data module; None where there was none."""
    path = checkpoint["data_class"]
    return None if path is None else checkpoint.get(path.rpartition(".")[2])


def _named_classes(value: Any) -> list[str]:
    """Return the paths of the classes that a value inside hyperparameters names as
    ``class_path``."""
    if isinstance(value, list):
        return [path for inner in value for path in _named_classes(inner)]
    if not isinstance(value, dict):
        return []
    own = [path for key, path in value.items() if key == "class_path" and "." in str(path)]
    return own + [path for inner in value.values() for path in _named_classes(inner)]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return bool(one == other)
