"""Print the table after ``test``: the model beside the baselines, on the same frames."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from tqdm import tqdm

from rnade_lightning.callbacks.comparison_rows import (
    HEADS,
    PROCESS,
    Errors,
    Row,
    Sums,
    block_of,
    blocks_of,
    cell,
    columns_of,
    errors_of,
    leader_of,
    rows_of,
)
from rnade_lightning.callbacks.fitted_baselines import PIECE, Baseline, FittedBaselines
from rnade_lightning.callbacks.media import log_numbers, log_table
from rnade_lightning.contexts import argument
from rnade_lightning.datamodules import FrameDataModule, FrameSequence
from rnade_lightning.datamodules.core.given import listed
from rnade_lightning.datamodules.core.sequences import Sequences
from rnade_lightning.datamodules.core.standardise import IGNORED
from rnade_lightning.density import FrameDensity
from rnade_lightning.run_files import going_without, write_csv, write_text
from rnade_lightning.scoring import energy_score


class Comparison(pl.Callback):
    """Prints a table after ``test``, and writes it to ``comparison.csv`` and ``comparison.md``. It
    has log p and the one-step squared errors of the model, of copying the last frame, and of a
    vector autoregression (VAR), with Gaussian or Student errors. If the process behind the data is
    known (the data module's ``process``), it has a row as well. Some kinds of data bring another
    rival (the data module's ``references``), such as an adaptive predictor of sound. Its row has no
    errors. For integer sound there is a column of bits per sample.

    log p has a standard error over test frames, by a bootstrap of blocks of a second (whole files
    of sound), and so has every row's difference to the model, frame by frame. The best log p is
    bold if it is above every other by more than two errors of their difference. The energy score is
    a proper score of the same draws as the error of samples, lower is better.

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
        n_samples: draws of each frame for the model's error of samples and, from two on, its
            energy score.
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
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}")
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
        references = _references(data, known, test, first)
        sums = {name: total for name, total in (sums | references).items() if total.n}
        censored = any(
            isinstance(m, FrameDensity) and m.shift_means for m in pl_module.model.modules()
        )
        alone = set(sums) if censored else set()
        if data.log_mass:  # a density is no code for integers
            alone = {baseline.title for baseline in self.baselines.fitted(data, "test")}
        rows = rows_of(sums, block := block_of(data), alone)
        columns = dict.fromkeys(references, "bits_per_sample")  # which are given nothing
        rows = [
            _with_bits(row, data, columns.get(row.name, data.bits_name))
            if not (data.log_mass and row.name in alone)
            else row
            for row in rows
        ]
        units = data.units
        if censored:
            units += (
                "; features are censored: the model's log p includes probabilities of the bounds "
                "and cannot be compared with that of the other rows"
            )
        of_model = next(iter(sums.values()))
        given = [] if data.given is None else [f"given and not modelled: {data.given}"]
        ignored = [name for name, why in data.dropped.items() if why == IGNORED]
        given += [f"ignored, and no part of log p: {listed(ignored)}"] if ignored else []
        note = self._note(of_model, "; ".join([units, *given, *data.caveats]))
        note += errors_of(of_model, block) + self._fitted_on(data, known if references else [])
        self._write(Path(log_dir), rows, of_model, note, leader_of(sums, block, alone))
        with going_without("the blocks of the table"):
            write_csv(Path(log_dir, "comparison_blocks.csv"), blocks_of(sums, block, alone))
        names, values = columns_of(rows)
        cells = [[None if x != x else x for x in row] for row in values]
        log_table(trainer, "comparison/table", names, cells)
        log_numbers(trainer, {
            f"comparison/{row.name.replace(' ', '_')}/{key}": value
            for row in rows
            for key, value in row._asdict().items()
            if key != "name" and not math.isnan(value)
        })  # fmt: skip

    def _sums(
        self, pl_module: Any, data: FrameDataModule, test: Sequences, first: int
    ) -> dict[str, Sums]:
        """Return the sums of the rows that have errors, by name, the model's first; a process that
        is not known has no frames."""
        every = max(-(-sum(test.lengths) // self.baselines.max_frames), 1)
        copy, var = self.baselines.fitted(data, "test")
        model, process = Sums(), Sums()
        of_baselines = [(var, Sums()), (copy, Sums())]
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
                model.add(pieces[-1], breaks[span], errors, len(pieces) == 1)
                bar.update(len(log_p))
            data.check_likelihood(sequence.name, torch.cat(pieces)[~breaks].numpy())
            for baseline, total in of_baselines:
                log_p, errors = _of_baseline(baseline, sequence, first, every, self.n_samples)
                total.add(log_p + added, breaks, errors, True)
            if (known := data.process(sequence.frames)) is not None:
                log_p, errors = _of_process(sequence, known, first, every)
                process.add(log_p, breaks, errors, True)
            bar.update(first)
        bar.close()
        rows = {type(pl_module.model).__name__: model}
        rows |= {baseline.title: total for baseline, total in of_baselines}
        return rows | {PROCESS: process}  # of simulated data: no model can pass it

    @torch.no_grad()
    def _of_model(
        self,
        pl_module: Any,
        sequence: FrameSequence,
        first: int,
        every: int,
        generator: torch.Generator,
    ) -> Iterator[tuple[int, Tensor, Errors | None]]:
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
            yield at, log_p, (of_samples, of_mean, energy_score(draws, x)[0, unscored:])

    def _note(self, sums: Sums, units: str) -> str:
        """Return what the figures are of, in words."""
        frames = f"{sums.n} test frames"
        if sums.n_others < sums.n:
            frames += (
                f", of which {sums.n - sums.n_others} break a relation of the training data, so "
                "that their density is 0 (score names the feature)"
            )
        some = f" (of {sums.n_errors} frames, spread over all files)"
        score = f" The energy score is of {self.n_samples} draws a frame too, lower is better."
        return (
            f"{frames}, one step ahead, {units}. log p: higher is better; "
            f"errors are squared, summed over features{some * (sums.n_errors < sums.n)}. Model: "
            f"{self.n_samples} draws a frame, mean of {self.n_mean}.{score * (self.n_samples > 1)}"
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

    def _write(
        self, folder: Path, rows: list[Row], sums: Sums, note: str, leader: str | None
    ) -> None:
        names, values = columns_of(rows)
        filled = [["" if x != x else x for x in row] for row in values]
        others = f"of the other {sums.n_others} of {sums.n} frames"
        texts = {key: [cell(key, row) for row in rows] for key in names if key in HEADS}
        heads = [HEADS[key].format(others=others, model=rows[0].name) for key in texts]
        cells = [
            ["", *heads],
            *map(list, zip((r.name for r in rows), *texts.values(), strict=True)),
        ]
        bold = [
            [f"**{text}**" if row[0] == leader and i < 2 else text for i, text in enumerate(row)]
            for row in cells[1:]
        ]
        table = [["model", *heads], ["---", *["---:"] * len(heads)], *bold]
        lines = [f"| {' | '.join(cells)} |" for cells in table]
        print("\n" + "\n".join(_aligned(cells)) + "\n" + note)
        with going_without("the table"):
            write_csv(folder / "comparison.csv", [names, *filled])
            write_text(folder / "comparison.md", "\n".join([*lines, "", note, ""]))


def _of_baseline(
    baseline: Baseline, sequence: FrameSequence, first: int, every: int, n_samples: int
) -> tuple[Tensor, Errors]:
    frames, some = sequence.with_context(), slice(-first % every, None, every)
    errors = *baseline.squared_errors(frames, first), baseline.energy(frames, first, n_samples)
    of_samples, of_mean, energy = (e[some] for e in errors)
    return baseline.log_prob(frames, first), (of_samples, of_mean, energy)


def _of_process(
    sequence: FrameSequence, process: tuple[Tensor, Tensor, Tensor], first: int, every: int
) -> tuple[Tensor, Errors]:
    """Return the figures of the process that made the data; it has no energy score."""
    log_p, mean, variance = (part[first:] for part in process)
    of_mean = (sequence.frames[first:] - mean).square().sum(-1)
    some = slice(-first % every, None, every)
    none = torch.full_like(of_mean, math.nan)[some]
    return log_p, ((of_mean + variance.sum(-1))[some], of_mean[some], none)


def _references(
    data: FrameDataModule, known: Sequence[FrameSequence], test: Sequence[FrameSequence], first: int
) -> dict[str, Sums]:
    """Return the rows of further rivals that this kind of data brings."""
    found = {}
    for name, of in data.references(known, test).items():
        sums = found[name] = Sums()
        for log_p, sequence in zip(of, test, strict=True):
            sums.add(log_p[first:], sequence.log_jacobian[first:].isneginf(), None, True)
    return found


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
