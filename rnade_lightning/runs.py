"""One run of the command line: its name, its folder, how it goes on, what is said when it ends."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

import pytorch_lightning as pl
import yaml
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.utilities.rank_zero import rank_zero_warn

from rnade_lightning.class_paths import public_path
from rnade_lightning.command_parser import PROG, on_rank_zero
from rnade_lightning.ranks import end_with_any
from rnade_lightning.run_files import MetricsFile, going_without, replace_file
from rnade_lightning.run_folders import (
    claim,
    command_to_go_on,
    folder_of,
    hold,
    note_job,
    of_requeued_job,
    slurm_job,
)
from rnade_lightning.signals import Interrupted

UNNAMED = ("lightning_logs", None)
"""Names of Lightning's loggers where none was given."""
CSV_LOGGER = re.compile(r"pytorch_lightning\.loggers\.(\w+\.)?CSVLogger")
WANDB_LOGGER = re.compile(r"pytorch_lightning\.loggers\.(\w+\.)?WandbLogger")

current: ContextVar[Run | None] = ContextVar("run", default=None)
"""The run of the command that is at work."""


class Run:
    """A command and its run folder.

    Args:
        words: the command and its options, as typed.
        options: the options as parsed, with those of the trainer; where the run is a SLURM job that
            was started again, its checkpoint is put in.

    Attributes:
        resumes: whether the run goes on from a checkpoint in its folder.
        n_rows: rows of its metrics that are kept, None for all.
        watcher: looks after the processes that this one started, if it did.
        folder: the run folder; None before it is known, and where loggers choose their own.
    """

    def __init__(self, words: Sequence[str], options: Any) -> None:
        self.command, self.words = words[0], list(words)
        self.n_rows: int | None = None
        self.folder: Path | None = None
        self.resumes = False
        self.watcher: threading.Thread | None = None
        self._lock: IO[bytes] | None = None  # open as long as this process trains
        self._runs: Path | None = None  # folder of all runs of its name, where ours chooses
        if options.trainer.fast_dev_run:
            return
        if self.command == "prepare":  # which leaves no run folder
            options.trainer.logger = False
            return
        self._name(options)
        if self.command == "fit" and not options.ckpt_path and self._runs is not None:
            self._find_requeued(options)
        if options.ckpt_path and self.command in ("fit", "predict"):
            self._go_on_in(folder_of(str(options.ckpt_path)))

    def _name(self, options: Any) -> None:
        """Name the run where no name was given; find the folder of the runs of that name."""
        root = options.trainer.default_root_dir
        found = options.trainer.logger
        loggers = found if isinstance(found, list) else [found] if found else []
        for logger in loggers:
            given = getattr(logger, "init_args", None)
            if given is None:  # Lightning's choice
                return
            if "name" in given and given.name in UNNAMED and not _is(logger, WANDB_LOGGER):
                given.name = _name_of(options)
        if not loggers:
            self._runs = Path(root or ".", "runs", _name_of(options))
        elif _is(loggers[0], CSV_LOGGER):
            given = loggers[0].init_args
            self._runs = Path(root or "", given.save_dir, given.name or "")
            if given.version is not None:
                version = given.version
                self.folder = self._runs / (
                    version if isinstance(version, str) else f"version_{version}"
                )
                self.n_rows = 0

    def _find_requeued(self, options: Any) -> None:
        assert self._runs is not None
        folder = of_requeued_job(self._runs, self.words)
        if folder is None:
            return
        self.folder, self.n_rows = folder, 0
        last = folder / "checkpoints" / "last.ckpt"
        if last.is_file():
            options.ckpt_path = str(last)

    def _go_on_in(self, folder: Path | None) -> None:
        if folder is None:
            return
        if not os.access(folder, os.W_OK):
            rank_zero_warn(f"{folder} cannot be written; what is new goes into a run of its own")
            return
        self.folder, self.resumes = folder, True
        if on_rank_zero():
            how = "goes on in" if self.command == "fit" else "adds to"
            print(f"{how} {folder}", file=sys.stderr)

    def arrange(self, options: Any) -> None:
        """Set the loggers' options as this run needs them; what was typed is to be kept before."""
        found = options.trainer.logger
        loggers = found if isinstance(found, list) else [found] if found else []
        root = options.trainer.default_root_dir
        for i, logger in enumerate(loggers):
            given = getattr(logger, "init_args", None) or {}
            if root and given.get("save_dir") and "://" not in str(given["save_dir"]):
                given["save_dir"] = str(Path(root, given["save_dir"]))
            if _is(logger, CSV_LOGGER):
                logger.class_path = public_path(MetricsFile)
            elif i == 0 and self.folder and "version" in given:
                given["save_dir"] = str(self.folder.parent.parent)
                given["name"], given["version"] = self.folder.parent.name, self.folder.name
        if self.command == "predict" and isinstance(found, list):  # it logs nothing
            options.trainer.logger = [x for x in found if not _is(x, WANDB_LOGGER)]

    def start(self, loggers: Sequence[Any]) -> Path | None:
        """Make the run folder and have the metrics written there.

        Returns:
            The folder; None where loggers choose their own, and on ranks that do not write.
        """
        if self._runs is None or not on_rank_zero():
            return self.folder
        if self.folder is None:
            self.folder = claim(self._runs)
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
        if self.command == "fit":
            self._lock = hold(self.folder)
            with going_without("the note on the SLURM job"):
                note_job(self.folder, self.words)
        for logger in loggers[:1]:
            if isinstance(logger, MetricsFile):
                logger.place(self.folder, self.n_rows)
        return self.folder

    def said_of(self, stop: Interrupted) -> str:
        """Return a line on the end by a signal: how to go on."""
        return f"stopped by {stop}; {self.how_to_go_on()}"

    def how_to_go_on(self) -> str:
        """Return the command that goes on with this run, in words."""
        if self.command != "fit":
            return "type the command again"
        if self.last is None:
            return "there is nothing yet to go on from"
        return f"to go on: {command_to_go_on(PROG, self.words, self.last)}"

    @property
    def last(self) -> Path | None:
        """The checkpoint to go on from; None where there is none."""
        path = self.folder and self.folder / "checkpoints" / "last.ckpt"
        return path if path and self.command == "fit" and path.is_file() else None


