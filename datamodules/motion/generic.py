"""Give bones to joints that have none: those of a standing body of average proportions.

AMASS says how joints turn and not where they are in the body. So that such motion can be looked at
and written as BVH, joints that bear its names are put where they are in a person 1.7 m tall, after
the proportions of Drillis and Contini (1966): the hip at 0.53 of the height, the knee at 0.285, the
ankle at 0.039, the shoulder at 0.818; from there 0.186 to the elbow, 0.146 to the wrist and 0.108
to the finger tip. No likelihood ever depends on it.

Conventions:
    As in `skeleton`. At rest the body stands with its arms to the sides: y is up, x to the left, z
    ahead. Lengths are in metres.
"""

from dataclasses import replace

import numpy as np

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.motion.skeleton import Skeleton

_HEIGHT = 1.7
_MIDDLE: dict[str, tuple[float, float, float]] = {
    "pelvis": (0, 0.56, 0), "spine1": (0, 0.61, -0.01), "spine2": (0, 0.68, -0.01),
    "spine3": (0, 0.72, -0.01), "neck": (0, 0.835, -0.01), "head": (0, 0.89, 0.01),
    "head_end": (0, 1, 0.01), "jaw": (0, 0.885, 0.02),
}  # fmt: skip
_LEFT: dict[str, tuple[float, float, float]] = {
    "hip": (0.05, 0.53, 0), "knee": (0.055, 0.285, 0.005), "ankle": (0.055, 0.039, -0.015),
    "foot": (0.06, 0.008, 0.055), "foot_end": (0.06, 0.008, 0.1), "collar": (0.035, 0.8, -0.005),
    "shoulder": (0.11, 0.818, -0.01), "elbow": (0.296, 0.818, -0.015),
    "wrist": (0.442, 0.818, -0.01),
    "wrist_end": (0.55, 0.818, 0), "hand": (0.49, 0.818, 0), "hand_end": (0.55, 0.818, 0),
    "eye": (0.019, 0.935, 0.05), "eye_end": (0.019, 0.935, 0.06),
}  # fmt: skip
_FINGERS = {  # first joint, and from one to the next
    "index": ((0.497, 0.82, 0.014), (0.019, -0.001, 0.001)),
    "middle": ((0.499, 0.82, 0.001), (0.02, -0.001, 0)),
    "ring": ((0.495, 0.819, -0.011), (0.018, -0.001, -0.001)),
    "pinky": ((0.487, 0.817, -0.022), (0.013, -0.001, -0.002)),
    "thumb": ((0.46, 0.81, 0.016), (0.017, -0.004, 0.015)),
}


def places() -> dict[str, Array]:
    """Return where joints are at rest, by name; ``head_end`` is the end site of ``head``."""
    left = dict(_LEFT)
    for finger, (first, step) in _FINGERS.items():
        for i, name in enumerate(("1", "2", "3", "3_end")):
            x, y, z = (a + i * b for a, b in zip(first, step, strict=True))
            left[finger + name] = (x, y, z)
    found = dict(_MIDDLE)
    for name, (x, y, z) in left.items():
        found |= {f"left_{name}": (x, y, z), f"right_{name}": (-x, y, z)}
    return {name: _HEIGHT * np.array(place) for name, place in found.items()}


def with_bones(skeleton: Skeleton) -> Skeleton | None:
    """Return a skeleton with the bones of a generic body; None if it has names of its own."""
    known = places()
    if not set(skeleton.names) <= set(known):
        return None
    names, parents = skeleton.names, set(skeleton.parents)
    tips = [j for j, name in enumerate(names) if j not in parents or name == "head"]
    tips = [j for j in tips if f"{names[j]}_end" in known]
    ends = [known[f"{names[j]}_end"] - known[names[j]] for j in tips]
    offsets = [np.zeros(3)] + [
        known[name] - known[names[parent]]
        for name, parent in zip(names[1:], skeleton.parents[1:], strict=True)
    ]
    return replace(
        skeleton,
        offsets=np.array(offsets),
        end_parents=tips,
        end_offsets=np.reshape(ends, (-1, 3)),
    )
