"""Colours, pictures and sliders of the notebooks, so that their cells are about the model."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.core.getipython import get_ipython
from IPython.display import HTML, display
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from PIL import Image, ImageDraw, ImageFont

INK, BLUE, ORANGE, GREEN = "#22313f", "#2a6f97", "#d1603d", "#4f8a6f"
PLUM, GREY = "#8a5a83", "#a9b4bd"
SHADES = LinearSegmentedColormap.from_list("shades", ["#f4f9fc", "#bcd7e6", "#4f93b8", "#12405f"])
HEAT = LinearSegmentedColormap.from_list("heat", ["#fbe9d9", "#e79a6b", "#b23a26", "#5e1320"])
STYLE = {
    "figure.dpi": 72,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
}


def with_sliders(
    draw: Callable[..., Any], still: Any, **sliders: tuple[float, float, float, float]
) -> None:
    """Show what ``draw`` makes, with a slider for each of its arguments.

    A page that cannot run sliders shows a still picture, and so does Jupyter without ipywidgets.

    Args:
        draw: draws for the values of the sliders.
        still: the figure, or the picture, that ``draw`` makes for their first values.
        sliders: first value, lowest, highest and step of each argument.
    """

    def drawn(**values: float) -> Any:
        result = draw(**values)
        if isinstance(result, plt.Figure):
            plt.close(result)  # shown as the result, and not once more
        return result

    file = io.BytesIO()
    if isinstance(still, plt.Figure):
        still.savefig(file, format="png")
        plt.close(still)
    else:
        still.save(file, format="png")
    shown = {"text/plain": "", "image/png": base64.b64encode(file.getvalue()).decode()}
    try:
        import ipywidgets
    except ImportError:
        display(shown, raw=True)
        return
    kinds = {int: ipywidgets.IntSlider, float: ipywidgets.FloatSlider}
    box = ipywidgets.interactive(
        drawn,
        **{
            name: kinds[type(step)](
                value=value, min=low, max=high, step=step, continuous_update=False
            )
            for name, (value, low, high, step) in sliders.items()
        },
    )
    live, _ = get_ipython().display_formatter.format(box)
    display(live | shown, raw=True)


def contours(ax: plt.Axes, side: Any, density: Any, top: float = 0.45) -> None:
    """Draw a density of the plane in shades, more of them where it is low.

    Args:
        ax: the axes.
        side: both coordinates of the grid, ``(n,)``.
        density: its values, ``(n * n,)``; the first coordinate changes slowly.
        top: the density of the darkest shade.
    """
    levels = top * np.linspace(0.1, 1, 11) ** 2
    values = np.asarray(density).reshape(len(side), -1).T
    norm = PowerNorm(0.5, levels[0], top)
    ax.contourf(side, side, values, levels, cmap=SHADES, norm=norm, extend="max")


def plane(ax: plt.Axes, title: str, limit: float) -> None:
    """Show the square from ``-limit`` to ``limit`` and a title, without a frame."""
    ax.set(title=title, xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[])
    ax.set_aspect("equal")
    ax.spines[:].set_visible(False)


def strips(data: Any, motions: dict[str, Any], n_pictures: int = 9) -> Image.Image:
    """Return motions as rows of pictures, from left to right, each under its title."""
    size, line = (96, 128), 20
    font = ImageFont.load_default(14)
    whole = Image.new("RGB", (n_pictures * size[0], len(motions) * (size[1] + line)), "white")
    for row, (title, frames) in enumerate(motions.items()):
        top = row * (size[1] + line)
        ImageDraw.Draw(whole).text((4, top + 2), title, INK, font)
        gif = next(p for p in data.render(frames, "motion/strip") if p.suffix == ".gif")
        with Image.open(gif) as film:
            for i in range(n_pictures):
                film.seek(round(i * (film.n_frames - 1) / (n_pictures - 1)))
                picture = film.convert("RGB").crop((80, 30, 380, 430)).resize(size)
                whole.paste(picture, (i * size[0], top + line))
    return whole.quantize(32, Image.Quantize.MAXCOVERAGE)


def play(data: Any, motions: dict[str, Any]) -> HTML:
    """Return skeletons to turn with the mouse, side by side; where scripts do not run, nothing."""
    players = []
    for title, frames in motions.items():
        page = next(p for p in data.render(frames, "motion/player") if p.suffix == ".html")
        players.append(
            f'<figure style="display: inline-block; margin: 0 8px">{escape(title)}<br>'
            '<iframe width="400" height="330" style="border: 0" sandbox="allow-scripts" '
            f'srcdoc="{escape(page.read_text())}"></iframe></figure>'
        )
    return HTML(f"<div>{''.join(players)}</div>")


def spectrogram(ax: plt.Axes, path: Path, title: str | None = None) -> None:
    """Draw 80 dB of the power of a sound file over time and frequency, in steps of 5 dB."""
    import librosa

    from rnade_lightning.datamodules.sound.soundfiles import read_sound

    samples, rate, _ = read_sound(path)
    power = np.abs(librosa.stft(samples[:, 0], n_fft=512, hop_length=256)) ** 2
    extent = (0, len(samples) / rate, 0, rate / 2000)
    level = librosa.power_to_db(power, ref=np.max, top_db=80)
    shades = plt.get_cmap("magma", 16)
    ax.imshow(level, shades, origin="lower", aspect="auto", extent=extent, interpolation="nearest")
    ax.set_title(title, loc="left")
    ax.set(xlabel="seconds")


class Walker:
    """A picture of a skeleton on a ground, drawn anew for every frame.

    Args:
        bones: pairs of joints.
        height: of the body, in the units of its places.
    """

    SIZE = 420

    def __init__(self, bones: list[tuple[int, int]], height: float) -> None:
        self.bones, self.height, self.trail = bones, height, []

    def draw(self, points: Any) -> Image.Image:
        """Return a picture of joints at ``points (P, 3)``, in the world, with y up, and of the way
        that the first joint has come."""
        self.trail = [*self.trail[-400:], points[0, [0, 2]]]
        centre = points[0, [0, 2]]
        picture = Image.new("RGB", (self.SIZE, self.SIZE), "white")
        pen, h = ImageDraw.Draw(picture), self.height

        def at(x: float, y: float, z: float) -> tuple[float, float]:
            left, ahead = (np.array([x, z]) - centre) / h
            flat = 0.86 * left - 0.5 * ahead, 0.25 * left + 0.43 * ahead
            scale = self.SIZE / 2.6
            return self.SIZE / 2 - scale * flat[0], 0.8 * self.SIZE - scale * (y / h + flat[1])

        step = h / 2
        near = [step * np.round(c / step) for c in centre]
        lines = [step * i for i in range(-4, 5)]
        for d in lines:
            across = [at(near[0] + d, 0, near[1] + e) for e in (lines[0], lines[-1])]
            along = [at(near[0] + e, 0, near[1] + d) for e in (lines[0], lines[-1])]
            pen.line(across, "#e3e8ec")
            pen.line(along, "#e3e8ec")
        if len(self.trail) > 1:
            pen.line([at(x, 0, z) for x, z in self.trail], ORANGE, 2)
        for a, b in self.bones:
            pen.line([at(*points[a]), at(*points[b])], BLUE, 5)
        return picture


def drive(
    frame: Callable[..., Any], walker: Walker, seconds: float, still: Any, **controls: Any
) -> None:
    """Show a figure that walks in real time while controls are moved, with a button that starts it.

    A page that cannot run controls shows a still picture, and so does Jupyter without ipywidgets.

    Args:
        frame: returns the places of the next frame, given the values of the controls.
        walker: draws them.
        seconds: from one frame to the next.
        still: the picture of a page that cannot run it.
        controls: of each a range (first value, lowest, highest, step), or a list of choices.
    """
    import asyncio
    import time

    file = io.BytesIO()
    still.save(file, format="png")
    shown = {"text/plain": "", "image/png": base64.b64encode(file.getvalue()).decode()}
    try:
        import ipywidgets
    except ImportError:
        display(shown, raw=True)
        return
    made = {
        name: ipywidgets.Dropdown(options=of, description=name)
        if isinstance(of, list)
        else ipywidgets.FloatSlider(of[0], min=of[1], max=of[2], step=of[3], description=name)
        for name, of in controls.items()
    }
    screen = ipywidgets.Image(value=file.getvalue(), format="png", width=walker.SIZE)
    button = ipywidgets.ToggleButton(description="walk")

    async def run() -> None:
        while button.value:
            start = time.monotonic()
            picture, into = (
                walker.draw(frame(**{n: c.value for n, c in made.items()})),
                io.BytesIO(),
            )
            picture.save(into, format="png", compress_level=1)
            screen.value = into.getvalue()
            await asyncio.sleep(max(seconds - (time.monotonic() - start), 0.001))

    button.observe(lambda change: change["new"] and asyncio.ensure_future(run()), "value")
    box = ipywidgets.HBox([screen, ipywidgets.VBox([button, *made.values()])])
    live, _ = get_ipython().display_formatter.format(box)
    display(live | shown, raw=True)
