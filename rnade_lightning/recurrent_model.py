r"""A recurrent net whose state sets the parameters of a density of frames.

$$u_t = s(W_{in} x_t + W_{rec} u_{t-1} + b_h), \qquad
b_t = b + W u_{t-1} \text{ for every parameter that the state sets}$$

Frame t reads the state after frame t - 1 only; u_0 is learned. The states do not depend on the
density, so they are computed first, and all frames go through one call of it.

With a linear path from the last p frames, the density models what they leave unexplained,
$x_t - \sum_i A_i x_{t-i}$ (a shift, so it stays exact); the path starts at copying the last frame.
It is free, or reverts to the mean (see `linear_path`).
With a context $c_t$ of every frame, which is known and not modelled, the net reads $[x_t, c_t]$,
frame t's biases get $C_\alpha c_t$ (likewise $\mu$, $\sigma$), and the linear path $E c_t$. A
number of it that is absent is replaced by a learned one.
Where the density has bounds, which cannot be shifted, the sum is added to its means instead.
Couplings take from each feature what those before it say of it in that state (see `couplings`).

Conventions:
    As in `density`. The state ``u (B, S)``: the recurrent units of the last layer (R =
    ``n_recurrent``); the last p frames, the latest first (p D numbers), if there is a linear path
    from them; what else the last layer's cell carries; the states of the layers below. Its first
    R + p D numbers, and the frame's context behind them, are its history.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import cast, get_args

import torch
from torch import Tensor, nn

from rnade_lightning import arguments, contexts
from rnade_lightning.cells import Cell, cell_class
from rnade_lightning.couplings import Couplings
from rnade_lightning.density import FrameDensity, full_precision, on_cpu, readable, transformed
from rnade_lightning.linear_path import Past, log_units, path_parameters, path_weights, whitened
from rnade_lightning.parameters import StateParams
from rnade_lightning.rnade import Backend
from rnade_lightning.sequence_density import SequenceDensity

_LARGE = (16, 256)  # sequences and units from which on torch beats the compiled recurrence


class RecurrentModel(SequenceDensity):
    """A recurrent net whose state sets the parameters of a `FrameDensity`.

    A concrete class makes the density, says where it is kept, and calls `_add_state_paths`.

    Args:
        n_features: D, features of a frame.
        n_recurrent: R, recurrent units.
        cell: recurrent cell: ``sigmoid`` (the supplement), ``tanh`` (the authors' experiments),
            ``gru``, ``lstm``, ``minimal_gated``, or the path of a class of your own (see `cells`).
        n_past: p, past frames of a linear path to the next, which starts at the last; 0 for none.
        learn_past: learn that path; otherwise it copies the last frame.
        past: that path is ``free``, or ``reverting`` to the mean: its A_i add up to kappa I.
        kappa: share of the last frame that a reverting path keeps, above 0 and below 1.
        learn_kappa: learn kappa by feature.
        whiten: model what the path leaves unexplained in white units, which LinearStart finds.
        n_couplings: J, `couplings` of features in a frame.
        dropout: share of the state's units dropped in training.
        backend: compiled code, or plain torch operations; the same numbers.
        n_layers: recurrent layers; each reads the units of that below, and a frame the last one's.
        input_noise: standard deviation of noise, in training, on the inputs of the recurrent net.
        feature_order: order of visits to features: a list, the seed of a random one, or None.
        n_context: C, numbers of a frame that its density is given; 0 for none. A list for several
            parts, each of so many numbers, that can be absent one by one.
        context_dropout: share of the sequences, in training, in which a part of it is absent.
        context_to: what it reaches beside the path, of ``net`` and what the state sets; None: all.
        context_by_feature: the context is ``(B, T, D, C)``, what is known when a feature is drawn,
            in the order of the data, and reaches its parameters alone, which RNADE has by feature.
    """

    root: Tensor | None

    def __init__(
        self,
        n_features: int,
        n_recurrent: int,
        cell: str = "gru",
        n_past: int = 1,
        learn_past: bool = True,
        past: Past = "free",
        kappa: float = 0.98,
        learn_kappa: bool = False,
        whiten: bool = False,
        n_couplings: int = 0,
        dropout: float = 0.0,
        backend: Backend = "compiled",
        n_layers: int = 1,
        input_noise: float = 0.0,
        feature_order: int | Sequence[int] | None = None,
        n_context: int | Sequence[int] = 0,
        context_dropout: float = 0.0,
        context_to: Sequence[str] | None = None,
        context_by_feature: bool = False,
    ) -> None:
        super().__init__()
        self.context_parts = [n_context] if isinstance(n_context, int) else list(n_context)
        arguments.between(0, n_past=n_past, n_couplings=n_couplings, input_noise=input_noise)
        arguments.between(0, n_context=min(self.context_parts, default=0))
        arguments.between(0, 1, dropout=dropout, context_dropout=context_dropout)
        arguments.between(1, n_layers=n_layers, n_recurrent=n_recurrent)
        self.context_dropout, self.context_by_feature = context_dropout, context_by_feature
        self.n_context = sum(self.context_parts) * (n_features if context_by_feature else 1)
        self.context_to = None if context_to is None else tuple(context_to)
        self.context_in_net = not context_by_feature and (context_to is None or "net" in context_to)
        if backend not in get_args(Backend):
            raise ValueError(f"{backend!r} is none of {', '.join(get_args(Backend))}")
        kind = cell_class(cell)
        self.n_features, self.n_recurrent, self.cell = n_features, n_recurrent, cell
        self.n_past, self.dropout, self.backend = n_past, dropout, backend
        self.n_layers, self.input_noise, self.past, self.kappa = n_layers, input_noise, past, kappa
        self.feature_order = arguments.order_of(feature_order, n_features)
        """Feature that the density visits d-th; None for the order of the data."""
        self._inverse_order = (o := self.feature_order) and torch.tensor(o).argsort().tolist()
        self.register_buffer("root", torch.eye(n_features) if whiten else None)
        of_path = n_past, n_features, past, kappa, learn_past, learn_kappa
        for name, parameter in path_parameters(*of_path).items():
            self.register_parameter(name, parameter)
        if self.n_context:
            self.absent = nn.Parameter(torch.zeros(self.n_context))
            if n_past and not context_by_feature:
                self.E = nn.Parameter(torch.zeros(n_features, self.n_context))
        self.n_units = n = n_recurrent + self.n_context * (not context_by_feature)
        """Numbers that set parameters: R units, and the C of a context that is not by feature."""
        self.couplings = Couplings(n_couplings, n_features, n) if n_couplings else None
        self.u_0 = nn.Parameter(torch.zeros(n_layers * kind.n_states * n_recurrent))
        n_inputs = n_features + self.n_context * self.context_in_net
        self.layers = nn.ModuleList(
            kind(n_recurrent if layer else n_inputs, n_recurrent, batch_first=True)
            for layer in range(n_layers)
        )

    @property
    @abstractmethod
    def density(self) -> FrameDensity:
        """Return the density of one frame."""

    @property
    def floor(self) -> float:
        return self.density.floor * (1 if self.root is None else self.root.diagonal().min().item())

    def _add_state_paths(self, conditioned: Sequence[str]) -> None:
        shapes = self.density.param_shapes
        if unknown := set(conditioned) - set(shapes):
            raise ValueError(f"conditioned: {sorted(unknown)} is none of {', '.join(shapes)}")
        if self.density.shift_means and (self.root is not None or self.couplings is not None):
            raise ValueError("bounds cannot be whitened or coupled: leave out whiten, n_couplings")
        self.conditioned = tuple(name for name in shapes if name in conditioned)
        reached = self.conditioned if self.context_to is None else self.context_to
        if unknown := set(reached) - {"net", *self.conditioned}:
            raise ValueError(f"context_to: {sorted(unknown)} is not net, nor set by the state")
        for name in self.conditioned:
            W = nn.Parameter(torch.empty(math.prod(shapes[name]), self.n_recurrent))
            nn.init.normal_(W, std=0.01)
            self.register_parameter(f"W_{name}", W)
            if self.n_context and name in reached:
                C = torch.empty(math.prod(shapes[name]), self.n_context)
                if self.context_by_feature:
                    D = self.n_features
                    if shapes[name][0] != D:
                        raise ValueError(f"{name} is not by feature, as a context by feature needs")
                    C = torch.empty(*shapes[name], self.n_context // D)
                self.register_parameter(f"C_{name}", nn.Parameter(nn.init.normal_(C, std=0.01)))

    # ------------------------------------------------------------------ recurrence

    @property
    def n_history(self) -> int:
        """Return how many numbers of the state a frame's density reads, R + p D."""
        return self.n_recurrent + self.n_past * self.n_features

    def initial_state(self, batch_size: int) -> Tensor:
        """Return u_0, and zeros for the frames before the first, for each sequence, ``(B, S)``."""
        past = self.u_0.new_zeros(self.n_history - self.n_recurrent)
        u = torch.cat((self.u_0[: self.n_recurrent], past, self.u_0[self.n_recurrent :]))
        return u.expand(batch_size, -1)

    def states(
        self,
        frames: Tensor,
        u: Tensor | None = None,
        mask: Tensor | None = None,
        context: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        frames, u, mask, context = arguments.sequences(self, frames, u, mask, context)
        if u is None:
            u = self.initial_state(frames.shape[0])
        n = self.n_history
        if not frames.shape[1]:
            return frames.new_zeros(frames.shape[0], 0, self.n_read), u
        if context is not None:
            share = self.context_dropout * self.training
            context = contexts.filled(context, self.absent, self.context_parts, share)
        if mask is None or u.shape[1] == n:
            after, last = self._run(frames, u, context)
            history = torch.cat((u[:, None, :n].to(after.dtype), after), 1)
            if mask is not None:
                n_valid = mask.sum(1)[:, None, None].expand(-1, -1, n)
                last = history.gather(1, n_valid)[:, 0]
            return contexts.behind(history[:, :-1], context), last
        outputs = []
        for t in range(frames.shape[1]):  # of what is no history, only the last is known
            outputs.append(u[:, :n])
            own = None if context is None else context[:, t : t + 1]
            u = torch.where(mask[:, t, None], self._run(frames[:, t : t + 1], u, own)[1], u)
        return contexts.behind(torch.stack(outputs, 1), context), u

    def step(self, x: Tensor, u: Tensor, context: Tensor | None = None) -> Tensor:
        x, u, context = arguments.one_frame(self, x, u, context)
        if context is not None:
            context = contexts.filled(context, self.absent)[:, None]
        return self._run(x[:, None], u, context)[1]

    def history(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        if context is not None and self.n_context:
            u = arguments.state(self, u)
            context = arguments.context_of_frame(self, context, u.shape[0])
            context = contexts.filled(context, self.absent)
        return super().history(u, context)

    def _run(
        self, frames: Tensor, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what of the state is read after every frame ``(B, T, R + p D)``, and the whole
        state after the last ``(B, S)``."""
        R, n_history, T = self.n_recurrent, self.n_history, frames.shape[1]
        frames = readable(self.density.censor(frames))
        units = torch.cat((u[:, :R], u[:, n_history:]), -1)
        after, last = self._run_layers(frames, units, context)
        if not self.n_past:
            return after, last
        before = u[:, R:n_history].unflatten(-1, (self.n_past, -1)).flip(1).to(frames.dtype)
        whole = torch.cat((before, frames), 1)  # (B, p + T, D), in the order of time
        past = [whole[:, self.n_past - i : self.n_past - i + T] for i in range(self.n_past)]
        after = torch.cat((after, *past), -1)
        return after, torch.cat((last[:, :R], after[:, -1, R:], last[:, R:]), -1)

    def _run_layers(
        self, frames: Tensor, u: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the recurrent units of the last layer after every frame ``(B, T, R)``, and the
        states of all layers, the last layer first, after the last frame."""
        if self.input_noise and self.training:
            frames = frames + self.input_noise * torch.randn_like(frames)
        if context is not None and self.context_in_net:
            frames = torch.cat((frames, context.to(frames.dtype)), -1)
        after, last = frames, []
        for layer, u_layer in zip(self.layers, reversed(u.chunk(self.n_layers, -1)), strict=True):
            after, u_layer = self._run_layer(cast(Cell, layer), after, u_layer)
            last.append(u_layer)
        return after, torch.cat(last[::-1], -1)

    def _run_layer(self, layer: Cell, inputs: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the units of a layer after every input ``(B, T, R)``, and its state after the
        last."""
        if transformed():  # torch's fused cells have no rule for vmap
            return Cell.forward(layer, inputs, u)
        if not on_cpu(self.u_0):
            return layer(inputs, u)
        large = len(inputs) >= _LARGE[0] and self.n_recurrent >= _LARGE[1]
        with full_precision(inputs):  # not every processor has torch's cells in bf16
            inputs, u = inputs.to(self.u_0.dtype), u.to(self.u_0.dtype)
            if self.backend == "torch" or not layer.has_kernel or large:
                return layer(inputs, u)
            from rnade_lightning.kernels import recurrent

            return recurrent.run(layer, inputs, u)

    # ------------------------------------------------------------------ one frame after its history

    def frame_params(self, history: Tensor) -> StateParams:
        """Return the density's parameters after histories ``(..., R + p D + C)``, in the order of
        ``param_shapes``. A parameter that the state does not set keeps its static shape."""
        history = arguments.history_of(self, history)
        weights = [
            self.weights_of(name) if name in self.conditioned else None
            for name in self.density.param_shapes
        ]
        with full_precision(history):
            u = self._units(history)
            shifted = self.n_past > 0 and self.density.shift_means
            added = [self._by_feature(name, history) for name in self.density.param_shapes]
            params = StateParams(self.density.static_params(), weights, u.to(self.u_0.dtype), added)
            if shifted:
                i = list(self.density.param_shapes).index("mu")
                params = params.plus(i, self._in_visit_order(self._explained(history))[..., None])
            return params

    def _units(self, history: Tensor) -> Tensor:
        """Return what sets parameters, ``(..., R + C)``: the units, of which training drops some,
        and the context, unless it is by feature."""
        u = nn.functional.dropout(history[..., : self.n_recurrent], self.dropout, self.training)
        u = u if self.conditioned_on_state else 0 * u
        if self.n_context and not self.context_by_feature:
            u = torch.cat((u, history[..., self.n_history :]), -1)
        return u

    def weights_of(self, name: str) -> Tensor:
        """Return what a parameter that the state sets is multiplied by, ``(prod(shape), R + C)``:
        of the units, and of the context."""
        W = cast(Tensor, getattr(self, f"W_{name}"))
        if not self.n_context or self.context_by_feature:
            return W
        C = getattr(self, f"C_{name}", None)
        return torch.cat((W, W.new_zeros(len(W), self.n_context) if C is None else C), 1)

    def _by_feature(self, name: str, history: Tensor) -> Tensor | None:
        """Return what a context by feature adds to a parameter, ``(..., D, K)``."""
        own = getattr(self, f"C_{name}", None)
        if own is None or not self.context_by_feature:
            return None
        return contexts.by_feature(history[..., self.n_history :], own, self.feature_order)

    def shift(self, history: Tensor) -> Tensor | float:
        """Return what the last p frames and the context explain of the next, ``(..., D)``, to be
        subtracted from it. It is 0 without that path, and where the path is added to the means."""
        history = arguments.history_of(self, history)
        return self._explained(history) if self.n_past and not self.density.shift_means else 0.0

    def past_weights(self) -> Tensor:
        """Return what the linear path multiplies past frames by, A_1 .. A_p, ``(p, D, D)``."""
        own = {name: getattr(self, name, None) for name in ("A", "B", "kappa_logit")}
        A = path_weights(own, self.kappa)
        return self.u_0.new_empty(0, self.n_features, self.n_features) if A is None else A

    def _explained(self, history: Tensor) -> Tensor:
        with full_precision(history):
            A = self.past_weights()
            past = history[..., self.n_recurrent : self.n_history].to(A.dtype)
            sum_ = torch.einsum("...pe,pde->...d", past.unflatten(-1, (self.n_past, -1)), A)
            if self.n_context and not self.context_by_feature:
                sum_ = sum_ + history[..., self.n_history :].to(A.dtype) @ self.E.T
            return sum_

    def log_prob_given(self, history: Tensor, frames: Tensor) -> Tensor:
        x, params = self.unexplained(frames, history), self.frame_params(history)
        return self.density.log_prob(x, params) - log_units(self.root).sum()

    def feature_log_prob_given(self, history: Tensor, frames: Tensor) -> Tensor:
        x, params = self.unexplained(frames, history), self.frame_params(history)
        return self._in_data_order(self.density.feature_log_prob(x, params) - log_units(self.root))

    def feature_cdf_given(self, history: Tensor, frames: Tensor) -> Tensor:
        x, params = self.unexplained(frames, history), self.frame_params(history)
        return self._in_data_order(self.density.feature_cdf(x, params))

    def sample_given(
        self,
        history: Tensor,
        sample_shape: Sequence[int] = (),
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        params = self.frame_params(history).expanded()
        x = self.density.sample(sample_shape, params, generator=generator, temperature=temperature)
        return self._in_frames(x, history)

    @torch.no_grad()
    def mean_given(
        self, history: Tensor, n_samples: int = 100, generator: torch.Generator | None = None
    ) -> Tensor:
        params = self.frame_params(history).expanded()
        mean = self.density.mean(params, n_samples, generator)
        if self.couplings is not None:
            units = self._units(history)
            mean = self.couplings.mean(
                mean, lambda n: self.density.sample(n, params, None, generator), n_samples, units
            )
        return self._in_frames(mean, history, coupled=True)

    def unexplained(self, frames: Tensor, history: Tensor) -> Tensor:
        """Return where the density is evaluated, ``(..., D)``: what past frames leave unexplained,
        in the order of visits, whitened and less what couplings take."""
        return self._uncoupled(self._white(frames, history), history)

    def _uncoupled(self, x: Tensor, history: Tensor) -> Tensor:
        return x if self.couplings is None else self.couplings.taken(x, self._units(history))

    def _white(self, frames: Tensor, history: Tensor) -> Tensor:
        history, frames = arguments.after_history(self, history, frames)
        with full_precision(frames):
            return whitened(self._in_visit_order(frames - self.shift(history)), self.root)

    def _in_frames(self, x: Tensor, history: Tensor, coupled: bool = False) -> Tensor:
        """Return the frames ``(..., D)`` of what `unexplained`, or if coupled `_white`, makes."""
        if self.couplings is not None and not coupled:
            x = self.couplings.given_back(x, self._units(history))
        x = x if self.root is None else x @ self.root.mT
        return self._in_data_order(x) + self.shift(history)

    def _in_visit_order(self, x: Tensor) -> Tensor:
        return x if self.feature_order is None else x[..., self.feature_order]

    def _in_data_order(self, x: Tensor) -> Tensor:
        return x if self._inverse_order is None else x[..., self._inverse_order]
