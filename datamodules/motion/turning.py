"""Give joints of one or two axes angles in the frames of a skeleton, and measure those whose
exponential maps are cut from their mean; see `joints`.

Files are read as exponential maps, whatever other files hold. Axes are found when all are read, on
the training part, and a checkpoint keeps them.

Conventions:
    As in `joints`. Frames are ``(T, D)`` raw features.
"""

import re
from abc import ABC
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.utilities import rank_zero_info
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.corpus import Parts
from rnade_lightning.datamodules.core.fingerprint import fingerprints
from rnade_lightning.datamodules.core.frames import FrameDataModule, Recording, Split
from rnade_lightning.datamodules.core.functions import functions_among
from rnade_lightning.datamodules.core.given import Known
from rnade_lightning.datamodules.core.store import FrameStore
from rnade_lightning.datamodules.motion.joints import (
    ENDS,
    Axes,
    Centred,
    angles_of,
    axes_of,
    find_axes,
    joint_of,
    that_hold,
)
from rnade_lightning.datamodules.motion.representation import Kind, about_vertical

Joint = Axes | Centred

_OF_ROOT = ["root.turn", "root.tilt_x", "root.tilt_z"]
_SEQUENCES = 10  # of training, at most, in which the axes of a root are looked for
_FRAMES = 20_000  # of a part, at most, that functions are looked for in


