"""What a trained model does from the command line: ``sample``, ``score``, ``combine``,
``gradcheck``."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from rnade_lightning.callbacks.gradient_check import format_table, gradient_table, require_correct
from rnade_lightning.checkpoints import (
    Trust,
    combine_checkpoints,
    load_checkpoint,
    load_data,
    load_model,
)
from rnade_lightning.datamodules import FrameDataModule
from rnade_lightning.datamodules.core.store import whole_file
from rnade_lightning.density import SequenceDensity
from rnade_lightning.rnn_rnade import RNNRNADE


def sample(
    ckpt_path: str,
    out: str = "samples",
    n_samples: int = 3,
    n_frames: int = 150,
    prefix: str | None = None,
    n_prefix: int = 30,
    temperature: float = 1.0,
    seed: int = 0,
    device: str = "cpu",
    trust: Trust = (),
) -> None:
    """Generate new sequences, or continue a given file, as files that a person can play.

    Args:
        ckpt_path: checkpoint that ``fit`` wrote.
        out: folder to write to.
        n_samples: sequences to generate.
        n_frames: frames of each.
        prefix: file to continue, of the kind that the model was trained on.
        n_prefix: first frames of that file to continue from; they stand in the result.
        temperature: below 1 for calmer sequences than the model's own; 1 for its density.
        seed: of the draws.
        device: torch device, ``cpu`` or ``cuda``.
        trust: package of yours, or a list of them, whose classes the checkpoint may name.
    """
    data, model = _load(ckpt_path, device, trust)
    generator = torch.Generator(device).manual_seed(seed)
    start, given = torch.empty(1, 0, model.n_features, device=device), None
    if prefix is not None:
        sequence = data.score_input(prefix)
        frames = sequence.frames
        if len(frames) < n_prefix:
            raise ValueError(f"{prefix} has {len(frames)} frames, fewer than --n_prefix {n_prefix}")
        given = None if sequence.raw is None else sequence.raw[:n_prefix]
        start = frames[None, :n_prefix].to(device)
    drawn = model.sample(
        n_frames,
        n_samples,
        prefix=None if prefix is None else start,
        generator=generator,
        temperature=temperature,
    )[0]
    stem = "sample" if prefix is None else f"continuation_of_{Path(prefix).name.split('.')[0]}"
    Path(out).mkdir(parents=True, exist_ok=True)
    written = []
    for i, frames in enumerate(tqdm(drawn, desc="write", unit="sequence", disable=None)):
        if not torch.isfinite(frames).all():
            raise ValueError(f"sample {i} diverged within {n_frames} frames; ask for fewer frames")
        whole = torch.cat((start[0], frames)).cpu()
        written += data.render(whole, Path(out, f"{stem}_{i}"), given)
    print("\n".join(map(str, written)))


def score(
    ckpt_path: str,
    files: str,
    out: str | None = None,
    device: str = "cpu",
    trust: Trust = (),
) -> None:
    """Log density of every frame of files, in nats, as CSV: file, frame, log_prob, breaks.

    log_prob is in the model's standardised units; the first frame is the first that the
    representation defines. A frame that breaks a relation of the training data, such as a feature
    that was constant there, has log_prob -inf, and breaks names the feature.

    Args:
        ckpt_path: checkpoint that ``fit`` wrote.
        files: a file, folder or glob, of the kind that the model was trained on.
        out: CSV file to write; standard output if not given.
        device: torch device, ``cpu`` or ``cuda``.
        trust: package of yours, or a list of them, whose classes the checkpoint may name.
    """
    data, model = _load(ckpt_path, device, trust)
    rows: list[tuple[object, ...]] = [("file", "frame", "log_prob", "breaks")]
    for sequence in tqdm(data.score_inputs(files), desc="score", unit="sequence", disable=None):
        with torch.no_grad():
            log_p = model.log_prob(sequence.frames[None].to(device))[0].cpu()
        log_p += sequence.log_jacobian
        broken = sequence.breaks
        values = enumerate(log_p.tolist())
        rows += [(sequence.name, t, value, broken.get(t, "")) for t, value in values]
    if out is None:
        csv.writer(sys.stdout).writerows(rows)
        return
    with whole_file(out) as partial, open(partial, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    print(out)


def combine(
    ckpt_paths: list[str],
    out: str = "ensemble.ckpt",
    trust: Trust = (),
) -> None:
    """Make one model of several: an equal mixture at every frame, whose likelihood is exact.

    Its checkpoint is one as any other, for ``test``, ``predict``, ``sample`` and ``score``.

    Args:
        ckpt_paths: checkpoints that ``fit`` wrote, all trained on the same data.
        out: checkpoint to write.
        trust: package of yours, or a list of them, whose classes the checkpoints may name.
    """
    combined = combine_checkpoints([load_checkpoint(path) for path in ckpt_paths], trust)
    with whole_file(out) as partial:
        torch.save(combined, partial)
    print(out)


def gradcheck(
    ckpt_path: str | None = None,
    n_features: int = 5,
    n_hidden: int = 4,
    n_recurrent: int = 3,
    n_components: int = 3,
    cell: str = "sigmoid",
    n_frames: int = 6,
    seed: int = 0,
    trust: Trust = (),
    **kwargs: Any,
) -> None:
    """Check every gradient: algorithm against autograd against central differences.

    Args:
        ckpt_path: checkpoint to check; without one, a fresh model of the sizes below.
        n_features: D of the fresh model.
        n_hidden: H of the fresh model.
        n_recurrent: R of the fresh model.
        n_components: K of the fresh model.
        cell: its recurrent cell.
        n_frames: length of the two sequences to check on, drawn from N(0, 1).
        seed: of the fresh model's weights and of the sequences.
        trust: package of yours, or a list of them, whose classes the checkpoint may name.
        **kwargs: further options of the fresh model; see `RNNRNADE`.
    """
    torch.manual_seed(seed)
    if ckpt_path is not None:
        model = load_model(load_checkpoint(ckpt_path), trust).double()
    else:
        model = RNNRNADE(n_features, n_hidden, n_recurrent, n_components, cell, **kwargs).double()
        for parameter in model.parameters():  # far from the start, where much is nearly zero
            torch.nn.init.normal_(parameter, std=0.5)
    frames = torch.randn(2, n_frames, model.n_features, dtype=torch.float64)
    rows = gradient_table(model, frames, seed=seed)
    print(format_table(rows))
    require_correct(rows)


def _load(ckpt_path: str, device: str, trust: Trust) -> tuple[FrameDataModule, SequenceDensity]:
    """The data module (without its files) and the model of a checkpoint."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: no CUDA device was found; use --device cpu")
    checkpoint = load_checkpoint(ckpt_path)
    return load_data(checkpoint, trust), load_model(checkpoint, trust).to(device)
