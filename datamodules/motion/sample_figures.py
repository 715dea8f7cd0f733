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

from collections.abc import Sequence
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
_WINDOWS = 400  # of the classifier, at most, of a kind


@dataclass(frozen=True)
class Moving:
    """One motion.

    Attributes:
        frames: Changes of the root and its pose, ``(T, D)``.
        angles: Angles of the joints, ``(T, A)``, or None where they are not known.
    """

    frames: Array
    angles: Array | None = None


@dataclass(frozen=True)
class Body:
    """What moves.

    Attributes:
        skeleton: Its joints.
        fps: Frames per second.
        feet: Points of its feet.
    """

    skeleton: Skeleton
    fps: float
    feet: list[int]

    def points(self, frames: Array) -> Array:
        """Return places in the world, ``(T, P, 3)``, in lengths of the body."""
        places = points_of(frames, self.skeleton, self.fps, "y", "positions", "velocity")
        return np.asarray(places / self.skeleton.size)

    def poses(self, frames: Array) -> Array:
        """Return poses in lengths of the body, ``(T, D - 3)``."""
        return np.asarray(frames[:, N_CHANGES:] / self.skeleton.size)

    def velocities(self, frames: Array) -> Array:
        """Return changes of frames by second, ``(T - 1, D)``: lengths of the body, and radians."""
        changes = frames[1:, :N_CHANGES] / np.array([1.0, self.skeleton.size, self.skeleton.size])
        return np.concatenate([changes, np.diff(self.poses(frames), axis=0)], axis=1) * self.fps


