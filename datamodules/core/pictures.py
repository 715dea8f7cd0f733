"""Draw frames: a plot of features, and films as GIF and MP4.

An MP4 is written beside every GIF if the extra ``ffmpeg`` is installed (see `mp4`).
"""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.core.mp4 import encoder, write_mp4
from rnade_lightning.datamodules.core.store import whole_file

PIXELS = 460
"""Sides of a film, about."""


def write_plot(path: Path, frames: Array, fps: float) -> None:
    """Draw features over time as an image, one row a feature.

    Args:
        path: File to write, ``.png``.
        frames: ``(T, D)``.
        fps: Frames per second.
    """
    figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    limit = float(np.percentile(np.abs(frames), 99)) or 1.0
    extent = (0.0, len(frames) / fps, frames.shape[1] - 0.5, -0.5)
    image = axes.imshow(
        frames.T, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, extent=extent,
        interpolation="nearest",
    )  # fmt: skip
    axes.set(xlabel="time (seconds)", ylabel="feature")
    figure.colorbar(image, ax=axes, label="value")
    with whole_file(path) as part:
        FigureCanvasAgg(figure).print_png(part)


def write_pictures(path: Path, pictures: Array, fps: float) -> list[Path]:
    """Write pictures of intensities from 0 to 1, ``(T, height, width)``, as a film; return the
    files."""
    scale = max(PIXELS // (2 * pictures.shape[1]), 1)
    grey = (np.clip(pictures, 0, 1) * 255).round().astype(np.uint8)
    images = [Image.fromarray(image.repeat(scale, 0).repeat(scale, 1)) for image in grey]
    return save_film(path, images, fps)


def save_film(path: Path, images: list[Image.Image], fps: float) -> list[Path]:
    """Write images as GIF and, where there is an encoder, as MP4 beside it; return the files."""
    with whole_file(path) as part:
        images[0].save(
            part,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=10 * max(round(100 / fps), 2),  # it counts hundredths; players slow down one
            loop=0,
        )
    if (program := encoder()) is None:
        return [path]
    film = path.with_suffix(".mp4")
    write_mp4(film, images, fps, program)
    return [path, film]
