"""The rows of the table after ``test``: means, their errors, and which row is ahead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnade_lightning.datamodules import FrameDataModule
from rnade_lightning.scoring import LEAST_BLOCKS, ahead, block_sums, standard_error


class Row(NamedTuple):
    """One row: means over the scored test frames, in standardised units."""

    name: str
    log_prob: float  # nats per frame, higher is better
    log_prob_of_others: float  # of the frames that break no relation, where some do
    error_of_samples: float  # squared, summed over features
    error_of_mean: float
    energy_score: float  # lower is better
    bits_per_sample: float = math.nan  # of integer sound, lower is better
    bits_per_sample_given: float = math.nan  # the same, given something that looks ahead
    log_prob_error: float = math.nan  # standard errors: of log p, of the frames that break nothing,
    difference: float = math.nan  # and of what it is above the model's, frame by frame
    difference_error: float = math.nan


Errors = tuple[Tensor, Tensor, Tensor]
"""Squared errors of samples and of the mean, and energy scores, of some frames, each ``(n,)``."""


@dataclass
class Sums:
    """Sums over frames, of one row."""

    log_p: float = 0.0
    of_others: float = 0.0
    n: int = 0
    n_others: int = 0
    of_samples: float = 0.0
    of_mean: float = 0.0
    energy: float = 0.0
    n_errors: int = 0
    values: list[Tensor] = field(default_factory=list)  # log p that the errors are of, by sequence

    def add(self, log_p: Tensor, breaks: Tensor, errors: Errors | None, begins: bool) -> None:
        """Add frames.

        Args:
            log_p: ``(T,)``.
            breaks: whether each breaks a relation of the training data, ``(T,)``.
            errors: of some of them.
            begins: whether a sequence begins with them.
        """
        log_p = log_p.double().cpu()
        if begins:
            self.values.append(log_p[:0])
        self.values[-1] = torch.cat((self.values[-1], log_p[~breaks]))
        self.log_p += log_p.masked_fill(breaks, -math.inf).sum().item()
        self.of_others += log_p[~breaks].sum().item()
        self.n, self.n_others = self.n + len(log_p), self.n_others + int((~breaks).sum())
        if errors is not None:
            of_samples, of_mean, energy = errors
            self.of_samples += of_samples.double().sum().item()
            self.of_mean += of_mean.double().sum().item()
            self.energy += energy.double().sum().item()
            self.n_errors += len(of_samples)

    def row(self, name: str) -> Row:
        """Return the means."""
        some, n = self.n_others < self.n, self.n_errors or math.nan
        others = self.of_others / self.n_others if some and self.n_others else math.nan
        log_p = self.log_p / self.n if self.n else math.nan
        return Row(name, log_p, others, self.of_samples / n, self.of_mean / n, self.energy / n)


HEADS = {
    "log_prob": "log p, nats per frame",
    "log_prob_of_others": "{others}",
    "difference": "above {model}",
    "error_of_samples": "error of samples",
    "error_of_mean": "error of mean",
    "energy_score": "energy score",
    "bits_per_sample": "bits per sample",
    "bits_per_sample_given": "bits per sample, given (no code length)",
}
"""Columns of the table for people; errors stand beside what they are of."""
PROCESS = "the process itself"


def columns_of(rows: list[Row]) -> tuple[Sequence[str], list[tuple[Any, ...]]]:
    """Return the names and values of the columns that hold something."""
    always = ("name", "log_prob", "error_of_samples", "error_of_mean")
    kept = [
        i
        for i, key in enumerate(Row._fields)
        if key in always or any(not math.isnan(getattr(row, key)) for row in rows)
    ]
    return [Row._fields[i] for i in kept], [tuple(row[i] for i in kept) for row in rows]


def cell(key: str, row: Row) -> str:
    """Return a number with its error. A missing one is empty, and bits have three digits."""
    value, digits = getattr(row, key), 3 if key.startswith("bits_per_sample") else 2
    if math.isnan(value):
        return ""
    has = {
        "log_prob_of_others": row.log_prob_error,
        "log_prob": row.log_prob_error if math.isfinite(row.log_prob) else math.nan,
        "difference": row.difference_error,
    }
    error = has.get(key, math.nan)
    return f"{value:.{digits}f}" + ("" if math.isnan(error) else f" ± {error:.2f}")


def rows_of(sums: dict[str, Sums], block: int | None, alone: AbstractSet[str]) -> list[Row]:
    """Return the rows; those ``alone`` are not compared with the model, the first."""
    rows, ours = list[Row](), next(iter(sums.values()))
    for name, total in sums.items():
        row = total.row(name)._replace(log_prob_error=standard_error(total.values, block))
        if total is not ours and name not in alone:
            above, error = difference(total, ours, block)
            row = row._replace(difference=above, difference_error=error)
        rows.append(row)
    return rows


def blocks_of(sums: dict[str, Sums], block: int | None, alone: AbstractSet[str]) -> list[list[Any]]:
    """Return the blocks of the bootstrap as a table: the frames of each, and their log p by row, so
    that runs can be compared in pairs; of the model, and of what is compared with it."""
    first, *others = sums
    kept = [first, *(name for name in others if name not in alone)]
    of_rows = [block_sums(sums[name].values, block)[0].tolist() for name in kept]
    counts = block_sums(sums[first].values, block)[1].long().tolist()
    return [["frames", *kept], *map(list, zip(counts, *of_rows, strict=True))]


def difference(one: Sums, other: Sums, block: int | None) -> tuple[float, float]:
    """Return how much log p of one row is above that of another, and the error of that."""
    pairs = [a - b for a, b in zip(one.values, other.values, strict=True)]
    sums, counts = block_sums(pairs, block)
    return (sums.sum() / counts.sum()).item(), standard_error(pairs, block)


def leader_of(sums: dict[str, Sums], block: int | None, alone: AbstractSet[str]) -> str | None:
    """Return the row whose log p is above every other's by more than two errors, if one is."""
    models = {name: total for name, total in sums.items() if name not in (*alone, PROCESS)}
    for name, total in models.items():
        if ahead(difference(total, o, block) for o in models.values() if o is not total):
            return name
    return None


def block_of(data: FrameDataModule) -> int | None:
    """Return the frames of a block of the bootstrap; None for whole sequences."""
    seconds = data.error_seconds
    return None if seconds is None else max(round(seconds * data.frame_rate), _LEAST_BLOCK)


_LEAST_BLOCK = 10
"""Frames of a block, at least, where seconds say nothing, as of data of one frame a second."""


def errors_of(of_model: Sums, block: int | None) -> str:
    """Return what the errors of log p are, in words."""
    n, of = len(block_sums(of_model.values, block)[0]), "whole files"
    of = of if block is None else f"blocks of {block} frames"
    if n < LEAST_BLOCKS:
        return f" log p has no errors: {n} {of} are too few, {LEAST_BLOCKS} are needed."
    return f" ± of log p and of differences: one standard error, by a bootstrap of {n} {of}."
