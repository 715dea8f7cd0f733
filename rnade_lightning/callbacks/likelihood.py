r"""Show where the likelihood comes from, what it has to beat, and whether it means anything.

Conventions:
    log p in nats, standardised units. Where frames are a transformation of the data that stretches
    them by an amount that depends on the data (``log_jacobian``), that of a frame includes it and
    is of the data; that of a feature is of the frame as it is modelled. PIT is the predictive
    distribution function at the data, $F(x_d | x_{<d}, \text{past})$; its KS distance,
    $\sup_u |\hat F(u) - u|$, is near 0 for a model that is calibrated, and at most 1. Figures are
    over the scored frames that have a density: a frame that
    breaks a relation of the training data has none, and stands at -inf in log p of every frame.

    A feature is *degenerate* when on more than half of its frames the density is higher than that
    of a Gaussian at its peak whose deviation is twice the floor (or, without a floor, a hundred
    thousandth of the feature's own): its log p then says how low the floor is, and little of the
    data.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from rnade_lightning.callbacks.fitted_baselines import PIECE, Baseline, FittedBaselines
from rnade_lightning.callbacks.likelihood_picture import FeatureRow, draw_likelihood
from rnade_lightning.callbacks.media import log_media, log_numbers, log_table
from rnade_lightning.contexts import argument
from rnade_lightning.datamodules import FrameDataModule, FrameSequence
from rnade_lightning.datamodules.core.sequences import Sequences
from rnade_lightning.run_files import going_without, replace_file, write_csv

Array = npt.NDArray[np.float64]

RESOLUTION = 1e-5
"""Of a feature, in its standard deviations; what is narrower is an artefact of storage."""
CHUNK = 256
"""Frames in one call of the model."""


@dataclass(frozen=True)
class Figures:
    """Figures of some sequences.

    Attributes:
        by_frame: log p ``(T,)`` of every n-th frame, by sequence.
        step: n.
        added: what was added to the terms of the scored frames, ``(N,)``.
        scored: log p ``(N, D)`` of the scored frames that have a density.
        pit: ``(N, D)``; None for a density without distribution functions.
        floor: smallest scale of the density, 0 for none.
    """

    by_frame: dict[str, Array]
    step: int
    added: Tensor
    scored: Tensor
    pit: Tensor | None
    floor: float

    @property
    def degenerate(self) -> Tensor:
        """Return which features are degenerate, ``(D,)``."""
        width = 2 * max(self.floor, RESOLUTION)
        peak = -math.log(width * math.sqrt(2 * math.pi))
        return (self.scored > peak).double().mean(0) > 0.5


def figures_of(
    model: Any, sequences: Sequence[FrameSequence], first: int, n_frames: int | None = None
) -> Figures:
    """Return log p and PIT of sequences ``(T, D)``, for the frames from ``first`` on.

    Args:
        model: a sequence model.
        sequences: the sequences, standardised.
        first: the first frame that is scored.
        n_frames: about how many frames to look at, evenly spread; None for all.
    """
    by_frame: dict[str, Array] = {}
    scored: list[Tensor] = []
    added: list[Tensor] = []
    pits: list[Tensor] | None = []
    device = next(model.parameters()).device
    n_all = sum(lengths_of(sequences))
    step = 1 if n_frames is None else max(n_all // n_frames, 1)
    with torch.no_grad():
        for sequence in sequences:
            u, log_p, pit = None, [], []
            frames, start = sequence.frames.to(device)[None], 0
            for chunk in frames.split(CHUNK * step, 1):
                own = sequence.context_of(start, chunk)
                start += chunk.shape[1]
                history, u = model.states(chunk, u, **argument(own))
                x, history = chunk[:, ::step], history[:, ::step]
                log_p.append(_terms(model, history, x)[0])
                try:
                    pit.append(model.feature_cdf_given(history, x)[0])
                except NotImplementedError:
                    pits = None
            terms = torch.cat(log_p)
            extra = sequence.log_jacobian[::step]
            by_frame[sequence.name] = (terms.double().sum(-1).cpu() + extra).numpy()
            unscored = -(-first // step)
            dense = ~extra[unscored:].isneginf()
            added.append(extra[unscored:][dense])
            scored.append(terms[unscored:][dense.to(device)])
            if pits is not None:
                pits.append(torch.cat(pit)[unscored:][dense.to(device)])
    all_pits = torch.cat(pits) if pits else None
    return Figures(by_frame, step, torch.cat(added), torch.cat(scored), all_pits, model.floor)


def lengths_of(sequences: Sequence[FrameSequence]) -> list[int]:
    """Return the number of frames of each sequence; of those on disk, none is read."""
    if isinstance(sequences, Sequences):
        return sequences.lengths
    return [len(sequence.frames) for sequence in sequences]


def _terms(model: Any, history: Tensor, x: Tensor) -> Tensor:
    """Return log p by feature; where a density has no such terms, an equal share for each
    feature."""
    try:
        terms: Tensor = model.feature_log_prob_given(history, x)
    except NotImplementedError:
        terms = (model.log_prob_given(history, x) / x.shape[-1])[..., None].expand_as(x)
    return terms


def ks_distance(pit: Tensor) -> Tensor:
    """Return the largest distance of the distribution of ``pit (N, ...)`` from uniform, ``(...)``.

    >>> ks_distance(torch.tensor([0.25, 0.75]))
    tensor(0.2500)
    """
    n = len(pit)
    u = pit.sort(0).values
    steps = torch.arange(n + 1, device=u.device, dtype=u.dtype).view(-1, *[1] * (u.dim() - 1)) / n
    return torch.maximum((steps[1:] - u).amax(0), (u - steps[:-1]).amax(0))


def ends_of(pit: Tensor) -> tuple[float, float]:
    """Return the shares of ``pit (N, D)`` in the lowest and in the highest hundredth. A calibrated
    model has 0.01 each; above it, tails are too light at that end, or all is too narrow.

    >>> ends_of(torch.tensor([[0.001, 0.5], [0.4, 0.6]]))
    (0.25, 0.0)
    """
    low, high = (pit < 0.01).double().mean(), (pit > 0.99).double().mean()
    return low.item(), high.item()


class Likelihood(pl.Callback):
    """Logs the likelihood, and writes tables and pictures of it. At every validation it logs
    ``val/nll_raw`` (nats per frame in the data's own units) and, for integer sound,
    ``val/bits_per_sample``. At every fifth validation it looks at some frames and logs: the KS
    distance of the PIT (``val/ks``) and its shares in the outermost hundredths (``val/pit_low``,
    ``val/pit_high``), the number of degenerate features (``val/n_degenerate``, with
    one warning that names them), the floor in use, and log p of a few sequences by name
    (``val/log_p/<sequence>``). It also logs, as flat lines, the nats of copying the last frame and
    of a vector autoregression, VAR (``val/nll_copy_last``, ``val/nll_var``).

    After ``test``, and on a schedule, it writes into the run folder's ``likelihood/``: log p of
    every frame and of every feature beside the baselines as CSV, and a picture of both with the
    histogram of the PIT; the tables and the picture go to the loggers too.

    Args:
        n_sequences: longest sequences that are followed by name and drawn.
        every_n_epochs: epochs between two full sets of validation figures; 0 for none.
        every_n_validations: validations between two looks at some of their frames.
        n_val_frames: frames of such a look, spread over the sequences.
        max_frames: about how many frames of a full set are looked at, spread over all files, and
            how many frames the baselines are fitted to. Those are of the training part and, for the
            test, of the validation part too.
        max_lags: most lags of the VAR; its other options are chosen on the validation part too.
    """

    def __init__(
        self,
        n_sequences: int = 3,
        every_n_epochs: int = 0,
        every_n_validations: int = 5,
        n_val_frames: int = 32,
        max_frames: int = 20_000,
        max_lags: int = 3,
    ) -> None:
        self.n_sequences, self.every_n_epochs = n_sequences, every_n_epochs
        self.every_n_validations, self._n_validations = every_n_validations, 0
        self.n_val_frames, self.max_frames = n_val_frames, max_frames
        self.baselines = FittedBaselines(max_lags, max_frames)
        self._watched: list[FrameSequence] | None = (
            None  # validation sequences, frames on the device
        )
        self._flat: dict[str, float] = {}  # what the baselines reach on them
        self._warned = False

    def state_dict(self) -> dict[str, Any]:
        return {"n_validations": self._n_validations, "warned": self._warned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._n_validations, self._warned = state_dict["n_validations"], state_dict["warned"]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        nll = trainer.callback_metrics.get("val/nll")
        if nll is None or trainer.sanity_checking:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        pl_module.log("val/nll_raw", nll + data.log_scale, sync_dist=True)
        if (bits := data.bits_per_sample(-float(nll))) is not None:
            pl_module.log(f"val/{data.bits_name}", bits, sync_dist=True)
        self._n_validations += 1
        if not trainer.is_global_zero or (self._n_validations - 1) % self.every_n_validations:
            return
        first = self.baselines.first_scored(data)
        if self._watched is None:
            self._watched = [
                replace(sequence, frames=sequence.frames.to(pl_module.device))
                for sequence in _longest(data, "val", self.n_sequences, self.max_frames)
                if len(sequence.frames) > first
            ]
            self._flat = self._reached(data, "val", self._watched, first)
        if not self._watched:
            return
        found = figures_of(pl_module.model, self._watched, first, self.n_val_frames)
        numbers = self._numbers(found, data)
        by_name = {f"val/log_p/{name}": v.mean() for name, v in found.by_frame.items()}
        log_numbers(trainer, {f"val/{k}": v for k, v in (numbers | self._flat).items()} | by_name)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        epoch = trainer.current_epoch + 1
        if self.every_n_epochs and epoch % self.every_n_epochs == 0:
            was_training = pl_module.model.training
            pl_module.model.eval()
            self._report(trainer, pl_module, "val", f"epoch{epoch:04d}_")
            pl_module.model.train(was_training)

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._report(trainer, pl_module, "test", "")

    def _report(self, trainer: pl.Trainer, pl_module: Any, split: str, stem: str) -> None:
        with going_without("the likelihood by frame and feature"):
            self._write(trainer, pl_module, split, stem)

    def _write(self, trainer: pl.Trainer, pl_module: Any, split: str, stem: str) -> None:
        log_dir = trainer.log_dir  # on every rank: it is broadcast
        if not trainer.is_global_zero or log_dir is None:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        first = self.baselines.first_scored(data)
        sequences = self.baselines.scored(data, split)
        if not sequences:
            return
        found = figures_of(pl_module.model, sequences, first, self.max_frames)
        step = found.step
        if not len(found.scored):
            rank_zero_warn(
                f"every frame of the {split} part breaks a relation of the training data: there is"
                " no likelihood to draw (score names the feature)"
            )
            return
        for name, log_p in found.by_frame.items():
            data.check_likelihood(name, log_p[-(-first // step) :])
        baselines = self.baselines.fitted(data, split)
        of_baselines = [
            [_terms_of(v, x.with_context(), first, step) for x in sequences] for v in baselines
        ]
        numbers = self._numbers(found, data) | self._reached(data, split, sequences, first)
        log_numbers(trainer, {f"{split}/{key}": value for key, value in numbers.items()})

        folder = Path(log_dir, "likelihood")
        folder.mkdir(parents=True, exist_ok=True)
        header = ("sequence", "frame", "log_prob", *(baseline.key for baseline in baselines))
        by_frame = {}
        for i, (name, log_p) in enumerate(found.by_frame.items()):
            stretch = sequences[i].log_jacobian[::step]
            rivals = [(of[i].sum(-1) + stretch).numpy() for of in of_baselines]
            by_frame[name] = np.column_stack([log_p, *rivals])
        rows = [
            (name, step * t, *v) for name, values in by_frame.items() for t, v in enumerate(values)
        ]
        write_csv(folder / f"{stem}by_frame.csv", [header, *rows])
        drawn = sorted(by_frame, key=lambda name: -len(by_frame[name]))[: self.n_sequences]
        some = [row for row in rows if row[0] in drawn and row[1] < step * CHUNK]
        log_table(trainer, "likelihood/by_frame", header, some)

        means = []
        for of in of_baselines:
            unscored = -(-first // step)
            dense = [~x.log_jacobian[::step][unscored:].isneginf() for x in sequences]
            terms = [x[unscored:][some] for x, some in zip(of, dense, strict=True)]
            means.append(torch.cat(terms).mean(0).tolist())
        ks = [math.nan] * data.n_features if found.pit is None else ks_distance(found.pit).tolist()
        by_feature = found.scored.double().mean(0).tolist()
        columns = (data.feature_names, by_feature, *means, ks, found.degenerate.tolist())
        features = [FeatureRow(*row) for row in zip(*columns, strict=True)]
        write_csv(folder / f"{stem}by_feature.csv", [FeatureRow._fields, *features])
        log_table(trainer, "likelihood/by_feature", FeatureRow._fields, features)

        picture = folder / f"{stem}likelihood.png"
        titles = (type(pl_module.model).__name__, *(baseline.title for baseline in baselines))
        added = found.added.double().mean().item()
        levels = {
            title: sum(of) + added for title, of in zip(titles, (by_feature, *means), strict=True)
        }
        pit = None if found.pit is None else found.pit.flatten().double().cpu().numpy()
        drawn_log_p = {name: by_frame[name][:, 0] for name in drawn}
        ks_of_all = numbers.get("ks", math.nan)
        figure = draw_likelihood(drawn_log_p, levels, features, pit, ks_of_all, found.step)
        replace_file(picture, lambda file: figure.savefig(file, dpi=110, format="png"))
        log_media(trainer, "likelihood", [picture])

    def _numbers(self, found: Figures, data: FrameDataModule) -> dict[str, float]:
        """Return KS distance, ends of the PIT, degenerate features and floor; warn of the features,
        once."""
        collapsed = [
            n for n, d in zip(data.feature_names, found.degenerate.tolist(), strict=True) if d
        ]
        if collapsed and not self._warned:
            self._warned = True
            named = ", ".join(collapsed[:8]) + (", .." if len(collapsed) > 8 else "")
            at = f"the floor ({found.floor:g})" if found.floor else "zero width (there is no floor)"
            rank_zero_warn(
                f"{len(collapsed)} of {len(data.feature_names)} features are degenerate, their "
                f"densities near {at}: {named}. Their share of the likelihood has little meaning; "
                "raise model.floor, or leave them out"
            )
        numbers = {"n_degenerate": float(len(collapsed)), "floor": found.floor}
        if found.pit is not None:
            numbers["ks"] = ks_distance(found.pit.flatten()).item()
            numbers["pit_low"], numbers["pit_high"] = ends_of(found.pit)
        return numbers

    def _reached(
        self, data: FrameDataModule, split: str, sequences: Sequence[FrameSequence], first: int
    ) -> dict[str, float]:
        """Return the nats per frame of the baselines on the scored frames."""
        if not sequences:
            return {}
        baselines = self.baselines.fitted(data, split)
        total, n = [0.0] * len(baselines), 0
        for sequence in sequences:
            added, frames = sequence.log_jacobian[first:], sequence.with_context().cpu()
            n += len(added)
            for i, baseline in enumerate(baselines):
                total[i] += (baseline.log_prob(frames, first) + added).sum().item()
        pairs = zip(baselines, total, strict=True)
        return {f"nll_{baseline.key}": -of / n for baseline, of in pairs}


def _longest(data: FrameDataModule, split: str, n: int, n_frames: int) -> list[FrameSequence]:
    """Return the longest of the first hundred sequences, cut to an equal share of the frames."""
    some = itertools.islice(data.sequences(split), 100)  # type: ignore[arg-type]
    longest = sorted(some, key=lambda sequence: -len(sequence.frames))[:n]
    return [sequence.start(max(n_frames // len(longest), 1)) for sequence in longest]


def _terms_of(baseline: Baseline, frames: Tensor, first: int, step: int) -> Tensor:
    """Return a baseline's log p by feature of every n-th frame; NaN before the first scored."""
    n_lags, of = baseline.model.n_lags, baseline.model.feature_log_prob
    D = len(baseline.model.covariance)
    found = [torch.full((-(-first // step), D), math.nan, dtype=torch.float64)]
    for start in range(first, len(frames), PIECE):
        found.append(of(frames[start - n_lags : start + PIECE])[-start % step :: step])
    return torch.cat(found)
