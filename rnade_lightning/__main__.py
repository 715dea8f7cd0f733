"""The command line: ``python -m rnade_lightning fit | validate | test | predict | sample | score |
gradcheck``."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonargparse
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

import rnade_lightning.callbacks  # noqa: F401  makes short class names resolve
from datamodules import FrameDataModule
from rnade_lightning import commands
from rnade_lightning.callbacks import GradientError
from rnade_lightning.lightning_module import SequenceModule, load_checkpoint

COMMANDS = {c.__name__: c for c in (commands.sample, commands.score, commands.gradcheck)}


class CLI(LightningCLI):
    """Lightning's command line with our defaults; ``fit`` ends in a ``test`` of the best."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments(
            "data",
            "model.init_args.n_features",
            lambda data: data.n_features,
            apply_on="instantiate",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        super().parse_arguments(parser, args)
        ckpt_path = self.config[self.config.subcommand].get("ckpt_path")
        if ckpt_path and ckpt_path not in ("best", "last", "hpc", "registry"):
            load_checkpoint(
                ckpt_path
            )  # says in one line what is wrong with it, before anything runs

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer = super().instantiate_trainer(**kwargs)
        for (
            logger
        ) in trainer.loggers:  # W&B's files go into the run folder, whose name is known now
            if isinstance(logger, WandbLogger) and _on_rank_zero():
                folder = str(trainer.loggers[0].log_dir)
                Path(folder).mkdir(parents=True, exist_ok=True)
                logger._save_dir = logger._wandb_init["dir"] = folder
        return trainer

    def after_fit(self) -> None:
        if self.trainer.interrupted:
            return
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", None)
        self.trainer.test(
            self.model, datamodule=self.datamodule, ckpt_path="best" if best else None
        )
        self._say_where()

    def after_test(self) -> None:
        self._say_where()

    def after_predict(self) -> None:
        self._say_where()

    def _say_where(self) -> None:
        folder = self.trainer.log_dir
        if not self.trainer.is_global_zero or folder is None:
            return
        print(f"\nwritten to {folder}")
        for path in sorted(Path(folder).iterdir()):
            inside = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
            print(f"  {path.name}" + (f"/  {'  '.join(inside[:12])}" if inside else ""))


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command; what is wrong with its input is said in one line, with exit status 1.

    Args:
        args: the command and its options; None for those of the process.
    """
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    for message in (
        ".*does not have many workers.*",
        ".*configure_optimizers. will be overridden.*",
        ".*LightningCLI's args parameter is intended.*",
        ".*Checkpoint directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", message)
    argv = list(sys.argv[1:] if args is None else args)
    try:
        if argv and argv[0] in COMMANDS:
            jsonargparse.auto_cli(COMMANDS[argv[0]], args=argv[1:], as_positional=False)
        else:
            _lightning(argv)
    except (
        ValueError,
        OSError,
        FloatingPointError,
        GradientError,
        MisconfigurationException,
    ) as error:
        if os.environ.get("RNADE_TRACEBACK"):
            raise
        if _on_rank_zero():
            print(f"error: {_one_line(error)}", file=sys.stderr)
        sys.exit(1)


def _lightning(argv: list[str]) -> None:
    defaults = {"default_config_files": [str(files("rnade_lightning.configs") / "base.yaml")]}
    CLI(
        SequenceModule,
        FrameDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={command: defaults for command in CLI.subcommands()}
        | {
            "description": "RNN-RNADE: an exact-likelihood model of audio and motion sequences.",
            "epilog": "After training: sample, score, gradcheck (each with --help).",
        },
        args=argv,
    )


def _on_rank_zero() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    main()
