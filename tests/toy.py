"""Small things that the training tests run on: data that takes no time, a module that draws noise,
a callback that kills the process."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import soundfile
import torch
from PIL import Image
from torch import Tensor

from rnade_lightning.datamodules import FrameDataModule
from rnade_lightning.datamodules.core.frames import Recording
from rnade_lightning.lightning_module import RNNRNADEModule


class ToyDataModule(FrameDataModule):
    """Frames ``(T, D)`` in ``.npy`` files."""

    extensions = (".npy",)

    def read(self, path: Path) -> Recording:
        frames = np.load(path)
        names = [f"x{d}" for d in range(frames.shape[1])]
        return Recording({"": frames}, names, 10.0, {})

    def write(self, raw: Any, stem: Path) -> list[Path]:
        path = stem.with_name(stem.name + ".npy")
        np.save(path, raw)
        return [path]


class PlayedDataModule(ToyDataModule):
    """Every kind of file that a data module may write, small."""

    def write(self, raw: Any, stem: Path) -> list[Path]:
        paths = {
            kind: stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "gif", "wav", "html")
        }
        pictures = [Image.fromarray(np.full((8, 8), 9 * i, np.uint8)) for i in range(5)]
        pictures[0].save(paths["png"])
        pictures[0].save(paths["gif"], save_all=True, append_images=pictures[1:])
        soundfile.write(paths["wav"], np.clip(raw[:, 0], -1, 1), 8000)
        paths["html"].write_text(f'<p>{stem.name} & "{len(raw)} frames"</p>')
        return [*super().write(raw, stem), *paths.values()]


class NoisyModule(RNNRNADEModule):
    """Draws from the global random state in every step, as dropout would."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        noisy = batch | {"frames": batch["frames"] + 0.1 * torch.randn_like(batch["frames"])}
        return super().training_step(noisy, batch_idx)


class KillAt(pl.Callback):
    """Kills the process, as a power cut would, before the given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class SpoilAt(pl.Callback):
    """Makes a parameter infinite before the given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            pl_module.model.rnade.b_mu.data[0] = torch.inf


def write_toy_data(
    folder: Path, lengths: tuple[int, ...] = (90, 61, 47), n_features: int = 3
) -> Path:
    """Files of a noisy oscillation, of unequal lengths."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i, n in enumerate(lengths):
        phase = 0.3 * np.arange(n)[:, None] + np.arange(n_features) + i
        np.save(folder / f"take{i}.npy", np.sin(phase) + 0.1 * rng.standard_normal(phase.shape))
    return folder
