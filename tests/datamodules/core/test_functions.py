"""Features that are functions of others are found, and none that are free."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.core.functions import functions_among


def parts(frames: Array) -> tuple[Array, Array]:
    x = (frames - frames.mean(axis=0)) / frames.std(axis=0)
    return x[: len(x) * 3 // 4], x[len(x) * 3 // 4 :]


def free(n: int, n_features: int = 8, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(n, n_features))


@pytest.mark.parametrize("n", [60, 400, 3000])
@pytest.mark.parametrize("seed", range(3))
def test_free_features_are_functions_of_nothing(n: int, seed: int) -> None:
    names = [f"x{d}" for d in range(8)]
    assert functions_among(*parts(free(n, seed=seed)), names) == {}
    assert functions_among(*parts(free(n, seed=seed).cumsum(axis=0)), names) == {}


def test_functions_of_one_and_of_two_are_found_and_the_later_feature_is_named() -> None:
    x = free(2000)
    x[:, 5] = x[:, 2] ** 3 + x[:, 2]
    x[:, 7] = x[:, 1] * x[:, 0] + x[:, 1]
    found = functions_among(*parts(x), list("abcdefgh"))
    assert found == {"f": ["c"], "h": ["a", "b"]}


def test_a_little_of_its_own_makes_a_feature_free() -> None:
    x = free(2000)
    x[:, 5] = x[:, 2] ** 2 + 0.02 * x[:, 5]
    assert functions_among(*parts(x), list("abcdefgh")) == {}


def test_what_held_out_frames_contradict_is_no_function() -> None:
    x = free(2000)
    x[:1500, 5] = x[:1500, 2] ** 2
    assert functions_among(*parts(x), list("abcdefgh")) == {}


def test_a_surface_of_three_is_found() -> None:
    """As exponential maps of a joint of two axes make it."""
    x = free(2000)
    turns = Rotation.from_euler("XY", 0.2 * x[:, :2])
    x[:, 3:6] = turns.as_rotvec()
    assert functions_among(*parts(x[:, 3:]), list("xyzabc")[:5]) == {"z": ["x", "y"]}
