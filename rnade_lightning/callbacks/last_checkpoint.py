"""Checkpoints that a run goes on from, to the end that it would have come to.

All are kept at one kind of moment: before a step begins, when everything of the step before it is
done, what callbacks, validation, schedulers and loggers do included. Lightning's own moments are
between callbacks: a state kept there lacks what comes after.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint, Timer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.rank_zero import rank_zero_warn

from rnade_lightning.run_files import MetricsFile
from rnade_lightning.signals import watch

Moment = Literal["between epochs", "inside an epoch", "at a cut end"]
"""When a state is kept: before an epoch (or after the last one), before a step inside an epoch, or
where training ends inside an epoch."""


PATIENCE = 10.0
"""Seconds that a signal waits for the end of a validation; after it, the state of the last step is
not kept, and the one before it is good. Schedulers give a process 30 seconds."""


class BestCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt``, the state with the best value of a metric. `LastCheckpoint` has it
    written, together with its own. The last of ``max_epochs`` is validated however rarely others
    are, so a run that comes there has a best state.

    Args:
        monitor: the metric.
        mode: whether less of it is better, or more.
        filename: name of the file, without ending.
    """

    def __init__(
        self,
        monitor: str = "val/nll",
        mode: Literal["min", "max"] = "min",
        filename: str = "best",
    ) -> None:
        super().__init__(
            monitor=monitor, mode=mode, filename=filename, enable_version_counter=False,
            save_on_train_epoch_end=True,
        )  # fmt: skip
        self._every: int | None = None  # how often the run validates, while this epoch is the last

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._judge_last(trainer)  # of a run that goes on inside its last epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._judge_last(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        if self._every is not None:
            trainer.check_val_every_n_epoch, self._every = self._every, None

    def _judge_last(self, trainer: pl.Trainer) -> None:
        """Have this epoch validated, if it is the last one."""
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if last and self._every is None and trainer.check_val_every_n_epoch is not None:
            self._every, trainer.check_val_every_n_epoch = trainer.check_val_every_n_epoch, 1

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: see `keep`."""

    def on_train_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: see `keep`."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nothing: see `keep`."""

    def keep(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file, if the metric is better than before."""
        if self.monitor not in trainer.callback_metrics:
            return
        before = self.state_dict() | {"best_k_models": dict(self.best_k_models)}
        try:
            super().on_train_epoch_end(trainer, pl_module)
            failed = ""
        except OSError as error:
            trainer.strategy.barrier("Trainer.save_checkpoint")  # the others are there
            failed = f"{error.filename}: {error.strerror}"
        failed = trainer.strategy.broadcast(failed)
        if failed:
            self.load_state_dict(before)
            rank_zero_warn(f"cannot write {failed}; the run goes on with the best one before it")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning's; the folder may have been moved, or be named from another place."""
        theirs, ours = state_dict["dirpath"], str(self.dirpath)

        def moved(path: str) -> str:
            inside = path and str(Path(path).parent) == str(Path(theirs))
            return str(Path(ours, Path(path).name)) if inside else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        state = state_dict | {name: moved(state_dict[name]) for name in paths}
        models = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state | {"best_k_models": models, "dirpath": self.dirpath})