class SaveConfig(SaveConfigCallback):
    """Writes ``config.yaml`` into the run folder: the options as they were typed, from which a new
    run starts, not the place of this one.

    Args:
        *args: see Lightning.
        typed: the options.
        **kwargs: see Lightning.
    """

    def __init__(self, *args: Any, typed: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._typed = self.config if typed is None else typed

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        log_dir = trainer.log_dir  # on every rank: it is broadcast
        if self.already_saved or log_dir is None or not trainer.is_global_zero:
            return
        self.already_saved = True
        path = Path(log_dir, self.config_filename)
        if stage == "predict" and path.exists():  # the run's own
            return
        text = self.parser.dump(self._typed, skip_none=False)
        with going_without(self.config_filename):
            replace_file(path, lambda file: file.write(text.encode()))


class WatchedRanks(pl.Callback):
    """Ends the run in a line where a process that this one has started is lost.

    Args:
        run: tells how to go on.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._watched = run, False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        children = getattr(trainer.strategy.launcher, "procs", None)
        if children and not self._watched:
            self._watched = True
            self._run.watcher = end_with_any(children, self._run.how_to_go_on)


WANDB_FOLDERS = {
    "WANDB_DATA_DIR": ("XDG_DATA_HOME", "~/.local/share"),
    "WANDB_CACHE_DIR": ("XDG_CACHE_HOME", "~/.cache"),
    "WANDB_CONFIG_DIR": ("XDG_CONFIG_HOME", "~/.config"),
}
"""Variables that say where W&B writes beside the run folder, and where it does without them."""
WANDB_BYTES = 2**18
"""Bytes that there must be room for, for W&B to begin."""


def wandb_cannot_write(folder: Path) -> str:
    """Return why W&B cannot write into a run folder, nothing where it can; what it writes into the
    user's home goes into the run folder where the home cannot be written."""
    trial = folder / ".wandb"
    try:
        trial.write_bytes(bytes(WANDB_BYTES))
    except OSError as error:
        return str(error.strerror)
    finally:
        trial.unlink(missing_ok=True)
    for variable, (xdg, usual) in WANDB_FOLDERS.items():
        place = Path(os.environ.get(xdg) or usual).expanduser() / "wandb"
        if os.environ.get(variable) is None:
            try:
                place.mkdir(parents=True, exist_ok=True)
                writable = os.access(place, os.W_OK)
            except OSError:
                writable = False
            if not writable:
                os.environ[variable] = str((folder / "wandb").absolute())
    return ""


def as_typed(options: Any) -> Any:
    """Return a copy of the options that starts a run of its own."""
    typed = copy.deepcopy(options)
    if "ckpt_path" in typed:
        typed.ckpt_path = None
    return typed


def requeue(stop: Interrupted) -> str:
    """Ask SLURM to start this job again; return what is to be said."""
    job = str(slurm_job())
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        reason = done.stderr.strip() or f"status {done.returncode}" if done.returncode else ""
    except OSError as error:
        reason = f"scontrol: {error.strerror}"
    if reason:
        return f"stopped by {stop}; SLURM does not start job {job} again ({reason})"
    return f"stopped by {stop}; SLURM starts job {job} again, which goes on by itself"


def lost_process(error: RuntimeError) -> str | None:
    """Return a line on an error that says that another process of the run has ended; None for any
    other error."""
    said = str(error)
    if "DataLoader worker" in said:
        found = re.search(r"pid\(?s?\)?:? *([\d, ]+)", said)
        who = f" (pid {found[1].strip()})" if found else ""
        return (
            f"a process that reads batches{who} was ended from outside, as where memory is short; "
            "lower data.num_workers"
        )
    lost = ("Connection closed by peer", "Connection reset by peer", "Timed out waiting", "gloo")
    if any(words in said for words in lost) or type(error).__name__.startswith("Dist"):
        return "another process of this run has ended, or does not answer; see what it said"
    return None


def _is(logger: Any, pattern: re.Pattern[str]) -> bool:
    return bool(pattern.fullmatch(str(getattr(logger, "class_path", ""))))


def _name_of(options: Any) -> str:
    """The name of a run: that of its experiment's file, else of its kind of data.

    A file of options is an experiment if it says something of the data; the ``config.yaml`` of a
    run folder has a name in it.
    """
    for config in reversed(options.get("config") or []):
        try:
            found = yaml.safe_load(Path(str(config)).read_text())
        except (OSError, ValueError, yaml.YAMLError):
            continue
        stem = Path(str(config)).stem
        if isinstance(found, dict) and "data" in found and stem != "config":
            return stem
    kind = str(options.data.class_path).rpartition(".")[2].removesuffix("DataModule")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower() or "data"
