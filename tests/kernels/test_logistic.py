"""The table is the logistic function, and never falls."""

from __future__ import annotations

import numpy as np

from rnade_lightning.kernels import logistic


def test_the_table_is_the_logistic_function_and_never_falls() -> None:
    table, r = logistic.table(), np.sort(np.random.default_rng(0).normal(size=3000) * 8)
    found = np.array([logistic.below(x, table) for x in r])
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-r)), atol=1e-6)
    assert (np.diff(found) >= 0).all()
    assert (table * 2.0**40 == np.rint(table * 2.0**40)).all()
    assert [logistic.below(x, table) for x in (-1e9, np.nan, 1e9)] == [0, 0, 1]


def test_the_mass_between_two_numbers_is_that_of_both_parts() -> None:
    table = logistic.table()
    whole = logistic.between(-1.3, 2.1, table)
    assert np.isclose(whole, logistic.between(-1.3, 0.4, table) + logistic.between(0.4, 2.1, table))
    assert logistic.between(0.7, 0.7, table) == 0
