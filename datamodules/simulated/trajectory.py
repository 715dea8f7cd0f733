r"""Simulate the paper's two-dimensional task: a trajectory whose density is known exactly.

At t = 0, 1, 2, .. independently

$$x_t \sim N(\sin t + 1, 0.1), \qquad y_t \sim x_t N(\sin t + 0.5, 0.2),$$

0.1 and 0.2 being standard deviations. Given x, y is |x| times a normal variable, so

$$\log p(x_t, y_t) = \log N(x_t; \sin t + 1, 0.1)
+ \log N(y_t / x_t; \sin t + 0.5, 0.2) - \log |x_t|.$$

A model that knows t can do no better, on average over data, than the negative entropy.

Conventions:
    Frames are ``(T, 2)``, x first, without units. Time is the frame's number, in radians, and
    every sequence begins at t = 0. Entropies are in nats per frame.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.integrate import quad

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.core.files import with_ending
from rnade_lightning.datamodules.core.store import whole_file
from rnade_lightning.datamodules.simulated.process import SimulatedDataModule

STD_X, STD_RATIO = 0.1, 0.2
_MEAN_X, _MEAN_RATIO = 1.0, 0.5


def log_density(frames: npt.ArrayLike, start: int = 0) -> Array:
    """Return log p of each frame under the true process.

    Args:
        frames: ``(..., T, 2)``.
        start: Time of the first frame.

    Returns:
        Nats, ``(..., T)``.
    """
    frames = np.asarray(frames, dtype=np.float64)
    wave = np.sin(start + np.arange(frames.shape[-2]))
    x, y = frames[..., 0], frames[..., 1]
    log_x = _log_normal(x, wave + _MEAN_X, STD_X)
    log_y = _log_normal(y / x, wave + _MEAN_RATIO, STD_RATIO) - np.log(np.abs(x))
    return np.asarray(log_x + log_y)


def entropy_rate(std_x: float = STD_X, std_ratio: float = STD_RATIO) -> float:
    r"""Return the mean entropy of a frame over an endless sequence, nats per frame.

    The chain rule gives $h_t = h(x_t) + h(y_t / x_t) + E \log |x_t|$; the first two are those
    of normal variables, $\frac12 \log 2 \pi e \sigma^2$, at every t. In the last,
    $x_t = 1 + \sin t + \sigma z$ with z standard normal, and since $t \bmod 2\pi$ is
    equidistributed the mean over t is that over a whole turn. By Jensen's formula

    $$\frac1{2\pi} \int_0^{2\pi} \log |c + \sin\theta| \, d\theta =
    -\log 2 + \operatorname{arcosh} \max(|c|, 1),$$

    so that with $c = 1 + \sigma z$ one integral over z remains, done numerically.

    >>> round(entropy_rate(), 4)
    -1.585
    """

    def excess(z: float, centre: float) -> float:  # density of z times arcosh of |c| = centre + ..
        return float(np.arccosh(centre) * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))

    # z = u^2 takes the root of arcosh away at c = 1; c below -1 is reached for z < -2 / sigma.
    above = quad(lambda u: 2 * u * excess(u * u, 1 + std_x * u * u), 0, np.inf)[0]
    below = quad(lambda u: 2 * u * excess(2 / std_x + u * u, 1 + std_x * u * u), 0, np.inf)[0]
    normal = np.log(2 * np.pi * np.e) + np.log(std_x) + np.log(std_ratio)
    return float(normal - np.log(2) + above + below)


class TrajectoryDataModule(SimulatedDataModule):
    """The 2-D trajectory of the paper, drawn from a seed.

    Args:
        root: Saved frames (.npz) to use. Without it, sequences are simulated.
        n_train: Training sequences.
        n_val: Validation sequences.
        n_test: Test sequences.
        n_frames: Frames of each sequence; all begin at t = 0.
        **kwargs: See `FrameDataModule`; its options that split files do nothing where sequences are
            simulated.
    """

    fps = 10.0
    reader_version = 1

    def __init__(
        self,
        root: str | None = None,
        n_train: int = 200,
        n_val: int = 20,
        n_test: int = 100,
        n_frames: int = 200,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, n_train, n_val, n_test, n_frames, **kwargs)

    @property
    def names(self) -> list[str]:
        """Return the names of the raw features."""
        return ["x", "y"]

    @property
    def entropy_rate(self) -> float:
        """Return the process's entropy rate, in nats per frame in own units; see `entropy_rate`.

        A model of standardised frames comes to this, at best, as its nll plus ``log_scale``.
        """
        return entropy_rate()

    def process(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return log density ``(T,)``, mean and variance ``(T, 2)`` of every frame of a
        standardised sequence ``(T, 2)``, under the process itself; no model can do better."""
        raw, wave = self.destandardise(frames), np.sin(np.arange(len(frames)))
        std = self._fitted()[0].std
        mean_x, mean_r = wave + _MEAN_X, wave + _MEAN_RATIO
        variance_y = (mean_x**2 + STD_X**2) * (mean_r**2 + STD_RATIO**2) - (mean_x * mean_r) ** 2
        variance = np.stack([np.full_like(wave, STD_X**2), variance_y], -1) / std**2
        mean = self.standardise(np.stack([mean_x, mean_x * mean_r], -1))
        return torch.as_tensor(log_density(raw) + self.log_scale), mean, torch.as_tensor(variance)

    def simulate(self, n_sequences: int, rng: np.random.Generator) -> Array:
        """Draw sequences, ``(n_sequences, n_frames, 2)``."""
        wave, noise = np.sin(np.arange(self.n_frames)), rng.standard_normal
        x = wave + _MEAN_X + STD_X * noise((n_sequences, self.n_frames))
        y = x * (wave + _MEAN_RATIO + STD_RATIO * noise((n_sequences, self.n_frames)))
        return np.stack([x, y], axis=-1)

    def write(self, raw: Array, stem: Path) -> list[Path]:
        """Write ``.npz``, and ``.png`` with both coordinates over time and in the plane."""
        png = with_ending(stem, "png")
        write_path(png, raw)
        return [*super().write(raw, stem), png]


def _log_normal(value: Array, mean: Array, std: float) -> Array:
    return np.asarray(-0.5 * ((value - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi))


def write_path(path: Path, frames: Array) -> None:
    """Draw a trajectory in the plane, ``(T, 2)``: over time, and in the plane, as an image."""
    figure = Figure(figsize=(8, 3.2), dpi=110, layout="constrained")
    over_time, plane = figure.subplots(1, 2, width_ratios=(2, 1))
    for name, values in zip("xy", frames.T, strict=True):
        over_time.plot(values, label=name, linewidth=1)
    over_time.set(xlabel="t (frames)")
    over_time.legend()
    plane.plot(*frames.T, ".", markersize=3)
    plane.set(xlabel="x", ylabel="y")
    with whole_file(path) as part:
        FigureCanvasAgg(figure).print_png(part)
