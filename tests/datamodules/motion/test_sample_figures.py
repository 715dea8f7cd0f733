"""Figures of samples tell a motion that is not like the data, whatever it gains elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.motion.metrics import feet_of
from rnade_lightning.datamodules.motion.representation import encode
from rnade_lightning.datamodules.motion.sample_figures import (
    Body,
    Moving,
    SampleFigures,
    auc,
    frechet,
)
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton

pytestmark = pytest.mark.slow

FPS = 30.0
SKELETON = Skeleton(
    ["Hips", "LeftLeg", "RightLeg", "LeftFoot", "RightFoot", "Head"],
    [-1, 0, 0, 1, 2, 0],
    np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, -8, 0], [0, -8, 0], [0, 6.0, 0]]),
    [3, 4],
    np.array([[0, -1, 2.0], [0, -1, 2]]),
    ["ZYX"] * 6,
)
BODY = Body(SKELETON, FPS, feet_of(SKELETON))


def walk(seed: int, seconds: float = 3.0) -> Moving:
    """Return a walk of a speed, stride and phase of its own, the hips as high as the lower foot
    asks for."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * FPS)) / FPS
    speed, reach, phase = rng.uniform(0.8, 1.2), rng.uniform(0.3, 0.5), rng.uniform(0, 2 * np.pi)
    swing = reach * np.sin(2 * np.pi * speed * t + phase) + 0.01 * rng.normal(size=len(t))
    maps = np.zeros((len(t), 6, 3))
    maps[:, 1, 0], maps[:, 2, 0] = swing, -swing
    maps[:, 5, 2] = 0.1 * np.sin(2 * np.pi * 0.3 * t + 2 * phase)
    rotations = Rotation.from_rotvec(maps.reshape(-1, 3)).as_quat().reshape(len(t), 6, 4)
    positions = np.zeros((len(t), 3))
    positions[:, 2] = np.cumsum(8 * np.abs(np.gradient(np.sin(swing))))
    motion = Motion(SKELETON, positions, rotations, FPS)
    positions[:, 1] = -motion.points()[..., 1].min(axis=1)
    moved = Motion(SKELETON, positions, rotations, FPS)
    angles = maps[1:, 1:].reshape(len(t) - 1, -1)
    return Moving(BODY, encode(moved, "y", "positions", "velocity"), angles)


KNOWN, HELD_OUT = [walk(i) for i in range(24)], [walk(100 + i) for i in range(8)]
FIGURES = SampleFigures(BODY, KNOWN, HELD_OUT)


def changed(motion: Moving, frames: np.ndarray) -> Moving:
    return replace(motion, frames=frames)


def test_other_motion_of_the_same_kind_is_like_the_data() -> None:
    own, found = FIGURES.of_held_out(), FIGURES.of([walk(200 + i, 10.0) for i in range(8)])
    assert abs(own["auc"] - 0.5) < 0.15
    assert found["bad_seconds"] < 0.05
    assert found["seconds_with_data"] > 8
    assert found["joint_limit"] < 0.01
    assert found["ground"] < 0.01
    for key in ("spread", "nearest", "speed", "jerk"):
        assert found[key] == pytest.approx(1.0, abs=0.3)
        assert own[key] == pytest.approx(1.0)
    assert max(found["frechet_poses"], found["frechet_velocities"]) < 0.3


def test_a_motion_held_to_one_pose_of_the_data_is_seen() -> None:
    """It never leaves the data, and its feet do not slide."""
    frozen = []
    for motion in KNOWN[:8]:
        frames = np.repeat(motion.frames[40:41], 300, axis=0)
        frames[:, :3] = 0
        frozen.append(Moving(BODY, frames, np.repeat(motion.angles[40:41], 300, axis=0)))  # type: ignore[index]
    found = FIGURES.of(frozen)
    assert found["bad_seconds"] == found["joint_limit"] == 0
    assert found["seconds_with_data"] == 10
    assert found["foot_skate"] < 1e-9
    assert found["frechet_velocities"] > 0.5
    assert max(found["spread"], found["speed"], found["nearest"]) < 1e-5
    assert found["auc"] > 0.95


