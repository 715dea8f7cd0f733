"""Other densities of a frame, which RNADE has to beat in the same sequence model.

    Gaussian         independent features
    LowRankGaussian  N(mu, F F' + diag sigma^2), F of a few columns
    GaussianMixture  K Gaussians of independent features (the RNN-GMM of the VRNN paper)
    Flow             masked autoregressive flow (Papamakarios et al. 2017), by zuko

Conventions:
    As in `density`: ``x (..., D)``, parameters ``(..., *shape)``, log densities in nats. Scales are
    ``floor + exp(z)`` as in RNADE. Terms by feature are those of the chain rule in the order of the
    features; a flow, whose order changes inside, has none.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, LowRankMultivariateNormal

from rnade_lightning import arguments
from rnade_lightning.density import (
    FrameDensity,
    finite,
    full_precision,
    log_mixed,
    readable,
    side_by_side,
)
from rnade_lightning.parameters import Params
from rnade_lightning.recurrent_model import RecurrentModel


class _Parametric(FrameDensity):
    """A density with static parameters, a dtype, and draws from one batch of distributions."""

    def __init__(self, n_features: int, shapes: dict[str, tuple[int, ...]], floor: float) -> None:
        super().__init__()
        self.n_features, self.param_shapes = n_features, shapes
        self.floor = arguments.smallest_scale(floor)
        for name, shape in shapes.items():
            self.register_parameter(f"b_{name}", nn.Parameter(torch.zeros(shape)))

    def extra_repr(self) -> str:
        return f"n_features={self.n_features}, floor={self.floor}"

    def log_prob(self, x: Tensor, params: Params | None = None) -> Tensor:
        return self.feature_log_prob(x, params).sum(-1)

    def feature_log_prob(self, x: Tensor, params: Params | None = None) -> Tensor:
        with full_precision(self.static_params()[0]):
            x, params = self._checked(x, params)
            return self._terms(finite(x), params).masked_fill(x.isinf(), -math.inf)

    def sample(
        self,
        sample_shape: Sequence[int] = (),
        params: Params | None = None,
        given: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        if given is not None:
            raise ValueError(
                f"{type(self).__name__} cannot continue a frame from its first features"
            )
        like = self.static_params()[0]
        arguments.draws(like, generator, temperature)
        with torch.no_grad(), full_precision(like):
            params = list(self.given(params))
            dims = [len(shape) for shape in self.param_shapes.values()]
            batch = torch.broadcast_shapes(
                *(p.shape[: p.dim() - n] for p, n in zip(params, dims, strict=True))
            )
            params = [
                p.expand(*sample_shape, *batch, *shape)
                for p, shape in zip(params, self.param_shapes.values(), strict=True)
            ]
            return self._draw(params, generator, temperature)

    def mean(
        self,
        params: Params | None = None,
        n_samples: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the exact mean, ``(*batch, D)``."""
        like = self.static_params()[0]
        arguments.draws(like, generator, n_samples=(n_samples, 1))
        with torch.no_grad(), full_precision(like):
            return self._mean(list(self.given(params)))

    def _checked(self, x: Tensor, params: Params | None) -> tuple[Tensor, list[Tensor]]:
        """Frames and parameters in the dtype of the density, of shapes that go together."""
        given = list(self.given(params))
        x = arguments.tensor("x", x, given[0], ..., self.n_features)
        sizes = zip(self.param_shapes.items(), given, strict=True)
        own = {name: t.shape[: t.dim() - len(shape)] for (name, shape), t in sizes}
        arguments.batch(x=x.shape[:-1], **own)
        return x, given

    def _scale(self, z: Tensor) -> Tensor:
        return self.floor + z.exp()

    @abstractmethod
    def _terms(self, x: Tensor, params: list[Tensor]) -> Tensor:
        """Return the log density of each feature given the features before it, ``(..., D)``."""

    @abstractmethod
    def _draw(
        self, params: list[Tensor], generator: torch.Generator | None, temperature: float
    ) -> Tensor:
        """Return one draw for each entry of the batch."""

    @abstractmethod
    def _mean(self, params: list[Tensor]) -> Tensor: ...


class Gaussian(_Parametric):
    """Independent Gaussian features.

    Args:
        n_features: D, features of a frame.
        floor: smallest scale.
    """

    def __init__(self, n_features: int, floor: float = 0.0) -> None:
        super().__init__(n_features, {"mu": (n_features,), "sigma": (n_features,)}, floor)

    def _terms(self, x: Tensor, params: list[Tensor]) -> Tensor:
        return _log_normal(x, params[0], self._scale(params[1]))

    def feature_cdf(self, x: Tensor, params: Params | None = None) -> Tensor:
        with full_precision(self.static_params()[0]):
            x, (mu, z_sigma) = self._checked(x, params)
            return torch.special.ndtr((x - mu) / self._scale(z_sigma))

    def _draw(
        self, params: list[Tensor], generator: torch.Generator | None, temperature: float
    ) -> Tensor:
        mu, z_sigma = params
        return mu + temperature * self._scale(z_sigma) * _randn(mu, mu.shape, generator)

    def _mean(self, params: list[Tensor]) -> Tensor:
        return params[0]


