"""The density of one frame, an interface.

A `FrameDensity` says how many numbers a frame's parameters take (``param_shapes``) and holds a
static value of each, the parameter ``b_<name>``. A sequence density adds to some of them what its
state says, and hands the result back to `FrameDensity.log_prob` and `FrameDensity.sample`. RNADE is
the default; any other density with this interface takes its place without a change elsewhere.

Conventions:
    One frame ``x (..., D)``; log densities in nats per frame.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from rnade_lightning import arguments
from rnade_lightning.parameters import Params, StateParams


def on_cpu(t: Tensor) -> bool:
    """Return whether compiled code can take a tensor."""
    return t.device.type == "cpu" and copied_to_cpu(t)


def copied_to_cpu(t: Tensor) -> bool:
    """Return whether compiled code can take a copy of a tensor, and nothing has to see what it
    computes, as ``make_fx`` and other modes that see every operation."""
    known = not t.is_meta and t.dtype in (torch.float32, torch.float64)
    return known and not transformed() and not torch._C._len_torch_dispatch_stack()


def transformed() -> bool:
    """Return whether torch records or transforms operations instead of computing numbers alone:
    ``torch.func``, ``torch.compile``, ``torch.export``, tracing, forward-mode differentiation. The
    torch path then runs."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or forward_ad._current_level >= 0:
        return True
    return bool(torch._C._are_functorch_transforms_active())  # as autograd.Function itself asks


def inherits(model: object, whole: type, *methods: str) -> bool:
    """Return whether a model has these methods from the class ``whole``, which compiled code stands
    in for, and none of its own."""
    return not vars(model).keys() & set(methods) and all(
        getattr(type(model), name) is getattr(whole, name) for name in methods
    )


def readable(x: Tensor) -> Tensor:
    """Return frames as units and linear paths read them: the same, but where numbers are so large
    that sums of their products would overflow, as inf - inf, to nan."""
    top = torch.finfo(x.dtype).max
    bound = top * 2.0**-40 if top > 2.0**100 else top  # float16 has no room
    return x.clamp(-bound, bound)


def finite(x: Tensor) -> Tensor:
    """Return values with 0 in place of infinite ones, whose log density of -inf needs no
    computation."""
    return x.masked_fill(x.isinf(), 0.0)


def log_mixed(log_p: Tensor, dim: int = -1) -> Tensor:
    """Return the log of the sum of densities along a dimension: -inf, with gradient 0, where none
    of them reaches."""
    lowest = torch.finfo(log_p.dtype).min  # below it, logsumexp has no gradient
    total = torch.logsumexp(log_p.clamp(min=lowest), dim)
    return total.masked_fill(total <= lowest, -torch.inf)


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Turn autocast off on the device of ``x``, so that a density stays in its parameters'
    dtype."""
    device = "cpu" if x.is_meta else x.device.type
    if not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


AT_ONCE = 2**22  # numbers in frames that are drawn side by side


def side_by_side(n_samples: int, shape: Sequence[int], like: Tensor) -> list[int]:
    """Return how many of ``n_samples`` draws of frames ``shape`` to make at a time: one on a CPU;
    elsewhere, where an operation on many takes as long as on one, as many as memory bears."""
    n = 1 if like.device.type == "cpu" else max(AT_ONCE // max(math.prod(shape), 1), 1)
    return [min(n, n_samples - done) for done in range(0, n_samples, n)]


def full_float32() -> None:
    """Let cuDNN compute recurrent nets in float32 as they stand. Unless told otherwise it rounds
    the factors of their products to 10 bits (TF32), which log p and its gradient show.

    torch keeps this choice for the process, and looks at it once more in the backward pass, after
    any call of a model is over. So no model makes it, but who runs the process: a module with its
    trainer, and the commands that load a checkpoint. Before a model is used on a GPU without
    either, call this.
    """
    torch.backends.cudnn.allow_tf32 = False


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

    def given(self, params: Params | None) -> Params:
        """Return parameters as given, the static ones for None, in the dtype of the density.

        Raises:
            TypeError, ValueError: they do not fit; see `arguments`.
        """
        static = self.static_params()
        if params is None:
            return static
        if isinstance(params, StateParams):
            return params.checked(self.param_shapes, static[0])
        return arguments.params(self.param_shapes, params, static[0])

    def censor(self, x: Tensor) -> Tensor:
        """Return frames ``(..., D)`` as the density, and a recurrent net before it, read them. They
        change only where a density is censored."""
        return x

    def start_at(self, covariance: Tensor) -> None:
        """Start at a Gaussian of mean 0 and covariance ``(D, D)``, float64, if the density can."""

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
