r"""RNADE: the density of one frame, feature by feature (Uria, Murray, Larochelle 2013,
arXiv 1306.0186).

$$a_1 = c, \quad a_{d+1} = a_d + x_d W_d, \quad h_d = s(\rho_d a_d), \quad
z_d = V_d^\top h_d + b_d \text{ for each of } \alpha, \mu, \sigma$$

$$\log p(x) = \sum_d \log \sum_k \mathrm{softmax}(z_d^\alpha)_k \,
\mathcal N(x_d; z_{dk}^\mu, \sigma_{dk}^2), \qquad \sigma_{dk} = f + \exp z_{dk}^\sigma$$

Feature d is predicted from the features before it only, so the density is normalised, its prefix
marginals are exact, and sampling is direct.

Conventions:
    ``x (..., D)``; biases ``(..., D, K)`` each, in the order alpha, mu, sigma; log densities in
    nats per frame. D = ``n_features``, H = ``n_hidden``, K = ``n_components``. Row d of ``W`` is
    column d of the supplement's W. The density is computed in the parameters' dtype, also under
    autocast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from rnade_lightning import arguments
from rnade_lightning.components import Component, make_component
from rnade_lightning.density import (
    FrameDensity,
    finite,
    full_precision,
    inherits,
    log_mixed,
    on_cpu,
    readable,
    side_by_side,
    transformed,
)
from rnade_lightning.distribution import RNADEDistribution
from rnade_lightning.parameters import Params, StateParams, batch_of

Activation = Literal["sigmoid", "relu"]
Backend = Literal["compiled", "torch"]
_UNITS = {"sigmoid": torch.sigmoid, "relu": torch.relu}


class RNADE(FrameDensity):
    """RNADE, the real-valued neural autoregressive density estimator, of one frame.

    Args:
        n_features: D, features of a frame.
        n_hidden: H, hidden units.
        n_components: K, mixture components of each feature.
        component: mixture component: ``gaussian`` (RNADE-MoG), ``laplace`` (RNADE-MoL),
            ``logistic``, ``student_t``, a `Component`, or the path of a class of your own; with
            arguments, ``{class_path: .., init_args: {..}}``. Its scale is ``sigma`` below.
        activation: ``sigmoid`` (the supplement) or ``relu`` (the RNADE paper; needs a floor
            for frames far from the data).
        floor: f >= 0, the smallest scale: ``sigma = f + exp(z)``, for density and sampler alike.
        linear: a linear path from the features before, ``mu_dk += sum_{e<d} L_de x_e``; with no
            hidden units and K = 1 the density is then a Gaussian with full covariance.
        backend: ``compiled``: log_prob is one operation whose backward is Algorithm 1, which stores
            no activations, and samples are drawn by compiled code (`rnade_lightning.kernels`);
            ``torch``: torch operations as the equations are written. Both give the same numbers.
        scale_mean_gradient: multiply the gradient by the means by their scales, so that narrow
            components move slower (the authors' heuristic). The result is the gradient of no
            function, so gradient checks switch it off. It runs on the torch path.
        censor_at: bounds (l, u) at which Laplace components are censored (see `components`); None
            for none. Values beyond a bound are read as the bound, and no draw lies beyond it. Put a
            bound a little inside the value that data take exactly: rounding does not matter then.

    Examples:
        >>> rnade = RNADE(n_features=3, n_hidden=8, n_components=2)
        >>> x = rnade.sample((5,))
        >>> x.shape, rnade.log_prob(x).shape
        (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(
        self,
        n_features: int,
        n_hidden: int,
        n_components: int,
        component: str | dict[str, Any] | Component = "gaussian",
        activation: Activation = "sigmoid",
        floor: float = 0.0,
        linear: bool = False,
        backend: Backend = "compiled",
        scale_mean_gradient: bool = False,
        censor_at: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if min(n_features, n_components) < 1 or n_hidden < 0:
            raise ValueError("n_features and n_components must be at least 1, n_hidden at least 0")
        for value, allowed in ((activation, Activation), (backend, Backend)):
            if value not in get_args(allowed):
                raise ValueError(f"{value!r} is none of {', '.join(get_args(allowed))}")
        self.n_features, self.n_hidden, self.n_components = n_features, n_hidden, n_components
        self.activation, self.floor = activation, arguments.smallest_scale(floor)
        self.backend = backend if self._is_whole else "torch"  # a subclass computes what it changes
        self.scale_mean_gradient = scale_mean_gradient
        bounds = {} if censor_at is None else {"censor_at": censor_at}
        self.component = make_component(component, **bounds)
        self.shift_means = bool(self.component.atoms)
        D, H, K = n_features, n_hidden, n_components
        self.param_shapes = {"alpha": (D, K), "mu": (D, K), "sigma": (D, K)}
        self.W = nn.Parameter(torch.empty(D, H))
        self.c = nn.Parameter(torch.empty(H))
        self.rho = nn.Parameter(torch.empty(D))
        self.V_alpha = nn.Parameter(torch.empty(D, H, K))
        self.V_mu = nn.Parameter(torch.empty(D, H, K))
        self.V_sigma = nn.Parameter(torch.empty(D, H, K))
        self.L = nn.Parameter(torch.empty(D, D)) if linear else None
        self.b_alpha = nn.Parameter(torch.empty(D, K))
        self.b_mu = nn.Parameter(torch.empty(D, K))
        self.b_sigma = nn.Parameter(torch.empty(D, K))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights from N(0, 0.01^2) and set rho to 1, as in the 2014 paper. The
        components' means start at the quantiles of N(0, 1) and their scales at 1, since frames are
        standardised. With bounds, the unit of both is a twentieth of the distance between them.
        ReLU units start off their kink."""
        for weight in (self.W, self.V_alpha, self.V_mu, self.V_sigma):
            nn.init.normal_(weight, std=0.01)
        nn.init.ones_(self.rho)
        for bias in (self.c, self.b_alpha, self.L):
            if bias is not None:
                nn.init.zeros_(bias)
        if self.activation == "relu":
            nn.init.normal_(self.c, std=0.01)
        levels = (torch.arange(self.n_components, dtype=torch.float64) + 0.5) / self.n_components
        atoms = self.component.atoms
        unit = (atoms[1] - atoms[0]) / 20 if atoms else 1.0
        with torch.no_grad():
            self.b_mu.copy_(unit * torch.special.ndtri(levels).to(self.b_mu))
            self.b_sigma.fill_(math.log(unit))

    @torch.no_grad()
    def start_at(self, covariance: Tensor) -> None:
        """Start at a Gaussian of mean 0: the path inside the frame, if there is one, at its linear
        regressions, and scales and distances of the components at its conditional deviations.

        Args:
            covariance: ``(D, D)``, float64.
        """
        S = covariance + 1e-6 * covariance.diagonal().mean() * torch.eye(len(covariance))
        S = S.to(self.b_mu.device)
        if self.L is None:
            deviation = S.diagonal().sqrt()
        else:
            root = torch.linalg.cholesky(S)
            deviation = root.diagonal()
            whiten = torch.linalg.inv(root / deviation)  # (I - L) x has independent features
            self.L.copy_(torch.eye(len(S), device=S.device) - whiten)
        self.b_mu.mul_(deviation[:, None])
        self.b_sigma.add_(deviation[:, None].log())

    @property
    def has_kernel(self) -> bool:
        """Return whether there is compiled code that draws the samples, on the CPU."""
        return self.backend == "compiled" and self.component.kernel is not None and self._is_whole

    @property
    def _is_whole(self) -> bool:
        """Return whether nothing is changed that compiled code stands in for."""
        of_features = "mixtures", "of_features", "conditionals", "feature_log_prob"
        return inherits(self, RNADE, *of_features, "censor", "_linear")

    @property
    def gradient_options(self) -> dict[str, Any]:
        """Return the arguments that Algorithm 1 needs beside the parameters."""
        return {name: getattr(self, name) for name in ("component", "activation", "floor")}

    def extra_repr(self) -> str:
        names = "n_features", "n_hidden", "n_components", "component", "activation", "floor"
        told = [f"{name}={getattr(self, name)!r}" for name in names]
        return ", ".join([*told, f"linear={self.L is not None}", f"backend={self.backend!r}"])

    # ------------------------------------------------------------------ density

    def censor(self, x: Tensor) -> Tensor:
        return self.component.censor(x) if self.component.atoms else x

    def conditionals(self, x: Tensor, biases: Params | None = None) -> tuple[Tensor, ...]:
        """Return the mixture of every feature given the features before it.

        Args:
            x: frames ``(..., d)``, all D features or the first d of them.
            biases: (alpha, mu, sigma), each ``(..., D, K)``, in place of the static ones.

        Returns:
            Log weights, means and log scales, each ``(..., d, K)``.
        """
        x, biases = self._checked(x, biases)
        d = x.shape[-1]
        with full_precision(x):
            x = readable(self.censor(x))
            steps = x[..., :-1, None] * self.W[: d - 1]  # (..., d-1, H)
            start = self.c.expand(*x.shape[:-1], 1, -1)
            a = torch.cat((start, steps), -2).cumsum(-2)  # (..., d, H)
            return self.mixtures(a, self.of_features(slice(0, d), biases), self._linear(x))

    def log_prob(self, x: Tensor, biases: Params | None = None) -> Tensor:
        """Return the log density in nats, ``(...)``, of frames ``x (..., D)``.

        With only the first d < D features in ``x``, the exact log marginal of that prefix. It is
        -inf where a feature is infinite, and where a number on the way is too large for the dtype,
        as the square of 1e19 in float32; the gradient is 0 there.

        Raises:
            TypeError: an argument is no tensor of real numbers.
            ValueError: one is of the wrong shape, or on another device than the parameters.
        """
        x, biases = self._checked(x, biases)
        heuristic = self.scale_mean_gradient and torch.is_grad_enabled()
        plain = x.shape[-1] == self.n_features and not heuristic and not transformed()
        if plain and self.backend == "compiled" and self._is_whole:
            from rnade_lightning.kernels import cpu

            with full_precision(x):
                x = self.censor(x)
                read, y = readable(x), finite(x)
                shift = self._linear(read)
                y = y if shift is None else y - shift
                log_p = cpu.frame_log_prob(self, read, y, biases)
        else:
            log_p = self.feature_log_prob(x, biases).sum(-1)
        return log_p.masked_fill(self.censor(x).isinf().any(-1), -math.inf)

    def feature_log_prob(self, x: Tensor, biases: Params | None = None) -> Tensor:
        """Return the log density in nats of each feature given those before it, ``(..., d)``: the
        terms of `log_prob`."""
        log_weights, means, log_scales = self.conditionals(x, biases)
        with full_precision(x):
            x = self.censor(x.to(means.dtype))
            log_phi = self.component.log_prob(finite(x)[..., None], means, log_scales)
            return log_mixed(log_weights + log_phi).masked_fill(x.isinf(), -math.inf)

    def feature_cdf(self, x: Tensor, biases: Params | None = None) -> Tensor:
        r"""Return the distribution function of each feature given those before it, ``(..., d)``,
        $F(x_d | x_{<d}) = \sum_k \alpha_{dk} \Phi((x_d - \mu_{dk}) / \sigma_{dk})$. On a bound, it
        is a point of the jump."""
        log_weights, means, log_scales = self.conditionals(x, biases)
        with full_precision(x):
            x = self.censor(x.to(means.dtype))
            phi = self.component.cdf(x[..., None], means, log_scales)
            return self.component.in_jumps((log_weights.exp() * phi).sum(-1), x)

    def _linear(self, x: Tensor) -> Tensor | None:
        """Return what the linear path adds to the means of the first d features, ``(..., d)``."""
        d = x.shape[-1]
        return None if self.L is None else x @ self.L[:d, :d].tril(-1).T

    def of_features(self, features: slice, biases: Params) -> list[Tensor]:
        """Return rho and V of some features, and their biases ``(..., d, K)``."""
        own = (self.rho, self.V_alpha, self.V_mu, self.V_sigma)
        return [w[features] for w in own] + [b[..., features, :] for b in biases]

    def mixtures(
        self, a: Tensor, own: Sequence[Tensor], shift: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return log weights, means and log scales ``(..., d, K)``, from pre-activations ``a (...,
        d, H)``, what `of_features` returns, and an addition to the means ``(..., d)``."""
        h = _UNITS[self.activation](own[0][:, None] * a)
        z_alpha, z_mu, z_sigma = (
            torch.einsum("...dh,dhk->...dk", h, V) + b
            for V, b in zip(own[1:4], own[4:], strict=True)
        )
        log_scales = z_sigma
        if self.floor:
            log_scales = torch.logaddexp(z_sigma, z_sigma.new_full((), math.log(self.floor)))
        if shift is not None:
            z_mu = z_mu + shift[..., None]
        if self.scale_mean_gradient:
            scales = log_scales.detach().exp()
            z_mu = z_mu.detach() + scales * (z_mu - z_mu.detach())
        return torch.log_softmax(z_alpha, -1), z_mu, log_scales

    def _checked(self, x: Tensor, biases: Params | None) -> tuple[Tensor, Params]:
        """Frames and biases in the parameters' dtype, of shapes that go together."""
        x, biases = arguments.prefix("x", x, self.W, self.n_features), self.given(biases)
        own = biases.batch if isinstance(biases, StateParams) else batch_of(biases)
        arguments.batch(x=x.shape[:-1], biases=own)
        return x, biases

    # ------------------------------------------------------------------ sampler

    def sample(
        self,
        sample_shape: Sequence[int] = (),
        biases: Params | None = None,
        given: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw frames, each feature given the features drawn before it (ancestral sampling).

        Args:
            sample_shape: shape of independent draws, in front of the biases' batch shape.
            biases: (alpha, mu, sigma), each ``(*batch, D, K)``, in place of the static ones.
            given: first features ``(..., d)``, fixed (as `censor`); broadcast to
                ``(*sample_shape, *batch)``.
            generator: source of randomness, on the model's device.
            temperature: at 1 the draws are the density's; otherwise scales are multiplied by it and
                log weights divided by it.

        Returns:
            ``(*sample_shape, *batch, D)``.
        """
        arguments.draws(self.W, generator, temperature)
        with torch.no_grad(), full_precision(self.W):
            biases = tuple(self.given(biases))
            batch = torch.Size((*sample_shape, *batch_of(biases)))
            if given is not None:
                given = arguments.prefix("given", given, self.W, self.n_features, least=0)
                given = self.censor(given)
                arguments.fits("given", given.shape[:-1], batch)
            noise = self.noise((*batch, self.n_features), generator)
            if given is None:
                return self.ancestral(noise, biases, None, temperature)[0]
            x = self.ancestral(noise, biases, readable(given), temperature)[0]
            x[..., : given.shape[-1]] = given
            return x

    def mean(
        self,
        biases: Params | None = None,
        n_samples: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the mean ``(*batch, D)``. It is exact for the first feature, and for all features
        where one component does not depend on its prefix. Else it is the average, over
        ``n_samples`` draws of the prefix, of each feature's conditional mean (Rao-Blackwell: never
        noisier than averaging the draws)."""
        arguments.draws(self.W, generator, n_samples=(n_samples, 1))
        with torch.no_grad(), full_precision(self.W):
            biases = tuple(self.given(biases))
            shape = (*batch_of(biases), self.n_features)
            total = self.W.new_zeros(shape)
            for n in side_by_side(n_samples, shape, self.W):
                total += self.ancestral(self.noise((n, *shape), generator), biases)[1].sum(0)
            return total / n_samples

    def noise(
        self, shape: Sequence[int], generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return the random numbers of a draw: a uniform for the component, a standard draw."""
        how: dict[str, Any] = {"dtype": self.W.dtype, "device": self.W.device}
        uniform = torch.rand(tuple(shape), generator=generator, **how)
        return uniform, self.component.noise(shape, generator, self.W)

    def ancestral(
        self,
        noise: tuple[Tensor, Tensor],
        biases: Params,
        given: Tensor | None = None,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Draw, and return each feature's mean given its drawn prefix too, both ``(..., D)``."""
        uniform, value = noise
        n_given = 0 if given is None else given.shape[-1]
        if on_cpu(self.W) and self.has_kernel:
            from rnade_lightning.kernels import sampler

            return sampler.draw(self, noise, biases, given, temperature)
        a = self.c.expand(*uniform.shape[:-1], -1)
        x: list[Tensor] = []
        means = []
        for d in range(self.n_features):
            shift = None
            if self.L is not None and d:
                shift = (torch.stack(x, -1) @ self.L[d, :d])[..., None]  # (..., 1)
            own = self.of_features(slice(d, d + 1), biases)
            found = self.mixtures(a[..., None, :], own, shift)
            log_weights, mu, log_sigma = (p[..., 0, :] for p in found)  # (..., K)
            weights = torch.softmax(log_weights / temperature, -1)
            if given is not None and d < n_given:
                x_d = given[..., d].to(a.dtype).expand(uniform.shape[:-1])
                mean_d = x_d
            else:
                above = uniform[..., d, None] >= weights.cumsum(-1)
                k = above.sum(-1, keepdim=True).clamp(max=self.n_components - 1)
                chosen_mu, chosen_log_sigma = (p.gather(-1, k)[..., 0] for p in (mu, log_sigma))
                x_d = chosen_mu + temperature * chosen_log_sigma.exp() * value[..., d]
                x_d = self.censor(x_d)
                mu = self.component.mean(mu, log_sigma + math.log(temperature))
                mean_d = (weights * mu).sum(-1)
            x.append(x_d)
            means.append(mean_d)
            a = a + x_d[..., None] * self.W[d]
        return torch.stack(x, -1), torch.stack(means, -1)

    def forward(self, biases: Params | None = None, n_samples: int = 100) -> RNADEDistribution:
        """Return the density as a `torch.distributions.Distribution`, at biases ``(*batch, D, K)``.
        Each figure that is an estimate uses ``n_samples`` draws."""
        return RNADEDistribution(self, self.given(biases), n_samples)