class LowRankGaussian(_Parametric):
    """A Gaussian whose features vary together in a few directions.

    Args:
        n_features: D, features of a frame.
        rank: columns of F.
        floor: smallest scale of what F leaves.
    """

    def __init__(self, n_features: int, rank: int = 8, floor: float = 0.0) -> None:
        D = n_features
        super().__init__(D, {"mu": (D,), "factor": (D, rank), "sigma": (D,)}, floor)
        nn.init.normal_(self.b_factor, std=0.1)  # type: ignore[arg-type]  # at 0 it would stay 0
        self.rank = rank

    def log_prob(self, x: Tensor, params: Params | None = None) -> Tensor:
        """Return the log density by `torch.distributions`, whose decompositions are of ``rank``
        columns instead of D; `feature_log_prob` has the same by feature."""
        with full_precision(self.static_params()[0]):
            x, (mu, F, z_sigma) = self._checked(x, params)
            scale, x = self._scale(z_sigma), readable(x.masked_fill(infinite := x.isinf(), 0.0))
            far = infinite.any(-1) | ((x - mu) / scale).square().sum(-1).isinf()
            if not far.numel():  # torch divides by the number of frames
                return super().log_prob(x, [mu, F, z_sigma])
            unknown = (scale.sum(-1) + F.sum((-2, -1))).isnan()
            F, scale = F.nan_to_num(0.0), scale.nan_to_num(1.0)  # a factorisation refuses nan
            try:
                density = LowRankMultivariateNormal(mu, F, scale.square(), validate_args=False)
                log_p = density.log_prob(x.masked_fill(far[..., None], 0.0))
                return log_p.masked_fill(far, -math.inf).masked_fill(unknown, math.nan)
            except torch.linalg.LinAlgError:
                raise self._not_definite(F) from None

    def _terms(self, x: Tensor, params: list[Tensor]) -> Tensor:
        L, r = self._cholesky(params), readable(x - params[0])[..., None]
        L = L.expand(*torch.broadcast_shapes(L.shape[:-2], r.shape[:-2]), *L.shape[-2:])
        r = torch.linalg.solve_triangular(L, r.expand(*L.shape[:-1], 1), upper=False)[..., 0]
        scale = L.diagonal(dim1=-2, dim2=-1)
        return -0.5 * r.square() - scale.log() - 0.5 * math.log(2 * math.pi)

    def _cholesky(self, params: list[Tensor]) -> Tensor:
        _, F, z_sigma = params
        covariance = F @ F.mT + torch.diag_embed(self._scale(z_sigma).square())
        unknown = covariance.isnan().any(-1, keepdim=True).any(-2, keepdim=True)
        one = torch.eye(self.n_features, dtype=F.dtype, device=F.device)
        try:
            L = torch.linalg.cholesky(covariance.where(~unknown, one))
        except torch.linalg.LinAlgError:
            raise self._not_definite(F) from None
        return L.masked_fill(unknown, math.nan)

    @staticmethod
    def _not_definite(F: Tensor) -> ValueError:
        return ValueError(
            f"the covariance of a frame is not positive definite in {F.dtype}: its common "
            "factors are too large beside its own scales; raise floor, or use float64"
        )

    def _draw(
        self, params: list[Tensor], generator: torch.Generator | None, temperature: float
    ) -> Tensor:
        mu, F, z_sigma = params
        common = F @ _randn(mu, (*mu.shape[:-1], self.rank, 1), generator)
        own = self._scale(z_sigma) * _randn(mu, mu.shape, generator)
        return mu + temperature * (common[..., 0] + own)

    def _mean(self, params: list[Tensor]) -> Tensor:
        return params[0]


