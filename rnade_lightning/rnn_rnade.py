r"""RNN-RNADE: the density of a sequence of frames.

$$u_t = s(W_{in} x_t + W_{rec} u_{t-1} + b_h), \qquad
b^\alpha_t = b^\alpha + W_\alpha u_{t-1} \text{ (likewise } \mu, \sigma)$$

$$\log p(x_1 .. x_T) = \sum_t \log \mathrm{RNADE}(x_t; b^\alpha_t, b^\mu_t, b^\sigma_t)$$

The recurrence, the sampler and the linear path from past frames are those of every
`SequenceModel`. With that path, RNADE's own linear path, K = 1 and no hidden units, this is a
VAR(p) with full covariance.

Conventions:
    As in `sequence_model`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rnade_lightning.rnade import RNADE, Activation, Backend, Component
from rnade_lightning.sequence_model import Cell, SequenceModel


class RNNRNADE(SequenceModel):
    """Recurrent net whose state sets the biases of an RNADE.

    Args:
        n_features: D, features of a frame.
        n_hidden: H, RNADE's hidden units.
        n_recurrent: R, recurrent units.
        n_components: K, mixture components of each feature.
        cell: ``sigmoid`` (the supplement), ``tanh`` (the authors' experiments), ``gru``, ``lstm``.
        conditioned: which of ``alpha``, ``mu``, ``sigma`` the state sets.
        component: ``gaussian`` or ``laplace``.
        activation: RNADE's units, ``sigmoid`` or ``relu``.
        floor: smallest scale of a component, part of density and sampler.
        linear: a linear path inside the frame, from the features before to the means.
        n_past: p, frames of the linear path to the next frame, which starts at copying the last; 0
            for none.
        learn_past: learn that path, or keep to copying.
        dropout: share of the state's units that a frame does not see in training.
        backend: ``compiled`` or ``torch``, the same numbers; see `RNADE`.
        n_layers: recurrent layers, each reading the units of the one below; a frame sees the last.
        input_noise: standard deviation of noise on what the recurrent net reads in training.
        feature_order: order in which features are visited: 0 for that of the data, another number
            is the seed of a permutation.
        scale_mean_gradient: the authors' heuristic; see `RNADE`.
        censor_at: bounds at which features are censored; see `RNADE`. The linear path from past
            frames then moves the means.

    Examples:
        >>> model = RNNRNADE(n_features=3, n_hidden=8, n_recurrent=16, n_components=2)
        >>> frames = model.sample(n_frames=20, n_samples=4)[0]
        >>> frames.shape, model.log_prob(frames).shape
        (torch.Size([4, 20, 3]), torch.Size([4, 20]))
    """

    def __init__(
        self,
        n_features: int,
        n_hidden: int,
        n_recurrent: int,
        n_components: int,
        cell: Cell = "sigmoid",
        conditioned: Sequence[str] = ("alpha", "mu", "sigma"),
        component: Component = "gaussian",
        activation: Activation = "sigmoid",
        floor: float = 0.0,
        linear: bool = False,
        n_past: int = 0,
        learn_past: bool = True,
        dropout: float = 0.0,
        backend: Backend = "compiled",
        n_layers: int = 1,
        input_noise: float = 0.0,
        feature_order: int = 0,
        scale_mean_gradient: bool = False,
        censor_at: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            n_features, n_recurrent, cell, n_past, learn_past, dropout, backend, n_layers,
            input_noise, feature_order,
        )  # fmt: skip
        self.rnade = RNADE(
            n_features, n_hidden, n_components, component, activation, floor, linear, backend,
            scale_mean_gradient, censor_at,
        )  # fmt: skip
        self._add_state_paths(conditioned)

    @property
    def density(self) -> RNADE:
        return self.rnade

    def _generate(
        self, u: Tensor, generator: torch.Generator | None, temperature: float
    ) -> tuple[Tensor, Tensor]:
        plain = self.training and (self.dropout or self.input_noise)
        if not self.rnade.compiled or plain or self.n_layers > 1 or self.feature_order:
            return super()._generate(u, generator, temperature)
        from rnade_lightning.kernels import sampler

        noise = self.rnade.noise((len(u), self.n_features), generator)
        u = u.to(self.u_0.dtype, copy=True)  # moved on in place
        return sampler.next_frames(self, u, noise, temperature), u
