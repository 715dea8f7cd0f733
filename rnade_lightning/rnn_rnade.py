r"""RNN-RNADE: the density of a sequence of frames.

$$u_t = s(W_{in} x_t + W_{rec} u_{t-1} + b_h), \qquad
b^\alpha_t = b^\alpha + W_\alpha u_{t-1} \text{ (likewise } \mu, \sigma)$$

$$\log p(x_1 .. x_T) = \sum_t \log \mathrm{RNADE}(x_t; b^\alpha_t, b^\mu_t, b^\sigma_t)$$

The recurrent net is that of `recurrent_model`, with its linear path and its context. With that
path, RNADE's own linear path, K = 1 and no hidden units, RNN-RNADE is a VAR(p), a vector
autoregression of order p, with full covariance.

Conventions:
    As in `recurrent_model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from rnade_lightning import arguments, contexts
from rnade_lightning.cells import Cell
from rnade_lightning.couplings import Couplings
from rnade_lightning.density import copied_to_cpu, inherits
from rnade_lightning.frame_scales import FrameScales
from rnade_lightning.recurrent_model import RecurrentModel
from rnade_lightning.rnade import RNADE, Activation
from rnade_lightning.scans import draw

_BY_SAMPLER = ["step", "history", "sample_given", "frame_params", "shift"]
_BY_SAMPLER += ["_in_frames", "_explained", "_units", "_run"]
"""Methods of a model that the compiled sampler stands in for."""


class RNNRNADE(RecurrentModel):
    """Recurrent net whose state sets the biases of an RNADE.

    Args:
        n_features: D, features of a frame.
        n_hidden: H, RNADE's hidden units.
        n_recurrent: R, recurrent units.
        n_components: K, mixture components of each feature.
        cell: recurrent cell: ``sigmoid``, ``tanh``, ``gru``, ``lstm``, ``minimal_gated``, or the
            path of a class of your own.
        conditioned: parameters that the state sets: any of ``alpha``, ``mu``, ``sigma``.
        component: mixture component, ``gaussian``, ``laplace``, ``logistic``, ``student_t``, or
            the path of a class of your own; with arguments, ``{class_path: .., init_args: {..}}``.
        activation: RNADE's hidden units.
        floor: smallest scale of a component, in the units of frames; part of density and sampler.
        linear: a linear path from earlier features to the means.
        scale_mean_gradient: let means of narrow components move slower, on the torch path.
        n_scales: J, scales that all features of a frame share (see `frame_scales`); 1 for none.
        censor_at: bounds, in the units of frames, at which features are censored that often lie
            on one, such as black pixels. The path from past frames then moves the means.
        **kwargs: See `RecurrentModel`.

    Examples:
        >>> model = RNNRNADE(n_features=3, n_hidden=8, n_recurrent=16, n_components=2)
        >>> frames = model.sample(n_frames=20, n_samples=4)[0]
        >>> frames.shape, model.log_prob(frames).shape
        (torch.Size([4, 20, 3]), torch.Size([4, 20]))
    """

    def __init__(
        self,
        n_features: int,
        n_hidden: int = 50,
        n_recurrent: int = 100,
        n_components: int = 5,
        cell: str = "gru",
        conditioned: Sequence[str] = ("mu", "sigma"),
        component: str | dict[str, Any] = "laplace",
        activation: Activation = "sigmoid",
        floor: float = 0.01,
        linear: bool = True,
        scale_mean_gradient: bool = False,
        n_scales: int = 1,
        censor_at: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(n_features, n_recurrent, cell, **kwargs)
        self.rnade = RNADE(
            n_features, n_hidden, n_components, component, activation, floor, linear,
            backend=self.backend, scale_mean_gradient=scale_mean_gradient, censor_at=censor_at,
        )  # fmt: skip
        self.scales: FrameScales | None = None
        self._add_state_paths(conditioned)
        if n_scales != 1:
            self.scales = FrameScales(self.rnade, n_scales, self.n_units)

    @property
    def density(self) -> RNADE | FrameScales:
        if self.scales is None:
            return self.rnade
        if self.scales.rnade is not self.rnade:  # the model's own may be another by now
            self.scales.__dict__["rnade"] = self.rnade
        return self.scales

    def mixtures_given(self, history: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log weights, means and log scales of every feature given those visited before it
        in frames ``(..., D)``, each after a history: ``(..., D, J K)``, in the order of the
        data and in the units of frames."""
        x, params = self._white(frames, history), self.frame_params(history)
        z = self._uncoupled(x, history)
        log_weights, means, log_scales = self.density.conditionals(z, params)
        if self.couplings is not None:
            means = means + (x - z)[..., None]
        if self.root is not None:  # feature d is C_dd x_d, and what the features before it make
            own = self.root.diagonal()[:, None]
            means = own * means + (x @ self.root.tril(-1).mT)[..., None]
            log_scales = own.log() + log_scales
        log_weights, means, log_scales = (
            self._in_data_order(p.mT).mT for p in (log_weights, means, log_scales)
        )
        explained = self.shift(history)
        if isinstance(explained, Tensor):
            means = means + explained[..., None]
        return log_weights, means, log_scales

    def frames_of_noise(
        self, history: Tensor, uniform: Tensor, value: Tensor, of_scale: Tensor | None = None
    ) -> Tensor:
        """Return the frames ``(..., D)`` that random numbers make after histories ``(...,
        n_read)``: those of `RNADE.noise`, each ``(..., D)``, and of `FrameScales.noise`, ``(...)``,
        where a frame has scales."""
        noise, params = (uniform, value), self.frame_params(history).expanded()
        if self.scales is not None:
            assert of_scale is not None
            params = self.scales.chosen(params, of_scale)
        if torch.compiler.is_exporting():
            x = draw(self.rnade, noise, tuple(params))
        else:
            x = self.rnade.ancestral(noise, tuple(params))[0]
        return self._in_frames(x, history)

    def next_frames(
        self,
        u: Tensor,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        context: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        if not self._drawn_by_kernel:
            return super().next_frames(u, generator, temperature, context)
        S = self.n_past * self.n_features + len(self.u_0)
        u = arguments.tensor("u", u, self.u_0, "B", S)
        context = arguments.context_of_frame(self, context, u.shape[0])
        context = None if context is None else context[:, None]
        noise = self._noise(len(u), 1, generator)
        frames, u = self._frames_ahead(noise, u, temperature, context)
        return frames[:, 0], u

    @torch.no_grad()
    def _tilted(
        self, n_frames: int, u: Tensor, features: Sequence[int], slopes: Tensor,
        how: tuple[torch.Generator | None, float], context: Tensor | None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        if self._its_own or not self._drawn_by_kernel:
            return super()._tilted(n_frames, u, features, slopes, how, context)
        generator, temperature = how
        noise = self._noise(len(u), n_frames, generator)
        order = self._inverse_order
        at = [d if order is None else order[d] for d in features]
        of_features, ratio = self.rnade.component.tilted(noise[1][..., at], slopes[:, None])
        noise[1][..., at] = of_features  # (N, T, k)
        frames, u = self._frames_ahead(noise, u, temperature, context)
        return frames, u, of_features, ratio.sum((1, 2))

    def _drawn(
        self,
        n_frames: int,
        n_samples: int,
        u: Tensor,
        generator: torch.Generator | None,
        temperature: float,
        context: Tensor | None,
    ) -> Tensor:
        """All frames in one call of compiled code, unless a class draws them in its own way."""
        if self._its_own or not n_frames or not self._drawn_by_kernel:
            return super()._drawn(n_frames, n_samples, u, generator, temperature, context)
        each = u.repeat_interleave(n_samples, 0)
        if context is not None:
            context = context.repeat_interleave(n_samples, 0)
        noise = self._noise(len(each), n_frames, generator)
        frames = self._frames_ahead(noise, each, temperature, context)[0]
        return frames.unflatten(0, (len(u), n_samples))

    @property
    def _its_own(self) -> bool:
        """Return whether a class draws frames in its own way."""
        return not inherits(self, RNNRNADE, "stream", "next_frames")

    @property
    def _drawn_by_kernel(self) -> bool:
        noisy = self.training and (self.dropout or self.input_noise)
        return bool(
            copied_to_cpu(self.u_0)
            and self.rnade.has_kernel
            and all(cast(Cell, cell).has_kernel for cell in self.layers)
            and not noisy
            and not self.context_by_feature
            and self.conditioned_on_state
            and inherits(self, RNNRNADE, *_BY_SAMPLER)
            and inherits(self.rnade, RNADE, "sample", "ancestral", "noise")
            and type(self.couplings) in (type(None), Couplings)
            and type(self.scales) in (type(None), FrameScales)
        )

    def _noise(self, N: int, n_frames: int, generator: torch.Generator | None) -> list[Tensor]:
        """Return the random numbers of N sequences, those of one frame after the other: what
        `RNADE.noise` returns, ``(N, T, D)``, and `FrameScales.noise`, ``(N, T)`` or ``(N, 0)``.
        They are drawn where the model is."""
        drawn = []
        for _ in range(n_frames):
            chosen = () if self.scales is None else (self.scales.noise((N,), generator),)
            drawn.append((*self.rnade.noise((N, self.n_features), generator), *chosen))
        noise = [torch.stack(of_frames, 1) for of_frames in zip(*drawn, strict=True)]
        return noise + [noise[0].new_empty(N, 0)] * (self.scales is None)

    def _frames_ahead(
        self, noise: list[Tensor], u: Tensor, temperature: float, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Frames ``(N, T, D)`` from states ``u (N, S)`` on, with context ``(N, T, C)``, and the
        states after them. This is done on the CPU: a GPU would have a thousand operations a frame
        to start."""
        from rnade_lightning.kernels import sampler

        given = noise[0].new_empty(*noise[0].shape[:2], 0)
        given = given if context is None else contexts.filled(context, self.absent)
        own = u.to("cpu", copy=True).contiguous()  # moved on in place
        frames = sampler.next_frames(self, own, tuple(noise), temperature, given)
        return frames.to(u.device), own.to(u.device)
