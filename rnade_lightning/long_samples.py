"""Draw long sequences, second by second, and see whether they stay with the data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from tqdm import tqdm

from rnade_lightning.contexts import argument
from rnade_lightning.datamodules.core.given import joined
from rnade_lightning.sequence_density import SequenceDensity

Leaves = Callable[[Tensor], str | None]
TRIES = 50
"""Draws of one second, at most, that the guard looks at."""


def settled(
    model: SequenceDensity,
    n_samples: int,
    seconds: float,
    frames_per_second: float,
    leaves: Leaves,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
    context: Tensor | None = None,
) -> Tensor:
    """Return states ``(n_samples, S)`` after some seconds drawn from nothing. A first frame has no
    past, so what follows it is not yet what follows long histories. What has left the data in the
    last of these seconds starts anew, a few times.

    Args:
        model: the model.
        n_samples: N, sequences.
        seconds: their length; 0 for the state before the first frame.
        frames_per_second: the frame rate.
        leaves: says how frames ``(T, D)`` of a second leave the data, or None.
        generator: source of randomness, on the model's device.
        temperature: of every draw.
        context: ``(N, C)``, of a model that has one: that of every frame of these seconds.
    """
    start = model.initial_state(1)
    if not (n_frames := round(seconds * frames_per_second)):
        return start.expand(n_samples, -1)
    n = max(round(frames_per_second), 1)
    found, todo = start.repeat(n_samples, 1).detach(), list(range(n_samples))
    for _ in range(TRIES):
        u = start.expand(len(todo), -1)
        own = None
        for length in (max(n_frames - n, 0), min(n, n_frames)):
            if context is not None:
                own = context[todo, None].expand(-1, length, -1)
            frames, u = advance(model, u, length, generator, temperature, own)
        found[todo] = u
        todo = [i for i, x in zip(todo, joined(frames, own), strict=True) if leaves(x)]
        if not todo:
            break
    return found


def draw(
    model: SequenceDensity,
    u: Tensor,
    n_frames: int,
    frames_per_second: float,
    leaves: Leaves,
    guard: bool = False,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
    context: Tensor | None = None,
) -> list[Tensor]:
    """Draw sequences a second at a time. One that leaves the data ends there, after its first
    second at the earliest, with a line that says so; with the guard, such a second is drawn again
    from the state before it. The draws are then of the model's density given that no second leaves
    the data.

    Args:
        model: the model.
        u: state ``(N, S)`` before the first frame of each sequence.
        n_frames: frames of each sequence.
        frames_per_second: the frame rate.
        leaves: says how frames ``(T, D)`` of a second leave the data, or None.
        guard: draw again what does.
        generator: source of randomness, on the model's device.
        temperature: of every draw.
        context: ``(N, n_frames, C)``, of a model that has one.

    Returns:
        Each sequence, ``(T, D)`` with at most ``n_frames`` frames.

    Raises:
        ValueError: the first second of a sequence is no numbers.
    """
    n = max(round(frames_per_second), 1)
    drawn: list[list[Tensor]] = [[] for _ in u]
    running = list(range(len(u)))
    bar = tqdm(total=n_frames, desc="draw", unit="frame", disable=None)
    for start in range(0, n_frames, n):
        length = min(n, n_frames - start)
        own = None if context is None else context[running, start : start + length]
        frames, after = advance(model, u, length, generator, temperature, own)
        why = [leaves(x) for x in joined(frames, own)]
        for _ in range(TRIES if guard else 0):
            if not (bad := [i for i, said in enumerate(why) if said]):
                break
            given = None if own is None else own[bad]
            again, after_again = advance(model, u[bad], length, generator, temperature, given)
            frames[bad], after[bad] = again, after_again
            for i, x in zip(bad, joined(again, given), strict=True):
                why[i] = leaves(x)
        for i, said in zip(running, why, strict=True):
            if said:
                _end(i, start / frames_per_second, said, guard)
        kept = [i for i, said in enumerate(why) if not (said and start)]
        running = [running[i] for i in kept]
        for i, x in zip(running, frames[kept], strict=True):
            if not torch.isfinite(x).all():
                raise ValueError(f"sample {i} diverged in its first second; lower --temperature")
            drawn[i].append(x)
        bar.update(length)
        if not running:
            break
        u = after[kept]
    bar.close()
    return [torch.cat(parts) for parts in drawn]


def tell_of_leaving(frames: Tensor, frames_per_second: float, leaves: Leaves) -> None:
    """Say when sequences ``(N, T, D)`` that were drawn toward something leave the data, and go on.

    Args:
        frames: the sequences, with their context behind them.
        frames_per_second: the frame rate.
        leaves: says how frames ``(T, D)`` of a second leave the data, or None.
    """
    n = max(round(frames_per_second), 1)
    for i, whole in enumerate(frames):
        found = ((start, leaves(whole[start : start + n])) for start in range(0, len(whole), n))
        start, why = next(((start, said) for start, said in found if said), (0, None))
        if why:
            rank_zero_warn(
                f"sample {i} left the data after {start / frames_per_second:.3g} s ({why}) and goes"
                " on, as every draw toward its path did: ask for another path, or lower"
                " --temperature"
            )


def advance(
    model: SequenceDensity,
    u: Tensor,
    n_frames: int,
    generator: torch.Generator | None,
    temperature: float,
    context: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw frames ``(N, T, D)`` from states ``(N, S)``, as the model samples; return them and the
    states after them."""
    with torch.no_grad():
        own = argument(context)
        how = {"generator": generator, "temperature": temperature, **own}
        frames = model.sample(n_frames, u=u, **how)[:, 0]
        return frames, model.states(frames, u, **own)[1] if n_frames else u


def _end(i: int, seconds: float, why: str, guard: bool) -> None:
    """Say that a sequence ends, and what may help."""
    if guard:
        remedy = f"{TRIES} draws of that second did: train longer, or lower --temperature"
    else:
        remedy = "--guard draws such a second again; or train longer, or lower --temperature"
    if seconds:
        said = f"sample {i} left the data after {seconds:.3g} s ({why}) and ends there"
    else:
        said = f"sample {i} is out of the data from its first second on ({why})"
    rank_zero_warn(f"{said}: {remedy}")
