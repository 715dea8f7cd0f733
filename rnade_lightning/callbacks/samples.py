"""Write generated sequences as files to play, and a page that shows them beside true ones."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from rnade_lightning.callbacks.gallery import SampleSet, Shown, Table, write_gallery
from rnade_lightning.callbacks.media import log_media, log_numbers
from rnade_lightning.contexts import argument, of_sequences
from rnade_lightning.datamodules.core.given import joined
from rnade_lightning.long_samples import settled
from rnade_lightning.run_files import going_without, write_text


class _Drawn(NamedTuple):
    """One sequence to show."""

    group: str
    kind: str  # of the file's name and the log key
    title: str
    note: str
    frames: Tensor  # (T, D), standardised
    given: Any = None  # raw frames that the first ones were made of
    breaks: Sequence[int] = ()  # those of them that have no density
    context: Tensor | None = None  # (T, C), what the model is given of them


class Samples(pl.Callback):
    """Writes into the run folder's ``samples/``: samples from nothing, and three files for each
    held-out sequence: its continuation, the sequence itself, and the predictive mean of every frame
    given those before it. It does so on a schedule during ``fit`` (validation data) and after
    ``test`` (test data). Each time ``samples/index.html`` shows them all, newest first. The files
    and their metrics go to the loggers too. Draws come from a generator of its own.

    Args:
        every_n_epochs: epochs between two sets during ``fit``; 0 for none.
        n_frames: frames of each sample; 150, or 3 seconds of sound, if not given.
        n_prefix: frames of the held-out sequence that a continuation is given, at most half of it;
            a fifth of ``n_frames`` if not given.
        n_samples: free-running samples.
        n_sequences: held-out sequences to continue, longest first.
        n_mean: draws that estimate the predictive mean of each frame.
        seed: seed of the draws.
    """

    def __init__(
        self,
        every_n_epochs: int = 0,
        n_frames: int | None = None,
        n_prefix: int | None = None,
        n_samples: int = 2,
        n_sequences: int = 1,
        n_mean: int = 20,
        seed: int = 0,
    ) -> None:
        self.every_n_epochs, self.n_frames, self.n_prefix = every_n_epochs, n_frames, n_prefix
        self.n_samples, self.n_sequences, self.n_mean = n_samples, n_sequences, n_mean
        self.seed = seed
        self._sets: list[SampleSet] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        epoch = trainer.current_epoch + 1
        if self.every_n_epochs and epoch % self.every_n_epochs == 0:
            title = f"Epoch {epoch}, step {trainer.global_step}, validation data"
            self._show(trainer, pl_module, "val", f"epoch{epoch:04d}", title)

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        title = "Test data"
        if trainer.ckpt_path:
            found = torch.load(str(trainer.ckpt_path), map_location="cpu", weights_only=True)
            title += f", weights of epoch {found['epoch'] + 1}, step {found['global_step']}"
        self._show(trainer, pl_module, "test", "test", title)

    def _show(self, *what: Any) -> None:
        with going_without("generated sequences"):
            self._write(*what)

    def _write(
        self, trainer: pl.Trainer, pl_module: Any, split: str, stem: str, title: str
    ) -> None:
        log_dir = trainer.log_dir  # on every rank: it is broadcast
        if not trainer.is_global_zero or log_dir is None:
            return
        data, model = trainer.datamodule, pl_module.model  # type: ignore[attr-defined]
        if data.context_by_feature:  # what is known of a sample follows from those drawn before it
            rank_zero_info("no samples are drawn: their side information is not known beforehand")
            return
        folder = Path(log_dir, "samples")
        folder.mkdir(parents=True, exist_ok=True)
        was_training = model.training
        model.eval()  # no dropout in a sample
        groups: dict[str, list[Shown]] = {}
        metrics: dict[str, dict[str, float]] = {}
        for drawn in self._draw(model, data, split, pl_module.device):
            if not torch.isfinite(drawn.frames).all():
                kind = drawn.kind.replace("_", " ")
                pl.utilities.rank_zero_warn(f"the {kind} sample diverged; it is not written")
                continue
            own = None if drawn.context is None else drawn.context[None]
            frames = joined(drawn.frames, drawn.context).cpu()
            paths = data.render(frames, folder / f"{stem}_{drawn.kind}", drawn.given)
            groups.setdefault(drawn.group, []).append(Shown(drawn.title, drawn.note, paths))
            log_media(trainer, f"samples/{drawn.kind}", paths)
            with torch.no_grad():
                log_p = model.log_prob(drawn.frames[None], **argument(own))[0].cpu()
                log_p += data.log_jacobian(frames)
            log_p[list(drawn.breaks)] = -math.inf
            metrics[drawn.kind] = {"log_prob": log_p.mean().item()} | data.metrics(frames)
        model.train(was_training)
        write_text(folder / f"{stem}_metrics.json", json.dumps(metrics, indent=2) + "\n")
        log_numbers(trainer, {
            f"samples/{kind}/{key}": value
            for kind, numbers in metrics.items()
            for key, value in numbers.items() if not key.endswith("_of_data")
        })  # fmt: skip
        tables = [_metrics_table(metrics), *_comparison(Path(log_dir))]
        self._sets.insert(0, SampleSet(title, groups, tables))
        name = f"{type(model).__name__} · {Path(log_dir).parent.name}/{Path(log_dir).name}"
        picture = Path(log_dir, "likelihood", "likelihood.png")
        pictures = [Shown("Likelihood", "of the held-out data, in nats", [picture])]
        write_gallery(
            folder / "index.html", name, self._facts(trainer, data, model), self._sets,
            pictures if picture.is_file() else [],
        )  # fmt: skip

    def _draw(self, model: Any, data: Any, split: str, device: torch.device) -> Iterator[_Drawn]:
        generator = torch.Generator(device).manual_seed(self.seed)
        some = itertools.islice(data.sequences(split), 100)
        held_out = sorted(some, key=lambda sequence: -len(sequence.frames))[: self.n_sequences]
        n_frames, prefix_length = lengths(data, self.n_frames, self.n_prefix)
        known = data.settle_seconds, data.frame_rate, data.leaves
        turns = list(itertools.islice(itertools.cycle(held_out), self.n_samples))
        contexts = of_sequences(turns, n_frames, model.initial_state(1))
        first = None if contexts is None else contexts[:, 0]
        u = settled(model, self.n_samples, *known, generator, context=first)
        drawn = model.sample(n_frames, u=u, generator=generator, **argument(contexts))[:, 0]
        for i, sequence in enumerate(held_out):
            name, frames = sequence
            truth = frames[: prefix_length + n_frames].to(device)
            n_prefix = min(prefix_length, max(len(truth) // 2, 1))
            prefix = truth[:n_prefix]
            own = of_sequences([sequence], n_prefix + n_frames, truth)
            of_truth = None if own is None else own[:, : len(truth)]
            how = {"generator": generator, **argument(own)}
            more = model.sample(n_frames, prefix=prefix[None], **how)[0, 0]
            group = f"{name}, held out"
            given = f"{n_prefix / data.frame_rate:.2g} s ({n_prefix} frames) given, the rest drawn"
            for kind, title, note, shown, n in (
                ("truth", "Truth", "as it was recorded", truth, len(truth)),
                ("continuation", "Continued", given, torch.cat((prefix, more)), n_prefix),
            ):
                start = sequence.start(n)
                raw = None if start.raw is None else np.asarray(start.raw)
                breaks = tuple(start.breaks)
                context = None if own is None else own[0, : len(shown)]
                what = title, note, shown, raw, breaks, context
                yield _Drawn(group, _numbered(kind, i), *what)
            if data.plays_one_step:
                drawing = {"n_samples": self.n_mean, "generator": generator}
                drawing |= argument(of_truth)
                mean = model.predictive_mean(truth[None], **drawing)[0]
                title, note = "One step ahead", "the mean of every frame, given the past"
                context = None if of_truth is None else of_truth[0]
                what = title, note, mean, None, (), context
                yield _Drawn(group, _numbered("one_step", i), *what)
        for i, frames in enumerate(drawn):
            title, note, context = f"Sample {i + 1}", "free-running", None
            if contexts is not None:
                told = ", ".join(turns[i].labels.values()) or "path or signals"
                note, context = f"given {told}, as in {turns[i].name}", contexts[i]
            what = title, note, frames, None, (), context
            yield _Drawn("From nothing", _numbered("free", i), *what)

    def _facts(self, trainer: pl.Trainer, data: Any, model: Any) -> list[str]:
        nll = {k: v for k, v in trainer.callback_metrics.items() if k.endswith("/nll")}
        return [
            *(f"{key} {value:.4g} nats a frame" for key, value in nll.items()),
            f"{sum(p.numel() for p in model.parameters()):,} parameters",
            f"{data.n_features} features, {data.frame_rate:.4g} frames a second",
        ]


def lengths(data: Any, n_frames: int | None, n_prefix: int | None) -> tuple[int, int]:
    """Return the frames of a sample and of a prefix, where they are not given: at least as long as
    a person needs to judge such data."""
    if n_frames is None:
        n_frames = max(150, math.ceil(data.least_seconds * data.frame_rate))
    return n_frames, max(n_frames // 5, 1) if n_prefix is None else n_prefix


def _numbered(kind: str, i: int) -> str:
    return kind if i == 0 else f"{kind}_{i + 1}"


def _metrics_table(metrics: dict[str, dict[str, float]]) -> Table:
    """Return one row a sequence, and one for the data where a metric of them is known."""
    keys = list(dict.fromkeys(key for numbers in metrics.values() for key in numbers))
    columns = [key for key in keys if not key.endswith("_of_data")]
    rows: list[list[Any]] = [
        [kind.replace("_", " "), *(numbers.get(key, float("nan")) for key in columns)]
        for kind, numbers in metrics.items()
    ]
    if len(columns) < len(keys):
        known = next(iter(metrics.values()))
        whole = [known.get(f"{key}_of_data", float("nan")) for key in columns]
        rows.append(["test data, whole", *whole])
    return Table("Metrics", ["", *(key.replace("_", " ") for key in columns)], rows)


def _comparison(run: Path) -> list[Table]:
    """Return the table of the comparison after ``test``, if the run folder has one."""
    path = run / "comparison.csv"
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        (_, _, *more), *rows = csv.reader(file)
    columns = ["", "log p, nats per frame", *(column.replace("_", " ") for column in more)]
    values = [[name, *(float(n) if n else "" for n in numbers)] for name, *numbers in rows]
    return [Table("One step ahead, test data", columns, values)]
