"""Draw motion: GIF and MP4, and a page with a skeleton to turn.

Conventions:
    Points are ``(T, P, 3)``: joints, then end sites (see `Motion.points`), or markers, with y up.
"""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.core.pictures import PIXELS, save_film
from rnade_lightning.datamodules.core.store import whole_file
from rnade_lightning.datamodules.motion.sides import sides_of
from rnade_lightning.datamodules.motion.skeleton import Skeleton

_GIF_FPS = 15.0
_COLOURS = {"left": "#1f77b4", "right": "#e4572e", "middle": "#39424e"}
_GRID, _SHADOW = "#c9d1d9", "#aab4bf"
_AZIMUTH, _ELEVATION, _DISTANCE = np.radians(35), np.radians(14), 4.0  # distance in figure heights

_SINKS = 0.12  # figure heights by which it may sink or rise before the camera follows
_AWAY = np.array([0.3, 0.18, 0.3])  # figure heights that it may be away from where the camera looks
_WAY = "#d1603d"
_NEAR = 2.5  # heights of the body around the camera in which a path is drawn
_FAR = 3.0  # figure heights from which the ground is out of sight

Lines = list[tuple[int, int, str]]
"""Points to join, the one nearer to the root first, and a name that tells the side."""


def bones_of(skeleton: Skeleton) -> Lines:
    """Return the lines of a skeleton, for points as in `Motion.points`."""
    names = skeleton.names + [skeleton.names[parent] for parent in skeleton.end_parents]
    return [(a, b, names[b]) for a, b in skeleton.bones]


def dots_of(names: list[str]) -> Lines:
    """Return dots for markers."""
    return [(i, i, name) for i, name in enumerate(names)]


def write_gif(
    path: Path,
    points: Array,
    lines: Lines,
    fps: float,
    ground: float | None = None,
    way: Array | None = None,
) -> list[Path]:
    """Draw the skeleton on a ground grid, with a camera that follows it; at most 15 frames a
    second.

    Args:
        path: File to write.
        points: World positions, ``(T, P, 3)``.
        lines: What joins them.
        fps: Frames per second of ``points``.
        ground: Level of the ground; that of the lowest points if it is not known.
        way: Path on the ground that was to be followed, ``(T, 2)``; None for none.

    Returns:
        The files written: the GIF, and the MP4 if there is one.
    """
    step = max(round(fps / _GIF_FPS), 1)
    bones = np.array([line[:2] for line in lines])
    dots = bool((bones[:, 0] == bones[:, 1]).all())
    camera, floor, height = _stage(points, fps, ground)
    figure = Figure(figsize=(PIXELS / 100, PIXELS / 100), dpi=100, facecolor="white")
    figure.set_layout_engine("none")  # whatever the caller's matplotlib is set to
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.72, 0.72), ylim=(-0.72, 0.72), aspect="equal")
    axes.set_axis_off()
    grid = LineCollection([], colors=_GRID, linewidths=0.8)
    shadow = LineCollection([], colors=_SHADOW, linewidths=3, alpha=0.6)
    body = LineCollection([], linewidths=6 if dots else 3.2, capstyle="round")
    wanted = LineCollection([], colors=_WAY, linewidths=2)
    steps = np.zeros((0, 2, 3)) if way is None else _on_ground(way, floor)
    for drawn in (grid, wanted, shadow, body):
        axes.add_collection(drawn)
    colours = np.array(_colours(lines))
    images: list[Image.Image] = []
    for t in range(0, len(points), step):
        flat = np.where([False, True, False], floor, points[t])
        far_first = np.argsort(-_project(points[t][bones].mean(axis=1), camera[t], height)[:, 2])
        in_sight = abs(camera[t, 1] - floor) < _FAR * height
        near = np.abs(steps[:, 0, ::2] - camera[t, ::2]).max(1, initial=0) < _NEAR * height
        for drawn, segments in (
            (grid, _grid_lines(camera[t, ::2], floor, height)),
            (wanted, steps[near]),
            (shadow, flat[bones]),
            (body, points[t][bones[far_first]]),
        ):
            drawn.set_visible(drawn is body or in_sight)
            ends = _project(segments, camera[t], height)[..., :2]
            if dots:
                ends[:, 1] += 1e-4  # lines without length are not drawn
            drawn.set_segments(list(ends))
        body.set_color(colours[far_first].tolist())
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
        if not images:
            palette = picture.quantize(48)
        images.append(picture.quantize(palette=palette, dither=Image.Dither.NONE))
    return save_film(path, images, fps / step)


