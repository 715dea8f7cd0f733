"""Pretrained models as folders: all that scoring and sampling need, to keep or to share.

    config.json                  arguments of the model, and those, the statistics and the feature
                                 names of its data; names the file of weights and its SHA-256
    weights-<digest>.safetensors the weights

Conventions:
    What is written is what a checkpoint records, whatever that is (see `checkpoint_files`), without
    the state of training. A tensor stands in the JSON as ``{"dtype", "shape", "values"}``; 64-bit
    numbers keep all their digits. ``config.json`` takes its place last and in one step, so that a
    folder that is written anew is whole at every moment. Nothing in a folder is run by reading it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnade_lightning.datamodules.core.store import whole_file

CONFIG = "config.json"
_WEIGHTS = "weights-{}.safetensors"
_OF_TENSORS = {"dtype", "shape", "values"}


def write(checkpoint: Mapping[str, Any], folder: str | Path) -> None:
    """Write a checkpoint, without a state of training, as a folder.

    Args:
        checkpoint: plain values and tensors; the weights under ``state_dict``.
        folder: folder to write; one written before is replaced.

    Raises:
        ValueError: the checkpoint holds other values, which a JSON does not keep.
        OSError: the folder cannot be written.
    """
    from safetensors.torch import save

    folder = Path(folder)
    tensors = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in checkpoint["state_dict"].items()
    }
    weights = save(tensors)
    digest = hashlib.sha256(weights).hexdigest()
    name = _WEIGHTS.format(digest[:12])
    content = {
        key: _encoded(value, key) for key, value in checkpoint.items() if key != "state_dict"
    }
    content |= {"weights": name, "sha256": digest}
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    with whole_file(folder / name) as part:
        part.write_bytes(weights)
    with whole_file(folder / CONFIG) as part:
        part.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    for old in folder.glob(_WEIGHTS.format("*")):
        if old.name != name:
            old.unlink()


def read(folder: Path) -> dict[str, Any]:
    """Return what `write` wrote.

    Raises:
        ValueError: not such a folder, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{folder} is a folder without {CONFIG}; name the .ckpt file in it, or a folder that "
            "save_pretrained wrote"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({_line(error)}); get it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not of a pretrained model; use a folder of save_pretrained")
    name, digest = content.pop("weights", None), content.pop("sha256", None)
    if not isinstance(name, str) or os.path.basename(name) != name or not name:
        raise ValueError(f"{path} names no file of weights beside it; get the folder again")
    try:
        weights = (folder / name).read_bytes()
        if hashlib.sha256(weights).hexdigest() != digest:
            raise ValueError(f"{folder / name} is not the file that {CONFIG} names")
        tensors = load(weights)
        return {key: _decoded(value) for key, value in content.items()} | {"state_dict": tensors}
    except (OSError, ValueError, TypeError, RuntimeError, RecursionError, SafetensorError) as error:
        raise ValueError(
            f"{folder}: the pretrained model is damaged ({_line(error)}); get it again"
        ) from None


def fetch(name: str, revision: str | None = None) -> Path:
    """Return the folder of a pretrained model of the Hugging Face Hub, fetched if need be.

    Args:
        name: ``owner/name`` of the model.
        revision: branch, tag or commit; the newest if not given.

    Raises:
        ValueError: the extra ``hub`` is not installed, or there is no such model to be had.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ValueError(
            f"{name}: no such folder, and to look for it on the Hugging Face Hub the extra hub is "
            "needed; pip install 'rnade-lightning[hub]', or name a folder"
        ) from None
    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=[CONFIG, _WEIGHTS.format("*")]
            )
        )
    except Exception as error:  # of the network, the name, the rights; of many libraries
        raise ValueError(
            f"{name}: no such folder, and the Hugging Face Hub does not give it ({_line(error)}); "
            "check the name and the network"
        ) from None


def _encoded(value: Any, path: str) -> Any:
    """A value as JSON keeps it."""
    if isinstance(value, Tensor):
        numbers = value.detach().cpu()
        dtype = str(numbers.dtype).removeprefix("torch.")
        return {"dtype": dtype, "shape": list(value.shape), "values": numbers.flatten().tolist()}
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise ValueError(f"{path} has the key {wrong[0]!r}; a folder keeps keys that are texts")
        return {key: _encoded(inner, f"{path}.{key}") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(inner, path) for inner in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise ValueError(
        f"{path} holds a {type(value).__name__}; a folder keeps numbers, texts, lists, dicts and "
        "tensors"
    )


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != _OF_TENSORS:
        return {key: _decoded(inner) for key, inner in value.items()}
    dtype = getattr(torch, str(value["dtype"]), None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{value['dtype']!r} is no type of numbers")
    return torch.tensor(value["values"], dtype=dtype).reshape(value["shape"])


def _line(error: BaseException) -> str:
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(said.split())[:200]
