"""Collect what the files of a motion corpus say of themselves, for the card and the results.

Conventions:
    Frame rates are in frames per second. A file of rate f is read at f / n, for the smallest whole
    n that makes at most 30 of it: every n-th frame as it is. Where files differ, the lowest of
    their rates is that of all.
"""

import math
from collections import Counter
from typing import Any

import numpy as np

from rnade_lightning.datamodules.core.recording import Recording
from rnade_lightning.datamodules.motion.skeleton import SAME_RATIO, Skeleton

HIGHEST = 30.0
"""Frame rate that is not passed unless it is asked for."""


def default_rate(source: float) -> float:
    """Return the rate at which a file is read where none is asked for.

    >>> [default_rate(rate) for rate in (120.0, 100.0, 59.94, 30.00003, 24.0)]
    [30.0, 25.0, 29.97, 30.0, 24.0]
    """
    rate = source / math.ceil(source / HIGHEST * (1 - SAME_RATIO))
    return HIGHEST if abs(rate - HIGHEST) < HIGHEST * SAME_RATIO / 4 else rate


def is_interpolated(source: float, target: float) -> bool:
    """Tell whether frames at another rate lie between those of the file."""
    ratio = source / target
    return abs(ratio - max(round(ratio), 1)) >= SAME_RATIO * ratio


class Sources:
    """Counts of what the files read so far say of themselves."""

    def __init__(self) -> None:
        self.rates: Counter[tuple[float, float]] = Counter()  # of the file, and as it is read
        self.up: Counter[str] = Counter()
        self.heights: list[float] = []

    def add(self, recording: Recording) -> None:
        """Take note of a file; what it says stands in its layout."""
        layout = recording.layout
        if "source_rate" in layout:
            self.rates[float(layout["source_rate"]), recording.frame_rate] += 1
        if "up" in layout:
            self.up[f"{layout['up']} ({layout['up_by']})"] += 1
        self.heights += layout.get("height", [])

    def caveats(self) -> list[str]:
        """Return what whoever reads results has to know of the frames."""
        between = {pair: n for pair, n in self.rates.items() if is_interpolated(*pair)}
        lines = [
            f"{source:g} to {rate:g} frames per second: {n} files"
            for (source, rate), n in sorted(between.items())[:5]
        ]
        if not lines:
            return []
        return [
            "frames are interpolated between those of the files, which may raise log p ("
            + ", ".join(lines)
            + ")"
        ]

    def card(self, layout: dict[str, Any]) -> dict[str, Any]:
        """Return the entries of a card.

        Args:
            layout: What the files have in common.
        """
        rates: Counter[float] = Counter()
        for (source, _), n in self.rates.items():
            rates[round(source, 3)] += n
        card: dict[str, Any] = {}
        if self.up:
            card["up"] = ", ".join(self.up)
        if rates:
            card["source_frame_rates"] = {f"{rate:g}": n for rate, n in sorted(rates.items())}
        if "skeleton" in layout:
            skeleton = Skeleton.from_state(layout["skeleton"])
            card["n_bones"] = len(skeleton.bones)
            card["length_of_bones"] = round(skeleton.size, 3)
        if self.heights:
            card["root_height"] = [float(np.round(f(self.heights), 3)) for f in (min, max)]
        return card
