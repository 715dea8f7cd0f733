"""The ground and the height of what moves."""

import numpy as np
import pytest

from rnade_lightning.datamodules.motion.skeleton import Skeleton
from rnade_lightning.datamodules.motion.stature import (
    ground_of,
    leg_length,
    likely_unit,
    some_of,
    tall_of,
)


@pytest.mark.parametrize("up", ["y", "z"])
def test_the_ground_is_where_the_lowest_point_stands_most_of_the_time(up: str) -> None:
    rng, axis = np.random.default_rng(0), "xyz".index(up)
    points = rng.uniform(-5, 5, (400, 6, 3))
    points[..., axis] = 3 + rng.uniform(0, 1.5, (400, 6))
    points[:, 0, axis], points[:, 1, axis] = 3, 4.7
    points[40:100, :, axis] += 2  # a jump
    points[7, 0, axis] = -9  # a glitch
    assert ground_of(points, up) == 3
    assert tall_of(points, up) == pytest.approx(1.7)


def test_a_few_frames_stand_for_all() -> None:
    assert len(np.arange(5)[some_of(5)]) == 5
    for n_frames in (199, 1000, 100_000):
        chosen = np.arange(n_frames)[some_of(n_frames)]
        assert 150 <= len(chosen) <= 400
        assert chosen[-1] > 0.99 * n_frames


def test_a_unit_is_told_by_a_person_only() -> None:
    assert [likely_unit(x) for x in (1.7, 67, 170, 1700)] == [
        "metres", "inches", "centimetres", "millimetres",
    ]  # fmt: skip
    assert likely_unit(28.0) is None


def test_a_leg_goes_from_the_root_to_the_first_joint_that_is_called_a_foot() -> None:
    names = ["Hips", "LeftLeg", "LeftFoot", "LeftToe", "RightLeg", "RightFoot", "Head"]
    offsets = np.array(
        [[9.0, 9, 9], [3, 4, 0], [0, 2, 0], [0, 0, 9], [1, 0, 0], [0, 4, 0], [7, 7, 7]]
    )
    body = Skeleton(names, [-1, 0, 1, 2, 0, 4, 0], offsets, [3], np.ones((1, 3)), ["ZYX"] * 7)
    assert leg_length(body) == pytest.approx((5 + 2 + 1 + 4) / 2)
    assert leg_length(body.scaled(3.0)) == pytest.approx(18)
    toes = [name.replace("Foot", "Ankle") for name in names]
    assert leg_length(Skeleton(toes, *list(vars(body).values())[1:])) == pytest.approx(5 + 2 + 9)
    hands = ["Hips", "a", "b", "c", "d", "e", "f"]
    assert leg_length(Skeleton(hands, *list(vars(body).values())[1:])) == 0
