"""Draw a likelihood: over time, by feature, and its calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_BAR, _BAD, _INK = "#7aa6c2", "#e4572e", "0.25"
_BINS = 20


class FeatureRow(NamedTuple):
    """Means of one feature over the scored frames. Log p, in nats, is given the features before
    it."""

    feature: str
    log_prob: float
    copy_last: float
    var: float
    ks: float
    degenerate: bool


def draw_likelihood(
    by_frame: Mapping[str, npt.NDArray[np.float64]],
    levels: Mapping[str, float],
    features: Sequence[FeatureRow],
    pit: npt.NDArray[np.float64] | None,
    ks: float,
    step: int = 1,
) -> Figure:
    """Draw log p over time of a few sequences, log p by feature, and the histogram of the PIT.

    Args:
        by_frame: log p ``(T,)`` of every n-th frame, nats, by sequence; -inf where there is no
            density.
        levels: mean log p of the model and of each baseline, by name: flat lines.
        features: a row a feature.
        pit: predictive distribution function at the data, ``(N,)``, if there is one.
        ks: its KS distance from the uniform distribution.
        step: n.
    """
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    grid = figure.add_gridspec(2, 3)
    _over_time(figure.add_subplot(grid[0, :2]), by_frame, levels, step)
    if pit is not None:
        _calibration(figure.add_subplot(grid[0, 2]), pit, ks)
    _by_feature(figure.add_subplot(grid[1, :]), features, list(levels))
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _over_time(
    axes: Axes,
    by_frame: Mapping[str, npt.NDArray[np.float64]],
    levels: Mapping[str, float],
    step: int,
) -> None:
    for name, log_p in by_frame.items():
        at = step * np.arange(len(log_p))
        axes.plot(at, np.where(np.isfinite(log_p), log_p, np.nan), label=name, lw=1, alpha=0.8)
    everything = np.concatenate(list(by_frame.values()))
    dense = everything[np.isfinite(everything)]
    low, high = np.percentile(dense, [1, 99]) if len(dense) else (0.0, 1.0)
    reach = low - 0.5 * (high - low)  # a baseline further down stays outside, its number does not
    for (name, level), style in zip(levels.items(), ("-", "--", ":"), strict=True):
        label = f"{name}, {level:.1f}"
        axes.axhline(level, color=_INK, linestyle=style, label=label, linewidth=1)
        low, high = min(low, max(level, reach)), max(high, level)
    margin = 0.05 * max(high - low, 1e-6)
    axes.set(xlabel="frame", ylabel="log p (nats)", ylim=(low - margin, high + margin))
    gone = f" ({n:,} frames at -inf)" if (n := len(everything) - len(dense)) else ""
    axes.set_title(f"log p over time, and its means{gone}", fontsize=10)
    axes.legend(fontsize=7, loc="lower right")


def _calibration(axes: Axes, pit: npt.NDArray[np.float64], ks: float) -> None:
    axes.hist(
        pit, bins=_BINS, range=(0, 1), weights=np.full(len(pit), _BINS / len(pit)), color=_BAR
    )
    axes.axhline(1, color=_INK, linewidth=1)
    axes.set(xlabel="predictive distribution function at the data", xlim=(0, 1))
    axes.set_title(f"calibration, KS distance {ks:.3f}", fontsize=10)


def _by_feature(axes: Axes, features: Sequence[FeatureRow], names: list[str]) -> None:
    at = np.arange(len(features))
    log_p = [row.log_prob for row in features]
    bars = [_BAD if row.degenerate else _BAR for row in features]
    bad = " (red: degenerate)" if _BAD in bars else ""
    axes.bar(at, log_p, color=bars, label=names[0] + bad)
    axes.plot(at, [row.copy_last for row in features], "_", color=_INK, label=names[1])
    axes.plot(at, [row.var for row in features], ".", color=_INK, markersize=3, label=names[2])
    low, high = min(*log_p, 0), max(*log_p, 0)  # a baseline far off stays outside
    margin = 0.3 * max(high - low, 1e-6)
    step = max(len(features) // 80, 1)
    axes.set_xticks(at[::step], [row.feature for row in features[::step]], rotation=90, fontsize=6)
    axes.set(ylabel="log p (nats)", ylim=(low - margin, high + margin))
    axes.set_title("log p by feature, given the features before it", fontsize=10)
    axes.margins(x=0.01)
    axes.legend(fontsize=7)
