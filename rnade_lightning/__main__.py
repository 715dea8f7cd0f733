"""The command line: ``python -m rnade_lightning fit | validate | test | predict | prepare |
sample | score | combine | export | compress | decompress | gradcheck``."""

from __future__ import annotations

import json
import operator
import os
import signal
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse
import pytorch_lightning as pl
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.plugins import CheckpointIO
from pytorch_lightning.plugins.environments import ClusterEnvironment, SLURMEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_warn

import rnade_lightning.callbacks  # noqa: F401  makes short class names resolve
from rnade_lightning.callbacks import CodedFiles, EpochLines, LastCheckpoint, TimeLimit
from rnade_lightning.callbacks.gradient_check import GradientError
from rnade_lightning.class_paths import Trust, trusting
from rnade_lightning.command_parser import (
    PACKAGE,
    Parser,
    given,
    names_data,
    on_rank_zero,
    refuse,
    switched_on,
    with_files,
)
from rnade_lightning.datamodules import DataError, FrameDataModule
from rnade_lightning.front_page import SHELLS, answered, program
from rnade_lightning.functions import FUNCTIONS, call
from rnade_lightning.help_pages import FROM_DATA, explained
from rnade_lightning.hyperparameters import accepted
from rnade_lightning.lightning_module import SequenceModule
from rnade_lightning.messages import cause, given_paths, listed, near, quiet, said_of
from rnade_lightning.ranks import GRACE
from rnade_lightning.reader import to_a_reader
from rnade_lightning.run_files import WholeCheckpoints
from rnade_lightning.run_folders import good_beside, slurm_job
from rnade_lightning.runs import (
    Run,
    SaveConfig,
    WatchedRanks,
    as_typed,
    current,
    lost_process,
    requeue,
    wandb_cannot_write,
)
from rnade_lightning.signals import Interrupted, watch
from rnade_lightning.starting import Start, start_of
from rnade_lightning.stored_module import OF_OPTIMIZER

DEFAULT_EXPERIMENT = "motion.yaml"
"""What is run where no data are named."""


class Trainer(pl.Trainer):
    """The trainer of Lightning, with one command more."""

    def prepare(self, model: pl.LightningModule, datamodule: FrameDataModule) -> None:
        """Read all files into the frame store, and print a card of the data.

        Args:
            model: not used.
            datamodule: the data to prepare.
        """
        datamodule.prepare_data()
        if self.is_global_zero:
            print(json.dumps(datamodule.describe(), indent=2))


