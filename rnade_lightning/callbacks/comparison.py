"""Print the table after ``test``: the model beside the baselines, on the same frames."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor
from tqdm import tqdm

from rnade_lightning.callbacks.fitted_baselines import PIECE, Baseline, FittedBaselines
from rnade_lightning.callbacks.media import log_numbers, log_table
from rnade_lightning.contexts import argument
from rnade_lightning.datamodules import FrameDataModule, FrameSequence
from rnade_lightning.datamodules.core.given import listed
from rnade_lightning.datamodules.core.sequences import Sequences
from rnade_lightning.datamodules.core.standardise import IGNORED
from rnade_lightning.density import FrameDensity
from rnade_lightning.run_files import going_without, write_csv, write_text


class Row(NamedTuple):
    """One row: means over the scored test frames, in standardised units."""

    name: str
    log_prob: float  # nats per frame, higher is better
    log_prob_of_others: float  # of the frames that break no relation, where some do
    error_of_samples: float  # squared, summed over features
    error_of_mean: float
    bits_per_sample: float = math.nan  # of integer sound, lower is better
    bits_per_sample_given: float = math.nan  # the same, given something that looks ahead


@dataclass
class _Sums:
    """Sums over frames, of one row."""

    log_p: float = 0.0
    of_others: float = 0.0
    n: int = 0
    n_others: int = 0
    of_samples: float = 0.0
    of_mean: float = 0.0
    n_errors: int = 0

    def add(self, log_p: Tensor, breaks: Tensor, errors: tuple[Tensor, Tensor] | None) -> None:
        """Add frames.

        Args:
            log_p: ``(T,)``.
            breaks: whether each breaks a relation of the training data, ``(T,)``.
            errors: of samples and of the mean of some of them, each ``(n,)``.
        """
        log_p = log_p.double().cpu()
        self.log_p += log_p.masked_fill(breaks, -math.inf).sum().item()
        self.of_others += log_p[~breaks].sum().item()
        self.n, self.n_others = self.n + len(log_p), self.n_others + int((~breaks).sum())
        if errors is not None:
            of_samples, of_mean = errors
            self.of_samples += of_samples.double().sum().item()
            self.of_mean += of_mean.double().sum().item()
            self.n_errors += len(of_samples)

    def row(self, name: str) -> Row:
        """Return the means."""
        some, n = self.n_others < self.n, self.n_errors or math.nan
        others = self.of_others / self.n_others if some and self.n_others else math.nan
        log_p = self.log_p / self.n if self.n else math.nan
        return Row(name, log_p, others, self.of_samples / n, self.of_mean / n)


class Comparison(pl.Callback):
    """Prints a table after ``test``, and writes it to ``comparison.csv`` and ``comparison.md``. It
    has log p and the one-step squared errors of the model, of copying the last frame, and of a
    vector autoregression (VAR), with Gaussian or Student errors. If the process behind the data is
    known (the data module's ``process``), it has a row as well. Some kinds of data bring another
    rival (the data module's ``references``), such as an adaptive predictor of sound. Its row has no
    errors. For integer sound there is a column of bits per sample.

    The baselines get the tuning that a model gets. Their options are chosen on the validation part,
    and written below the table. Then they are fitted on the training and validation frames. log p
    is over all test frames. Where there are more than ``max_frames``, errors are of every n-th one,
    and baselines are fitted on stretches of all files; the table says so. Errors are squared,
    summed over features and averaged over frames; copy and VAR are given their exact expected error
    of a draw.

    A frame that breaks a relation of the training data has density 0, under every row's density:
    log p is then -inf, and a column has the mean over the other frames.

    Args:
        max_lags: most lags of the VAR that are tried.
        n_samples: draws of each frame for the model's error of samples.
        n_mean: draws that estimate the model's predictive mean of each frame.
        max_frames: about how many frames the baselines are fitted to, and the errors are of.
    """

    def __init__(
        self,
        max_lags: int = 3,
        n_samples: int = 10,
        n_mean: int = 100,
        max_frames: int = 20_000,
    ) -> None:
        self.n_samples, self.n_mean = n_samples, n_mean
        self.baselines = FittedBaselines(max_lags, max_frames)

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        log_dir = trainer.log_dir  # on every rank: it is broadcast
        if not trainer.is_global_zero or log_dir is None:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        first, test = self.baselines.first_scored(data), self.baselines.scored(data, "test")
        sums = self._sums(pl_module, data, test, first)
        known = self.baselines.known_whole(data)
        references = _reference_rows(data, known, test, first)
        rows = [*(total.row(name) for name, total in sums.items() if total.n), *references]
        baselines = {baseline.title for baseline in self.baselines.fitted(data, "test")}
        columns = {row.name: "bits_per_sample" for row in references}  # which are given nothing
        rows = [
            _with_bits(row, data, columns.get(row.name, data.bits_name))
            if not (data.log_mass and row.name in baselines)  # a density is no code for integers
            else row
            for row in rows
        ]
        units = data.units
        if any(isinstance(m, FrameDensity) and m.shift_means for m in pl_module.model.modules()):
            units += (
                "; features are censored: the model's log p includes probabilities of the bounds "
                "and cannot be compared with that of the other rows"
            )
        of_model = next(iter(sums.values()))
        given = [] if data.given is None else [f"given and not modelled: {data.given}"]
        ignored = [name for name, why in data.dropped.items() if why == IGNORED]
        given += [f"ignored, and no part of log p: {listed(ignored)}"] if ignored else []
        note = self._note(of_model, "; ".join([units, *given, *data.caveats]))
        note += self._fitted_on(data, known if references else [])
        self._write(Path(log_dir), rows, of_model, note)
        log_table(trainer, "comparison/table", *_columns(rows))
        log_numbers(trainer, {
            f"comparison/{row.name.replace(' ', '_')}/{key}": value
            for row in rows
            for key, value in row._asdict().items()
            if key != "name" and not math.isnan(value)
        })  # fmt: skip

    def _sums(
        self, pl_module: Any, data: FrameDataModule, test: Sequences, first: int
    ) -> dict[str, _Sums]:
        """Return the sums of the rows that have errors, by name, the model's first; a process that
        is not known has no frames."""
        every = max(-(-sum(test.lengths) // self.baselines.max_frames), 1)
        copy, var = self.baselines.fitted(data, "test")
        model, process = _Sums(), _Sums()
        of_baselines = [(var, _Sums()), (copy, _Sums())]
        generator = torch.Generator(pl_module.device).manual_seed(0)
        bar = tqdm(total=sum(test.lengths), desc="comparison", unit="frame", disable=None)
        for sequence in test:
            added = sequence.log_jacobian[first:].double()
            breaks = added.isneginf()
            added = added.masked_fill(breaks, 0.0)
            pieces = []
            for at, log_p, errors in self._of_model(pl_module, sequence, first, every, generator):
                span = slice(at, at + len(log_p))
                pieces.append(log_p.double().cpu() + added[span])
                model.add(pieces[-1], breaks[span], errors)
                bar.update(len(log_p))
            data.check_likelihood(sequence.name, torch.cat(pieces)[~breaks].numpy())
            for baseline, total in of_baselines:
                log_p, errors = _of_baseline(baseline, sequence, first, every)
                total.add(log_p + added, breaks, errors)
            if (known := data.process(sequence.frames)) is not None:
                log_p, errors = _of_process(sequence, known, first, every)
                process.add(log_p, breaks, errors)
            bar.update(first)
        bar.close()
        rows = {type(pl_module.model).__name__: model}
        rows |= {baseline.title: total for baseline, total in of_baselines}
        return rows | {"the process itself": process}  # of simulated data: no model can pass it

    @torch.no_grad()
    def _of_model(
        self,
        pl_module: Any,
        sequence: FrameSequence,
        first: int,
        every: int,
        generator: torch.Generator,
    ) -> Iterator[tuple[int, Tensor, tuple[Tensor, Tensor] | None]]:
        """Yield the scored frames of a sequence in pieces: the number of the piece's first one,
        counted from the first one scored; log p; and the errors of every n-th frame, if any."""
        model, u, start = pl_module.model, None, 0
        for piece in sequence.frames[None].split(PIECE, 1):
            x = piece.to(pl_module.device)
            history, u = model.states(x, u, **argument(sequence.context_of(start, x)))
            skip, offset = max(first - start, 0), -start % every
            log_p = model.log_prob_given(history, x)[0, skip:]
            x, history = x[:, offset::every], history[:, offset::every]
            at = max(start - first, 0)
            start += piece.shape[1]
            if not x.shape[1] or model.context_by_feature:  # which draws would change
                yield at, log_p, None
                continue
            draws = model.sample_given(history, (self.n_samples,), generator)
            mean = model.mean_given(history, self.n_mean, generator)
            unscored = max(-(-(skip - offset) // every), 0)
            of_samples = (draws - x).square().sum(-1).mean(0)[0, unscored:]
            of_mean = (mean - x).square().sum(-1)[0, unscored:]
            yield at, log_p, (of_samples, of_mean)

    def _note(self, sums: _Sums, units: str) -> str:
        """Return what the figures are of, in words."""
        frames = f"{sums.n} test frames"
        if sums.n_others < sums.n:
            frames += (
                f", of which {sums.n - sums.n_others} break a relation of the training data, so "
                "that their density is 0 (score names the feature)"
            )
        some = f" (of {sums.n_errors} frames, spread over all files)"
        return (
            f"{frames}, one step ahead, {units}. log p: higher is better; "
            f"errors are squared, summed over features{some * (sums.n_errors < sums.n)}. Model: "
            f"{self.n_samples} draws a frame, mean of {self.n_mean}."
        )

    def _fitted_on(self, data: FrameDataModule, whole: list[FrameSequence]) -> str:
        """Return the options of the baselines and, if not of all, of how many frames they are.

        Args:
            data: the data.
            whole: sequences that further rivals are fitted to.
        """
        said = f" Baselines: {self.baselines.options(data)}."
        n, n_known = self.baselines.n_known(data)
        if n >= n_known:
            return said
        n_whole = sum(len(sequence.frames) for sequence in whole)
        others = f", those below them on {n_whole}, of whole sequences" if n_whole else ""
        return f"{said} They are fitted on {n} of {n_known} frames, spread over all files{others}."

    def _write(self, folder: Path, rows: list[Row], sums: _Sums, note: str) -> None:
        heads = _HEADS | {"log_prob_of_others": f"of the other {sums.n_others} of {sums.n} frames"}
        names, values = _columns(rows)
        filled = [["" if x != x else x for x in row] for row in values]
        cells = [["", *(heads[key] for key in names[1:])], *(_written(names, r) for r in values)]
        head = ["model", *cells[0][1:]]
        table = [head, ["---", *["---:"] * (len(head) - 1)], *cells[1:]]
        lines = [f"| {' | '.join(cells)} |" for cells in table]
        print("\n" + "\n".join(_aligned(cells)) + "\n" + note)
        with going_without("the table"):
            write_csv(folder / "comparison.csv", [names, *filled])
            write_text(folder / "comparison.md", "\n".join([*lines, "", note, ""]))


_HEADS = {
    "log_prob": "log p, nats per frame",
    "error_of_samples": "error of samples",
    "error_of_mean": "error of mean",
    "bits_per_sample": "bits per sample",
    "bits_per_sample_given": "bits per sample, given (no code length)",
}


def _columns(rows: list[Row]) -> tuple[Sequence[str], list[tuple[Any, ...]]]:
    """Return the names and values of the columns that hold something."""
    empty = ("log_prob_of_others", "bits_per_sample", "bits_per_sample_given")
    held = {key for key in empty for row in rows if not math.isnan(getattr(row, key))}
    kept = [i for i, key in enumerate(Row._fields) if key not in empty or key in held]
    return [Row._fields[i] for i in kept], [tuple(row[i] for i in kept) for row in rows]


def _written(names: Sequence[str], row: tuple[Any, ...]) -> list[str]:
    """Return the cells of a row. A missing number is empty, and bits have three digits."""
    digits = {"name": "", "bits_per_sample": ".3f", "bits_per_sample_given": ".3f"}
    pairs = zip(names, row, strict=True)
    return ["" if x != x else format(x, digits.get(key, ".2f")) for key, x in pairs]


def _of_baseline(
    baseline: Baseline, sequence: FrameSequence, first: int, every: int
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    frames = sequence.with_context()
    of_samples, of_mean = baseline.squared_errors(frames, first)
    some = slice(-first % every, None, every)
    return baseline.log_prob(frames, first), (of_samples[some], of_mean[some])


def _of_process(
    sequence: FrameSequence, process: tuple[Tensor, Tensor, Tensor], first: int, every: int
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the figures of the process that made the data."""
    log_p, mean, variance = (part[first:] for part in process)
    of_mean = (sequence.frames[first:] - mean).square().sum(-1)
    some = slice(-first % every, None, every)
    return log_p, ((of_mean + variance.sum(-1))[some], of_mean[some])


def _reference_rows(
    data: FrameDataModule, known: Sequence[FrameSequence], test: Sequence[FrameSequence], first: int
) -> list[Row]:
    """Return the rows of further rivals that this kind of data brings."""
    rows = []
    for name, found in data.references(known, test).items():
        sums = _Sums()
        for log_p, sequence in zip(found, test, strict=True):
            sums.add(log_p[first:], sequence.log_jacobian[first:].isneginf(), None)
        rows.append(sums.row(name))
    return rows


def _with_bits(row: Row, data: FrameDataModule, column: str) -> Row:
    """Return a row with the bits per sample of integer sound in their column."""
    bits = data.bits_per_sample(row.log_prob)
    found: dict[str, Any] = {} if bits is None else {column: bits}
    return row._replace(**found)


def _aligned(cells: list[list[str]]) -> list[str]:
    """Return lines whose columns stand below each other."""
    widths = [max(map(len, column)) + 2 for column in zip(*cells, strict=True)]
    return [
        "".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
