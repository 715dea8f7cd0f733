"""A data module of small tables."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from rnade_lightning.class_paths import public_path
from rnade_lightning.datamodules import FrameDataModule
from rnade_lightning.datamodules.core.frames import Recording

NAMES = ["a", "still", "b", "sum", "c"]


class TableDataModule(FrameDataModule):
    """Text tables of five features: ``still`` never changes, ``sum`` is a - 2 b + 3."""

    extensions = (".txt",)

    def read(self, path: Path) -> Recording:
        return Recording({"": np.loadtxt(path)}, NAMES, 10.0, {"title": "table"})

    def write(self, raw: np.ndarray, stem: Path) -> list[Path]:
        np.savetxt(stem.with_suffix(".txt"), raw, fmt="%.17g")
        return [stem.with_suffix(".txt")]


def table(n_frames: int, seed: int) -> np.ndarray:
    a, b, c = np.random.default_rng(seed).normal(2.0, 3.0, size=(3, n_frames))
    return np.stack([a, np.full(n_frames, 7.0), b, a - 2 * b + 3, c], axis=-1)


def module(root: Path, world_size: int = 1, rank: int = 0, **kwargs: Any) -> TableDataModule:
    data = TableDataModule(str(root), **{"window": 8, "batch_size": 4, **kwargs})
    state = SimpleNamespace(fn=None)  # nothing is run
    data.trainer = SimpleNamespace(world_size=world_size, global_rank=rank, state=state)  # type: ignore[assignment]
    return data


def frames_of(loader: Any, which: str = "mask") -> list[tuple[float, ...]]:
    """Return every frame a loader delivers where ``which`` is true."""
    return [tuple(x) for batch in loader for x in batch["frames"][batch[which]].tolist()]


def saved(data: FrameDataModule, path: Path) -> dict[str, Any]:
    """Return the content of a data module's checkpoint, after a trip over the disk."""
    checkpoint = {
        "datamodule_hyper_parameters": {**data.hparams, "_class_path": "ignored"},
        type(data).__qualname__: data.state_dict(),
        "data_class": public_path(type(data)),
        "n_features": data.n_features,
    }
    torch.save(checkpoint, path / "data.ckpt")
    return dict(torch.load(path / "data.ckpt", weights_only=True))


class Recorder(pl.LightningModule):
    """Learns nothing and notes the frames it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[float] = []

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        self.seen.append(batch["frames"].double().abs().sum().item())
        return self.weight.sum()

    def predict_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        return batch["frames"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, **kwargs: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(
        accelerator="cpu", use_distributed_sampler=False, default_root_dir=folder, **quiet, **kwargs
    )