class CLI(LightningCLI):
    """Lightning's command line with our defaults; ``fit`` ends with a ``test`` of the best."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for name in FROM_DATA:
            parser.link_arguments(
                "data", f"model.init_args.{name}", operator.attrgetter(name), apply_on="instantiate"
            )
        parser.add_instantiator(self._make_model, SequenceModule)
        parser.add_instantiator(self._make_data, FrameDataModule)
        parser.add_argument(
            "--test_after_fit", type=bool, default=True, help="test the best weights after fit"
        )
        parser.add_argument(
            "--weights_from", type=str | None, default=None,
            help="checkpoint, or folder of save_pretrained, from whose weights fit starts anew",
        )  # fmt: skip
        parser.add_argument(
            "--code_files", type=int, default=0, help="test sounds to code for real after test"
        )
        parser.add_argument(
            "--trust", type=Trust, default=[], help="packages whose classes a checkpoint may name"
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse arguments; take the model's class and options from a checkpoint that they name."""
        super().parse_arguments(parser, args)
        command = self.config.subcommand
        self._wandb_id: str | None = None
        self.run = Run([command, *given.get()], self.config[command])
        current.set(self.run)
        self._start = self._take_model(parser, command)
        self.save_config_kwargs = {"typed": as_typed(self.config[command])}
        self.run.arrange(self.config[command])
        if command == "fit" and slurm_job():
            watch.add(signal.SIGUSR1)

    def _take_model(self, parser: LightningArgumentParser, command: str) -> Start | None:
        """Take the model's class and options from the checkpoint that the command names."""
        options, goes_on = self.config[command], command == "fit"
        trust = options.get("trust") or []
        named = _packages(options.get("model"))  # by the user, and so trusted
        trust = [*([trust] if isinstance(trust, str) else trust), *named]
        paths = list(given_paths(given.get()))
        try:
            start = start_of(options, goes_on, trust, paths)
        except ValueError as error:
            ckpt_path = options.get("ckpt_path")
            beside = good_beside(ckpt_path) if ckpt_path and "readable" in str(error) else None
            if beside is None:
                raise
            raise ValueError(f"{error}: --ckpt_path {beside} lies beside it") from None
        if start is None:
            return None
        if goes_on and start.by_trainer:  # the run goes on, in W&B too
            states = start.checkpoint.get("callbacks", {})
            self._wandb_id = states.get("RunCard", {}).get("wandb_id")
            self.run.n_rows = start.checkpoint.get("metrics_rows")
        self.config[command].pop("model")  # of which nothing is to be left
        self.config = parser.parse_object({command: {"model": start.model}}, self.config)
        return start

    def _make_data(self, kind: type[FrameDataModule], /, **kwargs: Any) -> FrameDataModule:
        """Make the data module, scaled as the weights that a new run starts from need it."""
        data = kind(**kwargs)
        return self._start.scale(data) if self._start else data

    def _make_model(self, kind: type[SequenceModule], /, **kwargs: Any) -> SequenceModule:
        """Make the model, and tell it the learning rate of the optimiser's options."""
        given = self.config[self.config.subcommand].optimizer.init_args
        told = {name: given[name] for name in OF_OPTIMIZER if name in given}
        told |= self._start.told if self._start else {}
        return kind(**(kwargs | accepted(kind, told)))

    def instantiate_classes(self) -> None:
        """Instantiate as Lightning does; import a checkpoint's classes from trusted packages."""
        if (start := self._start) is None:
            super().instantiate_classes()
            return
        with trusting(start.trust):
            super().instantiate_classes()
        start.load(self.model)
        if not start.by_trainer:
            self.config_init[self.config.subcommand]["ckpt_path"] = None

    def _parse_ckpt_path(self) -> None:
        """Do nothing: `parse_arguments` has read the checkpoint, with clear errors."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return LightningCLI.subcommands() | {"prepare": {"model", "datamodule"}}

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        chosen = self._get(self.config_init, "trainer.callbacks") or []
        callbacks: list[pl.Callback] = [*chosen] if isinstance(chosen, list) else [chosen]
        # If one of ours is given twice, the last counts: callbacks+=Samples sets its options.
        ours = {type(c): c for c in callbacks if type(c).__module__.startswith(PACKAGE)}
        callbacks = [c for c in callbacks if ours.get(type(c), c) is c]
        callbacks.sort(key=lambda c: not isinstance(c, LastCheckpoint))
        if limit := self._get(self.config_init, "trainer.max_time"):
            callbacks.append(TimeLimit(limit))
            kwargs["max_time"] = None
        bar = self._get(self.config_init, "trainer.enable_progress_bar") is not False
        own = any(isinstance(c, pl.callbacks.ProgressBar) for c in callbacks)
        if bar and not own and not sys.stdout.isatty():
            callbacks.append(EpochLines())
        if n_files := self._get(self.config_init, "code_files"):
            callbacks.append(CodedFiles(n_files))
        self.callbacks = kwargs["callbacks"] = [*callbacks, WatchedRanks(self.run)]
        plugins = self._get(self.config_init, "trainer.plugins") or []
        plugins = [*plugins] if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(WholeCheckpoints())
        own_cluster = any(isinstance(plugin, ClusterEnvironment) for plugin in plugins)
        if SLURMEnvironment.detect() and not own_cluster:
            plugins.append(SLURMEnvironment(auto_requeue=False))  # ours: at the end of a step
        kwargs["plugins"] = plugins
        found = self._get(self.config_init, "trainer.logger")
        loggers = found if isinstance(found, list) else [found] if found else []
        folder = self.run.start(loggers)
        if folder is not None:
            kwargs["default_root_dir"] = str(folder)
        to_wandb = [logger for logger in loggers if isinstance(logger, WandbLogger)]
        if folder and to_wandb and on_rank_zero() and (why := wandb_cannot_write(folder)):
            kwargs["logger"] = [logger for logger in loggers if logger not in to_wandb]
            rank_zero_warn(f"{folder}: {why}; the run goes on without W&B")
        trainer = super().instantiate_trainer(**kwargs)
        if self.run.folder is None and loggers and trainer.loggers[0].log_dir:  # its own choice
            self.run.folder = Path(trainer.loggers[0].log_dir)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and on_rank_zero():
                # W&B's files go into the run folder, whose name is known now
                place = str(trainer.loggers[0].log_dir)
                Path(place).mkdir(parents=True, exist_ok=True)
                logger._save_dir = logger._wandb_init["dir"] = place
                logger._wandb_init.pop("anonymous", None)  # W&B warns of it, though it is unset
                if self._wandb_id and not (logger.version or os.environ.get("WANDB_RUN_ID")):
                    logger._id = logger._wandb_init["id"] = self._wandb_id
        return trainer

    def after_fit(self) -> None:
        keeper = [c for c in self.callbacks if isinstance(c, LastCheckpoint)]
        if self.trainer.interrupted:
            return
        if self.config.fit.test_after_fit:
            self._test(trained=not keeper or keeper[0].has_trained)
        if keeper and keeper[0].failed:
            raise ValueError(
                f"the weights could not be kept at the end: {keeper[0].failed}; make room, and go "
                "on from the last checkpoint, if there is one, or train again"
            )

    def _test(self, trained: bool) -> None:
        """Test the best weights, else the last ones."""
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", None)
        weights = "best" if best else None  # the last ones, as training left them
        if not best and not trained and self.run.last:
            weights = str(self.run.last)  # which may be averaged; those to train on are not
        self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=weights)
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
        for path in sorted(Path(folder).glob("[!.]*")):
            inside = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
            print(f"  {path.name}" + (f"/  {'  '.join(inside[:12])}" if inside else ""))


def main(args: Sequence[str] | None = None) -> None:
    """Run one command. A mistake in its input is told in one line, with exit status 1.

    Args:
        args: the command and its options; None for those of the process.
    """
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_SILENT", "true")):
        os.environ[name] = os.environ.get(name) or value  # empty is as unset
    quiet()
    argv = list(sys.argv[1:] if args is None else args)
    given.set(argv[1:])
    current.set(None)
    try:
        with watch.handled(), to_a_reader():
            _run(argv)
    except Interrupted as stop:
        run = current.get()
        requeued = stop.signum == signal.SIGUSR1
        if on_rank_zero():
            said = [requeue(stop)] if requeued else []
            said += [run.said_of(stop) if run is not None else f"stopped by {stop}"]
            print("\n".join(said), file=sys.stderr, flush=True)
        sys.exit(stop.status if on_rank_zero() else 0)
    except (
        ValueError,
        OSError,
        FloatingPointError,
        GradientError,
        MisconfigurationException,
    ) as error:
        _end_by(error)
    except RuntimeError as error:
        if (said_of_it := lost_process(error)) is None:
            raise
        run = current.get()
        if run and run.watcher:
            run.watcher.join(2 * GRACE)  # it knows more, and ends this process
        print(
            f"error: {said_of_it}" + (f"; {run.how_to_go_on()}" if run and run.last else ""),
            file=sys.stderr,
        )
        sys.exit(1)


def _run(argv: list[str]) -> None:
    if answered(argv):
        return
    if explained(argv):
        sys.exit(0)
    if argv and argv[0] == "--print_completion":
        return _print_completion(argv[1:])
    known = [*CLI.subcommands(), *FUNCTIONS]
    if argv and not argv[0].startswith("-") and argv[0] not in known:
        refuse(f"{argv[0]}: no such command among {listed(known)}{near(argv[0], known)}")
    if not {*known, "--help", "-h"} & set(argv):
        refuse(f"no command is given: begin with one of {listed(known)}")
    if argv and argv[0] in FUNCTIONS:
        call(argv[0], switched_on(with_files(argv)[1:]), Parser)
    else:
        _lightning(argv)
        _finish_wandb()


def _print_completion(shell: list[str]) -> None:
    if len(shell) != 1 or shell[0] not in SHELLS:
        refuse(f"--print_completion takes one of {', '.join(SHELLS)}")
    try:
        from rnade_lightning.completion import script
    except ModuleNotFoundError as error:
        need = f"{error.name} is not installed: pip install 'rnade-lightning[completion]'"
        sys.exit(f"error: {need}")
    print(script(shell[0]))


def _end_by(error: Exception) -> NoReturn:
    """End the process with the one line of an error; raise it where a traceback is asked for."""
    if os.environ.get("RNADE_TRACEBACK"):
        raise error
    if on_rank_zero():
        told = cause(error)
        said = str(told) if isinstance(told, DataError) else said_of(told)
        print(f"error: {said or type(told).__name__}", file=sys.stderr)
    sys.exit(1)


def _lightning(argv: list[str]) -> None:
    configs = Path(str(files("rnade_lightning.configs")))
    defaults = {"default_config_files": [str(configs / "base.yaml")]}
    if argv and argv[0] in CLI.subcommands() and not names_data(argv[1:]):
        argv = [argv[0], f"--config={configs / DEFAULT_EXPERIMENT}", *argv[1:]]
        if on_rank_zero():
            print(f"no data are named: {argv[0]} takes configs/{DEFAULT_EXPERIMENT}, "
                  "the shipped motion", file=sys.stderr)  # fmt: skip
    CLI(
        SequenceModule,
        FrameDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        trainer_class=Trainer,
        save_config_callback=SaveConfig,
        load_from_checkpoint_support=False,  # hyperparameters are what the class was given
        parser_class=Parser,
        parser_kwargs={command: defaults for command in CLI.subcommands()}
        | {
            "prog": program(),
            "description": "RNN-RNADE: an exact-likelihood model of audio and motion sequences.",
            "epilog": "After training: sample, score, compress, gradcheck (each with --help).",
        },
        args=argv,
    )


def _packages(value: Any) -> list[str]:
    """Return the packages of all class paths in the options of a model."""
    if isinstance(value, str):
        parts = value.split(".")
        return parts[:1] if len(parts) > 1 and all(map(str.isidentifier, parts)) else []
    if isinstance(value, jsonargparse.Namespace):
        value = value.as_dict()
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [package for one in inner for package in _packages(one)]


def _finish_wandb() -> None:
    """End the W&B run of this process, if there is one, so that all of it is written."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


if __name__ == "__main__":
    main()
