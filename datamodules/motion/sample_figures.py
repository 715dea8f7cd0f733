r"""Measure generated motion beside held-out motion, by figures that cannot all be gamed at once.

A body that stands still has no foot skate, and one that is held to the range of the data never
leaves them; each gives itself away in another figure. Every figure is of held-out data as well.

Of one second of a sample:
    ``bad_seconds``         share of seconds that leave the data: their poses are further from any
                            training frame than held-out ones are (1.5 times their 95 % quantile)
    ``seconds_with_data``   seconds until the first bad one
    ``speed_distance``      Wasserstein distance of the speeds of seconds from those of the data
Of all frames:
    ``frechet_poses``       Frechet distance of poses from training poses
    ``frechet_velocities``  the same of their velocities
    ``spread``              how far poses spread within 5 s: freezing is below 1, wandering above
    ``nearest``             distance to the nearest training pose: copying is near 0
    ``speed``, ``jerk``     means of the first and the third derivative of places
    ``foot_skate``          speed of a foot that stands, lengths of the body per second
    ``one_step_skate``      the same of frames drawn on true histories
    ``joint_limit``         share of joint angles outside the range of the training data
    ``ground``              share of frames whose lowest point is out of its range in the data
Of two seconds:
    ``auc``                 how well a random forest tells them from data: 0.5 is not at all, 1 is
                            always (Lopez-Paz and Oquab, *Revisiting Classifier Two-Sample Tests*,
                            2017)

Conventions:
    A motion is its frames of ``positions`` with the root's velocity (`representation`): changes of
    the root, its height, and places in the facing frame, ``(T, D)``. A *pose* is all but the
    changes. Lengths are in lengths of the body (all its bones), and the spread of training poses,
    or velocities, is the unit of distances between them. ``spread``, ``nearest``, ``speed`` and
    ``jerk`` are over those of held-out data.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.stats import wasserstein_distance

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.motion.metrics import Limits, find_limits, motion_figures
from rnade_lightning.datamodules.motion.representation import points_of
from rnade_lightning.datamodules.motion.skeleton import Skeleton

N_CHANGES = 3
"""Features of a frame that change the root; the others are a pose."""
_KNOWN_FRAMES = 10_000  # training frames, at most, that poses are compared with
_GROUND = 0.002  # of the body's length, about 1 cm: how far a lowest point may be out of range
_BAD = 1.5  # times the held-out quantile
_WINDOWS = 200  # of the classifier, at most, of a kind


@dataclass(frozen=True)
class Body:
    """A skeleton that moves.

    Attributes:
        skeleton: Its joints.
        fps: Frames per second.
        feet: Points of its feet.
    """

    skeleton: Skeleton
    fps: float
    feet: list[int]


@dataclass(frozen=True)
class Moving:
    """One motion of four frames or more.

    Attributes:
        body: What moves.
        frames: Changes of the root and its pose, ``(T, D)``, in the units of the file.
        angles: Angles of the joints, ``(T, A)``, or None where they are not known.
    """

    body: Body
    frames: Array
    angles: Array | None = None

    @cached_property
    def points(self) -> Array:
        """Return places in the world, ``(T, P, 3)``, in lengths of the body."""
        body = self.body
        places = points_of(self.frames, body.skeleton, body.fps, "y", "positions", "velocity")
        return np.asarray(places / body.skeleton.size)

    @cached_property
    def poses(self) -> Array:
        """Return poses in lengths of the body, ``(T, D - 3)``."""
        return np.asarray(self.frames[:, N_CHANGES:] / self.body.skeleton.size)

    @cached_property
    def velocities(self) -> Array:
        """Return changes of frames by second, ``(T - 1, D)``: lengths of the body, and radians."""
        size = self.body.skeleton.size
        changes = self.frames[1:, :N_CHANGES] / np.array([1.0, size, size])
        return np.concatenate([changes, np.diff(self.poses, axis=0)], axis=1) * self.body.fps

    @cached_property
    def steepness(self) -> tuple[Array, Array, Array]:
        """Return the mean length of the first three derivatives of all places by frame, each of
        ``(T - n, P)`` for the n-th."""
        found = (np.diff(self.points, n, axis=0) * self.body.fps**n for n in (1, 2, 3))
        first, second, third = (np.linalg.norm(x, axis=-1) for x in found)
        return first, second, third


class SampleFigures:
    """The figures of motions, beside training and held-out motions of one data set.

    Args:
        body: What moves.
        known: Training motions.
        held_out: Held-out motions.

    Raises:
        ValueError: There is no training motion of four frames, or no held-out one.
    """

    def __init__(self, body: Body, known: Sequence[Moving], held_out: Sequence[Moving]) -> None:
        self.body = body
        self.known = [m for m in known if len(m.frames) > 3]
        self.held_out = [m for m in held_out if len(m.frames) > 3]
        if not self.known or not self.held_out:
            raise ValueError("figures of samples need training and held-out motions")

    def of(
        self, motions: Sequence[Moving], one_step: Sequence[Moving] = (), seed: int = 0
    ) -> dict[str, float]:
        """Return the figures of motions.

        Args:
            motions: The motions.
            one_step: Pairs of frames, one after the other, ``(2 N, D)``: a true frame and the next
                one that was drawn.
            seed: Of the classifier.

        Raises:
            ValueError: There is no motion, or frames of one are no numbers.
        """
        if not motions or not all(np.isfinite(m.frames).all() for m in motions):
            raise ValueError("figures of samples need at least one motion, of finite frames")
        seconds = [self._distances(m) for m in motions]
        bad = [s > self.furthest for s in seconds]
        until = [
            min(
                self._n_second / self.body.fps * (b.argmax() if b.any() else len(b)),
                len(m.frames) / self.body.fps,
            )
            for b, m in zip(bad, motions, strict=True)
        ]
        speeds, own = self._speeds(motions), self._of_held_out
        found = {
            "seconds_with_data": float(np.mean(until)),
            "bad_seconds": float(np.concatenate(bad).mean()),
            "frechet_poses": frechet(_all(m.poses for m in motions), self._poses),
            "frechet_velocities": frechet(_all(m.velocities for m in motions), self._velocities),
            "speed_distance": float(wasserstein_distance(speeds, self._own_speeds))
            / self._own_speeds.mean(),
            "spread": self._spread(motions) / own["spread"],
            "nearest": float(np.concatenate(seconds).mean()) / own["nearest"],
            "speed": float(speeds.mean() / self._own_speeds.mean()),
            "jerk": _jerk(motions) / own["jerk"],
        }
        found |= self._contacts(motions)
        if len(one_step) and self.body.feet:
            found["one_step_skate"] = self._one_step_skate(one_step)
        found["auc"] = auc(motions, [*self.known, *self.held_out], seed)
        return found

    def of_held_out(self) -> dict[str, float]:
        """Return the figures of the held-out motions, which nothing generated can beat by much.
        Its ``auc`` is of the halves of all data, over three ways to halve them; not a number of
        fewer than eight motions, of which it would be chance."""
        every, found = [*self.known, *self.held_out], []
        for seed in range(3 if len(every) >= 8 else 0):
            order = np.random.default_rng(seed).permutation(len(every))
            halves = order[: len(every) // 2], order[len(every) // 2 :]
            one, other = ([every[i] for i in half] for half in halves)
            found.append(auc(one, other, seed))
        mean = float(np.mean(found)) if found else float("nan")
        return self.of(self.held_out) | {"seconds_with_data": float("nan"), "auc": mean}

    # ------------------------------------------------------------------ what the data tell

    @cached_property
    def _poses(self) -> Array:
        return _all(m.poses for m in self.known)

    @cached_property
    def _velocities(self) -> Array:
        return _all(m.velocities for m in self.known)

    @cached_property
    def _scale(self) -> float:
        """Return the root of the summed variance of training poses."""
        return float(np.sqrt(self._poses.var(axis=0).sum()))

    @cached_property
    def _near(self) -> torch.Tensor:
        step = -(-len(self._poses) // _KNOWN_FRAMES)
        return self._from_middle(self._poses[::step])

    def _from_middle(self, poses: Array) -> torch.Tensor:
        """Return poses less their mean, which would cost digits, in units of their spread."""
        return torch.from_numpy((poses - self._poses.mean(axis=0)) / self._scale)

    @cached_property
    def _limits(self) -> Limits:
        """Return heights of the feet and ranges of the angles."""
        angles = [m.angles for m in self.known if m.angles is not None]
        return find_limits([m.points for m in self.known], angles, self.body.feet)

    @cached_property
    def _lowest(self) -> tuple[float, float]:
        low = _all(m.points[..., 1].min(axis=1) for m in self.known)
        return float(low.min()), float(low.max())

    @cached_property
    def furthest(self) -> float:
        """Return the distance beyond which a second has left the data."""
        own = np.concatenate([self._distances(m) for m in self.held_out])
        return _BAD * float(np.quantile(own, 0.95))

    @cached_property
    def _own_speeds(self) -> Array:
        return self._speeds(self.held_out)

    @cached_property
    def _of_held_out(self) -> dict[str, float]:
        return {
            "spread": self._spread(self.held_out),
            "nearest": float(np.concatenate([self._distances(m) for m in self.held_out]).mean()),
            "jerk": _jerk(self.held_out),
        }

    # ------------------------------------------------------------------ figures

    def _distances(self, motion: Moving) -> Array:
        """Return the distance of each second from the nearest training poses, ``(S,)``."""
        some = self._from_middle(motion.poses).split(1024)
        found = torch.cat([torch.cdist(poses, self._near).amin(1) for poses in some])
        return self._by_second(found.numpy())

    @property
    def _n_second(self) -> int:
        """Return the whole frames of a second."""
        return max(round(self.body.fps), 1)

    def _by_second(self, values: Array) -> Array:
        """Return means over whole seconds; over all frames, if they are fewer."""
        n = self._n_second
        whole = values[: len(values) // n * n] if len(values) >= n else values
        return np.asarray(whole.reshape(-1, min(n, len(values))).mean(axis=1))

    def _speeds(self, motions: Sequence[Moving]) -> Array:
        return np.concatenate([self._by_second(m.steepness[0].mean(axis=1)) for m in motions])

    def _spread(self, motions: Sequence[Moving]) -> float:
        """Return the root mean square distance of poses from their mean over 5 s; over shorter
        stretches where held-out motions are shorter."""
        longest = int(np.median([len(m.frames) for m in self.held_out]))
        n = max(min(round(5 * self.body.fps), longest), 2)
        found = [
            m.poses[start : start + n].var(axis=0).sum()
            for m in motions
            for start in range(0, max(len(m.frames) - n, 0) + 1, n)
        ]
        return float(np.sqrt(np.mean(found))) / self._scale

    def _contacts(self, motions: Sequence[Moving]) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        low, high = self._lowest
        for motion in motions:
            how = self.body.fps, self.body.feet, self._limits
            own = motion_figures(motion.points, motion.angles, *how)
            lowest = motion.points[..., 1].min(axis=1)
            own["ground"] = float(((lowest < low - _GROUND) | (lowest > high + _GROUND)).mean())
            for key, value in own.items():
                found.setdefault(key, []).append(value)
        n_frames = [len(m.frames) for m in motions]
        return {key: _mean(values, n_frames) for key, values in found.items()}

    def _one_step_skate(self, one_step: Sequence[Moving]) -> float:
        """Return the speed of standing feet from a true frame to the next one that was drawn. Where
        and which way the first one is makes no difference to it."""
        found = []
        for motion in one_step:
            feet = motion.points[:, self.body.feet]
            low = feet[..., 1] < self._limits.heights
            steps = np.linalg.norm(feet[1::2, :, ::2] - feet[::2, :, ::2], axis=-1)
            stands = steps[low[1::2] & low[::2]] * self.body.fps
            found.append(float(stands.mean()) if len(stands) else float("nan"))
        return _mean(found, [len(m.frames) for m in one_step])


def auc(motions: Sequence[Moving], others: Sequence[Moving], seed: int = 0) -> float:
    """Return the area under the ROC curve of a random forest that tells 2 s of motions from 2 s of
    others. It is asked of motions that it was not fitted to; not a number if there are too few."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    own, of_own = _windows(motions)
    them, of_them = _windows(others)
    n_folds = min(5, len(set(of_own)), len(set(of_them)))
    if n_folds < 2:
        return float("nan")
    x, y = np.array(own + them), np.repeat([1, 0], [len(own), len(them)])
    groups = np.array(of_own + [i + len(motions) for i in of_them])
    forest = RandomForestClassifier(100, class_weight="balanced", random_state=seed)
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    p = cross_val_predict(forest, x, y, groups=groups, cv=folds, method="predict_proba")
    return float(roc_auc_score(y, p[:, 1]))


