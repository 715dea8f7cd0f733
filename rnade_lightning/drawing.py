"""Draw sequences from a trained model and write them: what ``sample`` is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from tqdm import tqdm

from rnade_lightning.checkpoints import load_checkpoint, load_data, load_model
from rnade_lightning.class_paths import Trust
from rnade_lightning.contexts import argument
from rnade_lightning.datamodules import FrameDataModule, FrameSequence
from rnade_lightning.datamodules.core.given import joined
from rnade_lightning.density import full_float32
from rnade_lightning.guided_samples import PARTICLES, guided
from rnade_lightning.long_samples import draw, settled, tell_of_leaving
from rnade_lightning.sequence_density import SequenceDensity
from rnade_lightning.steering import Steered


class Beginning(NamedTuple):
    """Holds what sequences to draw begin with."""

    stem: str  # of the names of their files
    frames: Tensor  # (1, T0, D), standardised
    context: Tensor | None = None  # (1, T0, C)
    raw: Any = None  # as they were read, (T0, D_raw)
    rest: FrameSequence | None = None  # what comes after them in their file


def beginning_of(data: FrameDataModule, path: str, n: int, device: str) -> Beginning:
    """Return the first n frames of a file, to continue them."""
    sequence = data.score_input(path)
    if len(sequence.frames) < n:
        seconds = len(sequence.frames) / data.frame_rate
        raise ValueError(
            f"{path} has {len(sequence.frames)} frames ({seconds:.3g} s), fewer than the {n} of the"
            " prefix: set --prefix_seconds or --n_prefix to less"
        )
    start = sequence.start(n)
    if broken := set(start.breaks.values()):
        rank_zero_warn(
            f"{path}: frames of the prefix break a relation of the training data in"
            f" {', '.join(sorted(broken)[:5])}: they are written as they are, but the model has"
            " never seen such frames, and what it draws keeps the relation"
        )
    frames, stem = start.frames[None].to(device), f"continuation_of_{Path(path).name.split('.')[0]}"
    rest = sequence.stretch(n, len(sequence.frames))
    return Beginning(stem, frames, start.context_of(0, frames), start.raw, rest)


@torch.no_grad()
def draw_sequences(
    data: FrameDataModule,
    model: SequenceDensity,
    first: Beginning,
    steer: Steered,
    guard: bool,
    generator: torch.Generator,
    temperature: float,
) -> list[Tensor]:
    """Draw sequences, each ``(T, D)``, after what they begin with."""
    n_samples, how, aim = len(steer.told), (generator, temperature), steer.aim
    if model.makes_context:
        own = first.frames if first.frames.shape[1] else None
        return list(model.sample(steer.n_frames, n_samples, own, None, *how)[0])
    context = None if steer.context is None else steer.context.to(first.frames.device)
    each = 1 if aim is None else PARTICLES
    if first.rest is None:
        aim = aim and aim.with_run_up()
        known = data.settle_seconds, data.frame_rate, data.leaves
        own = None if context is None else context[:, 0].repeat_interleave(each, 0)
        u = settled(model, n_samples * each, *known, *how, own)
    else:
        before = argument(first.context)
        u = model.states(first.frames, **before)[1].expand(n_samples * each, -1)
    if aim is not None:
        toward = guided(model, u, data.leaves, aim, *how, context)
        tell_of_leaving(joined(torch.stack(toward), context), data.frame_rate, data.leaves)
        return toward
    what = model, u, steer.n_frames, data.frame_rate, data.leaves
    return draw(*what, guard, *how, context)


def write_sequences(
    render: Callable[..., list[Path]],
    drawn: list[Tensor],
    first: Beginning,
    steer: Steered,
    out: Path,
) -> list[Path]:
    """Write sequences, with what they begin with, as files that a person can play."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for i, frames in enumerate(tqdm(drawn, desc="write", unit="sequence", disable=None)):
        whole, own = torch.cat((first.frames[0], frames)).cpu(), None
        if steer.context is not None:
            parts = [] if first.context is None else [first.context[0].cpu()]
            own = torch.cat((*parts, steer.context[i]))[: len(whole)]
        name = "_".join(filter(None, (f"{first.stem}_{i}", steer.told[i])))
        written += render(whole, out / name, first.raw, own)
    return written


def in_frames(
    data: FrameDataModule, n: int | None, seconds: float | None, in_frames: str, in_seconds: str
) -> int | None:
    """Return a length in frames that was given in frames or in seconds; None if in neither."""
    if seconds is None:
        if n is not None and n < 0:
            raise ValueError(f"--{in_frames} {n}: give a length of 0 frames or more")
        return n
    if n is not None:
        raise ValueError(f"--{in_frames} and --{in_seconds} tell the same length: give one of them")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"--{in_seconds} {seconds:g}: give a length of 0 seconds or more")
    return round(seconds * data.frame_rate)


def load(ckpt_path: str, device: str, trust: Trust) -> tuple[FrameDataModule, SequenceDensity]:
    """Return the data module (without its files) and the model of a checkpoint."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: no CUDA device was found; use --device cpu")
    try:
        known = torch.empty(1, device=device).cpu().device.type == "cpu"
    except (RuntimeError, NotImplementedError, AssertionError, ImportError):
        known = False
    if not known:
        raise ValueError(f"--device {device}: torch cannot use it here; use --device cpu")
    full_float32()
    checkpoint = load_checkpoint(ckpt_path)
    return load_data(checkpoint, trust), load_model(checkpoint, trust).to(device)
