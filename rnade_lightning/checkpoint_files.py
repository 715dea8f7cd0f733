"""Checkpoints as files: what is in one, read and checked before anything is made of it.

Conventions:
    A checkpoint is the dict that Lightning saves, in plain values and tensors, and beside that

        format           number of the form described here
        package_version  version of this package that wrote it
        module_class     path of the module that was trained
        data_class       path of the data module, None for plain loaders
        n_features       D
        states           where the last batches left the recurrent states

    The state of the data module stands under the short name of its class, as Lightning has it. A
    folder that `save_pretrained` wrote is read as the same dict, without a state of training.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from rnade_lightning import pretrained
from rnade_lightning.messages import listed

FORMAT = 1
"""Of checkpoints; raised with every change of what is in one."""

ARGUMENTS = pl.LightningModule.CHECKPOINT_HYPER_PARAMS_KEY
"""Where the arguments of the module stand."""
DATA_ARGUMENTS = pl.LightningDataModule.CHECKPOINT_HYPER_PARAMS_KEY
"""Where the arguments of the data module stand."""

_PARTS: dict[str, tuple[type, ...]] = {
    "package_version": (str,),
    "module_class": (str,),
    "data_class": (str, type(None)),
    "n_features": (int,),
    ARGUMENTS: (dict,),
    "state_dict": (dict,),
    "states": (dict,),
}
_DTYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool}
_DTYPES |= {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
_GLOBAL = re.compile(r"GLOBAL (\S+)")


class Checkpoint(dict[str, Any]):
    """The content of a checkpoint.

    Args:
        content: the dict that was saved.
        origin: where it was read, for messages.
    """

    def __init__(self, content: Mapping[str, Any], origin: str) -> None:
        super().__init__(content)
        self.origin = origin


def package_version() -> str:
    """Return the version of this package, "unknown" where it is not installed."""
    try:
        return version("rnade-lightning")
    except PackageNotFoundError:
        return "unknown"


def load_checkpoint(path: Any) -> Checkpoint:
    """Return a checkpoint as a dict of plain values and tensors, on the CPU.

    Nothing in the file is run: only plain values and tensors are read.

    Args:
        path: file that Lightning saved, open file, or folder that `save_pretrained` wrote.

    Raises:
        ValueError: one line that says why this is no checkpoint of this package, or what it lacks.
    """
    origin = "the open file" if isinstance(path, io.IOBase) else str(path)
    if not isinstance(path, io.IOBase) and Path(path).is_dir():
        content = pretrained.read(Path(path))
    else:
        content = _load_file(path, origin)
    if not isinstance(content, dict) or "module_class" not in content:
        raise ValueError(f"{origin} is not a checkpoint of this package; use one that fit wrote")
    checkpoint = Checkpoint(content, origin)
    check_parts(checkpoint)
    return checkpoint


def check_parts(checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another format, without one of its parts, or with statistics of its
    data that are not finite.

    Raises:
        ValueError: says which.
    """
    if checkpoint.get("format") is None:
        raise ValueError(
            f"{origin_of(checkpoint)} was written by an earlier version of this package, which "
            "this one does not read; train the model again"
        )
    if type(checkpoint["format"]) is not int or checkpoint["format"] != FORMAT:
        raise refusal(checkpoint, f"its format is {checkpoint['format']!r}, not {FORMAT}")
    for part, kinds in _PARTS.items():
        if part not in checkpoint:
            raise refusal(checkpoint, f"it has no {part}")
        if not isinstance(checkpoint[part], kinds):
            raise refusal(checkpoint, f"its {part} is of type {type(checkpoint[part]).__name__}")
    if checkpoint["data_class"] is None:
        return
    name = data_key(checkpoint)
    for part in (DATA_ARGUMENTS, name):
        if not isinstance(checkpoint.get(part), dict):
            raise refusal(checkpoint, f"it has no {part}, which tells of its data")
    for path, numbers in _numbers(checkpoint[name], name):
        if isinstance(numbers, Tensor) and not _plain(numbers):
            raise refusal(checkpoint, f"{path} is {_told(numbers)}, no plain tensor of numbers")
        if not torch.as_tensor(numbers).isfinite().all():
            raise refusal(
                checkpoint, f"the statistics of its data are not finite: {path} holds nan or inf"
            )


