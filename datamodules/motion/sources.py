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
from rnade_lightning.datamodules.motion.stature import likely_unit

HIGHEST = 30.0
"""Frame rate that is not passed unless it is asked for."""

_USUAL = {".npz": "metres"}
"""Units of length of formats that have one."""


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
        self.grounds: list[float] = []
        self.tall: list[float] = []
        self.filled = self.places = 0  # of markers, over all frames

    def add(self, recording: Recording) -> None:
        """Take note of a file; what it says stands in its layout."""
        layout = recording.layout
        if "source_rate" in layout:
            self.rates[float(layout["source_rate"]), recording.frame_rate] += 1
        if "up" in layout:
            self.up[f"{layout['up']} ({layout['up_by']})"] += 1
        self.heights += layout.get("height", [])
        self.grounds += [layout["ground"]] if "ground" in layout else []
        self.tall += [layout["tall"]] if "tall" in layout else []
        filled, places = layout.get("filled", (0, 0))
        self.filled, self.places = self.filled + filled, self.places + places

    @property
    def ground(self) -> float | None:
        """Return the level of the ground of most files; None where it is not known."""
        return float(np.median(self.grounds)) if self.grounds else None

    @property
    def usual_up(self) -> str | None:
        """Return the vertical axis that was taken as none of the files tells one; None if one does,
        or it was given."""
        return ", ".join(self.up) or None if all("usual" in how for how in self.up) else None

    def caveats(self) -> list[str]:
        """Return what whoever reads results has to know of the frames."""
        return self.interpolated() + self.gaps()

    def gaps(self) -> list[str]:
        """Return the caveat of gaps that were filled in, if there are."""
        if not self.filled:
            return []
        share = self.filled / self.places
        return [
            f"{self.filled:,} of {self.places:,} places of markers ({share:.2%}) were not seen and"
            " are filled in on straight lines, which may raise log p: set max_gap to 0 to cut there"
        ]

    def interpolated(self) -> list[str]:
        """Return the caveat of frames between those of the files, if there are."""
        between = {pair: n for pair, n in self.rates.items() if is_interpolated(*pair)}
        lines = [
            f"{source:g} to {rate:g} frames per second: {n} files"
            for (source, rate), n in sorted(between.items())[:5]
        ]
        if not lines:
            return []
        return [
            "frames are interpolated between those of the files, which may raise log p, and make it"
            " minus infinity where a joint has two axes, to which such frames need not keep ("
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
            card["resampled"] = self._resampled()
        if state := layout.get("skeleton") or layout.get("places"):
            skeleton = Skeleton.from_state(state)
            card["n_bones"] = len(skeleton.bones)
            card["length_of_bones"] = round(skeleton.size, 3) or "not in the files"
        if "markers" in layout:
            card["n_markers"] = len(layout["markers"])
            card["places_filled"] = self.filled
        if self.tall:
            card["height_of_body"] = _span(self.tall)
        card["unit"] = self._unit(layout)
        if self.heights:
            card["root_height"] = _span(self.heights)
        return card

    def _resampled(self) -> dict[str, int] | str:
        """Return how many files were read at another rate than theirs, and how."""
        found: dict[str, int] = {}
        for (source, rate), n in sorted(self.rates.items()):
            step = round(source / rate)
            how = "interpolated" if is_interpolated(source, rate) else f"frame 1 of {step}"
            if step != 1 or how == "interpolated":
                found[f"{source:g} to {rate:g} frames per second, {how}"] = n
        return found or "nothing"

    def _unit(self, layout: dict[str, Any]) -> str:
        """Return the unit of length, and how it is known."""
        if given := layout.get("unit"):
            return f"{given} (given by the files)"
        if usual := _USUAL.get(layout.get("format", "")):
            return f"{usual} (usual for {layout['format']})"
        likely = likely_unit(float(np.median(self.tall))) if self.tall else None
        return f"not given; {likely}, if this is a person" if likely else "not given"


def _span(values: list[float]) -> list[float]:
    return [float(np.round(f(values), 3)) for f in (min, max)]
