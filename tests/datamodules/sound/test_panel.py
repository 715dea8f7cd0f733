"""Side information has its names."""

from __future__ import annotations

import math

import numpy as np

from rnade_lightning.datamodules.sound import front_end, panel


def test_side_information_has_its_names() -> None:
    names = panel.side_names()
    assert len(names) == len(set(names)) == panel.N_SIDE
    assert all(name.startswith("expert_") for name in names[panel.EXPERTS])
    x = np.round(np.cumsum(np.random.default_rng(0).normal(size=400)) * 30)
    z, side, _ = front_end.analyse(front_end.start(), x, np.zeros(0))
    residual = z * np.exp(side[:, 0].astype(float))
    t = 300
    assert math.isclose(
        side[t, names.index("past_1")],
        np.sign(x[t - 1] - (x[t] - residual[t]))
        * np.log1p(abs(x[t - 1] - (x[t] - residual[t])) / np.exp(side[t, 0])),
        rel_tol=1e-4,
    )
