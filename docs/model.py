"""Draw the picture of the model in the README: ``python docs/model.py [model.png]``."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

INK, STATE, CURVE = "#263238", "#cfd8dc", "#00796b"
SHADES = plt.get_cmap("YlGnBu")
FRAMES = np.array([[0.15, 0.35, 0.6, 0.3], [0.25, 0.45, 0.55, 0.2], [0.35, 0.6, 0.5, 0.15]])
MIXTURES = [  # of each feature of the last frame: weight, mean, scale of two components
    [(0.6, 0.35, 0.08), (0.4, 0.7, 0.08)],
    [(0.8, 0.6, 0.07), (0.2, 0.3, 0.1)],
    [(0.5, 0.45, 0.05), (0.5, 0.62, 0.05)],
    [(0.9, 0.16, 0.06), (0.1, 0.6, 0.1)],
]


def draw(path: Path) -> None:
    """Draw recurrent states and frames on the left, one frame feature by feature on the right."""
    figure, axes = plt.subplots(figsize=(12, 4.6))
    axes.set(xlim=(0, 24), ylim=(-0.6, 9), aspect="equal")
    axes.axis("off")
    _sequence(axes)
    _frame(axes)
    for y, end in ((7.0, 7.6), (3.8, 1.6)):
        axes.plot([8.7, 10.1], [y, end], color=INK, lw=0.8, ls=":")
    figure.savefig(path, dpi=110, bbox_inches="tight", facecolor="white")
    plt.close(figure)


def _sequence(axes: Axes) -> None:
    _text(axes, 4.9, 8.5, "a sequence: frame after frame", weight="bold")
    for t in range(4):
        x = 0.9 + 2.9 * t
        if t < 3:
            _box(axes, x, 1.6, f"$u_{t}$")
            _arrow(axes, (x + 0.6, 2.2), (x + 1.2, 3.7))
        if 0 < t < 3:
            _arrow(axes, (x - 2.2, 1.6), (x - 0.8, 1.6))
            _arrow(axes, (x - 1.2, 3.7), (x - 0.6, 2.2))
    for t, values in enumerate(FRAMES):
        x = 1.8 + 2.9 * t
        for d, value in enumerate(values):
            _cell(axes, x, 6.2 - 0.8 * d, value, dashed=t == 2)
        _text(axes, x + 0.45, 7.35, f"$x_{t + 1}$" if t < 2 else "next, $x_3$")
    _text(
        axes,
        4.9,
        0,
        "a recurrent net keeps the frames so far\nin its state $u$, and predicts the next frame",
    )


def _frame(axes: Axes) -> None:
    _text(axes, 17.4, 8.5, "one frame: feature after feature", weight="bold")
    grid = np.linspace(0, 1, 300)
    for d, (value, mixture) in enumerate(zip(FRAMES[2], MIXTURES, strict=True)):
        x, y = 16.0, 6.55 - 1.7 * d
        density = sum(w * np.exp(-np.abs(grid - m) / s) / (2 * s) for w, m, s in mixture)
        height = 1.15 / density.max()
        axes.plot(x + 4.0 * grid, y + height * density, color=CURVE, lw=1.6)
        axes.fill_between(x + 4.0 * grid, y, y + height * density, color=CURVE, alpha=0.15, lw=0)
        axes.plot([x, x + 4.0], [y, y], color=INK, lw=0.8)
        at = height * float(np.interp(value, grid, density))
        axes.plot([x + 4.0 * value] * 2, [y, y + at], color=INK, lw=1.2)
        axes.plot([x + 4.0 * value], [y], "o", color=INK, ms=4)
        _cell(axes, 20.8, y + 0.05, value)
        before = ", ".join(["$u_2$", *[f"$x_{{3,{e + 1}}}$" for e in range(d)]])
        _text(axes, 15.7, y + 0.35, f"given {before}", ha="right")
        _text(axes, 23.0, y + 0.45, f"$x_{{3,{d + 1}}}$", ha="left")
        if d < 3:
            _arrow(axes, (21.25, y), (21.25, y - 0.8))
        for later in range(d + 2, 4):  # every feature reaches all behind it
            end = (21.72, y + 0.65 - 1.7 * (later - d))
            _arrow(axes, (21.72, y + 0.25), end, bend=-0.28 - 0.06 * (later - d))
    _text(
        axes,
        17.4,
        0,
        "each feature has a density, a mixture of bumps,\ngiven the state and earlier features",
    )


def _text(axes: Axes, x: float, y: float, text: str, **how: object) -> None:
    axes.text(x, y, text, **({"ha": "center", "va": "center", "size": 11, "color": INK} | how))


def _box(axes: Axes, x: float, y: float, text: str) -> None:
    corner = (x - 0.55, y - 0.45)
    axes.add_patch(FancyBboxPatch(corner, 1.1, 0.9, "round,pad=0.1", fc=STATE, ec=INK, lw=1))
    _text(axes, x, y, text, size=13)


def _cell(axes: Axes, x: float, y: float, value: float, dashed: bool = False) -> None:
    style = "--" if dashed else "-"
    axes.add_patch(Rectangle((x, y), 0.9, 0.8, fc=SHADES(0.9 * value), ec=INK, lw=1, ls=style))


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], bend: float = 0.0
) -> None:
    how = {"arrowstyle": "-|>", "color": INK, "lw": 1.1, "connectionstyle": f"arc3,rad={bend}"}
    axes.annotate("", end, start, arrowprops=how)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".png"))
