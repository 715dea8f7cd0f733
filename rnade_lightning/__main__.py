"""The command line: ``python -m rnade_lightning fit | validate | test | predict | sample | score |
combine | gradcheck``."""

from __future__ import annotations

import argparse
import json
import operator
import os
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse
import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

import rnade_lightning.callbacks  # noqa: F401  makes short class names resolve
from rnade_lightning import commands
from rnade_lightning.callbacks import EpochLines, GradientError
from rnade_lightning.checkpoints import Trust
from rnade_lightning.class_paths import locate, public_path, trusting
from rnade_lightning.components import component_class
from rnade_lightning.datamodules import DataError, FrameDataModule
from rnade_lightning.hyperparameters import accepted
from rnade_lightning.lightning_module import SequenceModule, density_class
from rnade_lightning.messages import cause, explain, given_paths, listed, near, one_line, quiet
from rnade_lightning.starting import start_of

PACKAGE = "rnade_lightning"
PROG = f"python -m {PACKAGE}"
COMMANDS = {
    c.__name__: c for c in (commands.sample, commands.score, commands.combine, commands.gradcheck)
}

FROM_DATA = ("n_features", "noise_scale")
"""Arguments of a model that the data tell."""
FROM_OPTIMIZER = ("lr",)
"""Arguments of a model that the optimiser's options tell."""

DEFAULT_EXPERIMENT = "motion.yaml"
"""What is run where no data are named."""

TRAINER_HELP = """
Training (a selection; all options of Lightning's Trainer are accepted):
  --trainer.max_epochs N, --trainer.max_time DD:HH:MM:SS
  --trainer.accelerator cpu|gpu, --trainer.devices N, --trainer.num_nodes N, --trainer.strategy ddp
  --trainer.precision bf16-mixed, --trainer.gradient_clip_val X, --trainer.enable_progress_bar false
  --optimizer CLASS, --optimizer.lr X, --lr_scheduler CLASS
  --seed_everything N   seed of the weights and of everything drawn

Other:
  --config FILE         YAML file of options; several are merged in their order
  --test_after_fit false
                        leave the test part alone, while options are being chosen
  --ckpt_path FILE      checkpoint to go on from, or to test
  --weights_from FILE   checkpoint from whose weights fit starts a new run
  --trust PACKAGE       package of yours (or a list of them) whose classes that checkpoint may name
  --model CLASS, --data CLASS
                        another class, by its name; its options: --model.help, --data.help CLASS
  --print_config        every option there is, as it would be used
"""


BY_SHORT_NAME: dict[str, Callable[[str], type]] = {
    "component": component_class,
    "density": density_class,
}
"""Options of a model that name a class, and how it is found."""
BASES: dict[str, type] = {"model": SequenceModule, "data": FrameDataModule}
"""What is chosen by class: the option and the base of all classes."""


_given: ContextVar[Sequence[str]] = ContextVar("given", default=())
"""The options of the command that is run, from which a message takes their paths."""


