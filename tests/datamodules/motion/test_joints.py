"""Joints that turn about one or two axes are found, and have angles that say all about them; joints
on the cut of their exponential map are measured from their mean."""

from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.motion.joints import (
    FIXED,
    Axes,
    Centred,
    find_axes,
    joint_of,
    that_hold,
)

NAMES = ["root.height", "A.x", "A.y", "A.z"]


def angles(n: int = 400, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    waves = np.sin(np.arange(n)[:, None] / rng.uniform(3, 9, 3) + rng.uniform(0, 6, 3))
    return 0.4 * waves + 0.05 * rng.normal(size=(n, 3))


def found(rotations: Rotation, maps: Array | None = None) -> list[Any]:
    maps = rotations.as_rotvec() if maps is None else maps
    return find_axes([np.column_stack([np.ones(len(maps)), maps])], NAMES)


def axis(seed: int) -> Array:
    x = np.random.default_rng(seed).normal(size=3)
    return np.asarray(x / np.linalg.norm(x))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rounding", [0.0, 6e-7])
def test_two_axes_in_any_direction_are_found_with_what_lies_between(
    seed: int, rounding: float
) -> None:
    alpha, beta, _ = angles(seed=seed).T
    u, v = axis(seed), axis(seed + 50)
    between = Rotation.random(rng=np.random.default_rng(seed))
    if abs(u @ between.apply(v)) > 0.95:
        pytest.skip("the two axes are nearly one")
    rotations = Rotation.from_rotvec(alpha[:, None] * u) * between
    rotations = rotations * Rotation.from_rotvec(beta[:, None] * v)
    noise = rounding * np.random.default_rng(1).normal(size=(len(alpha), 3))
    (joint,) = found(Rotation.from_rotvec(noise) * rotations)
    assert (joint.column, joint.name, joint.n_axes) == (1, "A.", 2)
    assert abs(joint.frame_1[0] @ u) == pytest.approx(1, abs=1e-4)
    assert abs(joint.frame_2[0] @ v) == pytest.approx(1, abs=1e-4)
    ours = joint.angles(rotations.as_rotvec())
    assert ours[:, 2].std() < FIXED
    for theirs, mine in ((alpha, ours[:, 0]), (beta, ours[:, 1])):
        assert abs(np.corrcoef(theirs, mine)[0, 1]) == pytest.approx(1, abs=1e-4)


def test_one_axis_behind_a_rotation_that_is_fixed_is_found() -> None:
    alpha = angles()[:, :1]
    fixed = Rotation.from_rotvec([0.3, 0.8, -0.2])
    (joint,) = found(Rotation.from_rotvec(alpha * axis(1)) * fixed)
    assert joint.n_axes == 1
    assert (joint.angles((Rotation.from_rotvec(alpha * axis(1)) * fixed).as_rotvec())[:, 1:]).std(
        axis=0
    ).max() < FIXED  # fmt: skip


@pytest.mark.slow
def test_joints_that_turn_freely_or_keep_to_a_line_or_plane_stay() -> None:
    free = angles()
    assert not found(Rotation.from_rotvec(free))
    assert not found(Rotation.from_rotvec(free[:, :1] * axis(2)))  # linear in one another
    assert not found(Rotation.from_rotvec(free * [1, 1, 0]))
    assert not found(Rotation.from_rotvec(free * 1e-3))


def test_a_fault_of_the_fit_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two axes that are not the joint's do not keep their angle."""
    alpha, beta, _ = angles().T
    rotations = Rotation.from_rotvec(alpha[:, None] * np.eye(3)[0])
    rotations = rotations * Rotation.from_rotvec(beta[:, None] * np.eye(3)[1])
    assert len(found(rotations)) == 1
    wrong = axis(3), axis(4)
    monkeypatch.setattr("rnade_lightning.datamodules.motion.joints._two_axes", lambda _: wrong)
    assert not found(rotations)


@pytest.mark.parametrize("far", [0.1, 3.0])
def test_angles_are_a_change_of_coordinates_of_every_rotation(far: float) -> None:
    """Also of one that the joint never took."""
    alpha, beta, _ = angles().T
    rotations = Rotation.from_rotvec(alpha[:, None] * axis(5))
    (joint,) = found(rotations * Rotation.from_rotvec(beta[:, None] * axis(6)))
    maps = far * np.random.default_rng(0).normal(size=(500, 3)) / 2
    again = Rotation.from_rotvec(joint.maps(joint.angles(maps)))
    assert (again * Rotation.from_rotvec(maps).inv()).magnitude().max() < 1e-9
    state = Axes.from_state(joint.state())
    np.testing.assert_array_equal(state.angles(maps), joint.angles(maps))


@pytest.mark.parametrize("about", [0, 1])
def test_a_few_frames_that_are_far_off_move_the_cut_and_no_more(about: int) -> None:
    """As glitches of a recording are: frames that are far away."""
    both = angles()[:, :2]
    both[100:103, about] += [2.0, 2.6, 3.2]  # half a turn is among them
    rotations = Rotation.from_rotvec(both[:, :1] * axis(7))
    rotations = rotations * Rotation.from_rotvec(both[:, 1:] * axis(8))
    (joint,) = found(rotations)
    ours = joint.angles(rotations.as_rotvec())
    assert ours[:, 2].std() < FIXED
    for k in range(2):  # the same angles but for a constant: no jump by a whole turn
        sign = np.sign(np.corrcoef(both[:, k], ours[:, k])[0, 1])
        assert (ours[:, k] - sign * both[:, k]).std() < 1e-4
    again = Rotation.from_rotvec(joint.maps(ours))
    assert (again * rotations.inv()).magnitude().max() < 1e-9


def test_a_joint_that_goes_all_the_way_round_jumps_and_is_named() -> None:
    round_ = np.linspace(0, 20, 400)[:, None]
    _, beta, _ = angles().T
    rotations = Rotation.from_rotvec(round_ * np.eye(3)[0])
    rotations = rotations * Rotation.from_rotvec(beta[:, None] * np.eye(3)[1])
    with pytest.warns(UserWarning, match=r"A: turns about one or two axes and nearly all the way"):
        (joint,) = found(rotations)
    ours = joint.angles(rotations.as_rotvec())
    assert ours[:, 2].std() < FIXED
    assert (np.abs(np.diff(ours[:, 0])) > np.pi).sum() == 3


def test_few_frames_prove_nothing() -> None:
    """Five numbers describe two axes; so few frames of a free joint fit some pair of them."""
    assert not found(Rotation.from_rotvec(angles(6)))


def hanging(seed: int = 0) -> tuple[Array, Array]:
    """Return exponential maps of a thigh that hangs from bones that point up, in two takes that lie
    on either side of the cut, and how it swings."""
    swing = angles(seed=seed)
    maps = (Rotation.from_rotvec(swing) * Rotation.from_rotvec([0, 0, np.pi])).as_rotvec()
    n, size = len(maps) // 2, np.linalg.norm(maps, axis=1, keepdims=True)
    across = maps - 2 * np.pi * maps / size  # the same rotations
    up, down = np.where(maps[:, 2:] > 0, maps, across), np.where(maps[:, 2:] > 0, across, maps)
    return np.concatenate([up[:n], down[n:]]), swing


def test_a_joint_on_the_cut_of_its_map_is_measured_from_its_mean() -> None:
    """Else equal rotations have opposite maps, and their mean is a leg that points up."""
    maps, swing = hanging()
    assert abs(maps[:, 2].mean()) < 1 < maps[:, 2].std()
    (joint,) = found(Rotation.identity(), maps)
    assert isinstance(joint, Centred)
    ours = joint.angles(maps)
    assert np.linalg.norm(ours, axis=1).max() < 1
    for d in range(3):
        assert abs(np.corrcoef(ours[:, d], swing[:, d])[0, 1]) > 0.95
    back = Rotation.from_rotvec(joint.maps(ours)) * Rotation.from_rotvec(maps).inv()
    assert back.magnitude().max() < 1e-9
    again = joint_of(joint.state())
    np.testing.assert_array_equal(again.angles(maps), ours)
    assert "turns freely, from (" in str(joint)


def test_a_joint_that_is_cut_from_its_mean_too_stays() -> None:
    turning = Rotation.from_rotvec(np.linspace(0, 30, 400)[:, None] * axis(2))
    wobble = Rotation.from_rotvec(0.3 * angles())
    assert not [x for x in found(wobble * turning) if isinstance(x, Centred)]


def test_axes_that_other_frames_do_not_keep_are_not_used() -> None:
    """Else what hardly varies in training is a feature, in units of that little."""
    alpha, beta, gamma = angles().T
    two = Rotation.from_rotvec(alpha[:, None] * axis(5)) * Rotation.from_rotvec(
        beta[:, None] * axis(6)
    )
    joints = found(two)
    free = two * Rotation.from_rotvec(0.1 * gamma[:, None] * axis(7))
    with_root = [np.column_stack([np.ones(len(alpha)), x.as_rotvec()]) for x in (two, free)]
    assert that_hold(joints, []) == that_hold(joints, with_root[:1]) == joints != []
    assert that_hold(joints, with_root) == []
