"""Count the project's files whose functions run on two ways through it.

    python tests/files_on_the_way.py        both ways, file by file

From a BVH file to an optimiser step: the data are read and standardised, a model is made and
trained for one step. From a checkpoint to a WAV: it is loaded, sampled from, and the frames are
written. Imports do not count, nor what a file only declares.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from rnade_lightning.checkpoints import load_checkpoint, load_data, load_model
from rnade_lightning.datamodules import AudioDataModule, MocapDataModule
from rnade_lightning.kernels import cpu, recurrent, sampler
from rnade_lightning.lightning_module import RNNRNADEModule

ROOT = Path(cpu.__file__).resolve().parents[1]
COMPILED = (cpu, recurrent, sampler)  # imported before: the first use imports them


@contextmanager
def files_that_run(found: dict[str, set[str]]) -> Iterator[None]:
    """Collect the functions that are called, by file."""

    def called(frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and (file := _own_file(code.co_filename)) and _is_function(frame):
            found.setdefault(file, set()).add(code.co_name)

    threading.setprofile(called)
    sys.setprofile(called)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


@cache
def _own_file(name: str) -> str | None:
    """Return the path of a file of the project from its top, None for the file of another."""
    path = Path(name).resolve()
    own = ROOT in path.parents or ROOT.parent / "datamodules" in path.parents
    return path.relative_to(ROOT.parent).as_posix() if own else None


def _is_function(frame: Any) -> bool:
    """Return whether code is a function, not the body of a class or a file, which import runs."""
    optimised = frame.f_code.co_flags & inspect.CO_OPTIMIZED
    return frame.f_code.co_name != "<module>" and bool(optimised)


def trainer(folder: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, use_distributed_sampler=False,
        default_root_dir=folder, **options,
    )  # fmt: skip


def bvh_to_step(folder: Path, counted: AbstractContextManager[None]) -> None:
    """Go from a BVH file that was not read before to a step of the optimiser."""
    assert MocapDataModule.shipped is not None
    file = str(MocapDataModule.shipped / "16_32.bvh.gz")
    with counted:
        data = MocapDataModule(file, cache_dir=str(folder / "cache"), window=16)
        module = RNNRNADEModule(data.n_features)
        trainer(folder, enable_checkpointing=False).fit(module, datamodule=data)


def checkpoint_to_wav(folder: Path, counted: AbstractContextManager[None]) -> None:
    """Go from a checkpoint to sound that was drawn from it."""
    sound = AudioDataModule(cache_dir=str(folder / "cache"))
    run = trainer(folder)
    run.fit(RNNRNADEModule(sound.n_features, 8, 8, 2), datamodule=sound)
    run.save_checkpoint(folder / "a.ckpt")
    with counted:
        checkpoint = load_checkpoint(str(folder / "a.ckpt"))
        model, data = load_model(checkpoint), load_data(checkpoint)
        data.render(model.sample(20)[0, 0], folder / "sound")


WAYS: dict[str, Callable[[Path, AbstractContextManager[None]], None]] = {
    "from a BVH file to an optimiser step": bvh_to_step,
    "from a checkpoint to a WAV": checkpoint_to_wav,
}


def files_of(way: str) -> dict[str, set[str]]:
    """Return the files on a way, and their functions that run."""
    found: dict[str, set[str]] = {}
    # The first time compiles, which is slow where calls are counted.
    for counted in (nullcontext(), files_that_run(found)):
        with tempfile.TemporaryDirectory() as folder:
            WAYS[way](Path(folder), counted)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    for way in WAYS:
        found = files_of(way)
        print(f"{way}: {len(found)} files")
        for path, functions in sorted(found.items()):
            print(f"  {path}: {', '.join(sorted(functions))}")
