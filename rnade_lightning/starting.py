"""Find what a run starts from: a checkpoint that it goes on from or evaluates, or weights alone.

    --ckpt_path C      fit goes on where C ended, with C's model and data; test, validate and
                       predict evaluate C
    --weights_from C   fit starts a new run from C's weights, on frames scaled as C's were

In both, the model's class and options are those of C. Where a run goes on, an option of the model
that says otherwise is refused, and so is another optimiser than that in the ``config.yaml`` of its
folder; with ``--weights_from`` options are taken in place of C's. A run that
started from weights goes on with ``--ckpt_path`` as any other, whatever its configuration names.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jsonargparse import Namespace
from pytorch_lightning.utilities import rank_zero_only

from rnade_lightning.checkpoint_files import (
    ARGUMENTS,
    Checkpoint,
    check_weights,
    data_key,
    load_checkpoint,
    origin_of,
)
from rnade_lightning.checkpoints import load_model, module_class
from rnade_lightning.class_paths import public_path
from rnade_lightning.datamodules import FrameDataModule
from rnade_lightning.hyperparameters import plain
from rnade_lightning.lightning_module import SequenceModule
from rnade_lightning.run_folders import folder_of
from rnade_lightning.stored_module import OF_OPTIMIZER

OF_OTHERS = ("n_features", "n_context", "context_by_feature", *OF_OPTIMIZER)
"""Arguments of a model that the data at hand and the optimiser tell, not the checkpoint."""
FREE = (
    "ckpt_path", "weights_from", "config", "trust", "code_files", "test_after_fit", "model.",
    "trainer.max_", "trainer.min_", "trainer.logger", "trainer.callbacks", "trainer.enable_",
    "trainer.default_root_dir", "trainer.num_nodes", "trainer.devices", "trainer.log_every",
)  # fmt: skip
"""Options that may be others where a run goes on; those of the model are checked by themselves."""
OF_CHECKPOINT = ("noise_scale",)
"""Arguments that the data tell too, but of a trained model once for all."""


class Start(NamedTuple):
    """The checkpoint that a command starts from.

    Attributes:
        checkpoint: see `load_checkpoint`.
        trust: packages whose classes it may name.
        by_trainer: whether Lightning's trainer loads it, with its state of training.
        model: the model's class and options, as the command line takes them.
        changed: those options that the user gave in place of the checkpoint's.
    """

    checkpoint: Checkpoint
    trust: list[str]
    by_trainer: bool
    model: dict[str, Any]
    changed: list[str]

    @property
    def told(self) -> dict[str, Any]:
        """Arguments of the model that stay the checkpoint's whatever the data tell."""
        arguments = self.checkpoint[ARGUMENTS]
        return {name: arguments[name] for name in OF_CHECKPOINT if name in arguments}

    def scale(self, data: FrameDataModule) -> FrameDataModule:
        """Give a data module the checkpoint's statistics in place of those of its files.

        Raises:
            ValueError: it is of another class than the checkpoint's, or has other features.
        """
        theirs, ours = self.checkpoint["data_class"], public_path(type(data))
        if theirs is None:
            return data
        if theirs != ours:
            raise ValueError(
                f"{origin_of(self.checkpoint)} does not fit the data: it was trained on data of "
                f"{theirs}, not of {ours}; give --data {theirs}"
            )
        data.setup()  # what differs between the files and the checkpoint is said once, not by file
        data.load_state_dict(self.checkpoint[data_key(self.checkpoint)])
        return data

    def load(self, model: SequenceModule) -> None:
        """Give a model the checkpoint's weights, unless the trainer does.

        Raises:
            ValueError: they do not fit it.
        """
        if not self.by_trainer:
            try:
                check_weights(model, self.checkpoint)
            except ValueError as error:
                if not self.changed:
                    raise
                given = " and ".join(f"--model.{name}" for name in self.changed)
                raise ValueError(f"{error}; {given} may be what it does not fit") from None
            model.load_state_dict(self.checkpoint["state_dict"])
            model.on_load_checkpoint(dict(self.checkpoint) | {"states": {}})


