"""What a sequence model asks of the density of one frame.

A `FrameDensity` says how many numbers a frame's parameters take (``param_shapes``) and holds
a static value of each, the parameter ``b_<name>``. A sequence model adds to some of them what its
state says, and hands the result back to `FrameDensity.log_prob` and
`FrameDensity.sample`. RNADE is the default; any other density with this interface takes its
place without a change elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

Params = Sequence[Tensor]
"""One tensor per entry of ``param_shapes``, in that order, each ``(..., *shape)``."""


class StateParams(Sequence[Tensor]):
    """Parameters that a state sets, ``b + W u``, each computed when it is asked for: a density that
    needs only their products with something never holds them for all frames.

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
    """The batch shape that parameters with ``event_dim`` dimensions of their own broadcast to."""
    shapes = {p.shape[: p.dim() - event_dim] for p in params}
    return shapes.pop() if len(shapes) == 1 else torch.broadcast_shapes(*shapes)


def on_cpu(t: Tensor) -> bool:
    """Whether compiled code can take a tensor."""
    return t.device.type == "cpu" and t.dtype in (torch.float32, torch.float64)


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Autocast off on the device of ``x``: a density stays in its parameters' dtype."""
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
    """Whether what past frames explain is added to the means, the parameter ``mu``, and the frame
    stays where it is: where its place matters. Else it is subtracted from the frame."""

    def static_params(self) -> tuple[Tensor, ...]:
        """The parameters of a frame about which nothing else is known, each of its own shape."""
        return tuple(getattr(self, f"b_{name}") for name in self.param_shapes)

    def censor(self, x: Tensor) -> Tensor:
        """What the density, and a recurrent net before it, see of frames ``(..., D)``: all of them,
        but where a density is censored."""
        return x

    @abstractmethod
    def log_prob(self, x: Tensor, params: Params | None = None) -> Tensor:
        """Log density of ``x (..., D)`` in nats, ``(...)``."""

    @abstractmethod
    def feature_log_prob(self, x: Tensor, params: Params | None = None) -> Tensor:
        """Log density of each feature given those before it, ``(..., D)``; they add up to
        `log_prob`."""

    def feature_cdf(self, x: Tensor, params: Params | None = None) -> Tensor:
        """Distribution function of each feature given those before it, ``(..., D)``, in [0, 1]:
        uniform where frames are the density's own. A density may go without; its calibration is
        then not shown."""
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
        """Draws ``(*sample_shape, *batch, D)``, the first features ``given``; a temperature
        below 1 draws from a narrower density than that of `log_prob`."""

    @abstractmethod
    def mean(
        self,
        params: Params | None = None,
        n_samples: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Mean of the density, ``(*batch, D)``; exact, or from ``n_samples`` draws."""
