r"""Draw sequences toward an aim, such as a path, from a model that was not given it.

An aim says with which density $g(a | x_{1:T})$ it would be observed beside frames. The draws are of

$$p(x_{1:T} | a) \propto p(x_{1:T})\, g(a | x_{1:T})$$

by a particle filter: of every sequence, many are drawn, a stretch at a time, and those that agree
with the aim are kept, in proportion to g (Gordon, Salmond and Smith, *Novel approach to
nonlinear/non-Gaussian Bayesian state estimation*, 1993). They are exact draws for ever more
particles; the model and its likelihood stay as they are.

What the next stretches promise, $\psi$, moves the weights while it lasts, and is taken back one
stretch later (Pitt and Shephard, *Filtering via simulation: auxiliary particle filters*, 1999).
Particles are not drawn blindly either: a frame is a function of random numbers r, and those of some
features are drawn with density $\propto \phi(r) e^{a r}$ in place of $\phi(r)$, where a is the
gradient of $\log \psi$. The weights are multiplied by the one over the other, so that the draws
stay those of the line above (Whiteley and Lee, *Twisted particle filters*, 2014; Kappen and Ruiz,
*Adaptive importance sampling for control and inference*, 2016). The aim learns what $\psi$ needs
from frames that the model draws freely at first.

Conventions:
    N sequences of P particles, which stand together: ``(N P, ..)``. Frames are numbered from 0 on;
    those of a run-up have numbers below 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from rnade_lightning.long_samples import Leaves
from rnade_lightning.sequence_density import SequenceDensity

PARTICLES = 128
"""Sequences that one is chosen of."""
_FREE = 128
"""Sequences that an aim learns from."""


class Aim(Protocol):
    """Tells what sequences are drawn toward."""

    @property
    def n_frames(self) -> int:
        """Return how many frames it tells of."""
        ...

    @property
    def n_before(self) -> int:
        """Return the frames of a run-up, whole stretches, which are drawn but not kept."""
        ...

    @property
    def n_stretch(self) -> int:
        """Return the frames after which particles are weighed."""
        ...

    @property
    def n_learnt(self) -> int:
        """Return the frames, drawn freely, that it learns from."""
        ...

    @property
    def features(self) -> Sequence[int]:
        """Return the features whose random numbers are tilted, k of them."""
        ...

    def with_run_up(self) -> Aim:
        """Return this aim with what it needs before it, of sequences that begin with nothing."""
        ...

    def learnt(self, frames: Tensor, noise: Tensor) -> Aim:
        """Return the aim with what it learns from frames ``(M, n_learnt, D)`` that a model drew
        freely by the random numbers ``(M, n_learnt, k)`` of `features`."""
        ...

    def beyond(self) -> list[str]:
        """Return a line on each way in which it is none that the data know."""
        ...

    def render(self, frames: Tensor, stem: Path, given: Any, context: Tensor | None) -> list[Path]:
        """Write frames as files that show it, too; see `FrameDataModule.render`."""
        ...

    def begun(self, n: int) -> np.ndarray:
        """Return what is known of n sequences before the first frame, ``(n, ..)``."""
        ...

    def slopes(self, start: int, before: np.ndarray) -> np.ndarray:
        """Return the slopes a ``(N, k)`` of the stretch from frame ``start`` on, from what is known
        of the sequences before it."""
        ...

    def fit(
        self, frames: Tensor, start: int, before: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tell how well stretches agree with the aim.

        Args:
            frames: ``(N, n, D)``.
            start: number of their first frame.
            before: what is known of the sequences before it, ``(N, ..)``.

        Returns:
            log g of them ``(N,)``, log psi of the next ones ``(N,)``, 0 at the end, and what is
            known after them ``(N, ..)``.
        """
        ...


@torch.no_grad()
def guided(
    model: SequenceDensity,
    u: Tensor,
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
        u: state ``(N P, S)`` before the first frame of each particle, a run-up included.
        leaves: says how frames ``(T, D)`` leave the data, or None.
        aim: what they are drawn toward, for T frames.
        generator: source of randomness, on the model's device.
        temperature: of every draw.
        context: ``(N, T, C)``, of a model that has one; that of the first frame holds before it.
        particles: P.

    Returns:
        Each sequence, ``(T, D)``.

    Raises:
        ValueError: all particles of a sequence are no numbers.
    """
    N, P, T, n, first = len(u) // particles, particles, aim.n_frames, aim.n_stretch, -aim.n_before
    if not T:
        return list(u.new_empty(N, 0, model.n_features))
    own = torch.arange(N, device=u.device).repeat_interleave(P)

    def ahead(which: Tensor, u: Tensor, start: int, n: int, slopes: np.ndarray) -> Sequence[Tensor]:
        at = torch.arange(start, start + n, device=u.device).clamp(0, T - 1)
        given = None if context is None else context[which][:, at]
        a = torch.as_tensor(slopes, dtype=u.dtype, device=u.device)
        return model.tilted(n, u, aim.features, a, generator, temperature, given)

    some = torch.arange(_FREE, device=u.device) * len(u) // _FREE
    free, _, noise, _ = ahead(
        own[some], u[some], 0, aim.n_learnt, np.zeros((_FREE, len(aim.features)))
    )
    aim = aim.learnt(*_staying(free.cpu(), noise.cpu(), leaves))
    before, promised = aim.begun(N * P), np.zeros(N * P)
    drawn: list[Tensor] = []  # of each stretch, those that some particle came from
    parents: list[Tensor] = []  # which of them each of the next stretch came from
    bar = tqdm(total=T - first, desc="draw", unit="frame", disable=None)
    for start in range(first, T, n):
        length = min(n, T - start)
        frames, after, _, ratio = ahead(own, u, start, length, aim.slopes(start, before))
        good, promises, known = aim.fit(frames.cpu(), start, before)
        log_w = ratio.cpu().double() + torch.from_numpy(good + promises - promised)
        out = torch.tensor([leaves(x) is not None for x in frames])
        log_w = log_w.nan_to_num(-np.inf)
        kept = _resampled(log_w.view(N, P), out.view(N, P), generator)
        drawn.append(frames)
        parents.append(kept.to(u.device))
        u, before, promised = after[parents[-1]], known[kept.numpy()], promises[kept.numpy()]
        _forget(drawn, parents)
        bar.update(length)
    bar.close()
    device = None if generator is None else generator.device
    one = torch.randint(P, (N,), generator=generator, device=device).to(u.device)
    whole = _traced(drawn, parents, one + P * torch.arange(N, device=u.device))
    return [x[-first:] for x in whole]


def _staying(frames: Tensor, noise: Tensor, leaves: Leaves) -> tuple[Tensor, Tensor]:
    """Return frames ``(M, T, D)`` and their random numbers, without those that leave the data if
    others stay."""
    numbers = frames.isfinite().flatten(1).all(1)
    stay = torch.tensor([leaves(x) is None for x in frames]) & numbers
    which = stay if stay.any() else numbers
    if not which.any():
        raise ValueError("all samples diverged; lower --temperature")
    return frames[which], noise[which]


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