def check_weights(
    module: nn.Module, checkpoint: Mapping[str, Any], strict: bool | None = True
) -> None:
    """Refuse weights that are not those of a module: missing, surplus, of another size, not finite.

    Args:
        module: a module made with the checkpoint's arguments.
        checkpoint: see `load_checkpoint`.
        strict: whether none may be missing and none surplus.

    Raises:
        ValueError: names them.
    """
    ours, theirs = module.state_dict(), checkpoint["state_dict"]
    missing = [name for name in ours if name not in theirs] if strict else []
    surplus = [str(name) for name in theirs if name not in ours] if strict else []
    if missing or surplus:
        told = f"it lacks the weights {listed(missing)}" if missing else ""
        told += " and " if missing and surplus else ""
        told += f"it has weights that the model does not: {listed(surplus)}" if surplus else ""
        raise refusal(checkpoint, told)
    spoilt = []
    for name in ours.keys() & theirs.keys() if not strict else ours:
        own, found = ours[name], theirs[name]
        plain = isinstance(found, Tensor) and _plain(found)
        if not plain or found.is_floating_point() != own.is_floating_point():
            raise refusal(checkpoint, f"its weight {name} is {_told(found)}, not {own.dtype}")
        if found.shape != own.shape:
            sizes = f"size {tuple(found.shape)}, not the model's {tuple(own.shape)}"
            raise refusal(checkpoint, f"its weight {name} has the {sizes}")
        if not found.isfinite().all() and (own.is_meta or own.isfinite().all()):
            spoilt.append(name)
    if spoilt:
        raise ValueError(
            f"{origin_of(checkpoint)}: {len(spoilt)} of {len(ours)} weights are not finite (nan or "
            f"inf), the first is {spoilt[0]}; the run that wrote it diverged or the file was "
            "changed: use an earlier checkpoint"
        )


def refusal(checkpoint: Mapping[str, Any], what: str) -> ValueError:
    """Return the error that a checkpoint does not fit, in one line with the remedy.

    Args:
        checkpoint: see `load_checkpoint`.
        what: what does not fit.
    """
    theirs, ours = checkpoint.get("package_version"), package_version()
    remedy = "use a checkpoint as fit wrote it, or train the model again"
    if theirs != ours:
        remedy = (
            f"version {theirs} of this package wrote it, this is {ours}: install that version, or "
            "train the model again"
        )
    return ValueError(f"{origin_of(checkpoint)} does not fit: {what}; {remedy}")


def origin_of(checkpoint: Mapping[str, Any]) -> str:
    """Return where a checkpoint was read, for messages."""
    origin = getattr(checkpoint, "origin", None)
    return "the checkpoint" if origin is None else f"checkpoint {origin}"


def data_key(checkpoint: Mapping[str, Any]) -> str:
    """Return the key of the state of the data module; there must have been one."""
    return str(checkpoint["data_class"]).rpartition(".")[2]


def data_parts(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint tells of its data."""
    if checkpoint["data_class"] is None:
        return {"data_class": None}
    names = ("data_class", DATA_ARGUMENTS, data_key(checkpoint))
    return {name: checkpoint[name] for name in names}


def _load_file(path: Any, origin: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        beside = ", ".join(sorted(p.name for p in Path(origin).parent.glob("*.ckpt")))
        there = f"; beside it there is {beside}" if beside else ""
        raise ValueError(f"{origin}: no such checkpoint{there}") from None
    except OSError as error:
        raise ValueError(
            f"{origin}: the checkpoint cannot be read ({error.strerror or error}); use another"
        ) from None
    except Exception as error:  # torch raises many kinds for a damaged file
        said = str(error)
        if found := _GLOBAL.search(said):
            reason = f"it holds {found[1]}, and only plain values and tensors are read"
        elif "Weights only load failed" in said:
            reason = "it holds more than plain values and tensors, or is damaged"
        else:
            reason = (said.splitlines() or ["it is empty or cut"])[0][:200]
        raise ValueError(f"{origin} is not a readable checkpoint ({reason}); use another") from None


def _plain(t: Tensor) -> bool:
    """Return whether a tensor holds numbers that can be read one by one."""
    strided = t.layout is torch.strided and not t.is_meta and not t.is_nested
    return strided and not t.is_quantized and t.dtype in _DTYPES


def _told(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    kind = "" if value.layout is torch.strided else f", {value.layout}"
    kind += ", on the device meta" if value.is_meta else ""
    return f"{value.dtype}{kind}{', nested' if value.is_nested else ''}"


def _numbers(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All floating tensors and floats in nested dicts, by path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{path}.{key}")
    elif isinstance(value, float | Tensor):
        yield path, value
