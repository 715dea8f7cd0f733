"""Commands that are functions: where they are, and how one is run from words or explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from rnade_lightning.front_page import program

FUNCTIONS = {
    "sample": "rnade_lightning.commands",
    "score": "rnade_lightning.commands",
    "combine": "rnade_lightning.commands",
    "export": "rnade_lightning.export",
    "compress": "rnade_lightning.coding.commands",
    "decompress": "rnade_lightning.coding.commands",
    "gradcheck": "rnade_lightning.commands",
}
"""Every such command, and the module that holds it; the others run an experiment."""

TAKE_FILES = {
    command: "%(prog)s FILES --out FOLDER [--ckpt_path CHECKPOINT]"
    for command in ("compress", "decompress")
}
"""Commands whose words without an option are files, and their line of usage."""


def function_of(command: str) -> Callable[..., None]:
    """Return the function of a command of `FUNCTIONS`."""
    found: Callable[..., None] = getattr(import_module(FUNCTIONS[command]), command)
    return found


def call(command: str, options: Sequence[str], parser_class: type[Any] | None = None) -> None:
    """Call the function of a command with options; with ``--help``, print its page and exit.

    Args:
        command: one of `FUNCTIONS`.
        options: words of the command line.
        parser_class: a parser of jsonargparse; None for its own.
    """
    import jsonargparse  # no other page of help waits for it

    function = function_of(command)
    jsonargparse.auto_cli(
        function,
        args=list(options),
        as_positional=False,
        parser_class=parser_class or jsonargparse.ArgumentParser,
        prog=f"{program()} {command}",
        usage=TAKE_FILES.get(command),
        description=str(function.__doc__).split("Args:")[0],
    )
