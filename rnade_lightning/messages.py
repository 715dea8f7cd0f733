"""Word the command line's messages: the full path of the option, and what it may be instead.

Conventions:
    A path is what is typed behind ``--``, such as ``model.n_hidden``. The parser of a class knows
    its options without the path before them; the path is found in what was given.
"""

from __future__ import annotations

import errno
import inspect
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from rnade_lightning.class_paths import OWN

N_LISTED = 24
"""Names in a list, at most."""

UNKNOWN = (  # what jsonargparse says of an option that does not exist, with its path or an end
    re.compile(r"unrecognized arguments: -*([^\s=]+)"),
    re.compile(r"Option '([^']+)' is not accepted"),
    re.compile(r"(?:Group|Subcommand) '[^']+' does not accept option '([^']+)'"),
)
NO_CONFIG = ("Unexpected config", "Problems parsing config")
WRONG_VALUE = re.compile(r'Parser key "([^"]+)":')
NO_CLASS = re.compile(r"Expected a dot import path string: (\S+)")
BASE = re.compile(r"(?:<class '|list\[)([\w.]+)\.(\w+)")
LITERAL = re.compile(r"typing\.Literal\[([^\]]*)\]")


def explain(message: str, defaults: Callable[[], Any], given: Sequence[str]) -> str:
    """Return what a parser says of an option, in one line that names its path and what is valid.

    Args:
        message: what the parser says.
        defaults: returns the defaults of that parser, whose keys are its options.
        given: options as typed, among them the configuration files.
    """
    for pattern in UNKNOWN:
        if found := pattern.search(message):
            if found[1] in given:
                return f"{found[1]}: no such option, and a value stands behind its own, as --OPTION"
            path, place = _whole(found[1], given)
            try:
                known = [key.replace("init_args.", "") for key in list(defaults().keys())]
            except (AttributeError, ValueError):
                known = []
            ahead = path[: len(path) - len(found[1])]
            guess = near(f"--{path}", _corrected(found[1], known, ahead))
            return f"--{path}{place}: no such option{guess}"
    if not (found := WRONG_VALUE.match(message)):
        return (message.startswith(NO_CONFIG) and _misread(given)) or one_line(message)
    option = "--{}{}".format(*_whole(found[1], given))
    rest = message[found.end() :]
    if (named := NO_CLASS.search(rest)) and (names := class_names(rest)):
        return (
            f"{option}: {named[1]} is none of the classes {listed(names)}{near(named[1], names)}; "
            "give one of these, or the path of a class of your own"
        )
    rest = LITERAL.sub(lambda m: f"one of {m[1]}", one_line(rest))
    return f"{option}: {re.sub(r'Expected a', 'expected', rest)}"


def near(name: str, known: Iterable[str]) -> str:
    """Return the question whether a near match was meant; nothing where there is none.

    >>> near("fitt", ["fit", "test"])
    '; did you mean fit?'
    """
    matches = get_close_matches(name, list(known), 1, 0.6)
    return f"; did you mean {matches[0]}?" if matches else ""


def listed(names: Sequence[str]) -> str:
    """Return names with commas, the first `N_LISTED` of them."""
    more = f" and {len(names) - N_LISTED} more" if len(names) > N_LISTED else ""
    return ", ".join(names[:N_LISTED]) + more


def class_names(message: str) -> list[str]:
    """Return the short names of the classes that an option takes, this package's first.

    Args:
        message: what jsonargparse says, with the base classes in it.
    """
    found: set[type] = set()
    for module, name in BASE.findall(message):
        base = getattr(sys.modules.get(module), name, None)
        if isinstance(base, type) and base is not type(None):
            found |= set(_subclasses(base)) - {base}
    own = [kind for kind in found if kind.__module__.split(".")[0] in OWN]
    public = [c for c in own if not c.__name__.startswith("_") and not inspect.isabstract(c)]
    names = {c.__name__: OWN.index(c.__module__.split(".")[0]) for c in public}
    return sorted(names, key=lambda name: (names[name], name))


def cause(error: BaseException) -> BaseException:
    """Return the error itself, where jsonargparse wraps it in words of its own."""
    while "Call to compute_fn of link" in str(error) and error.__cause__ is not None:
        error = error.__cause__
    return error


def one_line(message: str) -> str:
    """Return a message in one line; where it has a reason, without the types that jsonargparse
    tried."""
    if "log_model=True and offline=True" in message:  # Lightning's, within a page of options
        return (
            "W&B: log_model and offline cannot both be true; leave offline out. Nothing is sent "
            "without WANDB_MODE=online; wandb sync sends the checkpoint later"
        )
    message = message.partition("Not a valid subclass of")[0] or message  # a page of what could be
    noise = (
        "Does not validate", "- Does not validate", "Subtypes:", "Errors:", "- Expected a <class",
        "Given value",
    )  # fmt: skip
    lines = [line.strip() for line in message.splitlines()]
    if any(line.startswith("- ") and not line.startswith(noise) for line in lines):
        got = [line.partition(":")[2] for line in lines if line.startswith("Given value:")]
        lines = [line.removeprefix("- ") for line in lines if not line.startswith(noise)]
        lines += [f"(got{value})" for value in got[-1:] if "Namespace(" not in value]
    return re.sub(r"<class '([\w.]+)'>", r"\1", " ".join(" ".join(lines).split()))


