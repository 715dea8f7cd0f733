"""The density of a sequence of frames, an interface.

A `SequenceDensity` has a state that is carried from frame to frame. It says how the state moves on
and what the density of a frame is in a given state; log densities of sequences, samples, streaming
and predictive figures follow.

A model may be given a *context* beside the past: numbers of each frame that are known and not
modelled, such as a path to walk or a label. Its density is then that of frames given their context.

Conventions:
    One frame ``x (..., D)``; sequences ``frames (B, T, D)``; ``mask (B, T)``, True for valid
    frames, right padding only; ``context (B, T, C)``, NaN where a number is absent; log densities
    in nats per frame. The state ``u (B, S)`` is one tensor. What a frame's density reads is its
    *history*: the first ``n_history`` numbers of the state, and the frame's context behind them.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from rnade_lightning import arguments


class SequenceDensity(nn.Module, ABC):
    """A normalised density over sequences of frames."""

    n_features: int
    n_context: int = 0
    """C, numbers of a frame that its density is given."""
    context_by_feature: bool = False
    """Whether the context is of every feature, ``(B, T, D, C)``; ``n_context`` is then D C."""
    makes_context: bool = False
    """Whether the context of what is drawn is computed by the model itself as it draws, in `sample`
    and `stream`, so that none is handed in."""
    log_mass: bool = False
    """Whether log p of a frame is the log mass of its integers."""
    conditioned_on_state: bool = True
    """Whether the density of a frame is given the state; not while it is trained alone."""

    # ------------------------------------------------------------------ what a class writes down

    @property
    @abstractmethod
    def n_history(self) -> int:
        """Return how many numbers of the state, counted from the first, a frame's density reads."""

    @property
    def n_read(self) -> int:
        """Return how many numbers a frame's density reads: of the state and of the context."""
        return self.n_history + self.n_context

    @property
    @abstractmethod
    def floor(self) -> float:
        """Return the smallest scale of the density of a frame; 0 if there is no floor."""

    @abstractmethod
    def initial_state(self, batch_size: int) -> Tensor:
        """Return the state before the first frame for each sequence, ``(B, S)``."""

    @abstractmethod
    def states(
        self,
        frames: Tensor,
        u: Tensor | None = None,
        mask: Tensor | None = None,
        context: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the states of sequences. Where a model has no context, a class may leave that
        argument out, here and in `step`.

        Args:
            frames: ``(B, T, D)``.
            u: state before the first frame ``(B, S)``; None for the initial one.
            mask: ``(B, T)``; with it the state returned is that after the last valid frame.
            context: ``(B, T, C)``, of a model that has one.

        Returns:
            The history of each frame, ``(B, T, n_read)``, and the state after the last frame,
            ``(B, S)``.
        """

    @abstractmethod
    def step(self, x: Tensor, u: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the state after frames ``x (B, D)``, with context ``(B, C)``, in state ``u (B,
        S)``, ``(B, S)``."""

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
        """Draw frames ``(*sample_shape, ..., D)`` after histories ``(..., n_read)``."""

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

    def history(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        """Return what the density of a frame reads in states ``u (B, S)``, with the frame's context
        ``(B, C)``: ``(B, n_read)``."""
        u = arguments.state(self, u)
        context = arguments.context_of_frame(self, context, u.shape[0])
        own = u[:, : self.n_history]
        return own if context is None else torch.cat((own, context), -1)

    def forward(
        self,
        frames: Tensor,
        mask: Tensor | None = None,
        u: Tensor | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """Return `log_prob`, so that the model can be called as any other module."""
        return self.log_prob(frames, mask, u, context)

    def log_prob(
        self,
        frames: Tensor,
        mask: Tensor | None = None,
        u: Tensor | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """Return the log density of every frame given the frames before it and its context, in
        nats. Batches of 1 broadcast, here and in all that follows.

        Args:
            frames: ``(B, T, D)``.
            mask: ``(B, T)``, True for valid frames; padding stands on the right.
            u: state before the first frame ``(B, S)``; None for u_0.
            context: ``(B, T, C)``, of a model that has one; NaN where a number is absent.

        Returns:
            ``(B, T)``, 0 at padding.

        Raises:
            TypeError: an argument is no tensor of real numbers, the mask none of bools.
            ValueError: one is of the wrong shape or on another device, the mask has padding
                before a valid frame, or the context is missing, or the model has none.
        """
        return self.log_prob_and_state(frames, mask, u, context, _need_state=False)[0]

    def log_prob_and_state(
        self,
        frames: Tensor,
        mask: Tensor | None = None,
        u: Tensor | None = None,
        context: Tensor | None = None,
        *,
        _need_state: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Return `log_prob`, and the state after the last valid frame ``(B, S)``. Pass that state
        to the next call as ``u``: a long sequence goes through in chunks with the same numbers."""
        frames, u, mask, context = arguments.sequences(self, frames, u, mask, context)
        if mask is not None:
            frames = frames.where(mask[..., None], frames.new_zeros(()))
        history, last = self._states(frames, u, mask if _need_state else None, context)
        log_p = self.log_prob_given(history, frames)
        if mask is not None:
            log_p = log_p.where(mask, log_p.new_zeros(()))
        return log_p, last

    def feature_log_prob(
        self, frames: Tensor, u: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """Return the terms of `log_prob`, ``(B, T, D)``: the log density of every feature given the
        features visited before it and the frames before."""
        frames, u, _, context = arguments.sequences(self, frames, u, None, context)
        return self.feature_log_prob_given(self._states(frames, u, None, context)[0], frames)

    def feature_cdf(
        self, frames: Tensor, u: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """Return the distribution function of every feature given the features visited before it
        and the frames before, ``(B, T, D)``; see `FrameDensity.feature_cdf`."""
        frames, u, _, context = arguments.sequences(self, frames, u, None, context)
        return self.feature_cdf_given(self._states(frames, u, None, context)[0], frames)

    @torch.no_grad()
    def sample(
        self,
        n_frames: int,
        n_samples: int = 1,
        prefix: Tensor | None = None,
        u: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        context: Tensor | None = None,
    ) -> Tensor:
        """Draw new sequences, or continuations of given ones.

        Args:
            n_frames: T, frames to generate.
            n_samples: sequences for each of the B prefixes or states.
            prefix: ``(B, T0, D)``, frames that came before (not returned).
            u: state ``(B, S)`` before the prefix, or before the first new frame; None for u_0.
            generator: source of randomness, on the model's device.
            temperature: of every draw; 1 for the model's own density.
            context: ``(B, T0 + n_frames, C)``, of a model that has one: of the prefix and of the
                frames to draw.

        Returns:
            ``(B, n_samples, n_frames, D)``; B is 1 with neither prefix, u nor context.
        """
        arguments.timed(prefix=prefix, context=context)
        n_given = 0 if prefix is None else prefix.shape[1]
        before = None if context is None else context[:, :n_given]
        u = self._start(n_samples, prefix, u, generator, temperature, n_frames, before)
        if context is not None:
            arguments.as_many(context, n_given, n_frames)
            context = context[:, n_given:]
        if n_frames or context is not None:
            u, context = arguments.ahead(self, u, context, n_frames)
        return self._drawn(n_frames, n_samples, u, generator, temperature, context)

    def _drawn(
        self,
        n_frames: int,
        n_samples: int,
        u: Tensor,
        generator: torch.Generator | None,
        temperature: float,
        context: Tensor | None,
    ) -> Tensor:
        """The frames of `sample` from states ``u (B, S)`` on, with context ``(B, T, C)``."""
        frames = list(self.stream(n_frames, n_samples, None, u, generator, temperature, context))
        if not frames:
            return u.new_empty(len(u), n_samples, 0, self.n_features)
        return torch.stack(frames, 2)

    def stream(
        self,
        n_frames: int | None = None,
        n_samples: int = 1,
        prefix: Tensor | None = None,
        u: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        context: Tensor | Iterable[Tensor] | None = None,
    ) -> Iterator[Tensor]:
        """Yield the frames of `sample`, ``(B, n_samples, D)``, one by one as they are made; without
        ``n_frames`` there is no last one.

        The context may also be an iterable: before every new frame that frame's ``(B, C)`` is taken
        from it, so that a model can be steered while it runs. It ends the stream where it ends, and
        needs a state rather than a prefix.
        """
        arguments.timed(prefix=prefix, context=context if isinstance(context, Tensor) else None)
        last = 0 if n_frames is None else n_frames
        before, contexts = None, None
        if isinstance(context, Tensor):
            n_given = 0 if prefix is None else prefix.shape[1]
            if n_frames is not None:
                arguments.as_many(context, n_given, n_frames)
            before, contexts = context[:, :n_given], iter(context[:, n_given:].unbind(1))
        elif context is not None:
            if prefix is not None:
                raise ValueError("context by frame goes with a state: give u, not a prefix")
            contexts = iter(context)
        elif self.n_context and last:
            arguments.context_of_frame(self, None, 1)
        with torch.no_grad():
            u = self._start(n_samples, prefix, u, generator, temperature, last, before)
            B = len(u)
            u = u.repeat_interleave(n_samples, 0)
        for t in itertools.count() if n_frames is None else range(n_frames):
            given: tuple[Tensor, ...] = ()
            if contexts is not None:
                if (own := next(contexts, None)) is None:
                    return
                own = arguments.context_of_frame(self, own, B)
                if t == 0 and B == 1:  # one state, perhaps several contexts
                    B, u = len(own), u.repeat(len(own), 1)
                given = (own.repeat_interleave(n_samples, 0),)
            with torch.no_grad():  # not while the caller has the frame
                x, u = self.next_frames(u, generator, temperature, *given)
            yield x.unflatten(0, (B, n_samples))

    def _start(
        self,
        n_samples: int,
        prefix: Tensor | None,
        u: Tensor | None,
        generator: torch.Generator | None,
        temperature: float,
        n_frames: int,
        context: Tensor | None = None,
    ) -> Tensor:
        """The states ``(B, S)`` before the first new frame."""
        first = self.initial_state(1)
        counts = {"n_samples": (n_samples, 0), "n_frames": (n_frames, 0)}
        arguments.draws(first, generator, temperature, **counts)
        if prefix is not None:
            prefix, u, _, context = arguments.sequences(self, prefix, u, None, context)
            return self._states(prefix, u, None, context)[1]
        return first if u is None else arguments.state(self, u)

    def _states(
        self, frames: Tensor, u: Tensor | None, mask: Tensor | None, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return `states`; a model without a context need not know of it."""
        return self.states(frames, u, mask, *(() if context is None else (context,)))

    def next_frames(
        self,
        u: Tensor,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        context: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw frames ``(N, D)``, with context ``(N, C)``, in states ``u (N, S)``; return them and
        the states after them."""
        x = self.sample_given(self.history(u, context), (), generator, temperature)
        return x, self.step(x, u, *(() if context is None else (context,)))

    def tilted(
        self, n_frames: int, u: Tensor, features: Sequence[int], slopes: Tensor,
        generator: torch.Generator | None = None, temperature: float = 1.0,
        context: Tensor | None = None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Draw T = ``n_frames`` frames, 1 or more, from states ``u (N, S)`` on, the random numbers
        of k features tilted by slopes ``(N, k)``, which hold for all frames of a sequence; see
        `Component.tilted`. A density may go without: it draws as it always does. The rest is as in
        `sample`, for T frames of N sequences.

        Returns:
            Frames ``(N, T, D)``, states after them, random numbers of these features ``(N, T, k)``,
            0 if not tilted, and the log density of all over that which they are of, ``(N,)``.
        """
        u, context = arguments.ahead(self, arguments.state(self, u), context, n_frames)
        arguments.draws(u, generator, temperature, n_frames=(n_frames, 1))
        slopes = arguments.tensor("slopes", slopes, u, u.shape[0], len(features))
        return self._tilted(n_frames, u, features, slopes, (generator, temperature), context)

    @torch.no_grad()
    def _tilted(
        self, n_frames: int, u: Tensor, features: Sequence[int], slopes: Tensor,
        how: tuple[torch.Generator | None, float], context: Tensor | None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Return what `tilted` returns, of arguments that were checked."""
        x = self.sample(n_frames, 1, None, u, *how, context)[:, 0]
        noise, ratio = x.new_zeros(len(u), n_frames, len(features)), x.new_zeros(len(u))
        return x, self._states(x, u, None, context)[1], noise, ratio

    def predictive_mean(
        self,
        frames: Tensor,
        u: Tensor | None = None,
        n_samples: int = 100,
        generator: torch.Generator | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """Return the mean of every frame given those before it, ``(B, T, D)``, by draws."""
        frames, u, _, context = arguments.sequences(self, frames, u, None, context)
        return self.mean_given(self._states(frames, u, None, context)[0], n_samples, generator)

    def one_step_samples(
        self,
        frames: Tensor,
        u: Tensor | None = None,
        n_samples: int = 10,
        generator: torch.Generator | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """Draw every frame given the true frames before it, ``(n_samples, B, T, D)``."""
        frames, u, _, context = arguments.sequences(self, frames, u, None, context)
        return self.sample_given(self._states(frames, u, None, context)[0], (n_samples,), generator)