class TimeLimit(Timer):
    """Ends training after some time (Lightning's ``max_time``), where it can be taken up again."""

    def over(self, trainer: pl.Trainer) -> bool:
        """Return whether the time is over, the same on all ranks."""
        left = self.time_remaining()
        over: bool = trainer.strategy.broadcast(left is not None and left <= 0)
        return over

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: `LastCheckpoint` asks before every step."""

    def on_train_epoch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        trainer.should_stop = trainer.should_stop or self.over(trainer)


class LastCheckpoint(pl.Callback):
    """Keeps ``checkpoints/last.ckpt`` in the run folder: the state after the last finished epoch,
    inside a long epoch also that of every so many steps, and at a signal (SIGTERM, SIGINT, SLURM's)
    that of the step it came in. Before the first step it is the state that training begins with.
    It must be the first of the callbacks.

    A run that goes on from it ends as one that was never stopped, bit for bit on a CPU. Inside an
    epoch this takes a loader that can go on (``state_dict`` and ``load_state_dict``, as the data
    modules' have); without, the last finished epoch is what is kept.

    Args:
        every_n_steps: optimiser steps between two states kept inside an epoch; 0 for none.
    """

    def __init__(self, every_n_steps: int = 1000) -> None:
        self.every_n_steps = every_n_steps
        self.has_trained = False  # whether training began, in this process
        self.failed = ""  # why the last state could not be written
        self._path: Path | None = None
        self._moment: Moment | None = None  # of the state that is being kept
        self._resumed: Moment | None = None
        self._kept_at = -1  # global step of the last state kept
        self._n_batches = 0  # done in this epoch
        self._validated = False  # since the last step
        self._forced = False  # by the end of training, inside an epoch: no run that goes on has it
        self._loaders: list[dict[str, Any]] | None = None  # their states after the last step

    # What is kept

    def state_dict(self) -> dict[str, Any]:
        return {"moment": self._moment}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed = state_dict["moment"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say how far the table of metrics was, and what was done, at this moment."""
        checkpoint["metrics_rows"] = _rows(trainer)
        if self._moment is None:
            return
        loop, done = checkpoint["loops"]["fit_loop"], "completed"
        if self._moment == "between epochs":
            _settle(loop["epoch_progress"], done)
            loop["state_dict"].pop("combined_loader", None)
            checkpoint["epoch"] = max(trainer.current_epoch - 1, 0)
            return
        batches = loop["epoch_loop.batch_progress"]
        _settle(batches, done)
        batches["is_last_batch"] = False
        loop["state_dict"]["combined_loader"] = self._loaders
        if self._moment == "at a cut end":  # Lightning takes the epoch for finished
            for part in loop["epoch_progress"].values():
                part["processed"] = part["completed"]
            checkpoint["epoch"] = loop["epoch_progress"]["current"]["completed"]
        elif self._validated:  # Lightning counts the step once more where it passes validation over
            loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1

    def _keep(self, trainer: pl.Trainer, pl_module: Any, moment: Moment) -> None:
        """Write the best state, if this is it, and the last one."""
        if self._path is None or self._kept_at == trainer.global_step:
            return
        self._moment, self._kept_at = moment, trainer.global_step
        judged = self._validated and not self._forced
        try:
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, BestCheckpoint) and (moment == "between epochs" or judged):
                    callback.keep(trainer, pl_module)
            try:
                trainer.save_checkpoint(self._path, weights_only=False)
                failed = ""
            except OSError as error:
                trainer.strategy.barrier("Trainer.save_checkpoint")  # the others are there
                failed = f"{self._path}: {error.strerror}"
        finally:
            self._moment = None
        self.failed = failed  # on the first rank, which writes
        if failed:
            good = "the one before it is good" if self._path.is_file() else "there is none yet"
            rank_zero_warn(f"cannot write {failed}; the run goes on, {good}")

    # When

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        log_dir = trainer.log_dir  # on every rank: it is broadcast
        if stage != "fit" or trainer.fast_dev_run or log_dir is None:  # type: ignore[attr-defined]
            return
        self._path = Path(log_dir, "checkpoints", "last.ckpt")
        if trainer.is_global_zero:
            for part in self._path.parent.glob(".*.ckpt"):  # of a process that was killed
                part.unlink(missing_ok=True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        watch.wait()
        self.has_trained = True
        resumed, self._resumed = self._resumed, None
        self._n_batches = 0
        if trainer.ckpt_path is None:
            self._keep(trainer, pl_module, "between epochs")
            return
        self._kept_at = trainer.global_step
        if resumed is not None:  # else Lightning's way to go on from a state of its own moments
            loop = trainer.fit_loop
            loop.restarting = False
            loop.epoch_loop.restarting = resumed != "between epochs"
            if resumed != "between epochs":
                self._n_batches = loop.epoch_loop.batch_progress.current.completed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._keep(trainer, pl_module, "between epochs")
        self._n_batches = 0
        if _wanted(trainer):
            watch.go_on()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        stop, over = _wanted(trainer), _time_is_over(trainer)
        due = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if batch_idx and self._loaders is not None and (stop or over or due or self._validated):
            self._keep(trainer, pl_module, "inside an epoch")
        waits = batch_idx and batch_idx % trainer.accumulate_grad_batches  # for the step's end
        if stop and not waits:
            watch.go_on()
        if over and not waits:
            trainer.should_stop = True
            raise StopIteration  # leaves the epoch before this step
        self._validated = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._n_batches, self._validated = batch_idx + 1, False
        stepped = self._n_batches % trainer.accumulate_grad_batches == 0
        self._loaders = _loader_states(trainer) if stepped else None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        inside = self._n_batches < trainer.num_training_batches
        self._forced = trainer.should_stop and inside

    def on_validation_batch_start(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        in_fit = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if in_fit and _wanted(trainer, PATIENCE):  # the last state kept is good
            watch.go_on()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._n_batches < trainer.num_training_batches and self._loaders is not None:
            self._keep(trainer, pl_module, "at a cut end")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._n_batches >= trainer.num_training_batches:
            self._keep(trainer, pl_module, "between epochs")
        watch.go_on()


def _settle(progress: dict[str, Any], to: str) -> None:
    """Set all counts of a loop's progress to one of them."""
    for part in ("total", "current"):
        counts = progress[part]
        counts.update(dict.fromkeys(counts, counts[to]))


def _rows(trainer: pl.Trainer) -> int | None:
    """Rows of the table of metrics, on the disk as far as they can be; None without a table."""
    for logger in trainer.loggers if trainer.is_global_zero else []:
        if isinstance(logger, MetricsFile):
            logger.save()
            return logger.n_rows
    return None


def _loader_states(trainer: pl.Trainer) -> list[dict[str, Any]] | None:
    """States of the training loaders; None where one cannot go on inside an epoch."""
    given = trainer.train_dataloader
    loaders = list(given.values()) if isinstance(given, dict) else given
    loaders = loaders if isinstance(loaders, list | tuple) else [loaders]
    if not all(hasattr(loader, "load_state_dict") for loader in loaders):
        return None
    return [loader.state_dict() for loader in loaders]


def _wanted(trainer: pl.Trainer, seconds: float = 0.0) -> bool:
    """Return whether a signal waits, for longer than some seconds, on any rank."""
    waits = watch.waited > seconds
    if trainer.world_size == 1:
        return waits
    any_: bool = trainer.strategy.reduce_boolean_decision(waits, all=False)
    if any_ and not waits:
        watch.pending = _SIGNAL_OF_ANOTHER_RANK
    return any_


def _time_is_over(trainer: pl.Trainer) -> bool:
    limits = [c for c in trainer.callbacks if isinstance(c, TimeLimit)]  # type: ignore[attr-defined]
    early = trainer.current_epoch >= (trainer.min_epochs or 0)
    early = early and trainer.global_step >= (trainer.min_steps or 0)
    return early and any([limit.over(trainer) for limit in limits])


_SIGNAL_OF_ANOTHER_RANK = 15
"""What a rank ends by where the signal came to another one: SIGTERM."""
