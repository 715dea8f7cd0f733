"""A path becomes the changes of a root that walks it."""

from pathlib import Path

import numpy as np
import pytest

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.motion.paths import SHAPES, along, columns, shaped, through
from rnade_lightning.datamodules.motion.representation import _walk


@pytest.mark.parametrize("shape", SHAPES)
def test_a_root_with_these_changes_walks_the_path(shape: str) -> None:
    path = shaped(shape, 50.0, 300, 30.0)
    heading, places = _walk(np.column_stack([along(path), np.zeros(300)]))
    h = np.arctan2(*(path[1] - path[0]))  # the walk starts at heading 0
    turned = np.array([[np.cos(h), np.sin(h)], [-np.sin(h), np.cos(h)]])
    np.testing.assert_allclose(places[:, ::2] @ turned.T, path - path[0], atol=2.0)
    whole_turns = 2 * np.pi * (299 / 30) / 8 if shape == "circle" else 0.0
    assert heading[-1] == pytest.approx(whole_turns, abs=0.05)


def test_a_circle_turns_evenly_to_the_left_and_a_stop_stands() -> None:
    turn, left, ahead = along(shaped("circle", 50.0, 240, 30.0)).T
    np.testing.assert_allclose(turn[2:-2], 2 * np.pi / 240, rtol=1e-3)
    np.testing.assert_allclose(ahead[2:-2], 50 / 30, rtol=1e-2)
    assert abs(left[2:-2]).max() < 0.05
    stop = along(shaped("stop", 50.0, 240, 30.0))
    np.testing.assert_allclose(stop[-30:], 0, atol=1e-9)
    assert (stop[:100, 2] > 1).all()


def test_waypoints_are_passed_and_the_last_one_kept() -> None:
    names, points = ["seconds", "x", "z"], np.array([[0, 0, 0], [1, 10, 20], [3, 10, 60.0]])
    path = through(Path("path.csv"), points, names, None, 30.0)
    assert len(path) == 91
    np.testing.assert_allclose(path[[0, 30, 90]], points[:, 1:], atol=1e-9)
    longer = through(Path("path.csv"), points, names, 120, 30.0)
    np.testing.assert_allclose(longer[90:], [[10, 60]] * 30, atol=1e-9)
    for bad in (points[:1], points[::-1], points * [1, 1, np.nan]):
        with pytest.raises(DataError, match=r"path\.csv: give two waypoints or more"):
            through(Path("path.csv"), bad, names, None, 30.0)


def test_controls_that_a_path_does_not_tell_stay_at_their_means() -> None:
    found = columns(np.ones((4, 3)), ["root.height", "root.ahead"], [90.0, 0.0])
    np.testing.assert_array_equal(found, [[90.0, 1.0]] * 4)
    with pytest.raises(DataError, match="are none that a path tells"):
        columns(np.ones((4, 3)), ["force"], [0.0])
