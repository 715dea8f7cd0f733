"""Code test files for real, and compare their bits with what the likelihood says."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from rnade_lightning.coding.container import BLOCK
from rnade_lightning.contexts import argument
from rnade_lightning.rnn_experts import RNNExperts
from rnade_lightning.run_files import write_text


class CodedFiles(pl.Callback):
    """Codes the first test sounds after ``test``, decodes them again, and writes
    ``coded_files.csv``: bits per sample as coded, and by the likelihood of the net. It is for
    models of integer sound.

    Args:
        n_files: sounds to code.
    """

    def __init__(self, n_files: int = 1) -> None:
        if n_files < 1:
            raise ValueError(f"n_files must be at least 1, got {n_files}")
        self.n_files = n_files

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        log_dir = trainer.log_dir  # on every rank: it is broadcast
        if not trainer.is_global_zero or log_dir is None:
            return
        model: Any = pl_module.model
        if not isinstance(model, RNNExperts):
            raise ValueError(
                f"code_files: a {type(model).__name__} gives integers no mass: leave it out, or "
                "train with configs/speech_bits.yaml"
            )
        data = trainer.datamodule  # type: ignore[attr-defined]
        rows = [_coded(model, data, x) for x in data.sequences("test")[: self.n_files]]
        table = io.StringIO()
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_text(Path(log_dir, "coded_files.csv"), table.getvalue())
        n = sum(row["samples"] for row in rows)
        coded, said = (
            sum(row[key] * row["samples"] for row in rows) / n for key in ("coded", "likelihood")
        )
        print(
            f"\ncoded {len(rows)} test sounds, decoded alike: {coded:.4f} bits per sample, "
            f"{said:.4f} by the likelihood ({coded / said - 1:+.2%})"
        )


@torch.no_grad()
def _coded(model: RNNExperts, data: Any, sequence: Any) -> dict[str, Any]:
    """Return the bits per sample of a sound, coded and by its likelihood."""
    from rnade_lightning.coding.coder import Coder, model_of

    step = 2.0 ** (data.bit_depth - 1)
    x = np.round(data.to_samples(np.asarray(sequence.raw)) * step).astype(np.int64)[:, None]
    how = model_of(model), [int(x.min())], [int(x.max())], 0
    encoder, decoder, n_bytes = Coder(*how), Coder(*how), 0
    for block in np.split(x, range(BLOCK, len(x), BLOCK)):
        data_of_block = encoder.encode(block)
        n_bytes += len(data_of_block)
        if not (decoder.decode(data_of_block, len(block)) == block).all():
            raise RuntimeError(f"{sequence.name}: decodes to another sound than was coded")
    device = model.u_0.device
    frames = sequence.frames[None].to(device)
    log_p = model.log_prob(frames, **argument(sequence.context_of(0, frames))).double().sum()
    return {
        "sound": sequence.name,
        "samples": len(x),
        "coded": 8 * n_bytes / len(x),
        "likelihood": float(-log_p) / np.log(2) / len(x),
    }
