r"""Draw sequences toward an aim, such as a path, from a model that was not given it.

An aim says with which density $g(a | x_{1:T})$ it would be observed beside frames. The draws are of

$$p(x_{1:T} | a) \propto p(x_{1:T})\, g(a | x_{1:T})$$

by a particle filter: of every sequence, many are drawn by the model, a stretch at a time, and those
that agree with the aim are kept, in proportion to g (Gordon, Salmond and Smith, *Novel approach to
nonlinear/non-Gaussian Bayesian state estimation*, 1993). They are exact draws for ever more
particles; the model and its likelihood stay as they are. What a stretch promises of the next ones
moves the weights while it lasts, and is taken back one stretch later (Pitt and Shephard, *Filtering
via simulation: auxiliary particle filters*, 1999).

Conventions:
    N sequences of P particles, which stand together: ``(N P, ..)``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from rnade_lightning.long_samples import Leaves, advance
from rnade_lightning.sequence_density import SequenceDensity

PARTICLES = 128
"""Sequences that one is chosen of."""
STRETCH = 0.25
"""Seconds after which they are weighed."""


class Aim(Protocol):
    """Tells what sequences are drawn toward."""

    @property
    def n_frames(self) -> int:
        """Return how many frames it tells of."""
        ...

    def beyond(self) -> list[str]:
        """Return a line on each way in which it is none that the data know."""
        ...

    def render(self, frames: Tensor, stem: Path, given: Any, context: Tensor | None) -> list[Path]:
        """Write frames as files that show it, too; see `FrameDataModule.render`."""
        ...

    def fit(
        self, frames: Tensor, start: int, before: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tell how well stretches agree with the aim.

        Args:
            frames: ``(N, n, D)``.
            start: number of their first frame.
            before: what it told of the stretches before, None at the start.

        Returns:
            log g of them ``(N,)``, log g that the next ones promise ``(N,)``, and what is to be
            known of them ``(N, ..)``.
        """
        ...


def guided(
    model: SequenceDensity,
    u: Tensor,
    n_frames: int,
    frames_per_second: float,
    leaves: Leaves,
    aim: Aim,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
    context: Tensor | None = None,
    particles: int = PARTICLES,
) -> list[Tensor]:
    """Draw sequences toward an aim. A stretch that leaves the data is not kept if another one of
    its sequence stays.

    Args:
        model: the model.
        u: state ``(N P, S)`` before the first frame of each particle.
        n_frames: T, frames of each.
        frames_per_second: the frame rate.
        leaves: says how frames ``(T, D)`` leave the data, or None.
        aim: what they are drawn toward.
        generator: source of randomness, on the model's device.
        temperature: of every draw.
        context: ``(N, T, C)``, of a model that has one.
        particles: P.

    Returns:
        Each sequence, ``(T, D)``.

    Raises:
        ValueError: all particles of a sequence are no numbers.
    """
    N, P, n = len(u) // particles, particles, max(round(STRETCH * frames_per_second), 1)
    own = torch.arange(N, device=u.device).repeat_interleave(P)
    before, promised = None, np.zeros(N * P)
    drawn: list[Tensor] = []  # of each stretch, those that some particle came from
    parents: list[Tensor] = []  # which of them each of the next stretch came from
    bar = tqdm(total=n_frames, desc="draw", unit="frame", disable=None)
    for start in range(0, n_frames, n):
        length = min(n, n_frames - start)
        given = None if context is None else context[own, start : start + length]
        frames, after = advance(model, u, length, generator, temperature, given)
        good, promises, told = aim.fit(frames.cpu(), start, before)
        log_w = torch.from_numpy(good + promises - promised).nan_to_num(-np.inf)
        out = torch.tensor([leaves(x) is not None for x in frames])
        kept = _resampled(log_w.view(N, P), out.view(N, P), generator)
        drawn.append(frames)
        parents.append(kept.to(u.device))
        u, before, promised = after[parents[-1]], told[kept.numpy()], promises[kept.numpy()]
        _forget(drawn, parents)
        bar.update(length)
    bar.close()
    if not drawn:
        return list(u.new_empty(N, 0, model.n_features))
    device = None if generator is None else generator.device
    one = torch.randint(P, (N,), generator=generator, device=device).to(u.device)
    return _traced(drawn, parents, one + P * torch.arange(N, device=u.device))


def _resampled(log_w: Tensor, out: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return which particles go on, ``(N P,)``, by systematic resampling in each sequence, from log
    weights ``(N, P)`` and whether they have left the data."""
    N, P = log_w.shape
    some = (~out & log_w.isfinite()).any(1, keepdim=True)
    log_w = log_w.masked_fill(out & some, -np.inf)
    if not log_w.isfinite().any(1).all():
        i = int((~log_w.isfinite().any(1)).nonzero()[0])
        raise ValueError(f"sample {i} diverged; lower --temperature")
    device = None if generator is None else generator.device
    first = torch.rand(N, 1, generator=generator, device=device).cpu().double()
    places = (torch.arange(P) + first) / P
    above = torch.softmax(log_w.double(), 1).cumsum(1)
    chosen = torch.searchsorted(above / above[:, -1:], places).clamp(max=P - 1)
    return (chosen + P * torch.arange(N)[:, None]).flatten()


def _forget(drawn: list[Tensor], parents: list[Tensor]) -> None:
    """Forget the stretches that no particle came from; long ago, all came from one."""
    alive = torch.arange(len(parents[-1]), device=parents[-1].device)
    for k in reversed(range(len(drawn))):
        alive, parents[k] = parents[k][alive].unique(return_inverse=True)
        if len(alive) == len(drawn[k]):
            return
        drawn[k] = drawn[k][alive]


def _traced(drawn: list[Tensor], parents: list[Tensor], at: Tensor) -> list[Tensor]:
    """Return the sequences ``(T, D)`` that end as certain particles ``(N,)``."""
    parts = []
    for frames, kept in zip(reversed(drawn), reversed(parents), strict=True):
        at = kept[at]
        parts.append(frames[at])
    return list(torch.cat(parts[::-1], 1))
