"""A small trained checkpoint, and what may be wrong with one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from toy import fitted

from rnade_lightning.datamodules import ArrayDataModule
from rnade_lightning.lightning_module import RNNRNADEModule, SequenceModule

Change = Callable[[dict[str, Any]], Any]
NAN = float("nan")


def walks() -> list[Any]:
    return [np.random.default_rng(i).normal(size=(90, 3)).cumsum(0) for i in range(3)]


def trained(folder: Path, module: SequenceModule | None = None) -> Path:
    """Return the path of the checkpoint of a module that was trained for a step on walks."""
    module = module or RNNRNADEModule(3, n_hidden=4, n_recurrent=5, floor=0.3)
    return Path(fitted(module, folder, ArrayDataModule(walks(), window=16)))


def _drop(*keys: str) -> Change:
    def change(c: dict[str, Any]) -> None:
        *above, last = keys
        for key in above:
            c = c[key]
        del c[last]

    return change


def _put(value: Any, *keys: str) -> Change:
    def change(c: dict[str, Any]) -> None:
        *above, last = keys
        for key in above:
            c = c[key]
        c[last] = value(c.get(last)) if callable(value) else value

    return change


MODEL, DATA, STATE = "hyper_parameters", "datamodule_hyper_parameters", "ArrayDataModule"
SCALE = (STATE, "standardiser")
MISFITS: dict[str, tuple[Change, str]] = {
    # what differs, and what the line says of it
    "argument more": (_put(7, MODEL, "n_dreams"), "n_dreams"),
    "argument less (floor)": (_drop(MODEL, "floor"), "lack floor"),
    "argument less (n_hidden)": (_drop(MODEL, "n_hidden"), "n_hidden"),
    "argument of another type": (_put("eight", MODEL, "n_hidden"), "n_hidden .*'eight'.* not int"),
    "argument that fails late": (_put("0.5", MODEL, "dropout"), "dropout .* not float"),
    "argument that asks for memory": (_put(10**12, MODEL, "n_hidden"),
                                      r"W has the size \(3, 4\), not the model's \(3, 10{12}\)"),
    "no such cell": (_put("mamba", MODEL, "cell"), "mamba"),
    "no such class": (_put("rnade_lightning.lightning_module.Dream", "module_class"), "Dream"),
    "no such package": (_put("torch.dreams.Dream", "module_class"), "torch.dreams.Dream"),
    "class of another kind": (_put("torch.nn.Linear", "module_class"), "not a subclass"),
    "weight less": (_drop("state_dict", "model.W_mu"), "lacks the weights model.W_mu"),
    "weight more": (_put(torch.ones(2), "state_dict", "model.dreams"), "model.dreams"),
    "weight resized": (_put(torch.ones(3, 7), "state_dict", "model.W_mu"), r"W_mu .*\(3, 7\)"),
    "weight of text": (_put("nothing", "state_dict", "model.W_mu"), "W_mu is str"),
    "weight of integers": (_put(lambda w: w.long(), "state_dict", "model.W_mu"), "torch.int64"),
    "one nan": (_put(lambda w: w.index_fill(0, torch.tensor(0), NAN), "state_dict", "model.W_mu"),
                r"1 of \d+ weights are not finite.*W_mu"),
    "all nan": (_put(lambda s: {k: w + NAN for k, w in s.items()}, "state_dict"), "not finite"),
    "no arguments": (_drop(MODEL), "no hyper_parameters"),
    "no weights": (_drop("state_dict"), "no state_dict"),
    "no states": (_drop("states"), "no states"),
    "weights of text": (_put("all of them", "state_dict"), "state_dict is of type str"),
    "other number of features": (_put(4, "n_features"), "features"),
    "weight of no plain kind": (_put(lambda w: w.to_sparse(), "state_dict", "model.W_mu"),
                                "W_mu is torch.float32, torch.sparse_coo"),
    "weight of eight bits": (_put(lambda w: w.to(torch.float8_e4m3fn), "state_dict", "model.W_mu"),
                             "W_mu is torch.float8"),
    "weight without numbers": (_put(lambda w: w.to("meta"), "state_dict", "model.W_mu"), "meta"),
    "format of another kind": (_put(True, "format"), "its format is True, not 1"),
    "version of another kind": (_put({}, "package_version"), "package_version is of type dict"),
    "state of another kind": (_put(0, "conditioned_on_state"), "conditioned_on_state is 0"),
    "another format": (_put(99, "format"), "its format is 99, not 1"),
    "no format": (_drop("format"), "earlier version"),
}  # fmt: skip
OF_DATA: dict[str, tuple[Change, str]] = {
    "no such data class": (_put("rnade_lightning.datamodules.Dream", "data_class"), "Dream"),
    "data argument more": (_put(7, DATA, "n_dreams"), "n_dreams"),
    "data argument less": (_drop(DATA, "fps"), "lack fps"),
    "data argument of another type": (_put("many", DATA, "fps"), "fps .* not float"),
    "no data arguments": (_drop(DATA), f"no {DATA}"),
    "no statistics": (_drop(STATE), f"no {STATE}"),
    "nan mean": (_put(lambda m: m + NAN, *SCALE, "mean"), "statistics .* not finite: .*mean"),
    "nan frame rate": (_put(NAN, STATE, "frame_rate"), "not finite: .*frame_rate"),
    "a mean less": (_put(lambda m: m[1:], *SCALE, "mean"), "statistics' mean"),
    "mean of bools": (_put(lambda m: m.bool(), *SCALE, "mean"), "statistics' mean"),
    "mean of a list": (_put([0.0, 0.0, 0.0], *SCALE, "mean"), "statistics' mean"),
    "complex deviation": (_put(lambda s: s + 0j, *SCALE, "std"), "complex"),
    "a feature twice": (_put([0, 0, 1], *SCALE, "kept"), "keep a feature twice"),
    "another basis": (_put(lambda b: 0 * b, *SCALE, "basis"), "basis and offset are not those"),
    "another offset": (_put(lambda o: -o, *SCALE, "offset"), "basis and offset are not those"),
    "a residual more": (_put(lambda r: r[[0, 0, 1, 2]], *SCALE, "residual"), "residual"),
    "frame rate of text": (_put([], STATE, "frame_rate"), "another version"),
    "given of text": (_put({}, STATE, "given"), "another version"),
    "deviation of 0": (_put(lambda m: 0 * m, *SCALE, "std"), "deviation of 0"),
    "statistics less": (_drop(*SCALE, "basis"), "another version"),
    "statistics more": (_put(1, *SCALE, "dreams"), "another version"),
    "no frame rate": (_drop(STATE, "frame_rate"), "frame_rate"),
}  # fmt: skip


def misfits(good: dict[str, Any], which: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Name, changed checkpoint and what is said of each of some misfits."""
    for name, (change, said) in which.items():
        checkpoint = copy.deepcopy(good)
        change(checkpoint)
        yield name, checkpoint, said