def write_html(
    path: Path,
    points: Array,
    lines: Lines,
    fps: float,
    ground: float | None = None,
    way: Array | None = None,
) -> None:
    """Write one page that needs no other file and plays the motion; the mouse turns it.

    The wheel and a swipe scroll the page that it stands in; the wheel zooms while Ctrl is held.

    Args:
        path: File to write.
        points: World positions, ``(T, P, 3)``.
        lines: What joins them.
        fps: Frames per second of ``points``.
        ground: Level of the ground; that of the lowest points if it is not known.
        way: Path on the ground that was to be followed, ``(T, 2)``; None for none.
    """
    camera, floor, height = _stage(points, fps, ground)
    scene = {
        "fps": fps,
        "bones": [line[:2] for line in lines],
        "colours": _colours(lines),
        "points": np.round((points - [0, floor, 0]) / height, 4).reshape(len(points), -1).tolist(),
        "camera": np.round((camera - [0, floor, 0]) / height, 4).tolist(),
        "way": [] if way is None else np.round(way / height, 4).tolist(),
    }
    template = (Path(__file__).parent / "player.html").read_text(encoding="utf-8")
    content = json.dumps(scene, separators=(",", ":")).replace("</", "<\\/")
    title = re.sub(r"[^\w .-]", "", path.stem)
    page = template.replace("__TITLE__", title).replace("__SCENE__", content)
    with whole_file(path) as part:
        part.write_text(page, encoding="utf-8")


def _stage(points: Array, fps: float, ground: float | None) -> tuple[Array, float, float]:
    """Return where the camera looks ``(T, 3)``, the level of the ground, the height of the figure.

    The camera glides with the figure, at half its height above the ground. Where the figure sinks,
    rises or jumps, it goes with it as far as needed to keep it in sight.
    """
    low, high = points[..., 1].min(axis=1), points[..., 1].max(axis=1)
    floor = float(np.percentile(low, 5)) if ground is None else ground
    height = max(float(np.percentile(high - low, 90)), 1e-6)
    middle = points.mean(axis=1)
    middle[:, 1] = (low + high) / 2
    half = max(round(fps / 3), 1)
    padded = np.pad(middle, ((half, half), (0, 0)), mode="edge")
    kernel = np.ones(2 * half + 1) / (2 * half + 1)
    camera = np.stack([np.convolve(axis, kernel, mode="valid") for axis in padded.T], axis=-1)
    away = camera[:, 1] - (floor + 0.5 * height)
    camera[:, 1] -= np.clip(away, -_SINKS * height, _SINKS * height)
    away = middle - camera
    return camera + away - np.clip(away, -_AWAY * height, _AWAY * height), floor, height


def _on_ground(way: Array, floor: float) -> Array:
    """Return the steps of a path ``(T, 2)`` as lines on the ground, ``(T - 1, 2, 3)``."""
    points = np.insert(way, 1, floor, axis=1)
    return np.stack([points[:-1], points[1:]], axis=1)


def _project(points: Array, camera: Array, height: float) -> Array:
    """Project ``(..., 3)`` world points to right, up (on the picture) and depth, in perspective."""
    return _lens((points - camera) / height @ _view().T)


@cache
def _view() -> Array:
    """Return the rotation that turns the world in front of the camera: right, up, away, ``(3,
    3)``."""
    ca, sa, ce, se = np.cos(_AZIMUTH), np.sin(_AZIMUTH), np.cos(_ELEVATION), np.sin(_ELEVATION)
    about_y = np.array([[ca, 0, -sa], [0, 1, 0], [-sa, 0, -ca]])
    return np.array([[1, 0, 0], [0, ce, se], [0, -se, ce]]) @ about_y


def _lens(seen: Array) -> Array:
    depth = np.maximum(seen[..., 2:] + _DISTANCE, 0.1)
    return np.concatenate([seen[..., :2] * _DISTANCE / depth, depth], axis=-1)


def _grid_lines(centre: Array, floor: float, height: float, n_cells: int = 5) -> Array:
    """Return segments of a square grid that stands still while the camera moves, ``(L, 2, 3)``."""
    cell = 0.5 * height
    start = np.round(centre / cell) * cell
    along = np.arange(-n_cells, n_cells + 1) * cell
    ends = np.array([-n_cells, n_cells]) * cell
    x, z = np.meshgrid(along, ends, indexing="ij")
    level = np.full_like(x, floor)
    across = np.stack([x + start[0], level, z + start[1]], axis=-1)
    return np.concatenate([across, np.stack([z + start[0], level, x + start[1]], axis=-1)])


def _colours(lines: Lines) -> list[str]:
    """Return the colour of each line, by the side that its name tells."""
    return [_COLOURS[side] for side in sides_of(name for *_, name in lines)]
