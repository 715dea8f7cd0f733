"""Exponentials and logarithms have all their digits; compiled code is that of these sources."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit

from rnade_lightning.kernels import cpu, lanes


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-7), (np.float64, 4e-16)])
def test_exp_and_log(dtype: Any, tolerance: float) -> None:
    @njit
    def both(x: Any, y: Any) -> Any:
        for i in range(len(x)):
            x[i], y[i] = lanes.exp(x[i]), lanes.log(y[i])

    x = np.linspace(-80, 80, 100_001).astype(dtype)
    y = np.exp(np.linspace(-80, 80, 100_001)).astype(dtype)
    expected = np.exp(x.astype(np.longdouble)), np.log(y.astype(np.longdouble))
    found = x.copy(), y.copy()
    both(*found)
    assert np.abs(found[0] / expected[0] - 1).max() < tolerance
    assert (np.abs(found[1] - expected[1]) / np.maximum(np.abs(expected[1]), 1)).max() < tolerance
    edges = np.array([np.nan, np.inf, -np.inf, 200, -1000], dtype)
    both(edges, np.ones(5, dtype))
    assert np.isnan(edges[0])
    assert (edges[[1, 3]] > 1e37).all()
    assert (edges[[2, 4]] < 1e-37).all()


def test_compiled_code_is_kept_for_these_sources_only() -> None:
    sources = sorted(Path(lanes.__file__).parent.glob("*.py"))
    stamp = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    assert cpu._gradients._cache._cache_file._source_stamp == stamp
