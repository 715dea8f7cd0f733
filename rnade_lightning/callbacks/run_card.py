"""Write what a run was made of: data, code, environment, and the W&B run it belongs to."""

from __future__ import annotations

import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.loggers import WandbLogger

from rnade_lightning.run_files import going_without, write_text


class RunCard(pl.Callback):
    """Writes ``run.json`` into the run folder before training starts: the card of the data, the
    version and commit of the code, the environment, and the id of the W&B run. W&B's own config
    gets all of it and the options of the command. Checkpoints keep the id, so that a run that is
    resumed goes on in the same W&B run."""

    def __init__(self) -> None:
        self._wandb_id: str | None = None
        self._recorded = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._record(trainer)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._recorded:  # not the test that ends a fit
            self._record(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"wandb_id": self._wandb_id}

    def _record(self, trainer: pl.Trainer) -> None:
        self._recorded = True
        log_dir = trainer.log_dir  # on every rank: it is broadcast
        if not trainer.is_global_zero or log_dir is None:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        card: dict[str, Any] = {
            "data": data.describe(),
            "code": code_version(),
            "environment": environment(),
        }
        options = Path(log_dir, "config.yaml")
        config = {"options": yaml.safe_load(options.read_text())} if options.is_file() else {}
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_hyperparams(card | config)
                self._wandb_id = logger.version
        card["wandb_id"] = self._wandb_id
        with going_without("run.json"):
            text = json.dumps(card, indent=2, default=str)
            write_text(Path(log_dir, "run.json"), text + "\n")


def code_version() -> dict[str, str | None]:
    """Return the package's version, and the commit of the checkout that it runs from, if there is
    one. ``-dirty`` marks changes since that commit."""
    here = Path(__file__)

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(here.parent), *arguments],
                capture_output=True, text=True, timeout=10,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    tracked = git("ls-files", "--error-unmatch", here.name) is not None  # not a venv in a checkout
    commit = git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return {"version": version("rnade-lightning"), "commit": commit if tracked else None}


def environment() -> dict[str, str | int]:
    """Return the versions and the hardware that a result may depend on."""
    found: dict[str, str | int] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
    }
    for package in ("torch", "pytorch-lightning", "numpy", "wandb"):
        found[package] = version(package)
    if torch.cuda.is_available():
        found |= {"gpu": torch.cuda.get_device_name(), "gpus": torch.cuda.device_count()}
    return found
