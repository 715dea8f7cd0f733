"""Answer what needs no model: the version of the package, and the page that lists all commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

COMMANDS = {
    "fit": "train a model, then test its best weights",
    "validate": "log p of the validation part, and its pictures",
    "test": "log p of the test part, beside the baselines",
    "predict": "write the log p of every frame",
    "prepare": "read all files into the frame store, and say what was found",
    "sample": "generate sequences, or continue a file",
    "score": "log p of files",
    "combine": "make one model of several trained ones",
    "export": "write a trained model as ONNX and torch.export graphs",
    "compress": "make sound files small without loss",
    "decompress": "get them back, sample by sample",
    "gradcheck": "compare the gradients with the algorithms of the paper",
}
"""Every command, and what it does."""

SHELLS = ("bash", "zsh", "tcsh")
"""Shells whose completion can be printed."""


def program() -> str:
    """Return the name by which this process was called."""
    return "rnade" if Path(sys.argv[0]).stem == "rnade" else "python -m rnade_lightning"


def overview() -> str:
    """Return the page of ``--help`` that lists the commands."""
    lines = [
        f"usage: {program()} COMMAND [options]",
        "",
        "RNN-RNADE: an exact-likelihood model of audio and motion sequences.",
        "",
        "commands:",
        *(f"  {name:<10} {does}" for name, does in COMMANDS.items()),
        "",
        "options:",
        f"  {'-h, --help':<26} this page; COMMAND --help for the options of a command",
        f"  {'--version':<26} the version of this package",
        f"  {'--print_completion SHELL':<26} completion for {', '.join(SHELLS)}, as a script",
    ]
    return "\n".join(lines)


def answered(argv: Sequence[str]) -> bool:
    """Answer a command line that needs no model, and return whether it was one.

    Args:
        argv: what stands behind the name of the program.
    """
    match argv:
        case ["-h" | "--help"]:
            print(overview())
        case ["--version"]:
            print(f"rnade-lightning {version('rnade-lightning')}")
        case _:
            return False
    return True
