"""Simulated data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from simulations import small

from rnade_lightning.datamodules import DataError, TrajectoryDataModule


@pytest.mark.parametrize("kind", ["balls", "trajectory"])
def test_parts_are_drawn_apart_and_from_the_seed(kind: str) -> None:
    data, again = small(kind), small(kind, n_train=12)
    for part in ("val", "test"):
        for a, b in zip(data.sequences(part), again.sequences(part), strict=True):  # type: ignore[arg-type]
            raw = data.destandardise(a.frames)
            np.testing.assert_allclose(raw, again.destandardise(b.frames), atol=1e-5)
    frames = [s.frames.numpy().tobytes() for p in data._raw for s in data.sequences(p)]  # type: ignore[arg-type]
    assert len(set(frames)) == len(frames)
    other = small(kind, seed=1)
    assert not torch.equal(other.sequences("val")[0].frames, data.sequences("val")[0].frames)
    assert next(iter(data.train_dataloader()))["frames"].shape[1:] == (10, data.n_features)


@pytest.mark.parametrize("kind", ["balls", "trajectory"])
def test_simulated_frames_are_written_and_can_be_scored(kind: str, tmp_path: Path) -> None:
    data = small(kind)
    frames = data.sequences("test")[0].frames
    paths = data.render(frames, tmp_path / "a.b")
    assert [p.name for p in paths[:2]] == ["a.b.npz", "a.b.gif" if kind == "balls" else "a.b.png"]
    torch.testing.assert_close(data.score_input(paths[0]).frames, frames, atol=1e-5, rtol=0)
    with Image.open(paths[1]) as image:
        assert getattr(image, "n_frames", 1) == (60 if kind == "balls" else 1)
    assert data.describe()["root"] == "simulated from seed 0"
    wrong = small("trajectory" if kind == "balls" else "balls")
    with pytest.raises(DataError, match=r"a\.b\.npz: frames have"):
        wrong.score_input(paths[0])


def test_sequences_shorter_than_a_window_are_padded_and_impossible_sizes_refused() -> None:
    batch = next(iter(small("trajectory", window=64).train_dataloader()))
    assert batch["frames"].shape[1] == 64
    assert batch["mask"].sum(1).tolist() == [20] * len(batch["mask"])
    with pytest.raises(DataError, match="n_frames 20 must be more than warmup 20"):
        small("trajectory", warmup=20)
    with pytest.raises(DataError, match="n_balls"):
        small("balls", n_balls=6)


@pytest.mark.parametrize("options", [{"control": ["x"]}, {"labels": "parent"}, {"ignore": ["x"]}])
def test_what_simulated_data_do_not_take_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="simulated data take no"):
        TrajectoryDataModule(**options).setup()
