"""The pages of help of commands that run an experiment, without Lightning's command line.

To import that takes longer than to make a page.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from rnade_lightning.class_paths import locate
from rnade_lightning.datamodules import FrameDataModule
from rnade_lightning.front_page import program
from rnade_lightning.lightning_module import SequenceModule
from rnade_lightning.stored_module import OF_OPTIMIZER

FROM_DATA = ("n_features", "noise_scale", "n_context", "context_by_feature")
"""Arguments of a model that the data tell."""

BASES: dict[str, type] = {"model": SequenceModule, "data": FrameDataModule}
"""What is chosen by class: the option and the base of all classes."""

TRAINING_HELP = """
Training (a selection; all options of Lightning's Trainer are accepted):
  --trainer.max_epochs N, --trainer.max_time DD:HH:MM:SS
  --trainer.accelerator cpu|gpu, --trainer.devices N, --trainer.num_nodes N, --trainer.strategy ddp
  --trainer.precision bf16-mixed, --trainer.gradient_clip_val X, --trainer.enable_progress_bar false
  --trainer.default_root_dir FOLDER  the run folder is made below it
  --optimizer CLASS, --optimizer.lr X, --lr_scheduler CLASS
  --seed_everything N   seed of the weights and of everything drawn
  --ckpt_path FILE      last.ckpt of a run to go on with; it goes on in its folder
  --test_after_fit false  leave the test part alone, while options are being chosen
  --code_files N        code the first N test sounds for real, of a model of integers
"""
TRAINED_HELP = """
Devices (a selection; all options of Lightning's Trainer are accepted):
  --trainer.accelerator cpu|gpu, --trainer.devices N, --trainer.strategy ddp
  --trainer.default_root_dir FOLDER
                        the run folder is made below it, in place of the current folder

Other:
  --ckpt_path FILE      checkpoint of the model; its options come from it
"""
MODEL_HELP = """\
  --weights_from FILE   checkpoint from whose weights fit starts a new run
  --trust PACKAGE       package of yours (or a list of them) whose classes that checkpoint may name
  --model CLASS         another class of model, by its name; its options: --model.help CLASS
"""
DATA_HELP = """\
  --data CLASS          another kind of data, by its name; its options: --data.help CLASS
  --config FILE         YAML file of options; several are merged in their order
  --print_config        every option there is, as it would be used
"""
HELP = {
    "fit": TRAINING_HELP + MODEL_HELP + DATA_HELP,
    "prepare": "\nOther:\n" + DATA_HELP,
    "predict": TRAINED_HELP.replace(
        "the run folder is made below it, in place of the current folder",
        "where predictions go if the checkpoint lies in no run folder",
    )
    + MODEL_HELP
    + DATA_HELP,
    "test": TRAINED_HELP + MODEL_HELP + DATA_HELP,
    "validate": TRAINED_HELP + MODEL_HELP + DATA_HELP,
}
"""Every command that takes an experiment, and what its help says after the options of the data."""


def explained(argv: Sequence[str]) -> bool:
    """Print the page of a command with its default classes, and return whether it was asked for.

    Args:
        argv: the command and its options.
    """
    match argv:
        case [command, "-h" | "--help"] if command in HELP:
            print(help_of(command), end="")
            return True
    return False


def help_of(command: str, kinds: Mapping[str, type] | None = None) -> str:
    """Return the help of a command that takes an experiment.

    Args:
        command: one of `HELP`.
        kinds: the classes of model and data; None for those of ``configs/base.yaml``. Nothing else
            of that file is read: to look at its loggers takes longer than all the rest.
    """
    if kinds is None:
        base = yaml.safe_load(files("rnade_lightning.configs").joinpath("base.yaml").read_text())
        kinds = {key: locate(base[key]["class_path"], of) for key, of in BASES.items()}
    page = ArgumentParser(
        prog=program(),
        usage=f"%(prog)s {command} [options]",
        description="",
        add_help=False,
        formatter_class=_Formatter,
    )
    for key, kind in kinds.items():
        if key == "model" and command != "fit":  # a checkpoint tells
            continue
        page.add_class_arguments(kind, key, skip={*FROM_DATA, *OF_OPTIMIZER})
    of_files = "|".join(map(re.escape, kinds))  # an option that --config stands for
    own = re.sub(rf"^  --({of_files}) CONFIG .*\n", "", page.format_help(), flags=re.MULTILINE)
    return own + HELP[command]


class _Formatter(DefaultHelpFormatter):
    """Leaves out the types of options: names, defaults and descriptions tell them, in half the
    lines."""

    def _get_help_string(self, action: argparse.Action) -> str:
        return super()._get_help_string(action).replace("type: %(type)s, ", "")
