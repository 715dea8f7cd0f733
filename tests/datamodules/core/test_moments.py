"""Statistics in pieces are those of the whole."""

import itertools

import numpy as np
import pytest
from counted_reads import counted_table

from rnade_lightning.datamodules.core.moments import Moments, moments


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_running_statistics_equal_those_of_all_frames(offset: float) -> None:
    parts = [offset + 10 * i + counted_table(n, i) for i, n in enumerate((1, 2, 400, 37, 5))]
    whole = np.concatenate(parts)
    for n_rows in (1, 7, 4096):
        running = moments(parts, n_rows)
        assert running.n == len(whole)
        np.testing.assert_allclose(running.mean, whole.mean(axis=0), rtol=1e-13)
        np.testing.assert_allclose(running.std, whole.std(axis=0), rtol=1e-12 + 1e-15 * offset)
        covariance = running.centred.T @ running.centred
        np.testing.assert_allclose(covariance, np.cov(whole.T, bias=True), rtol=1e-9, atol=1e-9)


def test_statistics_may_be_added_in_any_order() -> None:
    pieces = [Moments.of(5.0 * i + counted_table(n, i)) for i, n in enumerate((9, 1, 200, 30))]
    sums = []
    for order in itertools.permutations(pieces):
        total = order[0] + (order[1] + order[2]) + order[3]
        sums.append(np.concatenate([total.mean, total.std, np.abs(np.diag(total.centred))]))
    np.testing.assert_allclose(sums, np.broadcast_to(sums[0], np.shape(sums)), rtol=1e-12)
