"""A function of other features is told from chance, by the degrees of freedom."""

import numpy as np
import pytest

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.core.relations import function_of, largest_residual


def standardised(frames: Array) -> Array:
    centred = frames - frames.mean(axis=0)
    return np.asarray(centred / np.linalg.norm(centred, axis=0))


@pytest.mark.parametrize("n", [12, 50, 1000])
@pytest.mark.slow
def test_the_bound_holds_for_all_but_one_sample_in_a_thousand(n: int) -> None:
    rng, n_others, n_samples = np.random.default_rng(n), 4, 3000
    ones = np.ones((n, 1))
    below = 0
    for _ in range(n_samples):
        others = np.hstack([ones, rng.normal(size=(n, n_others))])
        feature = rng.normal(size=n)  # leaves 1
        rest = feature - others @ np.linalg.lstsq(others, feature, rcond=None)[0]
        residual = float(np.sqrt(np.mean(rest**2)))
        below += largest_residual(residual, n, n_others) < 1
    assert below <= 12  # 3 are expected
    assert largest_residual(0.0, 5, 4) == np.inf


def test_the_fewest_others_are_taken() -> None:
    frames = np.random.default_rng(0).normal(size=(300, 12))
    feature = 2 * frames[:, 3] - frames[:, 7]
    x = standardised(np.column_stack([frames, feature]))
    found = function_of(x[:, :12], x[:, 12], 300, 1e-4)
    assert found is not None
    assert set(found) == {3, 7}
    assert found[3] / found[7] == pytest.approx(
        -2 * frames[:, 3].std() / frames[:, 7].std(), rel=1e-9
    )


def test_a_part_that_is_small_is_taken_as_well() -> None:
    """Do not call a function of the first alone what others explain to 1e-5 at once."""
    frames = np.random.default_rng(0).normal(size=(300, 5))
    x = standardised(np.column_stack([frames, frames[:, 0] + 1e-5 * frames[:, 4]]))
    found = function_of(x[:, :5], x[:, 5], 300, 1e-4)
    assert found is not None
    assert set(found) == {0, 4}


@pytest.mark.parametrize("n_frames", [20, 31, 33, 40])
def test_few_frames_prove_no_function_of_many_others(n_frames: int) -> None:
    walks = np.random.default_rng(1).normal(size=(n_frames, 31)).cumsum(axis=0)
    x = standardised(walks)
    assert function_of(x[:, :30], x[:, 30], n_frames, 1e-4) is None
    copied = np.column_stack([x[:, :30], x[:, 4]])  # but a copy is one, however few there are
    assert function_of(copied[:, :30], copied[:, 30], n_frames, 1e-4) == {4: pytest.approx(1.0)}
