r"""RNN-Experts: a recurrent net and a mixture of experts that predict every sample of a sound.

Frames hold samples, each as an innovation $z = (x - m) / s$ of the front end
(`datamodules.sound.front_end`), whose side information $c_{t,d}$ is the context by feature: what is
known when sample d of frame t is drawn. With $\rho_{t,d} = 1 / s_{t,d}$, $r$ the residuals before a
sample and $u_{t-1}$ the state of the net after the frame before,

$$h^1_{t,d} = \phi(b^1 + U u_{t-1} + \sum_{j=1}^L V_j\, q(\rho_{t,d}\, r_{t,d-j}) + C c_{t,d}),
\qquad h^2_{t,d} = \phi(b^2 + W h^1_{t,d})$$

This is RNADE's hidden layer, with three changes: the weights of the features before are shared by
lag, so that they reach over the edges of frames; they are scaled by $\rho$ of the front end; and a
second layer follows. Mixture weights $\alpha_k$, scales $\sigma_k$, offsets $\beta_k$ and gates
$A_{kp}$ are linear in $h^2$. Component k is logistic with mean

$$\mu_k = \beta_k \sigma_k + \sum_p A_{kp} e_p$$

where $e_p$ is expert p's prediction less m, over s. The mass of the integer in the cell of half
width $1 / 2 s$ around z is exact, so log p is that of integers, and bits are above 0.

$\phi(a) = a (1 + a / \sqrt{1 + a^2}) / 2$ and $q(a) = a / \sqrt{1 + (a / 8)^2}$ need roots alone:
compiled code (`kernels.experts`) computes the same numbers on every machine.

Conventions:
    As in `sequence_density`. The state ``u (B, S)``: R units, then L innovations and L log scales
    of the last samples, the oldest first; all of it is history.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rnade_lightning import arguments
from rnade_lightning.cells.gru import GRU
from rnade_lightning.components.logistic import Logistic
from rnade_lightning.datamodules.sound import panel
from rnade_lightning.density import full_precision
from rnade_lightning.sequence_density import SequenceDensity

_SEED = 0


class RNNExperts(SequenceDensity):
    """A density of the integer samples of a sound.

    Args:
        n_features: D, samples of a frame.
        n_recurrent: R, units of the recurrent net, a GRU.
        n_hidden: H, units of each of the two layers by sample.
        n_components: K, logistic components of a sample.
        n_lags: L, residuals that a sample's density reads.
        n_context: numbers of side information by sample; those of the front end.
        context_by_feature: true.
    """

    log_mass = True
    context_by_feature = True
    makes_context = True

    def __init__(
        self,
        n_features: int = 20,
        n_recurrent: int = 96,
        n_hidden: int = 128,
        n_components: int = 6,
        n_lags: int = 32,
        n_context: int = panel.N_SIDE,
        context_by_feature: bool = True,
    ) -> None:
        super().__init__()
        sizes = (n_features, n_recurrent, n_hidden, n_components, n_lags)
        if min(sizes) < 1:
            raise ValueError(f"sizes must be 1 or more, got {sizes}")
        if n_context != panel.N_SIDE or not context_by_feature:
            raise ValueError(
                f"RNNExperts reads {panel.N_SIDE} numbers of side information by sample, got a "
                f"context of {n_context}: give --data.kind experts"
            )
        self.n_features, self.n_recurrent, self.n_hidden = n_features, n_recurrent, n_hidden
        self.n_components, self.n_lags = n_components, n_lags
        self.n_context = n_features * n_context
        self.context_parts = [n_context]
        n_out = n_components * (3 + panel.N_EXPERTS)
        self.cell = GRU(n_features + n_context, n_recurrent, batch_first=True)
        self.u_0 = nn.Parameter(torch.zeros(n_recurrent))
        self.of_state = nn.Linear(n_recurrent, n_hidden, bias=False)
        self.of_sample = nn.Linear(n_lags + n_context, n_hidden)
        self.second = nn.Linear(n_hidden, n_hidden)
        self.out = nn.Linear(n_hidden, n_out)
        with torch.no_grad():
            self.out.weight.mul_(0.1)
            self.out.bias.zero_()
            spread = torch.linspace(-1.2, 0.8, n_components)
            self.out.bias[2 * n_components : 3 * n_components] = spread

    @property
    def n_history(self) -> int:
        return self.n_recurrent + 2 * self.n_lags

    @property
    def floor(self) -> float:
        return 0.0

    def initial_state(self, batch_size: int) -> Tensor:
        return torch.cat((self.u_0, self.u_0.new_zeros(2 * self.n_lags))).expand(batch_size, -1)

    def states(
        self,
        frames: Tensor,
        u: Tensor | None = None,
        mask: Tensor | None = None,
        context: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        frames, u, mask, context = arguments.sequences(self, frames, u, mask, context)
        u = self.initial_state(len(frames)) if u is None else u
        assert context is not None
        if not frames.shape[1]:
            return frames.new_zeros(len(frames), 0, self.n_read), u
        with full_precision(frames):
            R, L = self.n_recurrent, self.n_lags
            c = context.unflatten(-1, (self.n_features, -1))
            inputs = torch.cat((_bounded(frames), _scaled(c[..., -1, :])), -1)
            after, _ = self.cell(inputs, u[:, :R])
            units = torch.cat((u[:, None, :R].expand(len(after), -1, -1), after), 1)
            lags = [
                torch.cat((before.expand(len(after), -1), of.flatten(1)), 1).unfold(
                    1, L, self.n_features
                )
                for before, of in ((u[:, R : R + L], frames), (u[:, R + L :], c[..., 0]))
            ]
            states = torch.cat((units, *lags), -1)  # (B, T + 1, S)
            n_valid = torch.full_like(states[:, 0, 0], frames.shape[1], dtype=torch.long)
            n_valid = n_valid if mask is None else mask.sum(1)
            last = states[torch.arange(len(states), device=n_valid.device), n_valid]
            return torch.cat((states[:, :-1], context), -1), last

    def step(self, x: Tensor, u: Tensor, context: Tensor | None = None) -> Tensor:
        x, u, context = arguments.one_frame(self, x, u, context)
        assert context is not None
        own = context.unflatten(-1, (self.n_features, -1))[:, None]
        return self.states(x[:, None], u, None, own)[1]

    # ------------------------------------------------------------------ one frame after its history

    def parameters_of(self, history: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log alpha, mu and log sigma of every sample, ``(..., D, K)``, in innovations."""
        R, L, K = self.n_recurrent, self.n_lags, self.n_components
        u, z, log_s, c = history.split((R, L, L, self.n_context), -1)
        c = c.unflatten(-1, (self.n_features, -1))
        z = torch.cat((z, frames), -1).unfold(-1, L, 1)[..., :-1, :]  # (..., D, L)
        log_s = torch.cat((log_s, c[..., 0]), -1).unfold(-1, L, 1)[..., :-1, :]
        lags = _bounded(z * torch.exp((log_s - c[..., :1]).clamp(-12, 12)))
        h = self.of_sample(torch.cat((lags, _scaled(c)), -1)) + self.of_state(u)[..., None, :]
        alpha, beta, log_sigma, gates = self.out(_unit(self.second(_unit(h)))).split(
            (K, K, K, K * panel.N_EXPERTS), -1
        )
        log_sigma = log_sigma.clamp(panel.SMALLEST, -panel.SMALLEST)
        experts = _bounded(c[..., panel.EXPERTS])
        gates = gates.unflatten(-1, (K, -1))
        mu = beta * log_sigma.exp() + (gates @ experts[..., None])[..., 0]
        return torch.log_softmax(alpha, -1), mu, log_sigma

    def feature_log_prob_given(self, history: Tensor, frames: Tensor) -> Tensor:
        history, frames = arguments.after_history(self, history, frames)
        with full_precision(history):
            log_alpha, mu, log_sigma = self.parameters_of(history, frames)
            z, half = frames[..., None], self._half_cells(history)[..., None]
            log_mass = Logistic().log_mass(z - half, z + half, mu, log_sigma)
            return torch.logsumexp(log_alpha + log_mass, -1)

    def log_prob_given(self, history: Tensor, frames: Tensor) -> Tensor:
        return self.feature_log_prob_given(history, frames).sum(-1)

    def feature_cdf_given(self, history: Tensor, frames: Tensor) -> Tensor:
        """Return a point between the values of the distribution function at both ends of the cell
        of every sample, ``(..., D)``, from a fixed seed: uniform for the model's own samples."""
        history, frames = arguments.after_history(self, history, frames)
        with full_precision(history):
            log_alpha, mu, log_sigma = self.parameters_of(history, frames)
            generator = torch.Generator(frames.device).manual_seed(_SEED)
            jitter = torch.rand(frames.shape, generator=generator, device=frames.device)
            z, half = frames[..., None], self._half_cells(history)[..., None]
            low, high = (
                (log_alpha.exp() * Logistic().cdf(end, mu, log_sigma)).sum(-1)
                for end in (z - half, z + half)
            )
            return low + jitter.to(frames) * (high - low)

    def sample_given(
        self,
        history: Tensor,
        sample_shape: Sequence[int] = (),
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        raise NotImplementedError(
            "the side information of a sample depends on the samples before it in its frame: draw"
            " with sample or stream, which run the front end"
        )

    def mean_given(
        self, history: Tensor, n_samples: int = 100, generator: torch.Generator | None = None
    ) -> Tensor:
        raise NotImplementedError("the mean of a frame is not known before its samples are")

    # ------------------------------------------------------------------ samples

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
        """Draw new sequences of innovations, or continuations, ``(B, n_samples, n_frames, D)``.

        The front end runs along, so a prefix begins with its sound; what it was given is not
        needed. There is no state ``u`` to start from.
        """
        n = 1 if prefix is None else len(prefix)
        frames = list(self.stream(n_frames, n_samples, prefix, u, generator, temperature))
        if not frames:
            return self.u_0.new_empty(n, n_samples, 0, self.n_features)
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
        if u is not None:
            raise ValueError("RNNExperts starts at the beginning of a sound: give a prefix, not u")
        counts = {"n_samples": (n_samples, 0), "n_frames": (n_frames or 0, 0)}
        arguments.draws(self.u_0, generator, temperature, **counts)
        if prefix is not None:
            prefix = arguments.tensor("prefix", prefix, self.u_0, "B", "T", self.n_features)
        starts = (
            [None] if prefix is None else list(prefix.detach().cpu().double().flatten(1).numpy())
        )
        from rnade_lightning.kernels import experts

        weights = experts.weights_of(self)
        streams = [experts.Stream(weights, start) for start in starts for _ in range(n_samples)]
        for _ in itertools.count() if n_frames is None else range(n_frames):
            uniform = torch.rand(
                (len(streams), self.n_features), generator=generator, device=self.u_0.device
            )
            drawn = [
                stream.draw(q, temperature)
                for stream, q in zip(streams, uniform.double().cpu().numpy(), strict=True)
            ]
            frames = torch.from_numpy(np.stack(drawn)) if drawn else torch.zeros(0, self.n_features)
            yield frames.to(self.u_0).view(len(starts), n_samples, self.n_features)

    def _half_cells(self, history: Tensor) -> Tensor:
        """Return half the width of a step of the integers in innovations, ``(..., D)``."""
        c = history[..., self.n_history :].unflatten(-1, (self.n_features, -1))
        return 0.5 * torch.exp(-c[..., 0])


def _unit(a: Tensor) -> Tensor:
    """Return a (1 + a / sqrt(1 + a^2)) / 2, near SiLU."""
    return 0.5 * a * (1 + a * torch.rsqrt(1 + a * a))


def _bounded(a: Tensor) -> Tensor:
    """Return a / sqrt(1 + (a / 8)^2), which is a near 0 and at most 8, `panel.BOUND`."""
    return a * torch.rsqrt(1 + (a / panel.BOUND).square())


def _scaled(c: Tensor) -> Tensor:
    """Return side information as layers read it."""
    return _bounded(torch.cat(((c[..., :1] - panel.LEVEL) * panel.PER_LEVEL, c[..., 1:]), -1))
