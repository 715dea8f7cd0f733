"""Balls move as physics asks."""

import numpy as np
import pytest
from simulations import gaps

from rnade_lightning.datamodules.simulated.balls import (
    RADIUS,
    SIDE,
    SPEED,
    BallsDataModule,
    bounce,
    draw,
    start,
)


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
