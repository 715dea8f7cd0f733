"""The parser of the command line, and what it says of mistakes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from rnade_lightning.class_paths import locate, public_path
from rnade_lightning.components import component_class
from rnade_lightning.functions import TAKE_FILES
from rnade_lightning.help_pages import BASES, help_of
from rnade_lightning.lightning_module import SequenceModule, density_class
from rnade_lightning.messages import explain
from rnade_lightning.stored_module import OF_OPTIMIZER

PACKAGE = "rnade_lightning"
PROG = f"python -m {PACKAGE}"

SWITCHES = ("--guard",)
"""Options that are true where they stand without a value."""

BY_SHORT_NAME: dict[str, Callable[[str], type]] = {
    "component": component_class,
    "density": density_class,
}
"""Options of a model that name a class, and how it is found."""

given: ContextVar[Sequence[str]] = ContextVar("given", default=())
"""The options of the command that is run, from which a message takes their paths."""


class Parser(LightningArgumentParser):
    """Tells what is wrong with an option in one line, without the page of usage. Help fits one
    page: the options of the model and of the data at their defaults, and the trainer's common
    ones."""

    def add_subclass_arguments(
        self, baseclass: Any, nested_key: str, *args: Any, **kwargs: Any
    ) -> Any:
        """Leave out the options of a model that the optimiser's options set."""
        if baseclass is SequenceModule:
            kwargs["skip"] = set(OF_OPTIMIZER)
        return super().add_subclass_arguments(baseclass, nested_key, *args, **kwargs)

    def parse_object(self, obj: Any, namespace: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Replace the short name of a class by its path: jsonargparse refuses a short name that has
        arguments beside it."""
        for options in (obj, namespace or {}):
            for name, find in BY_SHORT_NAME.items():
                spec = options.get(name)
                if isinstance(spec, dict) and "." not in spec.get("class_path", "."):
                    options[name] = spec | {"class_path": public_path(find(spec["class_path"]))}
        return super().parse_object(obj, namespace, *args, **kwargs)

    def get_defaults(self, *args: Any, **kwargs: Any) -> Any:
        """Return the default classes of model and data without their options, so that another class
        does not inherit them."""
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
        return help_of(self.prog.split()[-1], kinds)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        said = explain(message, self.get_defaults, given.get())
        key = said.split(" ")[0].rstrip(":").rpartition(".")[2]
        if "no such option" in said and key in OF_OPTIMIZER:
            said = said.split("; did you mean")[0]
            said += f"; give it to the optimiser, as --optimizer.{key}"
        refuse(said)


def names_data(argv: Sequence[str]) -> bool:
    """Return whether the options, or the configuration files among them, name the data or ask for
    help (which needs no experiment)."""
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


def switched_on(argv: Sequence[str]) -> list[str]:
    """Return the options with the value that `SWITCHES` have where they stand alone.

    >>> switched_on(["--guard", "--seconds", "3", "--guard"])
    ['--guard=true', '--seconds', '3', '--guard=true']
    >>> switched_on(["--guard", "false"])
    ['--guard', 'false']
    """
    behind = [*argv[1:], "--"]
    return [
        f"{option}=true" if option in SWITCHES and after.startswith("--") else option
        for option, after in zip(argv, behind, strict=False)
    ]


def with_files(argv: Sequence[str]) -> list[str]:
    """Return a command line with the words that belong to no option as the list ``--files``, if the
    command is one of `TAKE_FILES`.

    >>> with_files(["compress", "a.wav", "--out", "packed", "b 1.wav"])
    ['compress', '--out', 'packed', '--files=["a.wav", "b 1.wav"]']
    >>> with_files(["score", "a.wav"])
    ['score', 'a.wav']
    """
    command, *rest = argv
    if command not in TAKE_FILES:
        return [*argv]
    options, words = [command], list[str]()
    while rest:
        word = rest.pop(0)
        if word == "--":
            words, rest = words + rest, []
        elif not word.startswith("-") or word == "-":
            words.append(word)
        else:
            options.append(word)
            if word.startswith("--") and "=" not in word and word != "--help" and rest:
                options.append(rest.pop(0))
    if words and any(option.startswith("--files") for option in options):
        refuse(f"{words[0]}: files are given without an option or as --files, not both")
    return options + [f"--files={json.dumps(words, ensure_ascii=False)}"] * bool(words)


def refuse(said: str) -> NoReturn:
    """End the process with one line on its options."""
    if on_rank_zero():
        print(f"error: {said} (options: --help)", file=sys.stderr)
    sys.exit(2)


def on_rank_zero() -> bool:
    """Return whether this is the process that writes and talks."""
    return getattr(rank_zero_only, "rank", 0) == 0