class Parser(LightningArgumentParser):
    """Says what is wrong with an option in one line, without the page of usage, and helps on one
    page: the options of the model and of the data at their defaults, the trainer's common ones."""

    def add_subclass_arguments(
        self, baseclass: Any, nested_key: str, *args: Any, **kwargs: Any
    ) -> Any:
        """Leave out of a model's options what the optimiser's tell."""
        if baseclass is SequenceModule:
            kwargs["skip"] = set(FROM_OPTIMIZER)
        return super().add_subclass_arguments(baseclass, nested_key, *args, **kwargs)

    def parse_object(self, obj: Any, namespace: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Put the path of a class for its short name, which jsonargparse takes for a wrong path
        where arguments stand beside it."""
        for options in (obj, namespace or {}):
            for name, find in BY_SHORT_NAME.items():
                spec = options.get(name)
                if isinstance(spec, dict) and "." not in spec.get("class_path", "."):
                    options[name] = spec | {"class_path": public_path(find(spec["class_path"]))}
        return super().parse_object(obj, namespace, *args, **kwargs)

    def get_defaults(self, *args: Any, **kwargs: Any) -> Any:
        """Return the default classes of model and data without their options: another class that
        is chosen does not inherit them."""
        found = super().get_defaults(*args, **kwargs)
        for key in BASES:
            if found.get(key) is not None:
                found[key].pop("init_args", None)
        return found

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        try:
            chosen = self.get_defaults()
            kinds: dict[str, type] = {
                key: locate(chosen[key].class_path, base) for key, base in BASES.items()
            }
        except (AttributeError, KeyError):  # not a command that runs an experiment
            return super().format_help(*args, **kwargs)
        command = self.prog.split()[-1]
        page = LightningArgumentParser(
            prog=PROG, usage=f"%(prog)s {command} [options]", description="", add_help=False
        )
        for key, kind in kinds.items():
            page.add_class_arguments(kind, key, skip={*FROM_DATA, *FROM_OPTIMIZER})
        return page.format_help() + TRAINER_HELP

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        said = explain(message, self.get_defaults, _given.get())
        key = said.split(" ")[0].rstrip(":").rpartition(".")[2]
        if "no such option" in said and key in FROM_OPTIMIZER:
            said = said.split("; did you mean")[0]
            said += f"; give it to the optimiser, as --optimizer.{key}"
        _refuse(said)


class Trainer(pl.Trainer):
    """Lightning's, with one command more."""

    def prepare(self, model: pl.LightningModule, datamodule: FrameDataModule) -> None:
        """Read all files into the frame store, and say what was found.

        Args:
            model: not used.
            datamodule: the data to prepare.
        """
        datamodule.prepare_data()
        if self.is_global_zero:
            print(json.dumps(datamodule.describe(), indent=2))


class CLI(LightningCLI):
    """Lightning's command line with our defaults; ``fit`` ends in a ``test`` of the best."""

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
            "--trust", type=Trust, default=[], help="packages whose classes a checkpoint may name"
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Also takes the model's class and options from the checkpoint, if one is named."""
        super().parse_arguments(parser, args)
        command = self.config.subcommand
        options, goes_on = self.config[command], command == "fit"
        trust = options.get("trust") or []
        named = _packages(options.get("model"))  # by the user, and so trusted
        trust = [*([trust] if isinstance(trust, str) else trust), *named]
        given = list(given_paths(_given.get()))
        self._wandb_id, self._start = None, start_of(options, goes_on, trust, given)
        if self._start is None:
            return
        if goes_on and self._start.by_trainer:  # the run goes on, in W&B too
            states = self._start.checkpoint.get("callbacks", {})
            self._wandb_id = states.get("RunCard", {}).get("wandb_id")
        self.config[command].pop("model")  # of which nothing is to be left
        self.config = parser.parse_object({command: {"model": self._start.model}}, self.config)

    def _make_data(self, kind: type[FrameDataModule], /, **kwargs: Any) -> FrameDataModule:
        """Make the data module, scaled as the weights that a new run starts from need it."""
        data = kind(**kwargs)
        return self._start.scale(data) if self._start else data

    def _make_model(self, kind: type[SequenceModule], /, **kwargs: Any) -> SequenceModule:
        """Make the model, which is told what the optimiser's options are."""
        given = self.config[self.config.subcommand].optimizer.init_args
        told = {name: given[name] for name in FROM_OPTIMIZER if name in given}
        told |= self._start.told if self._start else {}
        return kind(**(kwargs | accepted(kind, told)))

    def instantiate_classes(self) -> None:
        """Lightning's, which imports what a checkpoint alone names from trusted packages only."""
        if (start := self._start) is None:
            super().instantiate_classes()
            return
        with trusting(start.trust):
            super().instantiate_classes()
        start.load(self.model)
        if not start.by_trainer:
            self.config_init[self.config.subcommand]["ckpt_path"] = None

    def _parse_ckpt_path(self) -> None:
        """Done in `parse_arguments`, with clear errors."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return LightningCLI.subcommands() | {"prepare": {"model", "datamodule"}}

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        chosen = self._get(self.config_init, "trainer.callbacks") or []
        callbacks: list[pl.Callback] = chosen if isinstance(chosen, list) else [chosen]
        # Of two of ours of a kind the last counts: callbacks+=Samples sets the options of Samples.
        ours = {type(c): c for c in callbacks if type(c).__module__.startswith(PACKAGE)}
        callbacks[:] = [c for c in callbacks if ours.get(type(c), c) is c]
        bar = self._get(self.config_init, "trainer.enable_progress_bar") is not False
        own = any(isinstance(c, pl.callbacks.ProgressBar) for c in callbacks)
        if bar and not own and not sys.stdout.isatty():
            kwargs["callbacks"] = [*callbacks, EpochLines()]
        trainer = super().instantiate_trainer(**kwargs)
        for logger in trainer.loggers:
            logs = self.config.subcommand != "prepare"  # which leaves no run folder
            if isinstance(logger, WandbLogger) and logs and _on_rank_zero():
                # W&B's files go into the run folder, whose name is known now
                folder = str(trainer.loggers[0].log_dir)
                Path(folder).mkdir(parents=True, exist_ok=True)
                logger._save_dir = logger._wandb_init["dir"] = folder
                logger._wandb_init.pop("anonymous", None)  # W&B warns of it, though it is unset
                if self._wandb_id and not (logger.version or os.environ.get("WANDB_RUN_ID")):
                    logger._id = logger._wandb_init["id"] = self._wandb_id
        return trainer

    def after_fit(self) -> None:
        if self.trainer.interrupted or not self.config.fit.test_after_fit:
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
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_SILENT", "true")):
        os.environ[name] = os.environ.get(name) or value  # empty is as unset
    quiet()
    argv = list(sys.argv[1:] if args is None else args)
    _given.set(argv[1:])
    try:
        known = [*CLI.subcommands(), *COMMANDS]
        if argv and not argv[0].startswith("-") and argv[0] not in known:
            _refuse(f"{argv[0]}: no such command among {listed(known)}{near(argv[0], known)}")
        if argv and argv[0] in COMMANDS:
            jsonargparse.auto_cli(
                COMMANDS[argv[0]],
                args=argv[1:],
                as_positional=False,
                parser_class=Parser,
                prog=f"{PROG} {argv[0]}",
                description=str(COMMANDS[argv[0]].__doc__).split("Args:")[0],
            )
        else:
            _lightning(argv)
            _finish_wandb()
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
            told = cause(error)
            said = str(told) if isinstance(told, DataError) else one_line(str(told))
            print(f"error: {said or type(told).__name__}", file=sys.stderr)
        sys.exit(1)


def _lightning(argv: list[str]) -> None:
    configs = Path(str(files("rnade_lightning.configs")))
    defaults = {"default_config_files": [str(configs / "base.yaml")]}
    if argv and argv[0] in CLI.subcommands() and not _names_data(argv[1:]):
        argv = [argv[0], f"--config={configs / DEFAULT_EXPERIMENT}", *argv[1:]]
        if _on_rank_zero():
            print(f"no data are named: {argv[0]} takes configs/{DEFAULT_EXPERIMENT}, "
                  "the shipped motion", file=sys.stderr)  # fmt: skip
    CLI(
        SequenceModule,
        FrameDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        trainer_class=Trainer,
        save_config_kwargs={"overwrite": True},
        load_from_checkpoint_support=False,  # hyperparameters are what the class was given
        parser_class=Parser,
        parser_kwargs={command: defaults for command in CLI.subcommands()}
        | {
            "prog": PROG,
            "description": "RNN-RNADE: an exact-likelihood model of audio and motion sequences.",
            "epilog": "After training: sample, score, combine, gradcheck (each with --help).",
        },
        args=argv,
    )


def _names_data(argv: Sequence[str]) -> bool:
    """Whether options, or configuration files among them, say anything of the data (or ask for
    help, which is of no experiment)."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    known, others = parser.parse_known_args(argv)
    if any(option.startswith(("--data", "--help")) or option == "-h" for option in others):
        return True
    for config in known.config:
        try:
            found = yaml.safe_load(Path(config).read_text() if Path(config).is_file() else config)
        except (OSError, yaml.YAMLError):  # the command's own parser says what is wrong with it
            return True
        if isinstance(found, dict) and "data" in found:
            return True
    return False


def _packages(value: Any) -> list[str]:
    """The packages of all class paths in the options of a model."""
    if isinstance(value, str):
        parts = value.split(".")
        return parts[:1] if len(parts) > 1 and all(map(str.isidentifier, parts)) else []
    if isinstance(value, jsonargparse.Namespace):
        value = value.as_dict()
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [package for one in inner for package in _packages(one)]


def _finish_wandb() -> None:
    """Ends the W&B run of this process, if there is one: all of it is written when we return."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


def _refuse(said: str) -> NoReturn:
    """End the process with one line on its options."""
    if _on_rank_zero():
        print(f"error: {said} (options: --help)", file=sys.stderr)
    sys.exit(2)


def _on_rank_zero() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    main()
