"""Completion of commands and options in a shell, as a script that is written once.

The script holds the names themselves: a shell that completes does not start Python.
"""

from __future__ import annotations

import argparse
import inspect
from typing import Any

import pytorch_lightning as pl
import shtab

from rnade_lightning import datamodules, lightning_module
from rnade_lightning.command_parser import Parser
from rnade_lightning.front_page import COMMANDS, SHELLS
from rnade_lightning.functions import FUNCTIONS, function_of
from rnade_lightning.help_pages import FROM_DATA
from rnade_lightning.stored_module import OF_OPTIMIZER

RUN_OPTIONS = (
    "config", "ckpt_path", "weights_from", "trust", "test_after_fit", "code_files",
    "seed_everything", "print_config", "optimizer", "optimizer.lr", "lr_scheduler",
)  # fmt: skip
"""Options of every command that runs an experiment, beside those of its classes."""


def script(shell: str) -> str:
    """Return the completion script of the command line for a shell.

    Args:
        shell: one of `front_page.SHELLS`.
    """
    assert shell in SHELLS
    tree = argparse.ArgumentParser(prog="rnade")
    tree.add_argument("--version", action="store_true")
    tree.add_argument("--print_completion", choices=SHELLS)
    commands = tree.add_subparsers()
    experiment = _experiment()
    for name, does in COMMANDS.items():
        pages = [_function(function_of(name))] if name in FUNCTIONS else experiment
        commands.add_parser(name, parents=pages, help=does, conflict_handler="resolve")
    return shtab.complete(tree, shell)


def _function(function: Any) -> Parser:
    """Return the options of a command that is a function."""
    page = Parser(add_help=False, conflict_handler="resolve")
    page.add_function_arguments(function)
    return page


def _experiment() -> list[argparse.ArgumentParser]:
    """Return the options of a command that runs an experiment: those of all classes of data and
    model that the package has, one parser a class."""
    bases: dict[str, type] = {
        "data": datamodules.FrameDataModule,
        "model": lightning_module.SequenceModule,
    }
    pages: list[argparse.ArgumentParser] = []
    for key, base in bases.items():
        module = {"data": datamodules, "model": lightning_module}[key]
        kinds = [
            kind
            for _, kind in inspect.getmembers(module, inspect.isclass)
            if issubclass(kind, base) and not inspect.isabstract(kind)
        ]
        for kind in kinds:
            page = Parser(add_help=False, conflict_handler="resolve")
            page.add_class_arguments(kind, key, skip={*FROM_DATA, *OF_OPTIMIZER})
            pages.append(page)
        chosen = argparse.ArgumentParser(add_help=False, conflict_handler="resolve")
        chosen.add_argument(f"--{key}", choices=[kind.__name__ for kind in kinds])
        pages.append(chosen)
    page = Parser(add_help=False, conflict_handler="resolve")
    page.add_class_arguments(pl.Trainer, "trainer")
    for name in RUN_OPTIONS:
        page.add_argument(f"--{name}")
    return [*pages, page]
