"""Find features that are smooth functions of one or two others: they have no density.

What a density gives to such a feature grows as a model gets better at the function, without end. A
linear function is left out with the feature (see `standardise`), since it holds wherever it is
looked at again. One that is known as a polynomial holds where there were frames and nowhere else,
so these features are modelled and named.

Conventions:
    Frames are standardised, ``(T, D)``. Residuals are in deviations of the feature.
"""

from collections.abc import Sequence
from itertools import combinations, combinations_with_replacement

import numpy as np

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.core.relations import largest_residual

LEAST = 1e-3
"""Residual below which a feature is a function of others. Of features that are free, others leave
0.06 and more in the shipped motion."""

_WORTH = 10 * LEAST  # residual of some frames above which it is not tried on all
_DEGREE = 4
_FRAMES = 600  # that the search looks at; what it finds must hold on all that it is given
_FEATURES = 160  # more of them would take half a minute
_TRIES = 5


def functions_among(train: Array, held_out: Array, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the features that polynomials of one or two others explain.

    Of features that are functions of each other, the later ones are named.

    Args:
        train: Frames to fit to.
        held_out: Other frames, on which the functions must hold for the most part.
        names: Names of the features.

    Returns:
        The names of the others, by the name of the feature; empty for very many features.
    """
    n_features, found = len(names), dict[int, tuple[int, ...]]()
    few = train[:: -(-len(train) // _FRAMES) or 1]
    if n_features > _FEATURES or len(few) < 30 or not len(held_out):
        return {}
    candidates = _candidates(few)
    for d in reversed(range(n_features)):
        free = [of for of in candidates[d] if not found.keys() & set(of)]
        for others in free[:_TRIES]:
            if _holds(train, held_out, d, others):
                found[d] = others
                break
    return {names[d]: [names[j] for j in found[d]] for d in sorted(found)}


def _candidates(frames: Array) -> list[list[tuple[int, ...]]]:
    """Return, for each feature, the others that explain nearly all of it, the best first; one other
    goes before two."""
    n_features = frames.shape[1]
    left: list[list[tuple[int, float, tuple[int, ...]]]] = [[] for _ in range(n_features)]
    for n_others in (1, 2):
        for others in combinations(range(n_features), n_others):
            of_all = _left_of_all(frames[:, others], frames)
            for d in np.flatnonzero(of_all <= _WORTH).tolist():
                if d not in others:
                    left[d].append((n_others, float(of_all[d]), others))
    return [[others for *_, others in sorted(of)] for of in left]


def _powers(x: Array) -> Array:
    """Return all products of the columns ``(T, k)`` up to the degree, ``(T, n)``."""
    ones = np.column_stack([np.ones(len(x)), x])
    of = combinations_with_replacement(range(ones.shape[1]), _DEGREE)
    return np.stack([ones[:, list(columns)].prod(axis=1) for columns in of], axis=1)


def _left_of_all(others: Array, features: Array) -> Array:
    """Return the root mean square that a polynomial of others leaves of each feature."""
    basis = np.linalg.qr(_powers(others))[0]
    rest = features - basis @ (basis.T @ features)
    return np.asarray(np.sqrt(np.square(rest).mean(axis=0)))


def _holds(train: Array, held_out: Array, d: int, others: tuple[int, ...]) -> bool:
    """Tell whether a feature is a function on most frames, by the degrees of freedom, and on most
    held-out ones."""
    x = _powers(train[:, others])
    weights = np.linalg.lstsq(x, train[:, d], rcond=None)[0]
    here = float(np.median(np.abs(train[:, d] - x @ weights)))
    there = float(np.median(np.abs(held_out[:, d] - _powers(held_out[:, others]) @ weights)))
    return largest_residual(here, len(x), x.shape[1] - 1) < LEAST > there
