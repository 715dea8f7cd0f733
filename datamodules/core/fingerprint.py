"""Tell whether a run that goes on has the data it began with.

A fingerprint of a part tells how much it holds, and a digest of the names, the lengths and some
frames of its sequences. It does not change where the files are moved or cached elsewhere.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.store import Frames, digest

Parts = Mapping[str, Sequence[tuple[str, Array | Frames]]]

_LOOKED_INTO = 64
"""Sequences of a part, evenly spaced, of which the first and the last frame count."""


def fingerprints(parts: Parts) -> dict[str, str]:
    """Return a line on each part.

    Args:
        parts: By part, names and raw frames ``(T, D_raw)`` of the sequences.

    Examples:
        >>> fingerprints({"train": [("walk", np.zeros((90, 3)))]})
        {'train': '1 sequences, 90 frames, d59f56'}
    """
    return {part: _line(sequences) for part, sequences in parts.items()}


def check_same(root: str | Path, parts: Parts, known: Mapping[str, str]) -> None:
    """Refuse data that are not those of a checkpoint.

    Args:
        root: Where the data are.
        parts: As in `fingerprints`.
        known: Fingerprints of the checkpoint's data.

    Raises:
        DataError: Says which part differs.
    """
    ours = fingerprints(parts)
    for part in ours | dict(known):
        if ours.get(part) != known.get(part):
            raise DataError(
                f"{root}: other data than the checkpoint's: {part} is {ours.get(part)}, not"
                f" {known.get(part)}: give the data it was trained on, or start a new run from its"
                " weights (--weights_from)"
            )


def _line(sequences: Sequence[tuple[str, Array | Frames]]) -> str:
    step = max(len(sequences) // _LOOKED_INTO, 1)
    said = [f"{name} {len(frames)}" for name, frames in sequences]
    for _, frames in sequences[::step]:
        ends = [np.asarray(part, np.float64) for part in (frames[:1], frames[-1:])]
        said += [end.tobytes().hex() for end in ends]
        said += [f"{k}={v}" for k, v in sorted(getattr(frames, "labels", {}).items())]
    n_frames = sum(len(frames) for _, frames in sequences)
    return f"{len(sequences)} sequences, {n_frames} frames, {digest(' '.join(said))[:6]}"
