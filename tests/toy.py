"""Small things that the tests of runs share: data that takes no time, a module that draws noise, a
callback that kills the process, options of a small run, and what to read from its folder."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import soundfile
import torch
from PIL import Image
from torch import Tensor

from rnade_lightning.__main__ import main
from rnade_lightning.datamodules import FrameDataModule, Recording
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


class DeclaringDataModule(ToyDataModule):
    """Declares all that data may declare of themselves."""

    @property
    def caveats(self) -> list[str]:
        return ["half of the frames are made up"]

    def bits_per_sample(self, log_prob: float) -> float | None:
        return -2 * log_prob

    def references(self, known: Any, test: Any) -> dict[str, list[Tensor]]:
        return {"a flat guess": [torch.full((len(x.frames),), -7.0) for x in test]}

    def process(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        zeros = torch.zeros(len(frames), dtype=torch.float64)
        return zeros, torch.zeros_like(frames), torch.ones_like(frames)

    def metrics(self, frames: Any) -> dict[str, float]:
        return {"loudness": 1.0, "loudness_of_data": 2.0}


class NoisyModule(RNNRNADEModule):
    """Draws from the global random state in every step, as dropout would."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        noisy = batch | {"frames": batch["frames"] + 0.1 * torch.randn_like(batch["frames"])}
        return super().training_step(noisy, batch_idx)


class KillAt(pl.Callback):
    """Kills the process of a rank, as a power cut would, before the given step."""

    def __init__(self, step: int, rank: int = 0) -> None:
        self.step, self.rank = step, rank

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            os.kill(os.getpid(), signal.SIGKILL)


class CutAt(pl.Callback):
    """Ends training by an error before the given step, as suddenly as a kill, in this process."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise ValueError("cut")


class SlowAt(pl.Callback):
    """Takes very long, it says, for the given step: time limits are over after it."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step + 1:
            for callback in trainer.callbacks:
                if isinstance(callback, pl.callbacks.Timer):
                    callback.load_state_dict({"time_elapsed": {"train": 1e6}})


class SpoilAt(pl.Callback):
    """Makes a parameter infinite before the given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            pl_module.model.rnade.b_mu.data[0] = torch.inf


def fitted(module: pl.LightningModule, folder: Path, data: Any) -> str:
    """Return the path of a checkpoint of a module that was trained for a step."""
    trainer = pl.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, data)
    return str(trainer.checkpoint_callback.best_model_path)  # type: ignore[union-attr]


def write_toy_data(
    folder: Path, lengths: tuple[int, ...] = (90, 61, 47), n_features: int = 3
) -> Path:
    """Return files of a noisy oscillation, of unequal lengths."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i, n in enumerate(lengths):
        phase = 0.3 * np.arange(n)[:, None] + np.arange(n_features) + i
        np.save(folder / f"take{i}.npy", np.sin(phase) + 0.1 * rng.standard_normal(phase.shape))
    return folder


SMALL = (
    "--model.n_hidden=4",
    "--model.n_recurrent=5",
    "--data=toy.ToyDataModule",
    "--data.window=16",
    "--data.batch_size=3",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
)


def options(root: Path, runs: Path, *more: str) -> list[str]:
    logger = ("--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={runs}")
    return [*SMALL, f"--data.root={root}", *logger, "--trainer.logger.name=toy", *more]


def process(*args: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"}  # it has its own
    environment = inherited | {"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[1]}"}
    done = subprocess.run(
        [sys.executable, "-m", "rnade_lightning", *args],
        capture_output=True, text=True, env=environment, timeout=900,
    )  # fmt: skip
    assert not ok or done.returncode == 0, done.stderr
    return done


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """Return the one line that a refused command prints."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        main(list(args))
    assert error.value.code not in (0, None)
    lines = capsys.readouterr().err.strip().splitlines()
    said = [line for line in lines if line.startswith("error: ")]
    assert len(said) == 1, lines
    assert not any("Traceback" in line for line in lines)
    return said[0]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def read_metrics(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv") as file:
        return list(csv.DictReader(file))


def value(folder: Path, key: str) -> float:
    return float([row[key] for row in read_metrics(folder) if row.get(key)][-1])


def column(folder: Path, key: str) -> dict[int, float]:
    """Return values of a key by step."""
    return {int(r["step"]): float(r[key]) for r in read_metrics(folder) if r.get(key)}
