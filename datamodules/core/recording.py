"""Describe the content of one file.

Conventions:
    Sequences are ``(T, D_raw)``, time first, in the units of their features.
"""

from typing import Any, NamedTuple

from rnade_lightning.datamodules.core import Array


class Recording(NamedTuple):
    """The content of one file.

    Attributes:
        frames: Raw sequences ``(T, D_raw)``, by what is added to the file's name to name them.
            float32 stays float32 on disk; all else becomes float64.
        feature_names: Names of the raw features.
        frame_rate: Frames per second.
        layout: What it takes to write frames back, in plain types (for a checkpoint and JSON).
    """

    frames: dict[str, Array]
    feature_names: list[str]
    frame_rate: float
    layout: dict[str, Any]
