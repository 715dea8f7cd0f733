"""Where the likelihood comes from: over time, by feature, in raw units."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure


class Likelihood(pl.Callback):
    """Logs ``val/nll_raw``, nats per frame in the data's own units, at every validation, and for
    integer sound ``val/bits_per_sample``; after
    ``test`` writes, into the run folder's ``likelihood/``, log p of every frame and of every
    feature as CSV, and both as a picture.

    Args:
        n_sequences: longest test sequences to draw.
    """

    def __init__(self, n_sequences: int = 3) -> None:
        self.n_sequences = n_sequences

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        nll = trainer.callback_metrics.get("val/nll")
        if nll is not None and not trainer.sanity_checking:
            raw = nll + trainer.datamodule.log_scale  # type: ignore[attr-defined]
            pl_module.log("val/nll_raw", raw, sync_dist=True)
            to_bits = getattr(trainer.datamodule, "bits_per_sample", None)  # type: ignore[attr-defined]
            if to_bits and (bits := to_bits(-float(nll))) is not None:
                pl_module.log("val/bits_per_sample", bits, sync_dist=True)

    @torch.no_grad()
    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        log_dir = trainer.log_dir  # on every rank: it is broadcast
        if not trainer.is_global_zero or log_dir is None:
            return
        data, model = trainer.datamodule, pl_module.model  # type: ignore[attr-defined]
        by_frame = {}
        by_feature = np.zeros(data.n_features)
        for name, frames in data.sequences("test"):
            frames = frames.to(pl_module.device)[None]
            log_p = model.feature_log_prob(frames)[0].double().cpu().numpy()
            by_frame[name] = log_p.sum(-1)
            by_feature += log_p.sum(0)
        by_feature /= sum(len(log_p) for log_p in by_frame.values())

        folder = Path(log_dir, "likelihood")
        folder.mkdir(parents=True, exist_ok=True)
        rows = [(name, t, v) for name, log_p in by_frame.items() for t, v in enumerate(log_p)]
        _write_csv(folder / "by_frame.csv", ("sequence", "frame", "log_prob"), rows)
        features = list(zip(data.feature_names, by_feature, strict=True))
        _write_csv(folder / "by_feature.csv", ("feature", "log_prob"), features)
        longest = sorted(by_frame.items(), key=lambda item: -len(item[1]))[: self.n_sequences]
        _picture(longest, data.feature_names, by_feature).savefig(
            folder / "likelihood.png", dpi=120
        )


def _write_csv(path: Path, header: tuple[str, ...], rows: list[Any]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _picture(
    sequences: list[tuple[str, np.ndarray]], feature_names: list[str], by_feature: np.ndarray
) -> Figure:
    figure = Figure(figsize=(11, 7), layout="constrained")
    over_time, features = figure.subplots(2, 1)
    for name, log_p in sequences:
        over_time.plot(log_p, label=name, linewidth=1)
    over_time.set(xlabel="frame", ylabel="log p (nats, standardised units)")
    over_time.legend(fontsize=8)
    features.bar(range(len(by_feature)), by_feature, color="tab:gray")
    features.set_xticks(range(len(by_feature)), feature_names, rotation=90, fontsize=6)
    features.set(ylabel="log p by feature (nats)")
    features.margins(x=0.01)
    return figure
