"""Measure long samples beside held-out data: whether they stay with the data, and how they move."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor

from rnade_lightning.callbacks.media import log_numbers, log_table
from rnade_lightning.contexts import argument, of_sequences
from rnade_lightning.datamodules import FrameSequence
from rnade_lightning.datamodules.core.given import joined
from rnade_lightning.linear_path import spectral_radius
from rnade_lightning.long_samples import settled
from rnade_lightning.recurrent_model import RecurrentModel
from rnade_lightning.run_files import going_without, write_csv, write_text

_FAR = 1e6
"""Deviations from which on a sample has diverged, and has no figures."""


class SampleFigures(pl.Callback):
    """Draws long samples, half of them from nothing and half continued from held-out data, and
    prints their figures beside those of held-out data after ``test`` (see the data module's
    ``sample_figures``). It writes them to ``samples/figures.csv`` and ``figures.md``, and logs them
    (``figures/..``). On a schedule during ``fit`` it does so with a few shorter samples. Kinds of
    data without such figures are passed over.

    Args:
        n_samples: samples of each half.
        seconds: their length; without it, a minute of motion, 10 s of sound.
        n_prefix_seconds: length of what a continuation is given, at most half of the sequence.
        every_n_epochs: epochs between two looks during ``fit``, at 2 samples of 10 s of each half;
            0 for none.
        seed: seed of the draws.
    """

    def __init__(
        self,
        n_samples: int = 8,
        seconds: float | None = None,
        n_prefix_seconds: float = 1.0,
        every_n_epochs: int = 0,
        seed: int = 0,
    ) -> None:
        if n_samples < 1 or not min(1 if seconds is None else seconds, n_prefix_seconds) > 0:
            raise ValueError("n_samples must be 1 or more, seconds and n_prefix_seconds above 0")
        self.n_samples, self.seconds, self.n_prefix_seconds = n_samples, seconds, n_prefix_seconds
        self.every_n_epochs, self.seed = every_n_epochs, seed

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        epoch = trainer.current_epoch + 1
        if self.every_n_epochs and epoch % self.every_n_epochs == 0:
            seconds = min(self._seconds(trainer), 10.0)
            found = self._figures(trainer, pl_module, "val", 2, seconds)
            log_numbers(trainer, _named(found))

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        seconds = self._seconds(trainer)
        found = self._figures(trainer, pl_module, "test", self.n_samples, seconds)
        log_dir = trainer.log_dir  # on every rank: it is broadcast
        if not found or log_dir is None:
            return
        keys = list(dict.fromkeys(key for row in found.values() for key in row))
        rows: list[list[Any]] = [
            [key.replace("_", " "), *(row.get(key, math.nan) for row in found.values())]
            for key in keys
        ]
        heads = [f"samples of {seconds:g} s", *found]
        cells = [[_written(cell) for cell in row] for row in rows]
        table = [heads, ["---", *["---:"] * len(found)], *cells]
        text = "\n".join(f"| {' | '.join(row)} |" for row in table)
        note = trainer.datamodule.figures_note  # type: ignore[attr-defined]
        print(f"\n{text}\n{note}")
        with going_without("figures of samples"):
            folder = Path(log_dir, "samples")
            folder.mkdir(parents=True, exist_ok=True)
            csv_rows = [["" if x != x else x for x in row] for row in rows]
            write_csv(folder / "figures.csv", [["figure", *found], *csv_rows])
            write_text(folder / "figures.md", f"{text}\n\n{note}\n")
        log_table(trainer, "figures/table", ["figure", *found], rows)
        log_numbers(trainer, _named(found))

    def _seconds(self, trainer: pl.Trainer) -> float:
        return self.seconds or trainer.datamodule.measured_seconds  # type: ignore[attr-defined]

    def _figures(
        self, trainer: pl.Trainer, pl_module: Any, split: str, n_samples: int, seconds: float
    ) -> Mapping[str, Mapping[str, float]]:
        """Return figures of samples by set; nothing on other ranks and for other kinds of data."""
        data, model = trainer.datamodule, pl_module.model  # type: ignore[attr-defined]
        if not trainer.is_global_zero or not data.measures_samples:
            return {}
        if data.context_by_feature:  # what is known of a sample follows from those drawn before it
            rank_zero_info("no figures of samples: their side information is not known beforehand")
            return {}
        held_out = [s for s in itertools.islice(data.sequences(split), 100) if len(s.frames) > 3]
        if not held_out:
            return {}  # nothing to continue, or to stand beside
        was_training = model.training
        model.eval()  # no dropout in a sample
        generator = torch.Generator(pl_module.device).manual_seed(self.seed)
        n_frames = math.ceil(seconds * data.frame_rate)
        turns = list(itertools.islice(itertools.cycle(held_out), n_samples))
        longest = max(round(self.n_prefix_seconds * data.frame_rate), 1)
        n_prefix = min(longest, min(len(s.frames) // 2 for s in turns))
        context = of_sequences(turns, n_prefix + n_frames, model.initial_state(1))
        own = None if context is None else context[:, :n_frames]
        known = data.settle_seconds, data.frame_rate, data.leaves
        first = None if own is None else own[:, 0]
        u = settled(model, n_samples, *known, generator, context=first)
        drawn = model.sample(n_frames, u=u, generator=generator, **argument(own))[:, 0]
        samples = {"from nothing": list(joined(drawn, own))}
        given = torch.stack([s.frames[:n_prefix].to(pl_module.device) for s in turns])
        how = {"generator": generator, **argument(context)}
        more = model.sample(n_frames, prefix=given, **how)[:, 0]
        whole = joined(torch.cat((given, more), 1), context)
        samples["continued"] = list(whole[:, n_prefix:])
        prefixes = {"continued": list(whole[:, :n_prefix])}
        found: dict[str, dict[str, float]] = {}
        if all(bool((x.abs() < _FAR).all()) for some in samples.values() for x in some):
            pairs = _one_step(model, held_out, generator)
            found = data.sample_figures(samples, pairs, split, prefixes)
        else:
            rank_zero_warn(f"samples of {seconds:g} s diverged: they have no figures")
        model.train(was_training)
        radii = [
            spectral_radius(A)
            for part in model.modules()
            if isinstance(part, RecurrentModel) and len(A := part.past_weights())
        ]
        if radii:
            for name in set(samples) & set(found):
                found[name]["spectral_radius"] = max(radii)
        return found


@torch.no_grad()
def _one_step(
    model: Any, sequences: list[FrameSequence], generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield, of each sequence, every frame but the last followed by a draw of the next, ``(2 (T -
    1), D)``."""
    like = model.initial_state(1)
    for sequence in sequences:
        frames = sequence.frames[None].to(like)
        context = sequence.context_of(0, frames)
        history = model.states(frames, **argument(context))[0]
        drawn = joined(model.sample_given(history, (), generator), context)[0]
        whole = joined(frames, context)[0]
        yield torch.stack((whole[:-1], drawn[1:]), 1).flatten(0, 1).cpu()


def _named(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {
        f"figures/{name.replace(' ', '_')}/{key}": value
        for name, row in found.items()
        for key, value in row.items()
        if not math.isnan(value)
    }


def _written(cell: str | float) -> str:
    if isinstance(cell, str):
        return cell
    return "" if math.isnan(cell) else f"{cell:.3g}"