def test_copies_of_the_training_data_are_near_it() -> None:
    assert FIGURES.of(KNOWN[:8])["nearest"] < 1e-3
    assert FIGURES.of(HELD_OUT)["nearest"] == pytest.approx(1)


def test_noise_in_every_frame_is_seen() -> None:
    rng = np.random.default_rng(0)
    noisy = [changed(m, m.frames + 0.05 * rng.normal(size=m.frames.shape)) for m in HELD_OUT]
    found = FIGURES.of(noisy)
    assert found["jerk"] > 2
    assert found["foot_skate"] > FIGURES.of(HELD_OUT)["foot_skate"]
    assert auc(noisy, KNOWN) > 0.95


def test_a_motion_that_leaves_the_data_is_told_when() -> None:
    frames = walk(300, 10.0).frames.copy()
    frames[120:, 4:] *= 3  # after the fourth second
    found = FIGURES.of([Moving(BODY, frames)])
    assert found["seconds_with_data"] == 4
    assert found["bad_seconds"] > 0.5
    assert np.isnan(found["auc"])  # of one motion, no other is left to try


def test_a_body_above_the_ground_and_joints_out_of_range_are_seen() -> None:
    motion = walk(301)
    floating = motion.frames.copy()
    floating[:, [3, *range(5, floating.shape[1], 3)]] += 1.0  # a 24th of the body's length
    assert FIGURES.of([changed(motion, floating)])["ground"] == 1
    assert motion.angles is not None
    assert FIGURES.of([replace(motion, angles=2 * motion.angles)])["joint_limit"] > 0.05


def test_draws_that_are_the_true_frames_skate_as_the_data_do() -> None:
    pairs = [
        changed(m, np.stack((m.frames[:-1], m.frames[1:]), 1).reshape(-1, m.frames.shape[1]))
        for m in HELD_OUT
    ]
    found = FIGURES.of(HELD_OUT, pairs)
    assert found["one_step_skate"] == pytest.approx(found["foot_skate"], rel=0.05)
    for pair in pairs:
        pair.frames[1::2, 1] += 0.5  # draws to the left
    spoilt = [Moving(BODY, pair.frames) for pair in pairs]
    assert FIGURES.of(HELD_OUT, spoilt)["one_step_skate"] > found["one_step_skate"] + 0.1


def test_the_frechet_distance_of_gaussians_is_known() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100_000, 3))
    variance = x.var(0).sum()
    assert frechet(2 * x, x) == pytest.approx((2 - 1) ** 2, rel=1e-3)
    assert frechet(x + 1, x) * variance == pytest.approx(3, rel=1e-3)


def test_seconds_are_seconds_at_any_rate() -> None:
    """Blocks of whole frames are counted, of which there are 2 or 3 a second at 2.5 a second."""
    body = replace(BODY, fps=2.5)
    known, held_out = ([replace(m, body=body) for m in of] for of in (KNOWN, HELD_OUT))
    found = SampleFigures(body, known, held_out).of(held_out[:1])
    assert found["seconds_with_data"] <= len(held_out[0].frames) / 2.5


def test_motions_without_numbers_and_none_are_refused() -> None:
    for motions in ([], [changed(HELD_OUT[0], HELD_OUT[0].frames * np.nan)]):
        with pytest.raises(ValueError, match="at least one motion, of finite frames"):
            FIGURES.of(motions)


def test_a_few_motions_have_no_classifier_of_their_own() -> None:
    few = SampleFigures(BODY, KNOWN[:4], HELD_OUT[:2])
    assert np.isnan(few.of_held_out()["auc"])


def test_data_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="training and held-out"):
        SampleFigures(BODY, KNOWN, [])
