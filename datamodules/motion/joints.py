r"""Find joints whose exponential maps are no good features, and describe them by other numbers.

Three numbers of a rotation that has two free ones lie on a surface, on which a density is without
bound. A joint that turns about an axis u, fixed in its parent, and about an axis v, fixed in what
hangs from it, keeps the angle between the two: u . R v is the same in all frames, whatever fixed
rotation lies between the axes. So such a joint is found by the u and v that make u . R v vary the
least over training frames. Its rotation is

$$R = \exp(\alpha u)\, G(\gamma) \exp(\beta v)$$

where G takes v to the angle gamma from u, in the plane of u and the direction from which alpha is
measured. Its features are alpha (``about_1``), beta (``about_2``) and gamma (``between``), which is
constant. With one axis, v is any axis across it, and beta is constant as well. Every rotation has
these three angles, so what was found costs nothing where it does not hold: a frame off the surface
has another gamma.

An exponential map is cut half a turn from 0: a rotation a little further has the opposite map. Of a
joint that is turned so far in its usual pose, as a thigh is where the bones of the rest pose point
up, one take lies on one side of the cut and the next on the other. What is near to a person is then
as far apart as can be, and what lies between is a leg that points up. So of such a joint the map of
the rotation from its mean is taken, R M^-1, where M is the mean over training frames.

Conventions:
    Exponential maps are ``(T, 3)``, as in `representation`; angles are in radians. A joint whose
    exponential maps are constant, or lie on a line or in a plane, is left as it is: that its
    features are linear in others is found elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.core.relations import largest_residual

FIXED = 1e-5
"""Radians by which an angle that is fixed may vary. In the shipped motion (CMU) the angle between
two axes varies by 5e-7, and by 2e-2 or more where a joint turns freely."""

ENDS = ("about_1", "about_2", "between")
"""Ends of the names of the angles of a joint of one or two axes."""

_FRAMES = 20_000  # of training, at most, that axes are found from
_TOLERANCE = 20  # times FIXED: the range in other frames of an angle that is fixed
_CUT = 3.0  # radians from the zero of an angle, which is cut at half a turn
_POLE = 0.99  # cosine of the angle between two axes at which they are nearly one


@dataclass(frozen=True)
class Axes:
    """Describe how one joint turns.

    Attributes:
        column: First of its three features.
        name: Their name, up to the coordinate.
        n_axes: 1 or 2.
        frame_1: Rows u, where alpha is 0, and across both, ``(3, 3)``, in the parent's frame.
        frame_2: Rows v, where beta is 0, and across both, ``(3, 3)``, in the joint's own frame.
    """

    column: int
    name: str
    n_axes: int
    frame_1: Array
    frame_2: Array

    def angles(self, maps: Array) -> Array:
        """Return alpha, beta and gamma ``(T, 3)`` of exponential maps ``(T, 3)``."""
        return angles_of([self], maps[:, None])[:, 0]

    def maps(self, angles: Array) -> Array:
        """Return the exponential maps ``(T, 3)`` of angles: the inverse of `angles`."""
        alpha, beta, gamma = angles.T
        c, s = np.cos(gamma), np.sin(gamma)
        zero = np.zeros_like(c)
        middle = np.stack([c, s, zero, s, -c, zero, zero, zero, -np.ones_like(c)], axis=1)
        bent = Rotation.from_matrix(self.frame_1.T @ middle.reshape(-1, 3, 3) @ self.frame_2)
        first = Rotation.from_rotvec(alpha[:, None] * self.frame_1[0])
        second = Rotation.from_rotvec(beta[:, None] * self.frame_2[0])
        return np.asarray((first * bent * second).as_rotvec())

    def recut(self, alpha: float, beta: float) -> "Axes":
        """Return the same axes with angles that are less by so much, cut elsewhere."""
        if alpha == beta == 0:
            return self
        turned_1, turned_2 = (
            np.vstack([frame[:1], Rotation.from_rotvec(angle * frame[0]).apply(frame[1:])])
            for frame, angle in ((self.frame_1, alpha), (self.frame_2, -beta))
        )
        return replace(self, frame_1=turned_1, frame_2=turned_2)

    def state(self) -> dict[str, Any]:
        """Return the axes in plain types."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(self).items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Axes":
        """Return the inverse of `state`."""
        return cls(**state | {key: np.asarray(state[key]) for key in ("frame_1", "frame_2")})

    @property
    def ends(self) -> tuple[str, str, str]:
        """Return the ends of the names of the three numbers."""
        return ENDS

    def __str__(self) -> str:
        axes = [" ".join(f"{x:.3f}" for x in f[0] + 0.0) for f in (self.frame_1, self.frame_2)]
        if self.n_axes == 1:
            return f"turns about ({axes[0]})"
        return f"turns about ({axes[0]}) in its parent and ({axes[1]}) in itself"