class TurningDataModule(FrameDataModule, ABC):
    """Frames whose joints may have angles for exponential maps."""

    representation: Kind
    noise: float
    _functions: dict[str, list[str]] = {}  # noqa: RUF012  (replaced, never changed)
    _bound_root: bool = False

    def setup(self, stage: str | None = None) -> None:
        """Read all files; see `FrameDataModule`. Find features that are functions of others."""
        done = bool(self._raw)
        super().setup(stage)
        if done or self.noise > 0 or "skeleton" not in self.layout:
            return
        train, val = self._some("train"), self._some("val")
        self._functions = functions_among(train, val, self.feature_names)
        if set(_OF_ROOT) <= set(self.feature_names):
            plain = unturned_names(self._fitted()[1].feature_names)
            some = sorted((x for _, x in _plain(self._raw)["train"]), key=len)[-_SEQUENCES:]
            self._bound_root = all(root_is_bound(np.asarray(x), plain) for x in some)
        for caveat in self._of_functions() + self._of_root():
            rank_zero_info(f"{self._root()}: {caveat}")

    def _some(self, split: Split) -> Array:
        """Return standardised frames ``(T, D)`` of a part, evenly spaced."""
        sequences = self.sequences(split)
        step = -(-sum(sequences.lengths) // _FRAMES) or 1
        some = [x.frames[::step].double().numpy() for x in sequences]
        return np.concatenate(some) if some else np.zeros((0, self.n_features))

    def _of_functions(self) -> list[str]:
        if not self._functions:
            return []
        told = [f"{name} of {' and '.join(of)}" for name, of in self._functions.items()]
        more = ", .." if len(told) > 8 else ""
        return [
            f"{len(told)} of {self.n_features} features are functions of others"
            f" ({', '.join(told[:8])}{more}): such features have no density, and what they add to"
            " log p has little meaning"
        ]

    def _of_root(self) -> list[str]:
        told = (
            "the root turns about two axes, so that root.turn follows from root.tilt_x, root.tilt_z"
            " and the frames before: it has no density, and what it adds to log p has little"
            " meaning: set root_motion to position"
        )
        return [told] * self._bound_root

    @property
    def caveats(self) -> list[str]:
        return super().caveats + self._of_functions() + self._of_root()

    @property
    def axes(self) -> list[Joint]:
        """Return the joints whose features are no plain exponential maps; see `joints`."""
        return _axes(self._fitted()[1])

    def collect(self, reference: Recording | None) -> tuple[Parts, Recording, FrameStore]:
        """Return frames by part, in which joints that turn about one or two axes have angles."""
        parts, found, store = super().collect(reference)
        if reference is None and self.representation == "expmap" and "skeleton" in found.layout:
            train, val = ([frames for _, frames in parts[part]] for part in ("train", "val"))
            axes = that_hold(find_axes(train, found.feature_names), val)
            names = turned_names(found.feature_names, axes)
            layout = found.layout | {"axes": [joint.state() for joint in axes]}
            found = found._replace(feature_names=names, layout=layout)
        return _with_axes(parts, found), found, store

    def mismatch(self, recording: Recording, reference: Recording) -> str | None:
        """Return how a recording differs from the reference, if it does; where joints have angles
        is no difference."""
        plain = (
            x._replace(feature_names=unturned_names(x.feature_names))
            for x in (recording, reference)
        )
        return super().mismatch(*plain)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps; the fingerprints are of frames as they were read, since
        axes may differ in the last bit from machine to machine."""
        state = super().state_dict()
        return state | ({"parts": fingerprints(_plain(self._raw))} if self._raw else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a checkpoint's statistics and axes in place of those of the files."""
        found, self._raw = self._raw, _plain(self._raw)
        try:
            super().load_state_dict(state_dict)
        except DataError:
            self._raw = found
            raise
        assert self._reference is not None
        self._raw = _with_axes(self._raw, self._reference)

    def describe(self) -> dict[str, Any]:
        """Return the card of the data, with the joints of one or two axes and the features that are
        functions of others."""
        joints = {joint.name.rstrip("._"): str(joint) for joint in self.axes}
        found = {"joints": joints, "functions": self._functions}
        return super().describe() | {key: value for key, value in found.items() if value}

    def _inputs(self, path: str | Path, reference: Recording) -> Iterator[tuple[str, Array]]:
        for name, frames in super()._inputs(path, reference):
            yield name, turned(frames, _axes(reference))


def root_is_bound(frames: Array, names: Sequence[str]) -> bool:
    """Tell whether the root turns about two axes or one in frames ``(T, D)`` of one sequence, so
    that its turns, summed, are a function of its tilt."""
    turn, tilt_x, tilt_z = (frames[:, names.index(name)].astype(np.float64) for name in _OF_ROOT)
    tilt = np.column_stack([tilt_x, np.zeros(len(frames)), tilt_z])
    rotations = about_vertical(np.cumsum(turn)) * Rotation.from_rotvec(tilt)
    return axes_of(0, "root.", rotations.as_rotvec()) is not None


def turned(frames: Any, axes: Sequence[Joint]) -> Array:
    """Return frames ``(T, D)`` in which those joints have other numbers for exponential maps."""
    changed = np.array(frames, dtype=np.float64)
    if (turning := [joint for joint in axes if isinstance(joint, Axes)]) and len(changed):
        columns = np.array([joint.column for joint in turning])[:, None] + np.arange(3)
        changed[:, columns] = angles_of(turning, changed[:, columns])
    for joint in axes if len(changed) else ():
        if isinstance(joint, Centred):
            span = slice(joint.column, joint.column + 3)
            changed[:, span] = joint.angles(changed[:, span])
    return changed


def unturned(frames: Array, axes: Sequence[Joint]) -> Array:
    """Return frames with exponential maps for those numbers: the inverse of `turned`."""
    changed = np.array(frames, dtype=np.float64)
    for joint in axes if len(changed) else ():
        span = slice(joint.column, joint.column + 3)
        changed[:, span] = joint.maps(changed[:, span])
    return changed


def turned_names(names: Sequence[str], axes: Sequence[Joint]) -> list[str]:
    """Return the names of the features of `turned`."""
    changed = list(names)
    for joint in axes:
        changed[joint.column : joint.column + 3] = [joint.name + end for end in joint.ends]
    return changed


def unturned_names(names: Sequence[str]) -> list[str]:
    """Return the names of the features of `unturned`.

    >>> unturned_names(["root.height", "Foot.about_1", "Foot.about_2", "Foot.between"])
    ['root.height', 'Foot.x', 'Foot.y', 'Foot.z']
    """
    for end, axis in zip(ENDS, "xyz", strict=True):
        names = [re.sub(rf"(?<=[._]){end}$", axis, name) for name in names]
    return list(names)


@dataclass(frozen=True)
class Turned:
    """Frames that become those of `turned` when they are read; they slice like an array."""

    frames: Any
    axes: list[Joint]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, span: slice) -> "Turned":
        return Turned(self.frames[span], self.axes)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        changed = turned(np.asarray(self.frames), self.axes)
        return changed if dtype is None else changed.astype(dtype, copy=False)


def _axes(reference: Recording) -> list[Joint]:
    return [joint_of(state) for state in reference.layout.get("axes", [])]


def _with_axes(parts: Parts, reference: Recording) -> Parts:
    """Return parts whose frames are turned as a reference says."""
    axes, plain = _axes(reference), _plain(parts)
    if not axes:
        return plain
    return _changed(plain, lambda frames: Turned(frames, axes))


def _plain(parts: Parts) -> Parts:
    """Return parts whose frames are as they were read."""
    return _changed(parts, lambda frames: frames.frames if isinstance(frames, Turned) else frames)


def _changed(parts: Parts, change: Callable[[Any], Any]) -> Parts:
    """Return parts with other frames; what is known beside them stays."""
    return {
        part: [
            (name, replace(x, frames=change(x.frames)) if isinstance(x, Known) else change(x))
            for name, x in sequences
        ]
        for part, sequences in parts.items()
    }
