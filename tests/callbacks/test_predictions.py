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


def test_every_sequence_has_a_file_of_its_own(tmp_path: Path) -> None:
    for name in ("a/b", "a_b", "c", "d", "e"):
        path = tmp_path / "data" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.random.default_rng(0).normal(size=(40, 3)).cumsum(0))
    own = [
        f"--trainer.default_root_dir={tmp_path}",
        "--data=ArrayDataModule", f"--data.root={tmp_path / 'data'}", "--data.window=16",
        "--data.parts={test: [a/b, a_b, c], val: [d]}", "--model.n_hidden=3",
        "--model.n_recurrent=3", "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false",
    ]  # fmt: skip
    main(["fit", *own, "--test_after_fit=false"])
    (last,) = tmp_path.glob("runs/*/*/checkpoints/last.ckpt")
    main(["predict", *own, f"--ckpt_path={last}"])
    found = {p.relative_to(last.parents[1]).as_posix() for p in last.parents[1].glob("**/*.npz")}
    assert {f"predictions/{name}.npz" for name in ("a/b", "a_b", "c")} <= found