class GaussianMixture(_Parametric):
    """A mixture of Gaussians of independent features.

    Args:
        n_features: D, features of a frame.
        n_components: K.
        floor: smallest scale.
    """

    def __init__(self, n_features: int, n_components: int = 10, floor: float = 0.0) -> None:
        D, K = n_features, n_components
        super().__init__(D, {"alpha": (K,), "mu": (K, D), "sigma": (K, D)}, floor)
        nn.init.normal_(self.b_mu, std=0.5)  # type: ignore[arg-type]  # alike they would stay alike

    def _terms(self, x: Tensor, params: list[Tensor]) -> Tensor:
        z_alpha, mu, z_sigma = params
        by_component = _log_normal(x[..., None, :], mu, self._scale(z_sigma))  # (..., K, D)
        start = torch.log_softmax(z_alpha, -1)[..., None]
        joint = torch.cat((start.expand(*by_component.shape[:-1], 1), by_component), -1)
        of_prefix = log_mixed(joint.cumsum(-1), -2)
        lost = of_prefix == -math.inf  # from a feature on that no component reaches
        return of_prefix.masked_fill(lost, 0.0).diff(dim=-1).masked_fill(lost[..., 1:], -math.inf)

    def _draw(
        self, params: list[Tensor], generator: torch.Generator | None, temperature: float
    ) -> Tensor:
        z_alpha, mu, z_sigma = params
        weights = torch.softmax(torch.log_softmax(z_alpha, -1) / temperature, -1)
        uniform = torch.rand(
            (*weights.shape[:-1], 1), generator=generator, dtype=mu.dtype, device=mu.device
        )
        k = (uniform >= weights.cumsum(-1)).sum(-1, keepdim=True).clamp(max=weights.shape[-1] - 1)
        k = k[..., None].expand(*k.shape, mu.shape[-1])
        mu, sigma = (p.gather(-2, k)[..., 0, :] for p in (mu, self._scale(z_sigma)))
        return mu + temperature * sigma * _randn(mu, mu.shape, generator)

    def _mean(self, params: list[Tensor]) -> Tensor:
        return (torch.softmax(params[0], -1)[..., None] * params[1]).sum(-2)


class Flow(FrameDensity):
    """A conditional masked autoregressive flow, by zuko (extra ``baselines``).

    Args:
        n_features: D, features of a frame.
        n_context: numbers that the state hands to the flow.
        n_transforms: transforms, of alternating order.
        n_hidden: units in each of the two layers of a transform.
    """

    def __init__(
        self, n_features: int, n_context: int = 32, n_transforms: int = 3, n_hidden: int = 100
    ) -> None:
        super().__init__()
        validates = Distribution._validate_args
        import zuko

        Distribution.set_default_validate_args(validates)  # zuko turns it off for everyone
        self.n_features, self.param_shapes = n_features, {"context": (n_context,)}
        self.b_context = nn.Parameter(torch.zeros(n_context))
        self.flow: Any = zuko.flows.MAF(
            n_features, n_context, transforms=n_transforms, hidden_features=(n_hidden, n_hidden)
        )

    def log_prob(self, x: Tensor, params: Params | None = None) -> Tensor:
        with full_precision(self.b_context):
            (context,) = self.given(params)
            x = arguments.tensor("x", x, context, ..., self.n_features)
            arguments.batch(x=x.shape[:-1], context=context.shape[:-1])
            log_p = self.flow(context).log_prob(readable(x))
            return log_p.masked_fill(x.isinf().any(-1), -math.inf)

    def feature_log_prob(self, x: Tensor, params: Params | None = None) -> Tensor:
        raise NotImplementedError("a flow has no log density of each feature")

    def sample(
        self,
        sample_shape: Sequence[int] = (),
        params: Params | None = None,
        given: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        if given is not None:
            raise ValueError("Flow cannot continue a frame from its first features")
        arguments.draws(self.b_context, generator, temperature)
        with torch.no_grad(), full_precision(self.b_context):
            (context,) = self.given(params)
            context = context.expand(*sample_shape, *context.shape)
            z = temperature * _randn(context, (*context.shape[:-1], self.n_features), generator)
            return self.flow(context).transform.inv(z)

    def mean(
        self,
        params: Params | None = None,
        n_samples: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the average of ``n_samples`` draws."""
        arguments.draws(self.b_context, generator, n_samples=(n_samples, 1))
        shape = (*self.given(params)[0].shape[:-1], self.n_features)
        drawn = (
            self.sample((n,), params, generator=generator).sum(0)
            for n in side_by_side(n_samples, shape, self.b_context)
        )
        return sum(drawn, start=self.b_context.new_zeros(shape)) / n_samples


class RNNDensity(RecurrentModel):
    """Recurrent net whose state sets all parameters of any density.

    Args:
        density: the density of a frame.
        n_recurrent: R, recurrent units.
        **kwargs: See `RecurrentModel`.

    Examples:
        >>> model = RNNDensity(GaussianMixture(n_features=3, n_components=2), n_recurrent=16)
        >>> model.log_prob(model.sample(n_frames=20, n_samples=4)[0]).shape
        torch.Size([4, 20])
    """

    def __init__(self, density: FrameDensity, n_recurrent: int = 100, **kwargs: Any) -> None:
        super().__init__(density.n_features, n_recurrent, **kwargs)
        self.of_frame = density
        self._add_state_paths(tuple(density.param_shapes))

    @property
    def density(self) -> FrameDensity:
        return self.of_frame


def _log_normal(x: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    return -0.5 * ((x - mu) / sigma).square() - sigma.log() - 0.5 * math.log(2 * math.pi)


def _randn(like: Tensor, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    return torch.randn(tuple(shape), generator=generator, dtype=like.dtype, device=like.device)
