"""A data module: standardised frames, checkpoints, descriptions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tables import Recorder, TableDataModule, module, saved, table, trainer

from rnade_lightning.checkpoints import load_data
from rnade_lightning.datamodules import DataError, MocapDataModule


@pytest.mark.slow
def test_frames_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    data = MocapDataModule()
    frames = data.sequences("test")[0].frames[:9].clone()
    frames[4, 2] = float("nan")
    with pytest.raises(DataError, match="walk: frames to write must be"):
        data.render(frames, tmp_path / "walk")
    assert list(tmp_path.iterdir()) == []


def test_state_round_trip_needs_no_files(tables_at: Path, tmp_path: Path) -> None:
    data = module(tables_at, window=16)
    checkpoint, raw = saved(data, tmp_path), table(20, seed=9)
    sequence = data.score_input(tables_at / "1.txt")
    (tables_at / "1.txt").rename(tmp_path / "kept.txt")
    for file in tables_at.iterdir():
        file.unlink()
    again = load_data(checkpoint)
    assert isinstance(again, TableDataModule)
    assert (again.n_features, again.window, again.frame_rate) == (3, 16, 10.0)
    assert torch.equal(again.standardise(raw), data.standardise(raw))
    assert torch.equal(again.score_input(tmp_path / "kept.txt").frames, sequence.frames)
    (written,) = again.render(sequence.frames, tmp_path / "written")
    np.testing.assert_allclose(np.loadtxt(written), table(73, 1), atol=1e-5)


@pytest.mark.parametrize("setup_first", [True, False])
def test_statistics_of_a_checkpoint_win(tables_at: Path, tmp_path: Path, setup_first: bool) -> None:
    checkpoint = saved(module(tables_at), tmp_path)
    for i, file in enumerate(sorted(tables_at.iterdir())):
        np.savetxt(file, 5 * table(60, seed=20 + i), fmt="%.17g")
    data = module(tables_at)
    if setup_first:
        data.setup()
        data.sequences("train")
    data.load_state_dict(checkpoint["TableDataModule"])
    data.setup()
    assert torch.cat([s.frames for s in data.sequences("train")]).std() > 3
    assert data.state_dict()["standardiser"]["std"].tolist() == pytest.approx(
        checkpoint["TableDataModule"]["standardiser"]["std"].tolist()
    )


def test_a_checkpoint_of_other_features_is_refused(tables_at: Path, tmp_path: Path) -> None:
    state = module(tables_at).state_dict()
    state["standardiser"]["names"] = ["a", "still", "other", "sum", "c"]
    data = module(tables_at)
    data.setup()
    with pytest.raises(
        DataError, match=r"checkpoint does not fit these data.*excess.*'b'.*'other'"
    ):
        data.load_state_dict(state)
    data = module(tables_at)
    data.load_state_dict(state)
    with pytest.raises(DataError, match=r"0\.txt: does not fit the checkpoint"):
        data.setup()


def test_predict_through_the_trainer_keeps_order(tables_at: Path, tmp_path: Path) -> None:
    data = TableDataModule(str(tables_at), window=8)
    outputs = trainer(tmp_path).predict(Recorder(), datamodule=data)
    assert outputs is not None
    for frames, sequence in zip(outputs, data.sequences("test"), strict=True):
        assert torch.equal(frames[0], sequence.frames)  # type: ignore[call-overload]


def test_description_is_plain_and_counts_every_frame(tables_at: Path) -> None:
    card = module(tables_at).describe()
    assert sum(card["frames"].values()) == 50 + 73 + 41 + 60 + 38
    assert (card["n_files"], card["n_features"], card["features"]) == (5, 3, ["a", "b", "c"])
    torch.save(card, tables_at / "card")
    torch.load(tables_at / "card", weights_only=True)
