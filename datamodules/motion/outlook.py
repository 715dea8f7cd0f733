"""Tell where a root will be, by a linear sketch of how a model moves it.

From motion that a model draws freely, least squares tell where the root is some stretches later,
seen from where it stands and faces now, given how it moved in the last stretch. What they leave
unexplained is taken as normal, so that a path ahead has a likelihood, in closed form. Its gradient
by the random numbers of the next frames says which of them lead to the path.

Conventions:
    As in `paths`. n is the length of a stretch in frames; places ahead ``(N, H, 2)`` are left and
    ahead, in file units, 1 to H stretches after the last frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.motion.paths import walked


@dataclass(frozen=True)
class Outlook:
    """Predicts places of a root.

    Attributes:
        weights: Of a constant and of the last stretch's mean turn, left and ahead, ``(4, 2 H)``.
        covariance: Of what they leave unexplained, ``(2 H, 2 H)``.
        response: Of the places to a random number of the next frame, ``(2 H, k)``.
    """

    weights: Array
    covariance: Array
    response: Array

    @classmethod
    def learnt(cls, changes: Array, noise: Array, n: int, n_ahead: int) -> Outlook:
        """Return that of motion drawn freely.

        Args:
            changes: Turn, left and ahead of roots, ``(N, T, 3)``, T above (H + 1) n.
            noise: Random numbers of their frames, ``(N, T, k)``; zeros if there are none.
            n: Frames of a stretch.
            n_ahead: H.
        """
        starts = range(n, changes.shape[1] - n_ahead * n + 1)
        recent = np.concatenate([changes[:, t - n : t].mean(1) for t in starts])
        ahead = np.concatenate([walked(changes[:, t : t + n_ahead * n])[1] for t in starts])
        places = ahead[:, n - 1 :: n].reshape(len(ahead), -1)
        drawn = np.concatenate([noise[:, t] for t in starts])
        weights = np.linalg.lstsq(_with_constant(recent), places, rcond=None)[0]
        rest = places - _with_constant(recent) @ weights
        power = np.maximum(np.square(drawn).sum(0), np.finfo(float).tiny)
        return cls(weights, rest.T @ rest / len(rest), rest.T @ drawn / power)

    def log_p(self, recent: Array, ahead: Array, error: float) -> Array:
        """Return log p of places ahead, observed with a normal error, up to a constant, ``(N,)``.

        Args:
            recent: Mean turn, left and ahead of the last stretch, ``(N, 3)``.
            ahead: The places, ``(N, h, 2)``, h up to H.
            error: Its deviation, in file units.
        """
        rest = self._unexplained(recent, ahead)
        return np.asarray(-0.5 * (rest * self._weighed(rest, error)).sum(1))

    def slopes(self, recent: Array, ahead: Array, error: float) -> Array:
        """Return the gradient of `log_p` by random numbers of the next frame, ``(N, k)``."""
        weighed = self._weighed(self._unexplained(recent, ahead), error)
        return np.asarray(weighed @ self.response[: weighed.shape[1]])

    def _unexplained(self, recent: Array, ahead: Array) -> Array:
        """Return what is not explained of places ahead, ``(N, 2 h)``."""
        places = ahead.reshape(len(ahead), -1)
        return np.asarray(places - _with_constant(recent) @ self.weights[:, : places.shape[1]])

    def _weighed(self, rest: Array, error: float) -> Array:
        """Return what is unexplained ``(N, 2 h)``, times its inverse covariance."""
        m = rest.shape[1]
        covariance = self.covariance[:m, :m] + error**2 * np.eye(m)
        return np.asarray(np.linalg.solve(covariance, rest.T).T)


def _with_constant(x: Array) -> Array:
    return np.concatenate([np.ones((len(x), 1)), x], axis=1)