class SampleFigures:
    """The figures of motions, beside training and held-out motions of one data set.

    Args:
        body: What moves.
        known: Training motions.
        held_out: Held-out motions.

    Raises:
        ValueError: There is no training motion of two frames, or no held-out one.
    """

    def __init__(self, body: Body, known: Sequence[Moving], held_out: Sequence[Moving]) -> None:
        self.body = body
        self.known = [m for m in known if len(m.frames) > 1]
        self.held_out = [m for m in held_out if len(m.frames) > 1]
        if not self.known or not self.held_out:
            raise ValueError("figures of samples need training and held-out motions")

    def of(
        self, motions: Sequence[Moving], one_step: Sequence[Array] = (), seed: int = 0
    ) -> dict[str, float]:
        """Return the figures of motions.

        Args:
            motions: Each of two frames at least.
            one_step: Pairs of frames, one after the other, ``(2 N, D)``: a true frame and the next
                one that was drawn.
            seed: Of the classifier.
        """
        body, own = self.body, self._of_held_out
        seconds = [self._distances(m.frames) for m in motions]
        bad = [s > self.furthest for s in seconds]
        until = [int(b.argmax()) if b.any() else len(b) for b in bad]
        speeds = np.concatenate([self._speeds(m.frames) for m in motions])
        known_speeds = np.concatenate([self._speeds(m.frames) for m in self.held_out])
        found = {
            "seconds_with_data": float(np.mean(until)),
            "bad_seconds": float(np.concatenate(bad).mean()),
            "frechet_poses": frechet(self._all(body.poses, motions), self._poses),
            "frechet_velocities": frechet(self._all(body.velocities, motions), self._velocities),
            "speed_distance": wasserstein_distance(speeds, known_speeds) / known_speeds.mean(),
            "spread": self._spread(motions) / own["spread"],
            "nearest": float(np.concatenate(seconds).mean()) / own["nearest"],
            "speed": float(speeds.mean() / known_speeds.mean()),
            "jerk": self._jerk(motions) / own["jerk"],
        }
        found |= self._contacts(motions)
        if len(one_step) and body.feet:
            found["one_step_skate"] = self._one_step_skate(one_step)
        others = self.known if motions is self.held_out else [*self.known, *self.held_out]
        found["auc"] = self._auc(motions, others, seed)
        return found

    def of_held_out(self, one_step: Sequence[Array] = ()) -> dict[str, float]:
        """Return the figures of the held-out motions, which nothing generated can beat by much."""
        return self.of(self.held_out, one_step) | {"seconds_with_data": float("nan")}

    # ------------------------------------------------------------------ what training data tell

    def _all(self, what: object, motions: Sequence[Moving]) -> Array:
        return np.concatenate([what(m.frames) for m in motions])  # type: ignore[operator]

    @cached_property
    def _scale(self) -> float:
        """Return the root of the summed variance of training poses."""
        return float(np.sqrt(self._all(self.body.poses, self.known).var(axis=0).sum()))

    @cached_property
    def _poses(self) -> Array:
        return self._all(self.body.poses, self.known)

    @cached_property
    def _velocities(self) -> Array:
        return self._all(self.body.velocities, self.known)

    @cached_property
    def _near(self) -> torch.Tensor:
        step = -(-len(self._poses) // _KNOWN_FRAMES)
        return torch.as_tensor(self._poses[::step] / self._scale, dtype=torch.float32)

    @cached_property
    def _limits(self) -> Limits:
        """Return heights of the feet and ranges of the angles."""
        points = [self.body.points(m.frames) for m in self.known]
        angles = [m.angles for m in self.known if m.angles is not None]
        return find_limits(points, angles, self.body.feet)

    @cached_property
    def _lowest(self) -> tuple[float, float]:
        low = [self.body.points(m.frames)[..., 1].min(axis=1) for m in self.known]
        return float(np.concatenate(low).min()), float(np.concatenate(low).max())

    @cached_property
    def furthest(self) -> float:
        """Return the distance beyond which a second has left the data."""
        own = np.concatenate([self._distances(m.frames) for m in self.held_out])
        return _BAD * float(np.quantile(own, 0.95))

    @cached_property
    def _of_held_out(self) -> dict[str, float]:
        distances = [self._distances(m.frames) for m in self.held_out]
        return {
            "spread": self._spread(self.held_out),
            "nearest": float(np.concatenate(distances).mean()),
            "jerk": self._jerk(self.held_out),
        }

    # ------------------------------------------------------------------ figures

    def _distances(self, frames: Array) -> Array:
        """Return the distance of each second from the nearest training poses, ``(S,)``."""
        poses = torch.as_tensor(self.body.poses(frames) / self._scale, dtype=torch.float32)
        found = [torch.cdist(some, self._near).amin(1) for some in poses.split(1024)]
        return self._by_second(torch.cat(found).double().numpy())

    def _by_second(self, values: Array) -> Array:
        """Return means over seconds, the last one of a part of a second if it is the only one."""
        n = max(round(self.body.fps), 1)
        whole = values[: len(values) // n * n] if len(values) >= n else values
        return np.asarray(whole.reshape(-1, min(n, len(values))).mean(axis=1))

    def _speeds(self, frames: Array) -> Array:
        steps = np.diff(self.body.points(frames), axis=0) * self.body.fps
        return self._by_second(np.linalg.norm(steps, axis=-1).mean(axis=1))

    def _jerk(self, motions: Sequence[Moving]) -> float:
        third = [np.diff(self.body.points(m.frames), 3, axis=0) for m in motions]
        return float(np.concatenate([np.linalg.norm(d, axis=-1).mean(axis=1) for d in third]).mean())

    def _spread(self, motions: Sequence[Moving]) -> float:
        """Return the root mean square distance of poses from their mean over 5 s; over shorter
        stretches where held-out motions are shorter."""
        longest = int(np.median([len(m.frames) for m in self.held_out]))
        n = max(min(round(5 * self.body.fps), longest), 2)
        found = [
            self.body.poses(m.frames)[start : start + n].var(axis=0).sum()
            for m in motions
            for start in range(0, max(len(m.frames) - n, 0) + 1, n)
        ]
        return float(np.sqrt(np.mean(found))) / self._scale

    def _contacts(self, motions: Sequence[Moving]) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        low, high = self._lowest
        for motion in motions:
            points = self.body.points(motion.frames)
            feet = self.body.feet
            own = motion_figures(points, motion.angles, self.body.fps, feet, self._limits)
            lowest = points[..., 1].min(axis=1)
            own["ground"] = float(((lowest < low - _GROUND) | (lowest > high + _GROUND)).mean())
            for key, value in own.items():
                found.setdefault(key, []).append(value)
        n_frames = [len(m.frames) for m in motions]
        return {key: _mean(values, n_frames) for key, values in found.items()}

    def _one_step_skate(self, one_step: Sequence[Array]) -> float:
        """Return the speed of standing feet from a true frame to the next one that was drawn. Where
        and which way the first one is makes no difference to it."""
        found = []
        for frames in one_step:
            feet = self.body.points(frames)[:, self.body.feet]
            low = feet[..., 1] < self._limits.heights
            steps = np.linalg.norm(feet[1::2, :, ::2] - feet[::2, :, ::2], axis=-1)
            found.append(steps[low[1::2] & low[::2]] * self.body.fps)
        return float(np.concatenate(found).mean())

    def _auc(self, motions: Sequence[Moving], others: Sequence[Moving], seed: int) -> float:
        """Return the area under the ROC curve of a forest that tells windows of motions from those
        of others; no motion is in both parts of a fold."""
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.metrics import roc_auc_score
        from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

        own, of_own = self._windows(motions)
        them, of_them = self._windows(others)
        if min(len(set(of_own)), len(set(of_them))) < 2:
            return float("nan")
        n_folds = min(5, len(set(of_own)), len(set(of_them)))
        x, y = np.concatenate([own, them]), np.repeat([1, 0], [len(own), len(them)])
        groups = np.concatenate([of_own, of_them + 1 + of_own.max()])
        forest = RandomForestClassifier(300, class_weight="balanced", random_state=seed)
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        p = cross_val_predict(forest, x, y, groups=groups, cv=folds, method="predict_proba")
        return float(roc_auc_score(y, p[:, 1]))

    def _windows(self, motions: Sequence[Moving]) -> tuple[Array, Array]:
        """Return what the classifier sees of windows of 2 s, and the motion that each is of."""
        n = max(round(2 * self.body.fps), 4)
        where = [
            (i, start)
            for i, m in enumerate(motions)
            for start in range(0, len(m.frames) - n + 1, max(n // 2, 1))
        ]
        step = -(-len(where) // _WINDOWS) or 1
        rows = [self._summary(motions[i].frames[start : start + n]) for i, start in where[::step]]
        return np.array(rows), np.array([i for i, _ in where[::step]], int)

    def _summary(self, frames: Array) -> Array:
        """Return means and deviations of poses and velocities, and how fast points change speed."""
        pose, velocity = self.body.poses(frames), self.body.velocities(frames)
        points = self.body.points(frames)
        acceleration = np.linalg.norm(np.diff(points, 2, axis=0), axis=-1)
        jerk = np.linalg.norm(np.diff(points, 3, axis=0), axis=-1)
        return np.concatenate([
            pose.mean(0), pose.std(0), velocity.mean(0), velocity.std(0), np.abs(velocity).mean(0),
            acceleration.mean(0), jerk.mean(0), np.median(jerk, axis=0),
        ])  # fmt: skip


def frechet(a: Array, b: Array) -> float:
    """Return the Frechet distance of Gaussians fitted to rows of a and b, over the variance of b
    (Dowson and Landau 1982): |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^1/2).

    >>> x = np.random.default_rng(0).normal(size=(1000, 2))
    >>> frechet(x, x) < 1e-9, round(frechet(x + [1, 0], x) * x.var(0).sum(), 6)
    (True, 1.0)
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


def _mean(values: Sequence[float], weights: Sequence[int]) -> float:
    known = np.isfinite(values)
    return float(np.average(np.array(values)[known], weights=np.array(weights)[known])) if known.any() else float("nan")
