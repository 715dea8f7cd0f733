"""The ground and the height of what moves."""

import numpy as np
import pytest

from rnade_lightning.datamodules.motion.stature import ground_of, likely_unit, some_of, tall_of


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
