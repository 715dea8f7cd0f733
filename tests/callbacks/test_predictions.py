"""``predict`` leaves its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from toy import (
    options,
)

from rnade_lightning.__main__ import main


def test_predict_writes_means_and_log_p(checkpoint: Path, root: Path, tmp_path: Path) -> None:
    main(["predict", *options(root, tmp_path, f"--ckpt_path={checkpoint}")])
    found = sorted((checkpoint.parents[1] / "predictions").glob("*.npz"))  # of its run
    assert len(found) == 3
    with np.load(found[0]) as saved:
        assert saved["mean"].shape == saved["frames"].shape == (len(saved["log_prob"]), 3)
