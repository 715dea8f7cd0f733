"""Simulated data: the trajectory's exact density, the physics of the balls, and their files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import norm

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.simulated.balls import (
    RADIUS,
    SIDE,
    SPEED,
    BallsDataModule,
    bounce,
    draw,
    start,
)
from rnade_lightning.datamodules.simulated.trajectory import (
    TrajectoryDataModule,
    entropy_rate,
    log_density,
)


def gaps(positions: np.ndarray) -> np.ndarray:
    """Distances of all pairs of balls, ``(B, P)``."""
    first, second = np.triu_indices(positions.shape[1], k=1)
    return np.asarray(np.linalg.norm(positions[:, first] - positions[:, second], axis=-1))


# The trajectory


def test_entropy_rate_is_the_mean_of_minus_log_p_of_the_process() -> None:
    frames = TrajectoryDataModule(n_frames=1000).simulate(600, np.random.default_rng(0))
    log_p = log_density(frames)
    error = log_p.std() / np.sqrt(log_p.size)
    assert error < 2.5e-3
    assert abs(-log_p.mean() - entropy_rate()) < 4 * error


@pytest.mark.parametrize("std", [0.02, 0.1, 0.5])
def test_entropy_rate_agrees_with_quadrature_over_both_variables(std: float) -> None:
    theta = (np.arange(1, 20000, 2)) * np.pi / 20000  # of sin, over half a turn
    z = np.linspace(-8, 8, 801)
    log_distance = np.log(np.abs(1 - np.cos(2 * theta)[:, None] + std * z)).mean(axis=0)
    expected = float((log_distance * norm.pdf(z)).sum() * (z[1] - z[0]))
    expected += np.log(2 * np.pi * np.e * std * 0.2)
    assert entropy_rate(std) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("t", [0, 1, 3])
def test_true_density_integrates_to_one(t: int) -> None:
    wave = np.sin(t)
    x = wave + 1 + 0.1 * np.linspace(-7, 7, 700)
    y = np.linspace(-6, 8, 12001)
    total = 0.0
    for value in x[np.abs(x) > 1e-3]:
        pair = np.stack([np.full_like(y, value), y], axis=-1)[:, None]
        total += np.exp(log_density(pair, start=t)).sum() * (y[1] - y[0]) * (x[1] - x[0])
    assert total == pytest.approx(1, abs=5e-3)


def test_trajectory_frames_have_the_moments_of_the_process() -> None:
    frames = TrajectoryDataModule(n_frames=7, window=7).simulate(40000, np.random.default_rng(1))
    wave = np.sin(np.arange(7))
    x, ratio = frames[..., 0], frames[..., 1] / frames[..., 0]
    np.testing.assert_allclose(x.mean(axis=0), wave + 1, atol=0.005)
    np.testing.assert_allclose(x.std(axis=0), 0.1, atol=0.005)
    np.testing.assert_allclose(np.median(ratio, axis=0), wave + 0.5, atol=0.01)
    np.testing.assert_allclose(ratio.std(axis=0), 0.2, atol=0.01)


def test_standardised_trajectory_keeps_its_entropy_up_to_the_log_scale() -> None:
    data = TrajectoryDataModule(n_train=400)
    raw = np.concatenate([data.destandardise(s.frames)[None] for s in data.sequences("train")])
    own = float(log_density(raw).mean())
    assert -own == pytest.approx(data.entropy_rate, abs=0.03)
    spread = np.log(raw.reshape(-1, 2).std(axis=0)).sum()
    assert data.log_scale == pytest.approx(spread, abs=1e-5)


# The balls


def test_two_balls_that_meet_head_on_exchange_velocities() -> None:
    positions = np.array([[[3.0, 5.0], [7.0, 5.0]]])
    velocities = np.array([[[1.0, 0.0], [-0.5, 0.0]]])
    after, speeds = bounce(positions, velocities, 2.0)
    np.testing.assert_allclose(speeds, velocities[:, ::-1], atol=1e-12)
    meet = (4 - 2 * RADIUS) / 1.5
    x = [3 + meet - 0.5 * (2 - meet), 7 - 0.5 * meet + (2 - meet)]
    np.testing.assert_allclose(after[0], [[x[0], 5], [x[1], 5]], atol=1e-12)


def test_a_wall_turns_one_component_round() -> None:
    after, speeds = bounce(np.array([[[8.0, 5.0]]]), np.array([[[1.0, 0.25]]]), 2.0)
    np.testing.assert_allclose(speeds, [[[-1, 0.25]]])
    np.testing.assert_allclose(after, [[[2 * (SIDE - RADIUS) - 10, 5.5]]])


@pytest.mark.parametrize("n_balls", [2, 3, 5])
def test_balls_stay_in_the_box_and_apart_and_keep_their_energy(n_balls: int) -> None:
    positions, velocities = start(200, n_balls, np.random.default_rng(n_balls))
    for _ in range(60):
        positions, velocities = bounce(positions, velocities, 1.7)
        assert positions.min() > RADIUS - 1e-9
        assert positions.max() < SIDE - RADIUS + 1e-9
        assert gaps(positions).min() > 2 * RADIUS - 1e-9
    np.testing.assert_allclose((velocities**2).sum(axis=(1, 2)), SPEED**2, rtol=1e-12)


def test_collisions_of_balls_keep_momentum_and_change_velocities() -> None:
    positions, velocities = start(4000, 3, np.random.default_rng(5))
    middle = np.abs(positions - SIDE / 2).max(axis=(1, 2)) < SIDE / 2 - RADIUS - 2 * SPEED
    positions, velocities = positions[middle], velocities[middle]  # none reaches a wall by then
    _, after = bounce(positions, velocities, 2.0)
    np.testing.assert_allclose(after.sum(axis=1), velocities.sum(axis=1), atol=1e-12)
    assert 5 < (np.abs(after - velocities).max(axis=(1, 2)) > 1e-6).sum() < len(after)


def test_motion_does_not_depend_on_how_time_is_cut_and_runs_backwards() -> None:
    positions, velocities = start(50, 3, np.random.default_rng(6))
    whole = bounce(positions, velocities, 12.0)
    parts = positions, velocities
    for _ in range(12):
        parts = bounce(*parts, 1.0)
    np.testing.assert_allclose(whole[0], parts[0], atol=1e-6)
    back, _ = bounce(whole[0], -whole[1], 12.0)
    np.testing.assert_allclose(back, positions, atol=1e-6)


@pytest.mark.parametrize("resolution", [15, 30])
def test_a_ball_is_drawn_where_it_is(resolution: int) -> None:
    picture = draw(np.array([[7.0, 3.0]]), resolution)  # 7 across, 3 down
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    pixel = SIDE / resolution
    assert abs((row + 0.5) * pixel - 3) <= pixel
    assert abs((column + 0.5) * pixel - 7) <= pixel
    assert picture.sum() * pixel**2 == pytest.approx(np.pi * RADIUS**2 * 0.906, rel=0.05)


def test_copying_the_last_frame_errs_as_published() -> None:
    frames = BallsDataModule().simulate(60, np.random.default_rng(0))
    assert frames.shape == (60, 128, 225)
    assert 0 <= frames.min() <= frames.max() <= 1
    error = (np.diff(frames, axis=1) ** 2).sum(axis=-1).mean()
    assert error == pytest.approx(3.0, abs=0.2)


# Both as data


def small(kind: str, **more: object) -> TrajectoryDataModule | BallsDataModule:
    sizes = {"n_train": 3, "n_val": 2, "n_test": 2, "n_frames": 20, "window": 10}
    if kind == "balls":  # long enough for every pixel to vary
        sizes |= {"n_train": 10, "n_frames": 60, "resolution": 5}
        return BallsDataModule(**(sizes | more))  # type: ignore[arg-type]
    return TrajectoryDataModule(**(sizes | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["balls", "trajectory"])
def test_parts_are_drawn_apart_and_from_the_seed(kind: str) -> None:
    data, again = small(kind), small(kind, n_train=12)
    for part in ("val", "test"):
        for a, b in zip(data.sequences(part), again.sequences(part), strict=True):  # type: ignore[arg-type]
            raw = data.destandardise(a.frames)
            np.testing.assert_allclose(raw, again.destandardise(b.frames), atol=1e-5)
    frames = [s.frames.numpy().tobytes() for p in data._raw for s in data.sequences(p)]  # type: ignore[arg-type]
    assert len(set(frames)) == len(frames)
    other = small(kind, seed=1)
    assert not torch.equal(other.sequences("val")[0].frames, data.sequences("val")[0].frames)
    assert next(iter(data.train_dataloader()))["frames"].shape[1:] == (10, data.n_features)


@pytest.mark.parametrize("kind", ["balls", "trajectory"])
def test_simulated_frames_are_written_and_can_be_scored(kind: str, tmp_path: Path) -> None:
    data = small(kind)
    frames = data.sequences("test")[0].frames
    paths = data.render(frames, tmp_path / "a.b")
    assert [p.name for p in paths[:2]] == ["a.b.npz", "a.b.gif" if kind == "balls" else "a.b.png"]
    torch.testing.assert_close(data.score_input(paths[0]).frames, frames, atol=1e-5, rtol=0)
    with Image.open(paths[1]) as image:
        assert getattr(image, "n_frames", 1) == (60 if kind == "balls" else 1)
    assert data.describe()["root"] == "simulated from seed 0"
    wrong = small("trajectory" if kind == "balls" else "balls")
    with pytest.raises(DataError, match=r"a\.b\.npz: frames have"):
        wrong.score_input(paths[0])


def test_sequences_shorter_than_a_window_are_refused() -> None:
    with pytest.raises(DataError, match="only 20 frames for train where 64"):
        small("trajectory", window=64)
    with pytest.raises(DataError, match="n_balls"):
        small("balls", n_balls=6)