def _windows(motions: Sequence[Moving]) -> tuple[list[Array], list[int]]:
    """Return what the classifier sees of windows of 2 s, and the motion that each is of: means and
    deviations of poses and velocities, and how fast places change their speed."""
    n = max(round(2 * motions[0].body.fps), 4)
    where = [
        (i, start)
        for i, m in enumerate(motions)
        for start in range(0, len(m.frames) - n + 1, max(n // 2, 1))
    ]
    step = -(-len(where) // _WINDOWS) or 1
    rows = []
    for i, start in where[::step]:
        pose, velocity = (x[start : start + n] for x in (motions[i].poses, motions[i].velocities))
        second, third = (x[start : start + n - 3] for x in motions[i].steepness[1:])
        rows.append(np.concatenate([
            pose.mean(0), pose.std(0), velocity.mean(0), velocity.std(0),
            second.mean(0), third.mean(0), np.median(third, axis=0),
        ]))  # fmt: skip
    return rows, [i for i, _ in where[::step]]


def frechet(a: Array, b: Array) -> float:
    """Return the Frechet distance of Gaussians fitted to rows of a and b, over the variance of b
    (Dowson and Landau 1982): |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^1/2).

    >>> x = np.random.default_rng(0).normal(size=(1000, 2))
    >>> np.allclose(frechet(x, x), 0), np.allclose(frechet(x + [1, 0], x) * np.cov(x.T).trace(), 1)
    (True, True)
    """
    S_a, S_b = np.cov(a.T), np.cov(b.T)
    root_b = _root(S_b)
    between = np.trace(_root(root_b @ S_a @ root_b))
    distance = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(S_a) + np.trace(S_b) - 2 * between
    return float(max(distance, 0) / np.trace(S_b))


def _root(S: Array) -> Array:
    """Return the root of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(S)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def _all(parts: Iterable[Array]) -> Array:
    return np.concatenate(list(parts))


def _jerk(motions: Sequence[Moving]) -> float:
    """Return the mean length of the third derivative of places; of motions of four frames."""
    third = [m.steepness[2].mean(axis=1) for m in motions]
    return float(np.concatenate(third).mean())


def _mean(values: Sequence[float], weights: Sequence[int]) -> float:
    """Return the mean of the values that are numbers."""
    known = np.isfinite(values)
    if not known.any():
        return float("nan")
    return float(np.average(np.array(values)[known], weights=np.array(weights)[known]))
