"""Modules that are made again from what they record: checkpoints and pretrained folders.

Conventions:
    Checkpoints as in `checkpoint_files`, folders as in `pretrained`. Classes are named by their
    public path (see `class_paths`). One from outside this package that is not imported yet needs
    trust: importing a module runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from rnade_lightning import pretrained
from rnade_lightning.checkpoint_files import (
    ARGUMENTS,
    DATA_ARGUMENTS,
    FORMAT,
    Checkpoint,
    check_parts,
    check_weights,
    data_key,
    data_parts,
    load_checkpoint,
    origin_of,
    package_version,
    refusal,
)
from rnade_lightning.class_paths import Trust, UntrustedClass, locate, public_path, trusting
from rnade_lightning.datamodules import FrameDataModule
from rnade_lightning.hyperparameters import arguments_of, plain, remade
from rnade_lightning.sequence_density import SequenceDensity

OF_OPTIMIZER = ("lr",)
"""Arguments that the optimiser's options tell; they may be others where a run goes on."""


class StoredModule(pl.LightningModule):
    """A module that records the arguments it is made with, and is made from them again.

    Its own arguments, as far as they are plain values, are its hyperparameters without a further
    call.
    """

    model: SequenceDensity
    _made_with: dict[str, Any]
    model_class: ClassVar[type | None] = None
    """The class to which ``__init__`` hands its ``**kwargs``, set beside that ``__init__``."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        module = super().__new__(cls)
        module._made_with = arguments_of(cls, args, kwargs, "model_class")
        return module

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters(plain(self._made_with))
        self._states: dict[str, Tensor] = {}  # by stage, where its last batch left the rows (B, S)
        self._data: dict[str, Any] = {"data_class": None}  # see `data_parts`

    # Made again

    @classmethod
    def from_hyperparameters(cls, hyperparameters: Mapping[str, Any]) -> Self:
        """Return a module that is not trained, with the hyperparameters of a checkpoint.

        Raises:
            ValueError: they are not those of the class.
        """
        return remade(cls, hyperparameters, "model_class")

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, trust: Trust = (), strict: bool | None = None, **kwargs: Any
    ) -> Self:
        """Return the trained module in a checkpoint, on the CPU.

        Args:
            checkpoint: see `load_checkpoint`.
            trust: packages, or one, outside this package whose classes the checkpoint may name.
            strict: False takes weights although some are missing or surplus.
            **kwargs: arguments in place of the recorded ones, and those that are no plain values.

        Raises:
            ValueError: the checkpoint does not fit: the line says what differs and what to do.
        """
        kind = cls._kind_in(checkpoint, trust)
        with trusting(trust):
            sizes = _without_memory(kind, checkpoint[ARGUMENTS] | kwargs)
        if sizes is not None:
            check_weights(sizes, checkpoint, strict is not False)
        try:
            with trusting(trust):
                module = kind.from_hyperparameters(checkpoint[ARGUMENTS] | kwargs)
        except UntrustedClass as error:
            raise UntrustedClass(f"{origin_of(checkpoint)}: {error}") from error
        except ValueError as error:
            raise refusal(checkpoint, str(error)) from error
        module.on_load_checkpoint(checkpoint)
        strict = module.strict_loading if strict is None else strict
        check_weights(module, checkpoint, strict)
        if any(weight.dtype == torch.float64 for weight in checkpoint["state_dict"].values()):
            module.double()  # as it was trained; narrower numbers lose nothing in float32
        module.load_state_dict(checkpoint["state_dict"], strict)
        return module

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        *,
        trust: Trust = (),
        **kwargs: Any,
    ) -> Self:
        """Return the trained module in a checkpoint; called on a base class, one of the class that
        was trained.

        Args:
            checkpoint_path: path or open file of the checkpoint, or a folder that
                `save_pretrained` wrote.
            map_location: torch device to put it on; the CPU if not given.
            hparams_file: not taken; a checkpoint holds its arguments.
            strict: False takes weights although some are missing or surplus.
            weights_only: nothing else is ever read.
            trust: packages, or one, outside this package whose classes the checkpoint may name.
            **kwargs: arguments in place of the recorded ones, and those that are no plain values.

        Raises:
            ValueError: the checkpoint does not fit: the line says what differs and what to do.
        """
        if hparams_file is not None or weights_only is False:
            raise ValueError(
                "hparams_file and weights_only=False are not taken: a checkpoint holds its "
                "arguments and nothing but plain values; leave them out"
            )
        checkpoint = load_checkpoint(checkpoint_path)
        return cls.from_checkpoint(checkpoint, trust, strict, **kwargs).to(map_location or "cpu")

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, revision: str | None = None, trust: Trust = (), **kwargs: Any
    ) -> Self:
        """Return the trained module in a folder, or on the Hugging Face Hub, in evaluation mode.

        Args:
            name: folder that `save_pretrained` wrote, or ``owner/name`` of a model on the Hub,
                which needs the extra ``hub``.
            revision: on the Hub: branch, tag or commit.
            trust: packages, or one, outside this package whose classes the folder may name.
            **kwargs: arguments in place of the recorded ones, and those that are no plain values.

        Raises:
            ValueError: there is none, or it does not fit.
        """
        folder = Path(name) if Path(name).exists() else pretrained.fetch(str(name), revision)
        return cls.load_from_checkpoint(folder, trust=trust, **kwargs).eval()

    def save_pretrained(self, folder: str | Path, data: FrameDataModule | None = None) -> None:
        """Write all that scoring and sampling need to a folder, which every command takes for a
        checkpoint.

        Args:
            folder: folder to write; one written before is replaced in one step.
            data: the data module that the model was trained with; if not given, that of the
                trainer, or of the checkpoint that the module was loaded from.

        Raises:
            ValueError: an argument or a statistic cannot be written.
        """
        content: dict[str, Any] = {}
        self._describe(content)
        content |= {ARGUMENTS: plain(self.hparams), "states": {}} | self._data
        if (data := data or self._trainer_data()) is not None:
            path, arguments = public_path(type(data)), plain(data.hparams)
            content |= {"data_class": path, DATA_ARGUMENTS: arguments}
            content[data_key(content)] = data.state_dict()
        pretrained.write(content | {"state_dict": self.state_dict()}, folder)

    @classmethod
    def _kind_in(cls, checkpoint: Checkpoint, trust: Trust) -> type[Self]:
        """The class that a checkpoint names, or this one where it is an heir of that."""
        path = checkpoint["module_class"]
        if _same_class(path, public_path(cls)):
            _locate_all(checkpoint, trust)
            return cls
        kind = module_class(checkpoint, trust)
        if issubclass(kind, cls):
            return kind
        if issubclass(cls, kind):
            return cls
        raise ValueError(
            f"{origin_of(checkpoint)} holds a {path}, not a {public_path(cls)}; load it with the "
            "class that it holds"
        )

    # Lightning's checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what tells how to load the checkpoint: format, classes by their path, features."""
        self._describe(checkpoint)
        data = self._trainer_data()
        checkpoint["data_class"] = None if data is None else public_path(type(data))
        if data is not None:
            checkpoint[DATA_ARGUMENTS] = plain(checkpoint.get(DATA_ARGUMENTS, {}))
            checkpoint.setdefault(data_key(checkpoint), {})
        checkpoint["states"] = self._states

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another kind of data, of another number of features, and, in a
        trainer, of another model."""
        check_parts(checkpoint)
        data, theirs = self._trainer_data(), checkpoint["data_class"]
        if data is not None and theirs and theirs != (ours := public_path(type(data))):
            raise ValueError(
                f"the checkpoint does not fit the data: it was trained on data of {theirs}, not of "
                f"{ours}; give --data {theirs}"
            )
        if checkpoint["n_features"] != self.model.n_features:
            if not self._in_trainer():
                told = f"its n_features is {checkpoint['n_features']}, its model's"
                raise refusal(checkpoint, f"{told} {self.model.n_features}")
            raise ValueError(
                f"the checkpoint does not fit the data: it was trained on "
                f"{checkpoint['n_features']} features a frame, the data have "
                f"{self.model.n_features}; give the data it was trained on"
            )
        if self._in_trainer():
            self._check_model(checkpoint)
            check_weights(self, checkpoint, self.strict_loading)
        self._states = dict(checkpoint["states"])
        self._data = data_parts(checkpoint)

    def _check_model(self, checkpoint: Mapping[str, Any]) -> None:
        """Refuse the checkpoint of another model, though its weights may fit."""
        theirs, ours = checkpoint["module_class"], public_path(type(self))
        remedy = (
            "load the checkpoint's model by load_from_checkpoint, or start a new run from its "
            "weights"
        )
        if not _same_class(theirs, ours):
            raise ValueError(f"the checkpoint is of another model, {theirs}, not {ours}; {remedy}")
        there, here = checkpoint[ARGUMENTS], plain(self.hparams)
        for name in sorted((there.keys() | here.keys()) - {*OF_OPTIMIZER}):
            if (there.get(name), name in there) != (here.get(name), name in here):
                raise ValueError(
                    f"the checkpoint is of another model: its {name} is {there.get(name)!r}, here "
                    f"it is {here.get(name)!r}; {remedy}"
                )

    def _describe(self, checkpoint: dict[str, Any]) -> None:
        """Add which form a checkpoint has, and of which module it is."""
        checkpoint["format"], checkpoint["package_version"] = FORMAT, package_version()
        checkpoint["module_class"] = public_path(type(self))
        checkpoint["n_features"] = self.model.n_features

    def _in_trainer(self) -> bool:
        try:
            return self.trainer.state.fn in list(TrainerFn)
        except RuntimeError:  # Lightning's: there is no trainer
            return False

    def _trainer_data(self) -> FrameDataModule | None:
        """The data module of the trainer; None for plain loaders, and without a trainer."""
        try:
            return self.trainer.datamodule  # type: ignore[attr-defined]
        except RuntimeError:
            return None


def module_class(checkpoint: Checkpoint, trust: Trust = ()) -> type[StoredModule]:
    """Return the class of the module that was trained; all classes that its hyperparameters name
    are imported.

    Raises:
        ValueError: a class is missing, or its package is not trusted.
    """
    _locate_all(checkpoint, trust)
    return located(checkpoint, "module_class", StoredModule, trust)


def located(checkpoint: Checkpoint, key: str, base: type[Any], trust: Trust) -> type[Any]:
    """Return the class that a checkpoint names under a key.

    Raises:
        ValueError: it is missing, of another kind, or its package is not trusted.
    """
    try:
        with trusting(trust):
            return locate(checkpoint[key], base)
    except UntrustedClass as error:
        raise UntrustedClass(f"{origin_of(checkpoint)}: {error}") from error
    except ValueError as error:
        raise refusal(checkpoint, str(error).removesuffix("; check the path")) from error


def _locate_all(checkpoint: Checkpoint, trust: Trust) -> None:
    """Import the classes that the arguments of a module name."""
    named = {path: path for path in _named_classes(checkpoint[ARGUMENTS])}
    for path in named:
        located(Checkpoint({**checkpoint, "": path}, checkpoint.origin), "", object, trust)


def _named_classes(value: Any) -> list[str]:
    """The paths of the classes that a value inside hyperparameters names as ``class_path``."""
    if isinstance(value, list):
        return [path for inner in value for path in _named_classes(inner)]
    if not isinstance(value, dict):
        return []
    own = [path for key, path in value.items() if key == "class_path" and "." in str(path)]
    return own + [path for inner in value.values() for path in _named_classes(inner)]


def _same_class(one: str, other: str) -> bool:
    """Return whether two paths name one class; a running program's module is ``__main__``."""
    if one == other:
        return True
    modules, names = zip(*(path.rpartition(".")[::2] for path in (one, other)), strict=True)
    return "__main__" in modules and names[0] == names[1]


def _without_memory(kind: type[StoredModule], arguments: Mapping[str, Any]) -> StoredModule | None:
    """Return a module of ours whose weights have sizes and no numbers, so that a checkpoint that
    asks for more than it holds takes no memory; None where it cannot be made."""
    if not kind.__module__.startswith(str(__package__)):
        return None
    try:
        with torch.device("meta"):
            return kind.from_hyperparameters(arguments)
    except Exception:  # told where it is made
        return None