def start_of(
    options: Mapping[str, Any], goes_on: bool, trust: Sequence[str], given: Sequence[str]
) -> Start | None:
    """Return what a command starts from; None where it names no checkpoint.

    Args:
        options: the command's: ``ckpt_path``, ``weights_from`` and ``model``.
        goes_on: whether the command trains.
        trust: packages whose classes the checkpoint may name.
        given: paths of the options that the user gave, such as ``model.n_hidden``.

    Raises:
        ValueError: the checkpoint does not fit, or an option contradicts it.
    """
    ckpt_path, weights = options.get("ckpt_path"), options.get("weights_from")
    if not ckpt_path and not weights:
        return None
    if weights and not goes_on:
        raise ValueError(f"--weights_from starts a run of fit; give --ckpt_path {weights}")
    checkpoint = load_checkpoint(ckpt_path or weights)
    kind = module_class(checkpoint, trust)
    load_model(checkpoint, trust)  # all of it is checked before anything is made
    has_state = "optimizer_states" in checkpoint
    if goes_on and ckpt_path and not has_state:
        raise ValueError(
            f"{origin_of(checkpoint)} holds weights and no state of training to go on from; start "
            "a new run from them with --weights_from"
        )
    if goes_on and ckpt_path and (folder := folder_of(str(ckpt_path))):
        _check_training(folder / "config.yaml", options)
    arguments = {k: v for k, v in checkpoint[ARGUMENTS].items() if k not in OF_OTHERS}
    known = {k: v for k, v in arguments.items() if k not in OF_CHECKPOINT}
    chosen = _chosen(options.get("model"), given) if goes_on else {}
    if goes_on:
        _check_class(checkpoint, options.get("model"), public_path(kind), given)
    for name, value in chosen.items():
        if name not in checkpoint[ARGUMENTS]:
            raise ValueError(
                f"--model.{name}: {public_path(kind)}, the model of {origin_of(checkpoint)}, has "
                "no such option; leave it out"
            )
        if ckpt_path and name in known and known[name] != value:
            raise ValueError(
                f"--model.{name} is {value!r}, and {known[name]!r} in {origin_of(checkpoint)}, "
                "which is of another model; leave the option out, or start a new run from its "
                "weights with --weights_from"
            )
    changed = [name for name, value in chosen.items() if known.get(name, value) != value]
    if not ckpt_path:
        known |= {name: value for name, value in chosen.items() if name in known}
    model = {"class_path": public_path(kind), "init_args": known}
    return Start(checkpoint, list(trust), bool(ckpt_path) and has_state, model, changed)


def _chosen(model: Any, given: Sequence[str]) -> dict[str, Any]:
    """The options of the model that the user gave, as plain values."""
    names = {
        path.replace("init_args.", "").split(".")[1]
        for path in given
        if path.startswith("model.") and path != "model.class_path"
    }
    values = dict(model.init_args.as_dict()) if model and model.get("init_args") else {}
    return plain({name: values[name] for name in sorted(names & values.keys())})


def _check_training(config: Path, options: Mapping[str, Any]) -> None:
    """Refuse another optimiser than that of the run that goes on, whose state would take no notice
    of it; say in a line what else is not as it was.

    Args:
        config: the options of the run as they were.
        options: those of this command.

    Raises:
        ValueError: the optimiser or its schedule is another; names the option.
    """
    try:
        before = _flat(yaml.safe_load(config.read_text()))
    except (OSError, ValueError, yaml.YAMLError):  # no longer as it was written: nothing to compare
        return
    now = _flat(plain(options.as_dict() if isinstance(options, Namespace) else options))
    others = []
    for path in sorted(before.keys() & now.keys()):
        if before[path] == now[path] or path.startswith(FREE):
            continue
        if path.startswith(("optimizer.", "lr_scheduler.")):
            name = path.replace("init_args.", "").removesuffix(".class_path")
            raise ValueError(
                f"--{name} is {now[path]!r}, and {before[path]!r} in {config}: a run goes on with"
                f" the state of its optimiser; leave the option out, give --config {config}, or"
                " start a new run with --weights_from"
            )
        others.append(f"{path.replace('init_args.', '')} {now[path]!r} ({before[path]!r})")
    if others and getattr(rank_zero_only, "rank", 0) == 0:
        more = f" and {len(others) - 6} more" if len(others) > 6 else ""
        print(f"other than before: {', '.join(others[:6])}{more}", file=sys.stderr)


def _flat(options: Any, ahead: str = "") -> dict[str, Any]:
    """Return values by the path of their option, such as ``optimizer.init_args.lr``."""
    if not isinstance(options, Mapping):
        return {ahead: options}
    found: dict[str, Any] = {}
    for name, value in options.items():
        found |= _flat(value, f"{ahead}.{name}" if ahead else str(name))
    return found


def _check_class(checkpoint: Checkpoint, model: Any, named: str, given: Sequence[str]) -> None:
    if not {"model", "model.class_path"} & set(given) or not model:
        return
    if model.class_path not in (named, checkpoint["module_class"]):
        raise ValueError(
            f"--model {model.class_path}: {origin_of(checkpoint)} is of another model, {named}; "
            "leave the option out, or train that model anew"
        )
