"""Side information of features: where their frames go, it goes, and it is nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tables import NAMES, TableDataModule, saved, table

from rnade_lightning.callbacks.fitted_baselines import FittedBaselines
from rnade_lightning.datamodules import DataError, FrameSequence, Recording
from rnade_lightning.datamodules.core import moments as of_moments
from rnade_lightning.datamodules.core.given import joined
from rnade_lightning.datamodules.core.side import Side, Sided, sided

pytestmark = pytest.mark.filterwarnings("ignore:.*frames are kept in memory")
KEPT = [0, 2, 4]  # of the features of a table
C = 2


class SidedTables(TableDataModule):
    """Tables; of each feature there are known its last value and its square."""

    reader_version = 1
    side_names = ("last", "square")

    def read(self, path: Path) -> Recording:
        frames = np.loadtxt(path)
        last = np.vstack([np.zeros((1, frames.shape[1])), frames[:-1]])
        side = np.stack([last, last**2], -1).reshape(len(frames), -1)
        whole = {"": np.hstack([frames, side])}
        return Recording(whole, NAMES, 10.0, {"title": "table"}, self.side_names)


class Fewer(SidedTables):
    reader_version = 2
    side_names = ("last", "last_squared")


@pytest.fixture(params=["store", "memory"])
def data(tables_at: Path, tmp_path: Path, request: pytest.FixtureRequest) -> SidedTables:
    cache = tmp_path / "cache"
    if request.param == "memory":
        cache.write_text("no folder")  # so that there is no store
    return SidedTables(str(tables_at), window=8, batch_size=4, cache_dir=str(cache), split="file")


def expected(data: SidedTables, name: str) -> torch.Tensor:
    frames = np.loadtxt(Path(str(data.root), f"{name}.txt"))
    last = np.vstack([np.zeros((1, 5)), frames[:-1]])[:, KEPT]
    return torch.from_numpy(np.stack([last, last**2], -1).astype(np.float32))


def test_sequences_carry_it_for_the_features_that_are_modelled(data: SidedTables) -> None:
    assert data.context_by_feature
    assert (data.n_context, data.given) == (C, None)
    assert data.feature_names == [NAMES[i] for i in KEPT]
    for part in ("train", "val", "test"):
        for i, s in enumerate(data.sequences(part)):  # type: ignore[arg-type]
            assert torch.equal(s.context, expected(data, s.name))
            assert np.asarray(s.raw).shape == (len(s.frames), len(NAMES))
            some = data.sequences(part).stretch(i, 5, 12)  # type: ignore[arg-type]
            for other in (some, s.stretch(5, 12)):
                assert torch.equal(other.context, s.context[5:12])
                assert torch.equal(other.frames, s.frames[5:12])
            assert s.context_of(3, s.frames[None, :4]).shape == (1, 4, len(KEPT), C)
            assert torch.equal(s.with_context(), s.frames)
    assert data.describe()["side"] == ["last", "square"]


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_batches_carry_that_of_their_frames(tables_at: Path, part: Any, stateful: bool) -> None:
    data = SidedTables(str(tables_at), window=8, batch_size=2, split="file", stateful=stateful,
                       val_fraction=0.2, test_fraction=0.4)  # fmt: skip
    whole = {tuple(x.tolist()): c for s in data.sequences(part)
             for x, c in zip(s.frames, s.context, strict=True)}  # fmt: skip
    seen: set[tuple[float, ...]] = set()
    for batch in getattr(data, f"{part}_dataloader")():
        mask, context = batch["mask"], batch["context"]
        assert context.dtype == torch.float32
        assert context.shape == (*batch["frames"].shape, C)
        assert (context[~mask] == 0).all()
        for x, c in zip(batch["frames"][mask].tolist(), context[mask], strict=True):
            assert torch.equal(c, whole[tuple(x)])
            seen.add(tuple(x))
    assert seen == set(whole)


def test_statistics_are_of_the_features_alone(
    data: SidedTables, tables_at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = set()
    real = of_moments.Moments.of
    monkeypatch.setattr(
        of_moments.Moments, "of", lambda x: (widths.add(np.asarray(x).shape[1]), real(x))[1]
    )
    plain = TableDataModule(str(tables_at), split="file", window=8)
    data.setup()
    assert widths == {len(NAMES)}
    ours, theirs = data.state_dict()["standardiser"], plain.state_dict()["standardiser"]
    assert ours["names"] == theirs["names"]
    assert all(torch.equal(ours[k], theirs[k]) for k in ("mean", "std", "basis", "residual"))
    assert ours["dropped"] == theirs["dropped"]


def test_linear_rivals_do_not_see_it(data: SidedTables, tables_at: Path) -> None:
    plain = TableDataModule(str(tables_at), split="file", window=8)
    frames = plain.sequences("test")[0].frames
    pairs = zip(*(FittedBaselines(3, 1000).fitted(d, "test") for d in (data, plain)), strict=True)
    for ours, theirs in pairs:
        of_ours = ours.log_prob(data.sequences("test")[0].with_context(), 3)
        assert torch.equal(of_ours, theirs.log_prob(frames, 3))
    context = torch.ones(7, 3, C)
    assert torch.equal(joined(frames[:7], context), frames[:7])
    assert joined(frames[:7], context[..., 0]).shape == (7, 6)


def test_a_checkpoint_keeps_it_for_other_files(
    data: SidedTables, tables_at: Path, tmp_path: Path
) -> None:
    state = saved(data, tmp_path)["SidedTables"]
    assert state["side_names"] == ["last", "square"]
    np.savetxt(tmp_path / "other.txt", table(30, 9), fmt="%.17g")
    again = SidedTables("gone", cache_dir=str(tmp_path / "cache"))
    again.load_state_dict(state)
    assert (again.n_context, again.context_by_feature) == (C, True)
    one = again.score_input(tmp_path / "other.txt")
    (same,) = again.score_inputs(tmp_path / "other.txt")
    assert torch.equal(one.context, same.context)
    torch.testing.assert_close(one.context[..., 1], one.context[..., 0] ** 2)
    (written,) = again.render(one.frames, tmp_path / "back", one.raw[:10], one.context)
    np.testing.assert_allclose(np.loadtxt(written), table(30, 9), atol=1e-4)
    np.testing.assert_array_equal(np.loadtxt(written)[:10], table(30, 9)[:10])
    other = Fewer(str(tables_at), split="file")
    other.load_state_dict(state)
    with pytest.raises(DataError, match="its features have other side information"):
        other.setup()


def test_frames_without_it_are_as_they_were(tables_at: Path) -> None:
    data = TableDataModule(str(tables_at), split="file")
    assert (data.n_context, data.context_by_feature, data.contexts) == (0, False, None)
    assert "side" not in data.describe()
    assert "context" not in next(iter(data.train_dataloader()))
    state = data.state_dict()
    del state["side_names"]  # of an older checkpoint
    again = TableDataModule("gone")
    again.load_state_dict(state)
    assert not again.context_by_feature
    frames = {"": np.zeros((3, 2))}
    about = Recording({}, ["a", "b"], 1.0, {})
    assert sided(about, frames)[""] is frames[""]


class Planted(SidedTables):
    """A planted fault: a frame without some of its side information, or with one that is none."""

    reader_version = 3
    fault = "width"

    def read(self, path: Path) -> Recording:
        recording = super().read(path)
        if self.fault == "width":
            return recording._replace(frames={"": recording.frames[""][:, :-1]})
        recording.frames[""][4, len(NAMES) + 3] = np.nan
        return recording


@pytest.mark.parametrize(
    ("fault", "said"),
    [("width", r"\(T, 15\)"), ("number", "frame 4, square of still is nan: repair")],
)
def test_faults_are_named(
    tables_at: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    monkeypatch.setattr(Planted, "fault", fault)
    with pytest.raises(DataError, match=said):
        Planted(str(tables_at)).setup()


def test_it_is_in_the_order_of_the_features() -> None:
    """Two frames of three features; number c of feature d of frame t is 100 t + 10 d + c."""
    t, d, c = np.ogrid[:2, :3, :C]
    side = 100 * t + 10 * d + c
    whole = np.hstack([np.full((2, 3), -1.0), side.reshape(2, -1)])
    raw = Sided(whole, 3)
    np.testing.assert_array_equal(raw, -np.ones((2, 3)))
    np.testing.assert_array_equal(raw.side(), side)
    found = FrameSequence("a", torch.zeros(1, 2), torch.zeros(1), context=Side([0, 2]).of(raw, 1))
    assert found.context is not None
    assert found.context.tolist() == [[[100.0, 101.0], [120.0, 121.0]]]
