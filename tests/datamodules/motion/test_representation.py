"""Features of rotations say what they should, and come back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bodies import aligned, degrees_apart, tumble
from motion_formats import KINDS, ROOTS
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules import MocapDataModule
from rnade_lightning.datamodules.motion.bvh import read_bvh, write_bvh
from rnade_lightning.datamodules.motion.representation import (
    TO_Y_UP,
    about_vertical,
    decode,
    encode,
    euler_angles,
    feature_names,
    from_six,
    points_of,
    six,
    swing_twist,
    unwrap,
)
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton
from rnade_lightning.datamodules.motion.turning import unturned


def test_swing_and_twist_compose_to_the_rotation_and_the_swing_is_level() -> None:
    rotation = Rotation.random(500, rng=np.random.default_rng(0))
    heading, tilt = swing_twist(rotation)
    np.testing.assert_allclose(tilt[:, 1], 0, atol=1e-12)
    again = about_vertical(heading) * Rotation.from_rotvec(tilt)
    assert degrees_apart(again.as_quat(), rotation.as_quat()) < 1e-6


def test_tilt_does_not_depend_on_heading() -> None:
    rotation = Rotation.random(50, rng=np.random.default_rng(1))
    turned = about_vertical(np.full(50, 0.7)) * rotation
    level, again = (Rotation.from_rotvec(swing_twist(r)[1]) for r in (rotation, turned))
    assert degrees_apart(level.as_quat(), again.as_quat()) < 1e-6


@pytest.mark.parametrize("axis", [[1, 0, 0], [0.6, 0, -0.8], [-1, 2, 2]])
def test_unwrapping_has_no_jump_above_pi_and_keeps_the_rotation(axis: list[float]) -> None:
    angle = np.cumsum(np.abs(np.random.default_rng(0).normal(0.3, 0.3, size=200)))  # many turns
    steady = angle[:, None] * np.array(axis) / np.linalg.norm(axis)
    wrapped = Rotation.from_rotvec(steady).as_rotvec()
    assert np.linalg.norm(np.diff(wrapped, axis=0), axis=-1).max() > np.pi
    unwrapped = unwrap(wrapped)
    assert np.linalg.norm(np.diff(unwrapped, axis=0), axis=-1).max() < np.pi
    np.testing.assert_allclose(unwrapped - unwrapped[0], steady - steady[0], atol=1e-9)
    assert degrees_apart(*(Rotation.from_rotvec(m).as_quat() for m in (unwrapped, wrapped))) < 1e-6


@pytest.mark.slow
def test_features_of_real_motion_do_not_jump(shipped: MocapDataModule) -> None:
    for split in ("train", "val", "test"):
        for sequence in shipped.sequences(split):  # type: ignore[arg-type]
            raw = unturned(shipped.destandardise(sequence.frames), shipped.axes)
            maps = raw[:, 6:].reshape(len(raw), -1, 3)
            assert np.linalg.norm(np.diff(maps, axis=0), axis=-1).max() < np.pi / 2


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize("source", ["tumble", "take"])
def test_features_to_bvh_to_features(source: str, up: str, take: Motion, tmp_path: Path) -> None:
    motion = tumble() if source == "tumble" else take
    features = encode(motion, up)
    assert features.shape == (len(motion.positions) - 1, len(feature_names(motion.skeleton)))
    write_bvh(tmp_path / "again.bvh", decode(features, motion.skeleton, motion.fps, up))
    again = encode(read_bvh(tmp_path / "again.bvh"), up)
    # A joint may begin on another branch in the shorter file: compare rotations, then the rest.
    maps = [x[:, 6:].reshape(-1, 3) for x in (again, features[1:])]
    assert degrees_apart(*(Rotation.from_rotvec(m).as_quat() for m in maps)) < 1e-6
    np.testing.assert_allclose(again[:, :6], features[1:, :6], atol=1e-6)
    if source == "take":
        np.testing.assert_allclose(again, features[1:], atol=1e-6)


@pytest.mark.parametrize("source", ["tumble", "take"])
def test_world_positions_survive_the_round_trip(source: str, take: Motion) -> None:
    motion = tumble() if source == "tumble" else take
    again = decode(encode(motion), motion.skeleton, motion.fps)
    error = np.abs(aligned(again) - aligned(motion, start=1)).max()
    assert error < 1e-6 * np.abs(aligned(motion, start=1)).max()


def test_features_do_not_know_where_or_which_way(take: Motion) -> None:
    turn = Rotation.from_rotvec([0, 2.0, 0])
    moved = take.rotations.copy()
    moved[:, 0] = (turn * Rotation.from_quat(moved[:, 0])).as_quat()
    positions = turn.apply(take.positions) + np.array([5.0, 0, -3.0])
    there = encode(replace(take, positions=positions, rotations=moved))
    np.testing.assert_allclose(there, encode(take), atol=1e-9)


def test_walking_ahead_is_ahead() -> None:
    skeleton = Skeleton(["Hips"], [-1], np.zeros((1, 3)), [], np.zeros((0, 3)), ["ZYX"])
    facing = about_vertical(np.full(4, 0.5 * np.pi)).as_quat()[:, None]  # from z to x
    places = np.array([[0.0, 9, 0], [1, 9, 0], [2, 9, 0], [3, 9, 0]])
    motion = Motion(skeleton, places, facing, 30.0)
    np.testing.assert_allclose(encode(motion), [[0, 0, 1, 9, 0, 0]] * 3, atol=1e-12)


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["tumble", "short_take"])
def test_every_representation_keeps_places(
    source: str, kind: Any, root: Any, up: str, short_take: Motion
) -> None:
    motion = tumble() if source == "tumble" else short_take
    features = encode(motion, up, kind, root)
    assert features.shape[1] == len(feature_names(motion.skeleton, kind, root))
    assert len(set(feature_names(motion.skeleton, kind, root))) == features.shape[1]
    points = points_of(features, motion.skeleton, motion.fps, up, kind, root)
    scale = np.abs(motion.points()).max()
    expected = motion.points() @ TO_Y_UP[up].T
    if kind == "raw" or root == "position":
        np.testing.assert_allclose(points, expected, atol=1e-9 * scale)
        return
    for frame in (0, 50):  # up to a turn and a step, the same for all frames
        shape, ours = expected[1:][frame], points[frame]
        distances = [np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (shape, ours)]
        np.testing.assert_allclose(*distances, atol=1e-8 * scale)
        np.testing.assert_allclose(ours[:, 1], shape[:, 1], atol=1e-8 * scale)
    steps = [np.linalg.norm(np.diff(p[:, :, ::2], axis=0), axis=-1) for p in (expected[1:], points)]
    np.testing.assert_allclose(*steps, atol=1e-8 * scale)


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("kind", ["expmap", "6d", "raw"])
def test_bvh_comes_back_from_what_determines_it(kind: Any, root: Any, short_take: Motion) -> None:
    features = encode(short_take, "y", kind, root)
    again = decode(features, short_take.skeleton, short_take.fps, "y", kind, root)
    later = slice(len(short_take.positions) - len(features), None)
    assert degrees_apart(again.rotations[:, 1:], short_take.rotations[later, 1:]) < 1e-5
    error = np.abs(aligned(again) - aligned(short_take, later.start)).max()
    assert error < 1e-6 * np.abs(aligned(short_take, later.start)).max()


def test_six_numbers_become_the_nearest_frame_of_axes() -> None:
    rotation = Rotation.random(100, rng=np.random.default_rng(0))
    assert degrees_apart(from_six(six(rotation)).as_quat(), rotation.as_quat()) < 1e-5
    stretched = six(rotation).reshape(-1, 2, 3) * [[2.0], [0.3]]
    stretched[:, 1] += 0.7 * stretched[:, 0]
    again = from_six(stretched.reshape(-1, 6))
    assert degrees_apart(again.as_quat(), rotation.as_quat()) < 1e-5
    for broken in (np.zeros((3, 6)), np.ones((3, 6))):
        matrix = from_six(broken).as_matrix()
        np.testing.assert_allclose(matrix @ matrix.transpose(0, 2, 1), [np.eye(3)] * 3, atol=1e-12)


def test_euler_angles_do_not_jump_and_are_the_same_rotation() -> None:
    angle = np.linspace(0, 1500, 400)
    turns = np.stack([angle, 60 * np.sin(angle / 90), angle / 3], axis=-1)
    rotations = Rotation.from_euler("ZYX", turns, degrees=True).as_quat()[:, None]
    skeleton = Skeleton(["Hips"], [-1], np.zeros((1, 3)), [], np.zeros((0, 3)), ["ZYX"])
    motion = Motion(skeleton, np.zeros((400, 3)), rotations, 30.0)
    found = euler_angles(motion)
    np.testing.assert_allclose(found, turns, atol=1e-6)
