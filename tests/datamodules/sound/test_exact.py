"""Our own mathematics is that of libraries, and what it is compiled from is known."""

from __future__ import annotations

import math

import numpy as np

from rnade_lightning.datamodules.sound import exact


def test_exp_and_log_are_those_of_mathematics() -> None:
    for x in np.random.default_rng(0).uniform(-690, 690, 2000):
        assert math.isclose(exact.exp(x), math.exp(x), rel_tol=1e-14)
    for x in 10.0 ** np.random.default_rng(1).uniform(-12, 12, 2000):
        assert math.isclose(exact.log(x), math.log(x), rel_tol=1e-14, abs_tol=1e-15)
    assert exact.exp(-800.0) == 0
    assert math.isfinite(exact.log(0.0))
    assert math.isfinite(exact.exp(math.nan))
    assert math.isfinite(exact.log(math.inf))


def test_products_of_any_length() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 37))
    for n in range(38):
        assert math.isclose(exact.dot(a, b, n), float(a[:n] @ b[:n]), abs_tol=1e-13)