_ELSEWHERE = "write elsewhere, as by --out or --trainer.logger.save_dir"
_REMEDIES = {
    errno.ENOSPC: f"free space on that disk, or {_ELSEWHERE}",
    errno.EDQUOT: f"free space of your quota, or {_ELSEWHERE}",
    errno.EROFS: _ELSEWHERE,
    errno.EACCES: f"ask for the right to it, or {_ELSEWHERE}",
    errno.EPERM: f"ask for the right to it, or {_ELSEWHERE}",
    errno.ENOENT: "give a path that exists",
    errno.EEXIST: "a file is in the way: give another path",
    errno.ENOTDIR: "a file is in the way: give another path",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def said_of(error: BaseException) -> str:
    """Return the message of an error in one line; of what the system refused, with the file and
    what may help."""
    if not isinstance(error, OSError) or error.errno is None or error.strerror is None:
        return one_line(str(error))
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]
    parts = " to ".join(files), error.strerror, _REMEDIES.get(error.errno)
    return ": ".join(filter(None, parts))


def quiet() -> None:
    """Drop messages of Lightning, jsonargparse and torch that say nothing of the run."""
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    for message in (
        ".*does not have many workers.*",
        ".*configure_optimizers. will be overridden.*",
        ".*LightningCLI's args parameter is intended.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*Experiment logs directory .* exists and is not empty.*",
        ".*smaller than the logging interval.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*RNN module weights are not part of single.*",  # of copies, whose gradients are checked
    ):
        warnings.filterwarnings("ignore", message)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(
        lambda record: (
            not any(word in record.getMessage() for word in ("litlogger", "Tensor Cores"))
        )
    )


def given_paths(given: Sequence[str]) -> Iterator[str]:
    """Yield the paths of all options given, those in configuration files behind those typed."""
    yield from (path for path, _ in _given(given))


def _given(given: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the path of each option, and the configuration file that has it; empty if typed."""
    for option in given:
        name = option.partition("=")[0]
        if name.startswith("--") and name != "--config":
            yield name.removeprefix("--").removesuffix("+"), ""
    for config in _configs(given):
        try:
            options = yaml.safe_load(Path(config).read_text())
            yield from ((path, config) for path in _inside(options, ""))
        except (OSError, ValueError, yaml.YAMLError):  # told of by the parser
            continue


def _configs(given: Sequence[str]) -> Iterator[str]:
    """Yield what was given as configuration files."""
    for i, option in enumerate(given):
        name, equals, value = option.partition("=")
        if name in ("--config", "-c"):
            yield value if equals else "".join(given[i + 1 : i + 2])


def _misread(given: Sequence[str]) -> str:
    """Return what is wrong with the first configuration file that holds no options; nothing where
    there is none."""
    for config in _configs(given):
        try:
            if isinstance(yaml.safe_load(Path(config).read_text()), Mapping):
                continue
            why = "has no options in it: write NAME: VALUE, or leave the file out"
        except yaml.YAMLError as error:
            why = f"is no YAML ({' '.join(str(error).split())}): mend it"
            why = why.replace('in "<unicode string>", ', "")
        except (OSError, ValueError):
            continue
        return f"--config {config}: {why}"
    return ""


def _whole(end: str, given: Sequence[str]) -> tuple[str, str]:
    """Return the path that was given and ends so, or the end itself where none was, and in which
    files it stands, in words; nothing of files where it was typed."""
    found = [of for of in _given(given) if of[0] == end or of[0].endswith(f".{end}")]
    path = found[0][0] if found else end
    files = [file for other, file in found if other == path]
    return path, f" in {' or '.join(files)}" if all(files) and files else ""


def _inside(value: Any, ahead: str) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _inside(one, ahead)
    if not isinstance(value, Mapping):
        return
    for key, inner in value.items():
        if key == "init_args":
            yield from _inside(inner, ahead)
        else:
            path = f"{ahead}.{key}" if ahead else str(key)
            yield path
            yield from _inside(inner, path)


def _corrected(path: str, known: Sequence[str], ahead: str) -> list[str]:
    """Return the path with every step corrected that has a near match among the known paths."""
    done: list[str] = []
    for step in path.split("."):
        before = ".".join([*done, ""])
        names = {key[len(before) :].split(".")[0] for key in known if key.startswith(before)}
        matches = [step] if step in names else get_close_matches(step, sorted(names), 1, 0.6)
        done += matches or [step]
    found = ".".join(done)
    return [] if found == path else [f"--{ahead}{found}"]


def _subclasses(base: type) -> Iterator[type]:
    yield base
    kinds: list[type] = base.__subclasses__()
    for kind in kinds:
        yield from _subclasses(kind)
