r"""Several sequence models as one: the exact likelihood of their mixture, frame by frame.

$$p(x_t | x_{<t}) = \frac1M \sum_m p_m(x_t | x_{<t})$$

is a normalised density of a sequence whatever the members are: RNN-RNADEs that visit the features
in different orders (Uria, Murray, Larochelle 2014, arXiv 1310.1757, average orders of one net),
models of other seeds, or of other kinds.

Conventions:
    As in `density`. The state is that of all members side by side, and so is the history.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from rnade_lightning import arguments
from rnade_lightning.density import log_mixed
from rnade_lightning.sequence_density import SequenceDensity


class Ensemble(SequenceDensity):
    """A mixture of sequence models of the same frames, equally weighted at every frame.

    Args:
        members: the models.

    Examples:
        >>> from rnade_lightning import RNNRNADE
        >>> both = Ensemble([RNNRNADE(3, 8, 16, 2), RNNRNADE(3, 8, 16, 2, feature_order=1)])
        >>> both.log_prob(both.sample(n_frames=20, n_samples=4)[0]).shape
        torch.Size([4, 20])
    """

    def __init__(self, members: Sequence[SequenceDensity]) -> None:
        super().__init__()
        sizes = {member.n_features for member in members}
        if len(sizes) != 1:
            raise ValueError(f"the members of an ensemble model {sorted(sizes)} features, not one")
        self._members = nn.ModuleList(members)
        self.n_features = sizes.pop()
        contexts = {member.n_context for member in members}
        if len(contexts) != 1:
            raise ValueError(f"the members are given contexts of {sorted(contexts)} numbers")
        self.n_context = contexts.pop()
        self.context_by_feature = any(member.context_by_feature for member in members)
        self.log_mass = members[0].log_mass
        if any(member.log_mass != self.log_mass for member in members):
            raise ValueError("log p is a log mass for some members of an ensemble, and not for all")
        self._in_state = _side_by_side([member.n_history for member in members])
        self._histories = _side_by_side([member.n_read for member in members])

    @property
    def members(self) -> list[SequenceDensity]:
        """Return the models."""
        return cast(list[SequenceDensity], list(self._members))

    @property
    def floor(self) -> float:
        return min(member.floor for member in self.members)

    @property
    def n_history(self) -> int:
        return self._in_state[-1].stop

    @property
    def n_read(self) -> int:
        return self._histories[-1].stop

    def initial_state(self, batch_size: int) -> Tensor:
        return self._join([member.initial_state(batch_size) for member in self.members])

    def states(
        self,
        frames: Tensor,
        u: Tensor | None = None,
        mask: Tensor | None = None,
        context: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        frames, u, mask, context = arguments.sequences(self, frames, u, mask, context)
        u = self.initial_state(frames.shape[0]) if u is None else u
        given = () if context is None else (context,)
        pairs = [
            member.states(frames, own, mask, *given)
            for member, own in zip(self.members, self._split(u), strict=True)
        ]
        history, last = zip(*pairs, strict=True)
        return torch.cat(history, -1), self._join(last)

    def step(self, x: Tensor, u: Tensor, context: Tensor | None = None) -> Tensor:
        x, u, context = arguments.one_frame(self, x, u, context)
        given = () if context is None else (context,)
        parts = zip(self.members, self._split(u), strict=True)
        return self._join([member.step(x, own, *given) for member, own in parts])

    def history(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        u = arguments.state(self, u)
        parts = zip(self.members, self._split(u), strict=True)
        return torch.cat([member.history(own, context) for member, own in parts], -1)

    def log_prob_given(self, history: Tensor, frames: Tensor) -> Tensor:
        history, frames = arguments.after_history(self, history, frames)
        each = torch.stack(self._each(lambda m, own: m.log_prob_given(own, frames), history))
        return log_mixed(each, 0) - math.log(len(each))

    def sample_given(
        self,
        history: Tensor,
        sample_shape: Sequence[int] = (),
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        draws = torch.stack(
            self._each(
                lambda m, own: m.sample_given(own, sample_shape, generator, temperature), history
            )
        )  # (M, *sample_shape, ..., D)
        chosen = torch.randint(
            len(draws), draws.shape[1:-1], generator=generator, device=draws.device
        )
        return draws.gather(0, chosen[None, ..., None].expand(1, *draws.shape[1:]))[0]

    def mean_given(
        self, history: Tensor, n_samples: int = 100, generator: torch.Generator | None = None
    ) -> Tensor:
        means = self._each(lambda m, own: m.mean_given(own, n_samples, generator), history)
        return torch.stack(means).mean(0)

    def _each(
        self, f: Callable[[SequenceDensity, Tensor], Tensor], history: Tensor
    ) -> list[Tensor]:
        history = arguments.history_of(self, history)
        return [
            f(m, history[..., own]) for m, own in zip(self.members, self._histories, strict=True)
        ]

    # The members' histories stand first, side by side; what else their states hold, behind.

    def _join(self, states: Sequence[Tensor]) -> Tensor:
        n_history = [member.n_history for member in self.members]
        pairs = list(zip(states, n_history, strict=True))
        return torch.cat([u[:, :n] for u, n in pairs] + [u[:, n:] for u, n in pairs], -1)

    def _split(self, u: Tensor) -> list[Tensor]:
        sizes = [m.initial_state(1).shape[1] - m.n_history for m in self.members]
        hidden = u[:, self.n_history :].split(sizes, -1)
        return [
            torch.cat((u[:, own], h), -1) for own, h in zip(self._in_state, hidden, strict=True)
        ]


def _side_by_side(sizes: Sequence[int]) -> list[slice]:
    """Return where each of so many numbers stand, one after the other."""
    bounds = [0, *torch.tensor(sizes).cumsum(0).tolist()]
    return [slice(*pair) for pair in pairwise(bounds)]
