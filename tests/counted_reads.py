"""A data module that notes which files it reads."""

import multiprocessing
import os
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rnade_lightning.datamodules import DataError, FrameDataModule
from rnade_lightning.datamodules.core import store
from rnade_lightning.datamodules.core.frames import Recording

LENGTHS = (100, 146, 82, 120, 76, 194)


class CountingDataModule(FrameDataModule):
    """Tables of numbers; notes which files it reads, in a file, since it may be in any process."""

    extensions = (".txt",)
    beside = (".scale",)
    reader_version = 1

    def __init__(self, root: str | None = None, factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)
        self.factor = factor

    def read(self, path: Path) -> Recording:
        if log := os.environ.get("READS"):
            with open(log, "a") as file:
                file.write(path.name + "\n")
        time.sleep(float(os.environ.get("READ_SECONDS", "0")))
        try:
            frames = self.factor * np.loadtxt(path, ndmin=2)
        except ValueError:
            raise DataError(f"{path}: not a table: repair it") from None
        for scale in sorted(path.parent.glob("*.scale")):
            frames = frames * float(scale.read_text())
        half = len(frames) // 2
        names = [f"x{d}" for d in range(frames.shape[1])]
        return Recording({":a": frames[:half], ":b": frames[half:]}, names, 10.0, {"of": [1, "x"]})

    def write(self, raw: np.ndarray, stem: Path) -> list[Path]:
        raise NotImplementedError


def counted_table(n_frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(2.0, 3.0, size=(n_frames, 3))


def old(path: Path) -> None:
    """Date a file back, so that its times alone tell that it has not changed."""
    os.utime(path, ns=(10**18, 10**18))


def counted(root: Any, world_size: int = 1, rank: int = 0, **kwargs: Any) -> CountingDataModule:
    data = CountingDataModule(str(root), **{"window": 8, "batch_size": 4, **kwargs})
    data.trainer = SimpleNamespace(world_size=world_size, global_rank=rank)  # type: ignore[assignment]
    return data


def reads(folder: Path) -> list[str]:
    """Return the files read since the last call, in order of name."""
    log = folder.parent / "reads"
    names = sorted(log.read_text().split()) if log.exists() else []
    log.unlink(missing_ok=True)
    return names


ALL = [f"{i}.txt" for i in range(len(LENGTHS))]


class Doubled(CountingDataModule):
    """Reads in another way and does not say so: it has no version of its own."""

    scale = 1

    def read(self, path: Path) -> Recording:
        recording = super().read(path)
        return recording._replace(frames={"": self.scale * recording.frames[":a"]})


class Versioned(Doubled):
    reader_version = 1


def first_frame(data: FrameDataModule) -> np.ndarray:
    return np.asarray(data._raw["train"][0][1])[0]


def prepare(
    folder: Path, monkeypatch: pytest.MonkeyPatch, parallel: int, seconds: float
) -> BaseProcess:
    monkeypatch.setattr(store, "_PARALLEL", parallel)
    monkeypatch.setenv("READ_SECONDS", str(seconds))
    process = multiprocessing.get_context("fork").Process(target=counted(folder).prepare_data)
    process.start()
    monkeypatch.setenv("READ_SECONDS", "0")
    return process


def stateful(root: Path, world_size: int = 1, rank: int = 0, **kwargs: Any) -> CountingDataModule:
    return counted(root, world_size, rank, stateful=True, **{"warmup": 3, **kwargs})


class Drawing:
    """Stands in for a standardiser that draws noise, as workers may."""

    def __init__(self, data: FrameDataModule) -> None:
        self.forward = data.standardise

    def __call__(self, raw: Any) -> torch.Tensor:
        return self.forward(raw) + torch.rand(1) + np.random.rand()  # noqa: NPY002
