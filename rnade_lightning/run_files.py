"""Files of a run that are good at every moment: checkpoints and the table of metrics.

A file is written beside its place, brought to the disk and renamed, so that a process that is
killed leaves the old one or the new one. Rows of metrics are added to the end of theirs; a
checkpoint says how many there were, and a run that goes on from it drops the rest.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pytorch_lightning.core.saving import save_hparams_to_yaml
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.rank_zero import rank_zero_only, rank_zero_warn

from rnade_lightning.datamodules.core.store import whole_file
from rnade_lightning.datamodules.core.tables import plain_rows


def replace_file(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file as `whole_file` does, and bring it to the disk before it takes its place.

    Args:
        path: its place; its folder is made.
        write: writes to the open file.

    Raises:
        OSError: it cannot be written; what was in its place is still there.
    """
    try:
        with whole_file(path) as part, part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    if hasattr(os, "O_DIRECTORY"):  # the rename too
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Write a text as `replace_file` does."""
    replace_file(path, lambda file: file.write(text.encode()))


def write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows, the header first, as `replace_file` does; no cell is a formula."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(plain_rows(rows))
    write_text(path, buffer.getvalue())


@contextmanager
def going_without(what: str) -> Iterator[None]:
    """Say what cannot be written inside the block, and let the run go on without it."""
    try:
        yield
    except OSError as error:
        at = f" ({error.filename})" if error.filename else ""
        rank_zero_warn(f"{what} cannot be written{at}: {error.strerror}; the run goes on without")


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, each written beside its place and renamed: Lightning's own way to do
    that passes through TMPDIR, which may be on another disk."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        buffer = io.BytesIO()  # torch hides the reason where it cannot write to a file itself
        torch.save(checkpoint, buffer)
        replace_file(Path(path), lambda file: file.write(buffer.getbuffer()))


class MetricsFile(CSVLogger):
    """Lightning's CSV logger, which goes on in the file that is there.

    Args:
        save_dir: folder of all runs.
        name: folder of the runs of this name, in it.
        version: number or name of the run; the next number if not given.
        prefix: put before every key.
        flush_logs_every_n_steps: steps between two times that rows are written.
    """

    def __init__(
        self,
        save_dir: str,
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        prefix: str = "",
        flush_logs_every_n_steps: int = 100,
    ) -> None:
        super().__init__(save_dir, name, version, prefix, flush_logs_every_n_steps)
        self._place: Path | None = None
        self._n_kept: int | None = None

    def place(self, folder: Path, n_rows: int | None) -> None:
        """Write into a run folder.

        Args:
            folder: the folder.
            n_rows: rows of the file in it that are kept; None for all.
        """
        self._place, self._n_kept = folder, n_rows

    @property
    def log_dir(self) -> str:
        return super().log_dir if self._place is None else str(self._place)

    @property
    def save_dir(self) -> str:
        return super().save_dir if self._place is None else str(self._place.parent.parent)

    @property
    def name(self) -> str:
        return super().name if self._place is None else self._place.parent.name

    @property
    def version(self) -> int | str:
        return super().version if self._place is None else self._place.name

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The rows; made when it is first asked for."""
        if self._experiment is None:
            self._experiment = MetricRows(Path(self.log_dir), self._n_kept)  # type: ignore[assignment]
        return self._experiment

    @property
    def n_rows(self) -> int:
        """Rows that were logged so far."""
        rows = self.experiment
        return rows.n_written + len(rows.metrics) if isinstance(rows, MetricRows) else 0

    @rank_zero_only
    def log_hyperparams(self, params: Any = None) -> None:
        super().log_hyperparams(params)


class MetricRows:
    """Rows of ``metrics.csv``: those on the disk, and those to be written.

    Args:
        folder: the run folder.
        n_kept: rows of a file that is there which are kept; None for all.

    Attributes:
        metrics: rows to be written.
        n_written: rows on the disk.
    """

    def __init__(self, folder: Path, n_kept: int | None = None) -> None:
        self.folder, self.path = folder, folder / "metrics.csv"
        self.metrics: list[dict[str, Any]] = []
        self.hparams: dict[str, Any] = {}
        self.keys: list[str] = []
        self.n_written, self._warned = 0, False
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.is_file():
            rows = self._read()
            self.n_written = len(rows)
            if n_kept is not None and n_kept < len(rows):
                self._rewrite(rows[:n_kept])

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row; tensors become numbers."""
        row = {k: v.item() if isinstance(v, torch.Tensor) else v for k, v in metrics.items()}
        row["step"] = self.n_written + len(self.metrics) if step is None else step
        self.metrics.append(row)

    def log_hparams(self, params: dict[str, Any]) -> None:
        """Write hyperparameters to ``hparams.yaml``."""
        self.hparams.update(params)
        with going_without("hparams.yaml"):
            save_hparams_to_yaml(str(self.folder / "hparams.yaml"), self.hparams)

    def save(self) -> None:
        """Write the rows that were added; where that fails, say so once, and keep them for the next
        time."""
        if not self.metrics:
            return
        new = set().union(*self.metrics) - set(self.keys)
        try:
            if new or not self.path.is_file():
                rows = self._read() if self.path.is_file() else []
                self.keys = sorted({*self.keys, *new})
                self._rewrite([*rows, *self.metrics])
            else:
                self._append(self._text(self.metrics, header=False))
                self.n_written += len(self.metrics)
        except OSError as error:
            if not self._warned:
                rank_zero_warn(
                    f"{self.path} cannot be written: {error.strerror}; the run goes on, and rows "
                    "wait in memory"
                )
            self._warned = True
            return
        self.metrics = []

    def _read(self) -> list[dict[str, Any]]:
        """The rows on the disk; a last one that is cut is none."""
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1].decode()
        reader = csv.DictReader(io.StringIO(whole, newline=""))
        rows = list(reader)
        self.keys = sorted({*self.keys, *(reader.fieldnames or ())})
        if len(whole.encode()) < len(text):
            self._rewrite(rows)
        return rows

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        text = self._text(rows, header=True)
        replace_file(self.path, lambda file: file.write(text))
        self.n_written = len(rows)

    def _append(self, text: bytes) -> None:
        size = self.path.stat().st_size
        try:
            with open(self.path, "ab") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            os.truncate(self.path, size)
            raise

    def _text(self, rows: list[dict[str, Any]], header: bool) -> bytes:
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, fieldnames=self.keys)
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return buffer.getvalue().encode()