@dataclass(frozen=True)
class Centred:
    """Describe one joint that turns freely, half a turn from where its exponential map is 0.

    Attributes:
        column: First of its three features.
        name: Their name, up to the coordinate.
        centre: Exponential map of its mean rotation, ``(3,)``.
    """

    column: int
    name: str
    centre: Array

    def angles(self, maps: Array) -> Array:
        """Return the exponential maps ``(T, 3)`` of the rotations from the mean, in the axes of the
        parent, of exponential maps ``(T, 3)``."""
        centre = Rotation.from_rotvec(self.centre)
        return np.asarray((Rotation.from_rotvec(maps) * centre.inv()).as_rotvec())

    def maps(self, angles: Array) -> Array:
        """Return the inverse of `angles`."""
        centre = Rotation.from_rotvec(self.centre)
        return np.asarray((Rotation.from_rotvec(angles) * centre).as_rotvec())

    def state(self) -> dict[str, Any]:
        """Return it in plain types."""
        return vars(self) | {"centre": self.centre.tolist()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Centred":
        """Return the inverse of `state`."""
        return cls(**state | {"centre": np.asarray(state["centre"])})

    @property
    def ends(self) -> tuple[str, str, str]:
        """Return the ends of the names of the three numbers."""
        return ("x", "y", "z")

    def __str__(self) -> str:
        return f"turns freely, from ({' '.join(f'{x:.3f}' for x in self.centre + 0.0)})"


def joint_of(state: dict[str, Any]) -> Axes | Centred:
    """Return the joint that a state describes."""
    return Centred.from_state(state) if "centre" in state else Axes.from_state(state)


def angles_of(joints: Sequence[Axes], maps: Array) -> Array:
    """Return alpha, beta and gamma ``(T, J, 3)`` of the exponential maps ``(T, J, 3)`` of J joints,
    all at once: every batch needs them."""
    ours, theirs = (
        np.stack(f) for f in zip(*((j.frame_1, j.frame_2) for j in joints), strict=True)
    )
    cosine, along, across = _turned(maps, theirs[:, 0], ours)
    _, back_along, back_across = _turned(-maps, ours[:, 0], theirs)
    alpha, beta = np.arctan2(across, along), -np.arctan2(back_across, back_along)
    return np.stack([alpha, beta, np.arccos(np.clip(cosine, -1, 1))], axis=-1)


def _turned(maps: Array, vectors: Array, frames: Array) -> tuple[Array, ...]:
    """Return the coordinates ``(T, J)`` along the rows of ``frames (J, 3, 3)`` of the vectors
    ``(J, 3)``, turned by exponential maps (Rodrigues)."""
    size = np.linalg.norm(maps, axis=-1, keepdims=True)
    across = np.sinc(size / np.pi) * np.cross(maps, vectors)
    along = 0.5 * np.sinc(size / (2 * np.pi)) ** 2 * (maps * vectors).sum(-1, keepdims=True) * maps
    x, y, z = np.einsum("jab,tjb->atj", frames, np.cos(size) * vectors + across + along)
    return x, y, z


def find_axes(sequences: Sequence[Any], names: Sequence[str]) -> list[Axes | Centred]:
    """Return the joints that turn about one or two axes in training frames, and those that turn
    freely about a rotation whose exponential map is cut.

    An angle is cut half a turn from its mean, or in the middle of what it never takes. One that
    goes all the way round jumps there, with a warning.

    Args:
        sequences: Frames ``(T, D)`` of exponential maps.
        names: Names of the features.
    """
    n_all = sum(len(x) for x in sequences)
    step = -(-n_all // _FRAMES) or 1
    frames = np.concatenate([np.asarray(x, dtype=np.float64)[::step] for x in sequences])
    found: list[Axes | Centred] = []
    round_ = []
    for column in range(len(names) - 2):
        name = names[column][:-1]
        if list(names[column : column + 3]) != [name + axis for axis in "xyz"] or name == "root.":
            continue
        maps = frames[:, column : column + 3]
        axes = axes_of(column, name, maps)
        if axes is None:
            found += _centred(column, name, maps)
            continue
        axes = axes.recut(*map(_middle, axes.angles(maps)[:, :2].T))
        if np.abs(axes.angles(maps)[:, :2]).max() > _CUT:
            round_.append(name.rstrip("._"))
        found.append(axes)
    if round_:
        named = ", ".join(round_[:8]) + (", .." if len(round_) > 8 else "")
        rank_zero_warn(
            f"{named}: turns about one or two axes and nearly all the way round, so that an angle"
            " jumps by a whole turn where it is cut: look for frames that are wrong, or choose"
            " representation 6d with noise"
        )
    return found


def that_hold(joints: Sequence[Axes | Centred], sequences: Sequence[Any]) -> list[Axes | Centred]:
    """Return the joints that turn in other frames as they were found to: about axes whose angle
    stays the same. One that moves more freely there would have a feature that hardly varies in
    training, in units of that little, and huge beyond.

    Args:
        joints: From `find_axes`.
        sequences: Frames ``(T, D)`` of exponential maps.
    """

    def holds(joint: Axes | Centred) -> bool:
        span = slice(joint.column, joint.column + 3)
        numbers = [joint.angles(np.asarray(x, dtype=np.float64)[:, span]) for x in sequences]
        if isinstance(joint, Centred) or not sum(map(len, numbers)):
            return True
        fixed = np.concatenate(numbers)[:, joint.n_axes :]
        return bool(np.ptp(fixed, axis=0).max() <= _TOLERANCE * FIXED)

    return [joint for joint in joints if holds(joint)]


def _centred(column: int, name: str, maps: Array) -> list[Centred]:
    """Return a joint as measured from its mean, if it is cut as it is and would not be so."""
    if np.linalg.norm(maps, axis=1).max() <= _CUT:
        return []
    joint = Centred(column, name, Rotation.from_rotvec(maps).mean().as_rotvec())
    furthest = np.linalg.norm(joint.angles(maps), axis=1).max()
    return [joint] if furthest <= _CUT else []


def axes_of(column: int, name: str, maps: Array) -> Axes | None:
    """Return the axes of a joint that turns about one or two in exponential maps ``(T, 3)``, whose
    features begin at a column and with a name; None if it turns freely, or hardly at all."""
    n = len(maps)
    if n < 3 or _spread(maps)[1] <= FIXED:  # constant, or on a line
        return None
    rotations = Rotation.from_rotvec(maps)
    from_mean = (rotations * rotations.mean().inv()).as_rotvec()
    _, spread, directions = np.linalg.svd(from_mean, full_matrices=False)
    if largest_residual(float(spread[1]) / np.sqrt(n), n, 4) <= FIXED:
        u = directions[0]
        n_axes, v = 1, rotations.mean().inv().apply(_across(u))
    else:
        if _spread(maps)[2] <= FIXED:  # in a plane: two features that are free
            return None
        u, v = _two_axes(rotations.as_matrix())
        cosine = rotations.apply(v) @ u
        between = np.arccos(np.clip(cosine, -1, 1))
        # Of a joint that hardly moves, one axis taken for both keeps its angle, too: a pole.
        pole = np.abs(cosine.mean()) > _POLE
        if pole or largest_residual(float(between.std()), n, 5) > FIXED:
            return None
        n_axes = 2
    u, v = (x * np.sign(x[np.abs(x).argmax()]) for x in (u, v))  # either end is the same axis
    level_1, level_2 = rotations.apply(v).mean(axis=0), rotations.inv().apply(u).mean(axis=0)
    return Axes(column, name, n_axes, _frame(u, level_1), _frame(v, level_2))


def _two_axes(matrices: Array) -> tuple[Array, Array]:
    """Return the axes u and v for which u . R v varies the least over rotations ``(T, 3, 3)``, of
    those that are not nearly one axis."""
    flat = matrices.reshape(len(matrices), 9)
    mean = matrices.mean(axis=0)
    factor: Any = np.linalg.qr(flat - flat.mean(axis=0), mode="r") / np.sqrt(len(flat))

    def axes(x: Array) -> tuple[Array, Array]:
        return x[:3] / np.linalg.norm(x[:3]), x[3:] / np.linalg.norm(x[3:])

    def variation(x: Array) -> Array:
        return np.asarray(factor @ np.outer(*axes(x)).ravel())

    def slope(x: Array) -> Array:
        u, v = axes(x)
        of_u = (np.eye(3) - np.outer(u, u)) / np.linalg.norm(x[:3])
        of_v = (np.eye(3) - np.outer(v, v)) / np.linalg.norm(x[3:])
        of_both = np.concatenate([np.kron(of_u, v[:, None]), np.kron(u[:, None], of_v)], axis=1)
        return np.asarray(factor @ of_both)

    left, _, right = np.linalg.svd(np.linalg.svd(factor)[2][-1].reshape(3, 3))
    starts = [np.concatenate([left[:, 0], right[0]])]
    starts += [np.concatenate([a, b]) for a in np.eye(3) for b in np.eye(3)]
    best, least = axes(starts[0]), np.inf
    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    method = "lm" if len(factor) > 5 else "trf"
    for start in starts:
        padded = start + 1e-3  # off the saddle points, such as axes that are one
        found = least_squares(variation, padded, slope, method=method, **tight)
        u, v = axes(found.x)
        if abs(u @ mean @ v) < _POLE and found.cost < least:
            best, least = (u, v), found.cost
    return best


def _spread(x: Array) -> Array:
    """Return the deviations along the principal directions of ``(T, 3)``, the largest first."""
    return np.asarray(np.linalg.svd(x - x.mean(axis=0), compute_uv=False)) / np.sqrt(len(x))


def _middle(angles: Array) -> float:
    """Return the angle across from the middle of the largest stretch that ``(T,)`` never take; 0
    where angles are cut in that stretch already."""
    there = np.sort(angles)
    gaps = np.diff(there, append=there[0] + 2 * np.pi)
    at = int(gaps.argmax())
    return float(there[at] + gaps[at] / 2 + np.pi) if at < len(there) - 1 else 0.0


def _across(axis: Array) -> Array:
    """Return a direction across an axis."""
    other = np.eye(3)[np.abs(axis).argmin()]
    across = np.cross(axis, other)
    return np.asarray(across / np.linalg.norm(across))


def _frame(axis: Array, level: Array) -> Array:
    """Return an axis, the part of ``level`` across it, and the direction across both, as rows."""
    along = level - (level @ axis) * axis
    length = np.linalg.norm(along)
    along = along / length if length > 1e-6 else _across(axis)
    return np.stack([axis, along, np.cross(axis, along)])
