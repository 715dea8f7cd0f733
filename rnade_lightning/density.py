"""The two interfaces: the density of one frame, and the density of a sequence of frames.

A `FrameDensity` says how many numbers a frame's parameters take (``param_shapes``) and holds a
static value of each, the parameter ``b_<name>``. A sequence density adds to some of them what its
state says, and hands the result back to `FrameDensity.log_prob` and `FrameDensity.sample`. RNADE is
the default; any other density with this interface takes its place without a change elsewhere.

A `SequenceDensity` has a state that is carried from frame to frame. It says how the state moves on
and what the density of a frame is in a given state; log densities of sequences, samples, streaming
and predictive figures follow.

Conventions:
    One frame ``x (..., D)``; sequences ``frames (B, T, D)``; ``mask (B, T)``, True for valid
    frames, right padding only; log densities in nats per frame. The state ``u (B, S)`` is one
    tensor. What a frame's density reads of it is its *history*, its first ``n_history`` numbers.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

Params = Sequence[Tensor]
"""One tensor per entry of ``param_shapes``, in that order, each ``(..., *shape)``."""


class StateParams(Sequence[Tensor]):
    """Parameters that a state sets, ``b + W u``. Each is computed when it is asked for: a density
    that needs only their products never holds them for all frames.

    Args:
        static: b of each parameter, of its own shape.
        weights: W of each, ``(prod(shape), R)``; None for one that the state does not reach.
        state: u ``(..., R)``.
        added: what is added to each beside, broadcast to it; None for nothing.
    """

    def __init__(
        self,
        static: Sequence[Tensor],
        weights: Sequence[Tensor | None],
        state: Tensor,
        added: Sequence[Tensor | None] | None = None,
    ) -> None:
        self.static, self.weights, self.state = tuple(static), tuple(weights), state
        self.added = (None,) * len(self.static) if added is None else tuple(added)

    def __len__(self) -> int:
        return len(self.static)

    def __getitem__(self, i: Any) -> Any:
        b, W, more = self.static[i], self.weights[i], self.added[i]
        whole = b if W is None else b + (self.state @ W.T).unflatten(-1, b.shape)
        return whole if more is None else whole + more


def batch_of(params: Params, event_dim: int = 2) -> torch.Size:
    """Return the batch shape to which parameters with ``event_dim`` own dimensions broadcast."""
    shapes = {p.shape[: p.dim() - event_dim] for p in params}
    return shapes.pop() if len(shapes) == 1 else torch.broadcast_shapes(*shapes)


def on_cpu(t: Tensor) -> bool:
    """Return whether compiled code can take a tensor."""
    known = t.device.type == "cpu" and t.dtype in (torch.float32, torch.float64)
    return known and not transformed()


def transformed() -> bool:
    """Return whether torch records or transforms operations instead of computing numbers alone:
    ``torch.func``, ``torch.compile``, ``torch.export``, tracing. The torch path then runs."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    return bool(torch._C._are_functorch_transforms_active())  # as autograd.Function itself asks


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Turn autocast off on the device of ``x``, so that a density stays in its parameters'
    dtype."""
    device = "cpu" if x.is_meta else x.device.type
    if not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


class FrameDensity(nn.Module, ABC):
    """A normalised density over frames ``x (D,)``, with parameters that may change per frame."""

    n_features: int
    param_shapes: dict[str, tuple[int, ...]]
    """Name and shape of each of a frame's parameters; ``b_<name>`` is its static value."""
    shift_means: bool = False
    """Whether what past frames explain is added to the means, the parameter ``mu``; otherwise it is
    subtracted from the frame, which a density with bounds does not allow."""
    floor: float = 0.0
    """Smallest scale; 0 for none."""

    def static_params(self) -> tuple[Tensor, ...]:
        """Return the parameters of a frame without a past, each of its own shape."""
        return tuple(getattr(self, f"b_{name}") for name in self.param_shapes)

    def censor(self, x: Tensor) -> Tensor:
        """Return frames ``(..., D)`` as the density, and a recurrent net before it, read them. They
        change only where a density is censored."""
        return x

    @abstractmethod
    def log_prob(self, x: Tensor, params: Params | None = None) -> Tensor:
        """Return the log density of ``x (..., D)`` in nats, ``(...)``."""

    @abstractmethod
    def feature_log_prob(self, x: Tensor, params: Params | None = None) -> Tensor:
        """Return the log density of each feature given those before it, ``(..., D)``. They add up
        to `log_prob`."""

    def feature_cdf(self, x: Tensor, params: Params | None = None) -> Tensor:
        """Return the distribution function of each feature given those before it, ``(..., D)``, in
        [0, 1]. It is uniform for the density's own frames. A density may go without; then its
        calibration is not shown."""
        raise NotImplementedError(f"{type(self).__name__} has no feature_cdf")

    @abstractmethod
    def sample(
        self,
        sample_shape: Sequence[int] = (),
        params: Params | None = None,
        given: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw ``(*sample_shape, *batch, D)``, with the first features ``given``. A temperature
        below 1 draws from a narrower density than that of `log_prob`."""

    @abstractmethod
    def mean(
        self,
        params: Params | None = None,
        n_samples: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the mean of the density, ``(*batch, D)``: exact, or from ``n_samples`` draws."""


class SequenceDensity(nn.Module, ABC):
    """A normalised density over sequences of frames."""

    n_features: int
    conditioned_on_state: bool = True
    """Whether the density of a frame is given the state; not while it is trained alone."""

    # ------------------------------------------------------------------ what a class writes down

    @property
    @abstractmethod
    def n_history(self) -> int:
        """Return how many numbers of the state, counted from the first, a frame's density reads."""

    @property
    @abstractmethod
    def floor(self) -> float:
        """Return the smallest scale of the density of a frame; 0 if there is no floor."""

    @abstractmethod
    def initial_state(self, batch_size: int) -> Tensor:
        """Return the state before the first frame for each sequence, ``(B, S)``."""

    @abstractmethod
    def states(
        self, frames: Tensor, u: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the states of sequences.

        Args:
            frames: ``(B, T, D)``.
            u: state before the first frame ``(B, S)``; None for the initial one.
            mask: ``(B, T)``; with it the state returned is that after the last valid frame.

        Returns:
            The history of each frame, ``(B, T, n_history)``, and the state after the last frame,
            ``(B, S)``.
        """

    @abstractmethod
    def step(self, x: Tensor, u: Tensor) -> Tensor:
        """Return the state after frames ``x (B, D)`` in state ``u (B, S)``, ``(B, S)``."""

    @abstractmethod
    def log_prob_given(self, history: Tensor, frames: Tensor) -> Tensor:
        """Return the log density ``(...)`` of frames ``(..., D)``, each after a history."""

    @abstractmethod
    def sample_given(
        self,
        history: Tensor,
        sample_shape: Sequence[int] = (),
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw frames ``(*sample_shape, ..., D)`` after histories ``(..., n_history)``."""

    @abstractmethod
    def mean_given(
        self, history: Tensor, n_samples: int = 100, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the mean of the frame after every history, ``(..., D)``; exact, or from
        ``n_samples`` draws."""

    def feature_log_prob_given(self, history: Tensor, frames: Tensor) -> Tensor:
        """Return the terms of `log_prob_given`, ``(..., D)``, in the order of the data. A density
        may go without."""
        raise NotImplementedError(f"{type(self).__name__} has no log density of each feature")

    def feature_cdf_given(self, history: Tensor, frames: Tensor) -> Tensor:
        """Return `FrameDensity.feature_cdf` after histories, ``(..., D)``, in the order of the
        data. A density may go without."""
        raise NotImplementedError(f"{type(self).__name__} has no distribution function by feature")

    # ------------------------------------------------------------------ what follows

    def forward(
        self, frames: Tensor, mask: Tensor | None = None, u: Tensor | None = None
    ) -> Tensor:
        """Return `log_prob`, so that the model can be called as any other module."""
        return self.log_prob(frames, mask, u)

    def log_prob(
        self, frames: Tensor, mask: Tensor | None = None, u: Tensor | None = None
    ) -> Tensor:
        """Return the log density of every frame given the frames before it, in nats.

        Args:
            frames: ``(B, T, D)``.
            mask: ``(B, T)``, True for valid frames; padding stands on the right.
            u: state before the first frame ``(B, S)``; None for u_0.

        Returns:
            ``(B, T)``, 0 at padding.

        Raises:
            ValueError: a mask with padding before a valid frame, or frames of the wrong shape.
        """
        return self.log_prob_and_state(frames, mask, u, _need_state=False)[0]

    def log_prob_and_state(
        self,
        frames: Tensor,
        mask: Tensor | None = None,
        u: Tensor | None = None,
        *,
        _need_state: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Return `log_prob`, and the state after the last valid frame ``(B, S)``. Pass that state
        to the next call as ``u``: a long sequence goes through in chunks with the same numbers."""
        if frames.dim() != 3 or frames.shape[-1] != self.n_features:
            raise ValueError(f"frames {tuple(frames.shape)} are not (B, T, {self.n_features})")
        if mask is not None:
            _require_right_padding(mask, frames)
            frames = frames.where(mask[..., None], frames.new_zeros(()))
        history, last = self.states(frames, u, mask if _need_state else None)
        log_p = self.log_prob_given(history, frames)
        if mask is not None:
            log_p = log_p.where(mask, log_p.new_zeros(()))
        return log_p, last

    def feature_log_prob(self, frames: Tensor, u: Tensor | None = None) -> Tensor:
        """Return the terms of `log_prob`, ``(B, T, D)``: the log density of every feature given the
        features visited before it and the frames before."""
        return self.feature_log_prob_given(self.states(frames, u)[0], frames)

    def feature_cdf(self, frames: Tensor, u: Tensor | None = None) -> Tensor:
        """Return the distribution function of every feature given the features visited before it
        and the frames before, ``(B, T, D)``; see `FrameDensity.feature_cdf`."""
        return self.feature_cdf_given(self.states(frames, u)[0], frames)

    @torch.no_grad()
    def sample(
        self,
        n_frames: int,
        n_samples: int = 1,
        prefix: Tensor | None = None,
        u: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw new sequences, or continuations of given ones.

        Args:
            n_frames: T, frames to generate.
            n_samples: sequences for each of the B prefixes or states.
            prefix: ``(B, T0, D)``, frames that came before (not returned).
            u: state ``(B, S)`` before the prefix, or before the first new frame; None for u_0.
            generator: source of randomness, on the model's device.
            temperature: of every draw; 1 for the model's own density.

        Returns:
            ``(B, n_samples, n_frames, D)``; B is 1 with neither prefix nor u.
        """
        B = 1 if prefix is None and u is None else len(u if prefix is None else prefix)  # type: ignore[arg-type]
        frames = list(self.stream(n_frames, n_samples, prefix, u, generator, temperature))
        if not frames:
            return self.initial_state(1).new_empty(B, n_samples, 0, self.n_features)
        return torch.stack(frames, 2)

    def stream(
        self,
        n_frames: int | None = None,
        n_samples: int = 1,
        prefix: Tensor | None = None,
        u: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Iterator[Tensor]:
        """Yield the frames of `sample`, ``(B, n_samples, D)``, one by one as they are made; without
        ``n_frames`` there is no last one."""
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        with torch.no_grad():
            if prefix is not None:
                u = self.states(prefix, u)[1]
            elif u is None:
                u = self.initial_state(1)
            B = len(u)
            u = u.repeat_interleave(n_samples, 0)
        for _ in itertools.count() if n_frames is None else range(n_frames):
            with torch.no_grad():  # not while the caller has the frame
                x, u = self.next_frames(u, generator, temperature)
            yield x.unflatten(0, (B, n_samples))

    def next_frames(
        self, u: Tensor, generator: torch.Generator | None, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Draw frames ``(N, D)`` in states ``u (N, S)``; return them and the states after them."""
        x = self.sample_given(u[..., : self.n_history], (), generator, temperature)
        return x, self.step(x, u)

    def predictive_mean(
        self,
        frames: Tensor,
        u: Tensor | None = None,
        n_samples: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the mean of every frame given those before it, ``(B, T, D)``, by draws."""
        return self.mean_given(self.states(frames, u)[0], n_samples, generator)

    def one_step_samples(
        self,
        frames: Tensor,
        u: Tensor | None = None,
        n_samples: int = 10,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw every frame given the true frames before it, ``(n_samples, B, T, D)``."""
        return self.sample_given(self.states(frames, u)[0], (n_samples,), generator)


def _require_right_padding(mask: Tensor, frames: Tensor) -> None:
    if mask.shape != frames.shape[:2] or mask.dtype != torch.bool:
        raise ValueError(
            f"mask {tuple(mask.shape)} {mask.dtype} is not (B, T) = {tuple(frames.shape[:2])} bool"
        )
    ordered = (mask[:, 1:] <= mask[:, :-1]).all()
    message = "mask has padding before a valid frame; pad on the right only"
    if mask.device.type == "cpu":
        if not ordered:
            raise ValueError(message)
    else:  # no read by the host
        torch._assert_async(ordered, message)
