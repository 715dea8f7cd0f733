r"""A recurrent net over frames whose state sets the parameters of any density of a frame.

Frame t sees the state after frame t - 1 only; u_0 is learned. The states do not depend on the
density, so they are computed first, and all frames go through one call of it. With a linear path
from the last p frames, the density models what they leave unexplained,
$x_t - \sum_i A_i x_{t-i}$ (a shift, so it stays exact), starting at copying the last frame. Where
the density has bounds, which cannot be shifted, the sum is added to its means instead.
The density may visit the features in another order than that of the data.

Conventions:
    ``frames (B, T, D)``; ``mask (B, T)``, True for valid frames, right padding only; log densities
    in nats per frame. The state ``u (B, S)`` is one tensor: the recurrent units (R =
    ``n_recurrent``), the last p frames (p D numbers, the latest first) if there is a linear path
    from them, the LSTM's cell (R), and the units and cells of the layers below, if there are any.
    What a frame sees of it is its first R + p D numbers.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from rnade_lightning.density import FrameDensity, StateParams, full_precision, on_cpu
from rnade_lightning.rnade import Backend

Cell = Literal["sigmoid", "tanh", "gru", "lstm"]


class SequenceModel(nn.Module, ABC):
    """A recurrent net whose state sets the parameters of a `FrameDensity`.

    A concrete class makes the density, says where it is kept, and calls `_add_state_paths`.
    """

    def __init__(
        self,
        n_features: int,
        n_recurrent: int,
        cell: Cell,
        n_past: int = 0,
        learn_past: bool = True,
        dropout: float = 0.0,
        backend: Backend = "compiled",
        n_layers: int = 1,
        input_noise: float = 0.0,
        feature_order: int = 0,
    ) -> None:
        super().__init__()
        if n_past < 0 or not 0 <= dropout < 1:
            raise ValueError("n_past must be at least 0, dropout at least 0 and below 1")
        if n_layers < 1 or not input_noise >= 0:
            raise ValueError("n_layers must be at least 1, input_noise at least 0")
        if cell not in get_args(Cell):
            raise ValueError(f"cell {cell!r} is none of {', '.join(get_args(Cell))}")
        if n_recurrent < 1:
            raise ValueError(f"n_recurrent must be at least 1, got {n_recurrent}")
        self.n_features, self.n_recurrent, self.cell = n_features, n_recurrent, cell
        self.n_past, self.dropout, self.backend = n_past, dropout, backend
        self.n_layers, self.input_noise = n_layers, input_noise
        self.conditioned_on_state = True
        """Whether the density hears of the state; not while it is trained alone."""
        generator = torch.Generator().manual_seed(feature_order)
        self.feature_order = (
            torch.randperm(n_features, generator=generator).tolist() if feature_order else None
        )
        """Feature that the density visits d-th; None for the order of the data."""
        self._inverse_order = (
            sorted(range(n_features), key=self.feature_order.__getitem__)
            if self.feature_order
            else None
        )
        if n_past:
            A = torch.zeros(n_past, n_features, n_features)
            A[0].fill_diagonal_(1)
            self.A = nn.Parameter(A, requires_grad=learn_past)
        R, bound = n_recurrent, 1 / math.sqrt(n_recurrent)
        self.u_0 = nn.Parameter(torch.zeros(n_layers * (2 * R if cell == "lstm" else R)))
        for layer in range(n_layers):
            n_inputs, name = R if layer else n_features, f"_{layer}" if layer else ""
            if cell in ("sigmoid", "tanh"):
                for key, n in (("W_in", n_inputs), ("W_rec", R)):
                    weight = nn.Parameter(torch.empty(R, n).uniform_(-bound, bound))
                    self.register_parameter(key + name, weight)
                self.register_parameter("b_h" + name, nn.Parameter(torch.zeros(R)))
            else:
                kind = nn.GRU if cell == "gru" else nn.LSTM
                self.add_module("rnn" + name, kind(n_inputs, R, batch_first=True))

    @property
    @abstractmethod
    def density(self) -> FrameDensity:
        """The density of one frame."""

    @property
    def floor(self) -> float:
        """Smallest scale of the density, 0 for none."""
        return float(getattr(self.density, "floor", 0.0))

    def _add_state_paths(self, conditioned: Sequence[str]) -> None:
        shapes = self.density.param_shapes
        if unknown := set(conditioned) - set(shapes):
            raise ValueError(f"conditioned: {sorted(unknown)} is none of {', '.join(shapes)}")
        self.conditioned = tuple(name for name in shapes if name in conditioned)
        for name in self.conditioned:
            W = nn.Parameter(torch.empty(math.prod(shapes[name]), self.n_recurrent))
            nn.init.normal_(W, std=0.01)
            self.register_parameter(f"W_{name}", W)

    # ------------------------------------------------------------------ recurrence

    @property
    def n_history(self) -> int:
        """How many numbers of the state a frame sees, R + p D."""
        return self.n_recurrent + self.n_past * self.n_features

    def initial_state(self, batch_size: int) -> Tensor:
        """u_0, and zeros for the frames before the first, for each sequence, ``(B, S)``."""
        past = self.u_0.new_zeros(self.n_history - self.n_recurrent)
        u = torch.cat((self.u_0[: self.n_recurrent], past, self.u_0[self.n_recurrent :]))
        return u.expand(batch_size, -1)

    def states(
        self, frames: Tensor, u: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The recurrent states of sequences.

        Args:
            frames: ``(B, T, D)``.
            u: state before the first frame ``(B, S)``; None for u_0.
            mask: ``(B, T)``; with it the state returned is that after the last valid frame.

        Returns:
            What each frame sees, ``(B, T, R + p D)``, and the state after the last, ``(B, S)``.
        """
        if u is None:
            u = self.initial_state(len(frames))
        if not frames.shape[1]:
            return frames.new_zeros(len(frames), 0, self.n_history), u
        if mask is None or len(u[0]) == self.n_history:
            after, last = self._run(frames, u)
            seen = torch.cat((u[:, None, : self.n_history].to(after.dtype), after), 1)
            if mask is not None:
                n_valid = mask.sum(1)[:, None, None].expand(-1, -1, self.n_history)
                last = seen.gather(1, n_valid)[:, 0]
            return seen[:, :-1], last
        outputs = []
        for t in range(frames.shape[1]):  # of what a frame does not see, only the last is known
            outputs.append(u[:, : self.n_history])
            u = torch.where(mask[:, t, None], self.step(frames[:, t], u), u)
        return torch.stack(outputs, 1), u

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        """The state after frames ``x (B, D)`` in state ``u (B, S)``, ``(B, S)``."""
        return self._run(x[:, None], u)[1]

    def _run(self, frames: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """What is seen after every frame ``(B, T, R + p D)``, the whole state after the last
        ``(B, S)``."""
        R, n_history, T = self.n_recurrent, self.n_history, frames.shape[1]
        frames = self.density.censor(frames)
        after, last = self._run_cell(frames, torch.cat((u[:, :R], u[:, n_history:]), -1))
        if not self.n_past:
            return after, last
        before = u[:, R:n_history].unflatten(-1, (self.n_past, -1)).flip(1).to(frames.dtype)
        whole = torch.cat((before, frames), 1)  # (B, p + T, D), in the order of time
        past = [whole[:, self.n_past - i : self.n_past - i + T] for i in range(self.n_past)]
        after = torch.cat((after, *past), -1)
        return after, torch.cat((last[:, :R], after[:, -1, R:], last[:, R:]), -1)

    def _run_cell(self, frames: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """The recurrent units of the last layer after every frame ``(B, T, R)``, and those of all
        layers, the last layer first, each with its LSTM's cell, after the last frame."""
        if self.input_noise and self.training:
            frames = frames + self.input_noise * torch.randn_like(frames)
        after, last = frames, []
        for layer, u_layer in enumerate(reversed(u.chunk(self.n_layers, -1))):
            after, u_layer = self._run_layer(after, u_layer, layer)
            last.append(u_layer)
        return after, torch.cat(last[::-1], -1)

    def _run_layer(self, inputs: Tensor, u: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """The units of a layer after every frame ``(B, T, R)``, and after the last with the LSTM's
        cell."""
        if self.backend == "compiled" and on_cpu(self.u_0):
            from rnade_lightning.kernels import recurrent

            with full_precision(inputs):
                inputs, u = inputs.to(self.u_0.dtype), u.to(self.u_0.dtype)
                if len(inputs) >= 16 and self.n_recurrent >= 256:  # large products: torch's
                    return self._run_torch(inputs, u, layer)
                return recurrent.run(self.cell, inputs, u, *self.cell_weights(layer))
        return self._run_torch(inputs, u, layer)

    def _run_torch(self, inputs: Tensor, u: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        if self.cell == "lstm":
            h, c = (part[None].contiguous() for part in u.chunk(2, -1))
            after, (h, c) = self._rnn(layer)(inputs, (h, c))
            return after, torch.cat((h[0], c[0]), -1)
        if self.cell == "gru":
            after, last = self._rnn(layer)(inputs, u[None].contiguous())
            return after, last[0]
        W_in, W_rec, b_in, b_rec = self.cell_weights(layer)
        if self.cell == "sigmoid":  # s(z) = (1 + tanh(z / 2)) / 2, so v = 2 u - 1 is a tanh RNN
            W_in, W_rec, b_in = W_in / 2, W_rec / 4, b_in / 2 + W_rec.sum(1) / 4
            u = 2 * u - 1
        weights = (W_in, W_rec, b_in, b_rec)
        after, last = torch.rnn_tanh(
            inputs, u[None].contiguous(), weights, True, 1, 0.0, self.training, False, True
        )
        if self.cell == "sigmoid":
            after, last = (after + 1) / 2, (last + 1) / 2
        return after, last[0]

    def cell_weights(self, layer: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights ``(G, inputs)``, ``(G, R)`` and biases ``(G,)`` of a layer's gates on what it
        reads and on its state."""
        if self.cell in ("gru", "lstm"):
            rnn = self._rnn(layer)
            return rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0, rnn.bias_hh_l0
        name = f"_{layer}" if layer else ""
        W_in, W_rec, b_h = (getattr(self, key + name) for key in ("W_in", "W_rec", "b_h"))
        return W_in, W_rec, b_h, torch.zeros_like(b_h)

    def _rnn(self, layer: int) -> Any:
        return getattr(self, f"rnn_{layer}" if layer else "rnn")

    def frame_params(self, seen: Tensor) -> StateParams:
        """The density's parameters in states ``seen (..., R + p D)``, in the order of
        ``param_shapes``; one that the state does not set stays of its static shape."""
        weights = [
            cast(Tensor, getattr(self, f"W_{name}")) if name in self.conditioned else None
            for name in self.density.param_shapes
        ]
        with full_precision(seen):
            u = nn.functional.dropout(seen[..., : self.n_recurrent], self.dropout, self.training)
            u = u if self.conditioned_on_state else 0 * u
            inside = self.n_past > 0 and self.density.shift_means
            added = [
                self._in_visit_order(self._explained(seen))[..., None]
                if name == "mu" and inside
                else None
                for name in self.density.param_shapes
            ]
            return StateParams(self.density.static_params(), weights, u.to(self.u_0.dtype), added)

    def shift(self, seen: Tensor) -> Tensor | float:
        """What the last p frames explain of the next, to be subtracted from it, ``(..., D)``; 0
        without that path, and where the means have it (`FrameDensity.shift_means`)."""
        return self._explained(seen) if self.n_past and not self.density.shift_means else 0.0

    def _explained(self, seen: Tensor) -> Tensor:
        with full_precision(seen):
            past = seen[..., self.n_recurrent : self.n_history].to(self.A.dtype)
            return torch.einsum("...pe,pde->...d", past.unflatten(-1, (self.n_past, -1)), self.A)

    # ------------------------------------------------------------------ density and sampler

    def log_prob(
        self, frames: Tensor, mask: Tensor | None = None, u: Tensor | None = None
    ) -> Tensor:
        """Log density of every frame given those before it, in nats.

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
        """`log_prob`, and the state after the last valid frame ``(B, S)``: handed to the next
        call as ``u``, a long sequence goes through in chunks with the same numbers."""
        if frames.dim() != 3 or frames.shape[-1] != self.n_features:
            raise ValueError(f"frames {tuple(frames.shape)} are not (B, T, {self.n_features})")
        if mask is not None:
            _require_right_padding(mask, frames)
            frames = frames.where(mask[..., None], frames.new_zeros(()))
        seen, last = self.states(frames, u, mask if _need_state else None)
        log_p = self.log_prob_given(seen, frames)
        if mask is not None:
            log_p = log_p.where(mask, log_p.new_zeros(()))
        return log_p, last

    def feature_log_prob(self, frames: Tensor, u: Tensor | None = None) -> Tensor:
        """The terms of `log_prob`: log density of every feature given the features visited before
        it and the frames before, ``(B, T, D)``."""
        return self.feature_log_prob_given(self.states(frames, u)[0], frames)

    def feature_cdf(self, frames: Tensor, u: Tensor | None = None) -> Tensor:
        """Distribution function of every feature given the features visited before it and the
        frames before, ``(B, T, D)``; see `FrameDensity.feature_cdf`."""
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
        """New sequences, or continuations of given ones.

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
        """`sample`, each frame ``(B, n_samples, D)`` as soon as it is made; without
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
                x, u = self._generate(u, generator, temperature)
            yield x.unflatten(0, (B, n_samples))

    def _generate(
        self, u: Tensor, generator: torch.Generator | None, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Frames ``(N, D)`` drawn in states ``u (N, S)``, and the states after them."""
        x = self.sample_given(u[..., : self.n_history], (), generator, temperature)
        return x, self.step(x, u)

    def predictive_mean(
        self,
        frames: Tensor,
        u: Tensor | None = None,
        n_samples: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Mean of every frame given those before it, ``(B, T, D)``, from ``n_samples`` draws."""
        return self.mean_given(self.states(frames, u)[0], n_samples, generator)

    def one_step_samples(
        self,
        frames: Tensor,
        u: Tensor | None = None,
        n_samples: int = 10,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draws of every frame given those before it, ``(n_samples, B, T, D)``."""
        return self.sample_given(self.states(frames, u)[0], (n_samples,), generator)

    # ------------------------------------------------------------------ one frame, given the state

    def log_prob_given(self, seen: Tensor, frames: Tensor) -> Tensor:
        """Log density ``(...)`` of frames ``(..., D)``, each in a state ``seen (..., R + p D)``."""
        return self.density.log_prob(self._inward(frames, seen), self.frame_params(seen))

    def feature_log_prob_given(self, seen: Tensor, frames: Tensor) -> Tensor:
        """The terms of `log_prob_given`, ``(..., D)``, in the order of the data."""
        x, params = self._inward(frames, seen), self.frame_params(seen)
        return self._in_data_order(self.density.feature_log_prob(x, params))

    def feature_cdf_given(self, seen: Tensor, frames: Tensor) -> Tensor:
        """`FrameDensity.feature_cdf` in states, ``(..., D)``, in the order of the data."""
        x, params = self._inward(frames, seen), self.frame_params(seen)
        return self._in_data_order(self.density.feature_cdf(x, params))

    def sample_given(
        self,
        seen: Tensor,
        sample_shape: Sequence[int] = (),
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Frames ``(*sample_shape, ..., D)`` drawn in states ``seen (..., R + p D)``."""
        params = self._batched_params(seen)
        x = self.density.sample(sample_shape, params, generator=generator, temperature=temperature)
        return self._in_data_order(x) + self.shift(seen)

    def mean_given(
        self, seen: Tensor, n_samples: int = 100, generator: torch.Generator | None = None
    ) -> Tensor:
        """Mean of the frame in every state, ``(..., D)``, from ``n_samples`` draws."""
        mean = self.density.mean(self._batched_params(seen), n_samples, generator)
        return self._in_data_order(mean) + self.shift(seen)

    def _inward(self, frames: Tensor, seen: Tensor) -> Tensor:
        """What the density is of: what past frames leave unexplained, in the order of visits."""
        return self._in_visit_order(frames - self.shift(seen))

    def _in_visit_order(self, x: Tensor) -> Tensor:
        return x if self.feature_order is None else x[..., self.feature_order]

    def _in_data_order(self, x: Tensor) -> Tensor:
        return x if self.feature_order is None else x[..., self._inverse_order]

    def _batched_params(self, u: Tensor) -> list[Tensor]:
        """`frame_params` with every parameter carrying the batch shape of ``u``."""
        shapes = self.density.param_shapes.values()
        params = self.frame_params(u[..., : self.n_history])
        return [p.expand(*u.shape[:-1], *s) for p, s in zip(params, shapes, strict=True)]


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
