"""Print the table after ``test``: the model beside the baselines, on the same frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from rnade_lightning.callbacks.fitted_baselines import Baseline, FittedBaselines
from rnade_lightning.callbacks.media import log_numbers, log_table
from rnade_lightning.datamodules import FrameDataModule
from rnade_lightning.density import FrameDensity
from rnade_lightning.run_files import going_without, write_csv, write_text


class Row(NamedTuple):
    """One row: means over the scored test frames, in standardised units."""

    name: str
    log_prob: float  # nats per frame, higher is better
    error_of_samples: float  # squared, summed over features
    error_of_mean: float
    bits_per_sample: float = math.nan  # of integer sound, lower is better


class Comparison(pl.Callback):
    """Prints a table after ``test``, and writes it to ``comparison.csv`` and ``comparison.md``. It
    has log p and the one-step squared errors of the model, of copying the last frame, and of a
    vector autoregression (VAR) with full covariance. If the process behind the data is known (the
    data module's ``process``), it has a row as well. Some kinds of data bring another rival (the
    data module's ``references``), such as an adaptive predictor of sound. Its row has no errors.
    For integer sound there is a column of bits per sample.

    The baselines are fitted on the training and validation frames (they have nothing to select). At
    most ``max_frames`` frames of the training part and of the test part are used. Errors are
    squared, summed over features and averaged over frames; copy and VAR are given their exact
    expected error of a draw.

    Args:
        n_lags: p of the VAR.
        ridge: its ridge penalty.
        n_samples: draws of each frame for the model's error of samples.
        n_mean: draws that estimate the model's predictive mean of each frame.
        max_frames: most frames of either part; the table tells how many were used.
    """

    def __init__(
        self,
        n_lags: int = 3,
        ridge: float = 0.1,
        n_samples: int = 10,
        n_mean: int = 100,
        max_frames: int = 20_000,
    ) -> None:
        self.n_samples, self.n_mean = n_samples, n_mean
        self.baselines = FittedBaselines(n_lags, ridge, max_frames)

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        log_dir = trainer.log_dir  # on every rank: it is broadcast
        if not trainer.is_global_zero or log_dir is None:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        known, test = self.baselines.known(data, "test"), self.baselines.scored(data, "test")
        first = self.baselines.first_scored(data)
        now = [sequence.frames for sequence in test]
        copy, var = self.baselines.fitted(data, "test")
        rows = [
            self._model_row(pl_module, now, first),
            _baseline_row(var, now, first),
            _baseline_row(copy, now, first),
        ]
        stretch = torch.cat([x.log_jacobian[first:] for x in test]).double().mean().item()
        rows = [row._replace(log_prob=row.log_prob + stretch) for row in rows]
        rows += _process_rows(data, now, first)  # of simulated data: what no model can pass
        for name, log_p in data.references(known, test).items():
            mean = torch.cat([x[first:] for x in log_p]).double().mean().item()
            rows.append(Row(name, mean, math.nan, math.nan))
        rows = [row._replace(bits_per_sample=_bits(data, row.log_prob)) for row in rows]
        n_frames = sum(len(frames) - first for frames in now)
        units = data.units
        if any(isinstance(m, FrameDensity) and m.shift_means for m in pl_module.model.modules()):
            units += (
                "; features are censored: the model's log p includes probabilities of the bounds "
                "and cannot be compared with that of the other rows"
            )
        self._write(Path(log_dir), rows, n_frames, "; ".join([units, *data.caveats]))
        log_table(trainer, "comparison/table", *_columns(rows))
        log_numbers(trainer, {
            f"comparison/{row.name.replace(' ', '_')}/{key}": value
            for row in rows
            for key, value in row._asdict().items()
            if key != "name" and not math.isnan(value)
        })  # fmt: skip

    @torch.no_grad()
    def _model_row(self, pl_module: Any, test: list[Tensor], first: int) -> Row:
        model = pl_module.model
        generator = torch.Generator(pl_module.device).manual_seed(0)
        log_p, of_samples, of_mean = [], [], []
        for frames in test:
            x = frames[None].to(pl_module.device)
            log_p.append(model.log_prob(x)[0, first:])
            draws = model.one_step_samples(x, n_samples=self.n_samples, generator=generator)
            of_samples.append((draws - x).square().sum(-1).mean(0)[0, first:])
            mean = model.predictive_mean(x, n_samples=self.n_mean, generator=generator)
            of_mean.append((mean - x).square().sum(-1)[0, first:])
        name = type(model).__name__
        return Row(
            name, *(torch.cat(v).double().mean().item() for v in (log_p, of_samples, of_mean))
        )

    def _write(self, folder: Path, rows: list[Row], n_frames: int, units: str) -> None:
        names, values = _columns(rows)
        filled = [["" if x != x else x for x in row] for row in values]
        head = ["model", *(_HEADS[key] for key in names[1:])]
        table = [head, ["---", *["---:"] * (len(head) - 1)], *map(_written, values)]
        lines = [f"| {' | '.join(cells)} |" for cells in table]
        note = (
            f"{n_frames} test frames, one step ahead, {units}. log p: higher is better; "
            f"errors are squared, summed over features. Model: {self.n_samples} draws a frame, "
            f"mean of {self.n_mean}."
        )
        print("\n" + "\n".join(_aligned(rows)) + "\n" + note)
        with going_without("the table"):
            write_csv(folder / "comparison.csv", [names, *filled])
            write_text(folder / "comparison.md", "\n".join([*lines, "", note, ""]))


_HEADS = {
    "log_prob": "log p, nats per frame",
    "error_of_samples": "error of samples",
    "error_of_mean": "error of mean",
    "bits_per_sample": "bits per sample",
}


def _columns(rows: list[Row]) -> tuple[Sequence[str], list[tuple[Any, ...]]]:
    """Return the names and values of the columns that hold something."""
    n = len(Row._fields) - math.isnan(rows[0].bits_per_sample)
    return Row._fields[:n], [tuple(row[:n]) for row in rows]


def _written(row: tuple[Any, ...]) -> list[str]:
    """Return the cells of a row. A missing number is empty, and bits have three digits."""
    digits = ("", ".2f", ".2f", ".2f", ".3f")
    return ["" if x != x else format(x, d) for x, d in zip(row, digits, strict=False)]


def _baseline_row(baseline: Baseline, test: list[Tensor], first: int) -> Row:
    log_p = torch.cat([baseline.log_prob(frames, first) for frames in test])
    errors = [baseline.squared_errors(frames, first) for frames in test]
    of_samples, of_mean = (torch.cat(parts) for parts in zip(*errors, strict=True))
    return Row(baseline.title, *(v.mean().item() for v in (log_p, of_samples, of_mean)))


def _process_rows(data: FrameDataModule, test: list[Tensor], first: int) -> list[Row]:
    """Return the row of the process that made the data; none where it is not known."""
    known = [process for process in map(data.process, test) if process is not None]
    if not known:
        return []
    found = [[part[first:] for part in process] for process in known]
    log_p, mean, variance = (torch.cat(parts) for parts in zip(*found, strict=True))
    of_mean = (torch.cat([frames[first:] for frames in test]) - mean).square().sum(-1)
    of_samples = of_mean + variance.sum(-1)
    return [Row("the process itself", *(v.mean().item() for v in (log_p, of_samples, of_mean)))]


def _bits(data: FrameDataModule, log_prob: float) -> float:
    """Return the bits per sample of integer sound; NaN for other data."""
    bits = data.bits_per_sample(log_prob)
    return math.nan if bits is None else bits


def _aligned(rows: list[Row]) -> list[str]:
    names, values = _columns(rows)
    head, widths = ["", *(_HEADS[key] for key in names[1:])], (26, 23, 18, 15, 17)
    return [
        "".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=False))
        )
        for cells in (head, *map(_written, values))
    ]
