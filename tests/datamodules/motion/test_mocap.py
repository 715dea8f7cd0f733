"""Motion capture: files to frames and back."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bodies import SAMPLES, aligned, degrees_apart, tumble
from damaged import GOOD, refused, text
from PIL import Image
from scipy.io import savemat
from scipy.spatial.transform import Rotation
from tables import saved

from rnade_lightning.checkpoints import Checkpoint, load_data
from rnade_lightning.datamodules import DataError, MocapDataModule
from rnade_lightning.datamodules.motion.bvh import read_bvh, write_bvh
from rnade_lightning.datamodules.motion.representation import (
    encode,
)
from rnade_lightning.datamodules.motion.skeleton import Motion
from rnade_lightning.datamodules.motion.stature import leg_length
from rnade_lightning.datamodules.motion.turning import turned


@pytest.fixture
def paper_set(tmp_path: Path) -> Path:
    data = np.random.default_rng(0).normal(size=(438 + 260 + 312, 49))
    savemat(tmp_path / "MOCAP.mat", {"batchdata": data, "seqlengths": [[438, 260, 312]]})
    return tmp_path / "MOCAP.mat"


@pytest.mark.slow
def test_shipped_motion_is_small_continuous_and_acknowledged(shipped: MocapDataModule) -> None:
    assert SAMPLES is not None
    assert sum(file.stat().st_size for file in SAMPLES.iterdir()) < 1.5e6
    assert "NSF EIA-0196217" in shipped.describe()["source"]
    assert (shipped.n_features, shipped.frame_rate) == (56, 30.0)
    limbs = ("Arm", "Leg", "Spine", "Back", "Hips", "Neck", "Head")
    for file in SAMPLES.glob("*.gz"):
        motion = read_bvh(file)
        for j, name in enumerate(motion.skeleton.names):
            if name.endswith(limbs):
                assert degrees_apart(motion.rotations[1:, j], motion.rotations[:-1, j]) < 45


@pytest.mark.slow
def test_what_a_reader_keeps_belongs_to_its_version(shipped: MocapDataModule) -> None:
    """Frames stay on disk, so another layout under the same version would meet older ones there."""
    layout = shipped.layout
    skeleton = {"names", "parents", "offsets", "end_parents", "end_offsets", "euler_orders"}
    known = {
        6: {"format", "up", "up_by", "source_rate", "height", "skeleton", "ground", "tall", "reach"}
    }
    assert set(layout) - {"axes"} == known[MocapDataModule.reader_version]
    assert set(layout["skeleton"]) == skeleton


@pytest.mark.slow
def test_hinges_of_the_shipped_motion_are_found(shipped: MocapDataModule) -> None:
    hinges = {name for name, why in shipped.dropped.items() if why != "constant"}
    assert hinges == {
        *("LeftLeg.y", "RightLeg.y", "LeftToeBase.y", "RightToeBase.y"),
        *("LeftForeArm.z", "RightForeArm.z"),
    }


@pytest.mark.slow
def test_dropped_features_come_back_to_rounding(shipped: MocapDataModule, take: Motion) -> None:
    raw = turned(encode(take), shipped.axes)
    again = shipped.destandardise(shipped.standardise(raw))
    np.testing.assert_allclose(again, raw, atol=2e-5)


def test_state_of_motion_renders_without_files(shipped: MocapDataModule, tmp_path: Path) -> None:
    checkpoint = saved(shipped, tmp_path)
    checkpoint["datamodule_hyper_parameters"]["root"] = str(tmp_path / "gone")
    again = load_data(Checkpoint(checkpoint, "motion"))
    frames = shipped.sequences("test")[0].frames[:4]
    first, second = (m.render(frames, tmp_path / str(i))[0] for i, m in enumerate((shipped, again)))
    assert first.read_text() == second.read_text()


@pytest.mark.slow
def test_vertical_axis_is_turned_on_the_way_in_and_out(take: Motion, tmp_path: Path) -> None:
    to_z = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    rotations = take.rotations.copy()
    rotations[:, 0] = (Rotation.from_matrix(to_z) * Rotation.from_quat(rotations[:, 0])).as_quat()
    upright = replace(take, positions=take.positions @ to_z.T, rotations=rotations)
    np.testing.assert_allclose(encode(upright, "z"), encode(take, "y"), atol=1e-9)
    write_bvh(tmp_path / "z.bvh", upright)
    data = MocapDataModule(str(tmp_path), up="z")
    bvh = data.render(data.score_input(tmp_path / "z.bvh").frames[:9], tmp_path / "out" / "z")[0]
    heights = read_bvh(bvh).positions[:, 2]
    np.testing.assert_allclose(heights, take.positions[1:10, 1], atol=1e-4)


@pytest.mark.slow
def test_first_frames_can_be_skipped(tmp_path: Path) -> None:
    take = tumble(100)
    take.rotations[0] = [0, 0, 0, 1]  # a T-pose
    write_bvh(tmp_path / "a.bvh", take)
    frames = {
        n: MocapDataModule(str(tmp_path), skip_frames=n, window=8, standardise=False)
        .sequences("train")[0]
        .frames[:40, :6]
        for n in (0, 1)
    }
    torch.testing.assert_close(frames[1][:39], frames[0][1:], atol=1e-5, rtol=0)


def test_paper_set_is_split_as_published(paper_set: Path) -> None:
    data = MocapDataModule(str(paper_set), standardise=False, window=100)
    assert [s.name for s in data.sequences("test")] == ["MOCAP:0", "MOCAP:1", "MOCAP:2"]
    assert [len(s.frames) for s in data.sequences("test")] == [88, 52, 62]
    fits = zip(data.sequences("train"), data.sequences("val"), strict=True)
    assert [len(a.frames) + len(b.frames) for a, b in fits] == [350, 208, 250]
    assert (data.n_features, data.frame_rate, data.log_scale) == (49, 30.0, 0.0)


def test_paper_set_is_written_as_numbers_and_a_plot(paper_set: Path, tmp_path: Path) -> None:
    data = MocapDataModule(str(paper_set), window=100)
    frames = data.sequences("test")[0].frames
    npz, png = data.render(frames, tmp_path / "out" / "sample")
    np.testing.assert_allclose(np.load(npz)["frames"], data.destandardise(frames))
    with Image.open(png) as image:
        assert image.size[0] > 500


def test_places_of_joints_need_bones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "a.npz",
        poses=rng.normal(size=(90, 66)),
        trans=rng.normal(size=(90, 3)),
        mocap_framerate=30,
    )
    with pytest.raises(DataError, match=r"a\.npz: does not say where joints are"):
        MocapDataModule(str(tmp_path), representation="positions", noise=0.1).setup()


@pytest.mark.parametrize("kind", ["6d", "positions"])
def test_constrained_features_need_declared_noise(kind: Any) -> None:
    with pytest.raises(DataError, match=f"{kind} features obey constraints.*declare noise"):
        MocapDataModule(representation=kind)


@pytest.mark.slow
def test_takes_of_many_frame_rates_and_spellings_go_together(
    short_take: Motion, tmp_path: Path
) -> None:
    names = ["Hip" if name == "Hips" else name for name in short_take.skeleton.names]
    for i, fps in enumerate((30.0, 25.0, 60.0)):
        other = short_take.resampled(fps)
        if i == 1:
            other = replace(other, skeleton=replace(other.skeleton, names=names))
        write_bvh(tmp_path / f"{i}.bvh", other)
    with pytest.raises(DataError, match=r"in excess \['Hip'\], missing \['Hips'\]"):
        MocapDataModule(str(tmp_path), window=32).setup()
    data = MocapDataModule(str(tmp_path), window=32, rename={"Hip": "Hips"}, fps=30.0)
    with pytest.warns(UserWarning, match=r"interpolated.*25 to 30 frames per second: 1 files"):
        assert data.frame_rate == 30
    a, b, c = (data.destandardise(s.frames) for s in data.sequences("train"))
    n = min(map(len, (a, b, c)))
    np.testing.assert_allclose(c[:n], a[:n], atol=2e-2)  # every second of 60 is one of 30
    assert np.abs(b[:n, 6:] - a[:n, 6:]).mean() < 0.01
    with pytest.raises(DataError, match="two joints share a name once renamed"):
        MocapDataModule(str(tmp_path), rename={"LeftLeg": "Hips", "Hip": "Hips"}).setup()


def test_takes_shorter_than_a_window_train(tmp_path: Path) -> None:
    path = tmp_path / "good.bvh"
    path.write_text(text())
    data = MocapDataModule(str(path), window=64)
    (batch,) = data.train_dataloader()
    assert batch["mask"].sum() == 41  # of 59, as many as with a window that fits
    assert batch["frames"].shape[1] == 64
    assert not batch["frames"][~batch["mask"]].any()


def test_takes_too_short_to_score_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "short.bvh"
    path.write_text(text(5).replace("Frames: 60", "Frames: 5"))
    refused(path, "4 frames, and no file has more, leave none for val.*warm-up of 3")
    path.write_text(text(2).replace("Frames: 60", "Frames: 2"))
    refused(path, "1 frames.*leave none for train", val_fraction=0, test_fraction=0)
    path.write_text(text(1).replace("Frames: 60", "Frames: 1"))
    refused(path, "fewer than 2 frames")
    refused(path, "fewer than 2 frames", skip_frames=9)


def test_a_still_take_is_refused(tmp_path: Path) -> None:
    (tmp_path / "still.bvh").write_text(GOOD + ("1 2 3 4 5 6 7 8 9\n" * 60))
    refused(tmp_path / "still.bvh", "every feature is constant")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("JOINT Leg", "JOINT Arm"), r"another skeleton \(joints in excess \['Arm'\], missing"),
        (("-4", "-400"), "100 times the size"),
    ],
)
def test_two_skeletons_that_do_not_match_are_refused(
    change: tuple[str, str], match: str, tmp_path: Path
) -> None:
    (tmp_path / "a.bvh").write_text(text())
    head, motion = text(seed=1).split("MOTION")
    (tmp_path / "b.bvh").write_text(head.replace(*change) + "MOTION" + motion)
    refused(tmp_path, rf"b\.bvh: does not fit .*a\.bvh: .*{match}")
    data = MocapDataModule(str(tmp_path / "a.bvh"), window=16)
    with pytest.raises(DataError, match=rf"b\.bvh: does not fit the training data.*{match}"):
        data.score_input(tmp_path / "b.bvh")


def test_motion_and_the_paper_set_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_text(text())
    savemat(tmp_path / "b.mat", {"batchdata": np.zeros((9, 4)), "seqlengths": [[9]]})
    refused(tmp_path, r"b\.mat.*MATLAB set")


@pytest.mark.parametrize(
    "arguments",
    [
        {"window": 0},
        {"window": 8, "stride": 9},
        {"test_fraction": 1.0},
        {"fps": 0},
        {"up": "x"},
        {"leg_length": 0.0},
        {"leg_length": float("nan")},
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(DataError):
        MocapDataModule(**arguments)  # type: ignore[arg-type]


def test_an_axis_that_nothing_tells_is_said(tmp_path: Path) -> None:
    write_bvh(tmp_path / "a.bvh", tumble(200))
    with pytest.warns(UserWarning, match=r"which axis is up: .* y \(usual for \.bvh\): set up to"):
        MocapDataModule(str(tmp_path / "a.bvh"), window=16).setup()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*which axis")
        MocapDataModule(str(tmp_path / "a.bvh"), window=16, up="z").setup()


@pytest.mark.slow
def test_no_frames_are_made_unless_asked_for(short_take: Motion, tmp_path: Path) -> None:
    n = len(short_take.positions)
    for rate, expected in ((24.0, n), (25.0, n), (30.0, n), (50.0, n / 2), (120.0, n / 4)):
        path = tmp_path / f"{rate:g}.bvh"
        write_bvh(path, replace(short_take, fps=rate))
        data = MocapDataModule(str(path), window=8, warmup=0)
        assert sum(data.describe()["frames"].values()) == expected - 1
        assert data.frame_rate == pytest.approx(rate * expected / n, rel=1e-6)
        assert data.caveats == data.describe()["caveats"]
        assert not [caveat for caveat in data.caveats if "interpolated" in caveat]
        assert data.describe()["source_frame_rates"] == {f"{rate:g}": 1}


@pytest.mark.slow
def test_the_lowest_rate_of_the_files_is_that_of_all(
    short_take: Motion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for rate in (30.0, 60.0, 120.0, 15.0):
        write_bvh(tmp_path / f"{rate:g}.bvh", replace(short_take, fps=rate))
    data = MocapDataModule(str(tmp_path), window=8)
    with caplog.at_level("INFO", logger="pytorch_lightning"):
        data.setup()
    assert "3 of 4 files are resampled to 15 frames per second, the lowest rate" in caplog.text
    assert data.frame_rate == 15
    n = {s.name: len(s.frames) for s in data.sequences("train")}
    assert n == {"120": 14, "15": 83, "30": 41, "60": 23}  # parts of warm-up alone train
    assert not [caveat for caveat in data.caveats if "interpolated" in caveat]
    again = MocapDataModule(str(tmp_path), window=8)  # from the store
    for part in ("train", "val", "test"):
        for ours, theirs in zip(again.sequences(part), data.sequences(part), strict=True):  # type: ignore[arg-type]
            # sums of the statistics may round differently from one place in memory to another
            torch.testing.assert_close(ours.frames, theirs.frames, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_files_go_with_the_rate_of_a_checkpoint(short_take: Motion, tmp_path: Path) -> None:
    for rate in (30.0, 24.0):
        write_bvh(tmp_path / f"{rate:g}.bvh", replace(short_take, fps=rate))
    state = MocapDataModule(str(tmp_path / "30.bvh"), window=8).state_dict()
    data = MocapDataModule(str(tmp_path / "24.bvh"), window=8)
    data.load_state_dict(state)
    with pytest.warns(UserWarning, match=r"24\.bvh: frames are interpolated.*24 to 30"):
        frames = data.score_input(tmp_path / "24.bvh").frames
    assert len(frames) == 148 == sum(data.describe()["frames"].values())
    assert data.frame_rate == 30


@pytest.mark.slow
def test_the_card_tells_what_the_files_are(shipped: MocapDataModule) -> None:
    card = shipped.describe()
    assert card["up"] == "y (by feet and head)"
    assert card["n_bones"] == 37
    assert card["height_of_body"][0] == pytest.approx(25, abs=1)
    assert (card["unit"], card["resampled"]) == ("not given", "nothing")
    low, high = card["root_height"]
    assert 10 < low < high < 40  # units of CMU's kind
    given = MocapDataModule(up="y")
    assert given.describe()["up"] == "y (as given)"


@pytest.mark.slow
def test_bodies_of_any_size_are_one_body(tmp_path: Path) -> None:
    """Frames, figures and what is written do not depend on the sizes that files have."""
    names, factors = ("35_04", "35_09", "35_24"), (1.0, 0.4, 20.0)
    for name, factor in zip(names, factors, strict=True):
        motion = read_bvh(SAMPLES / f"{name}.bvh.gz")
        for folder, scale in (("as they are", 1.0), ("of any size", factor)):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_bvh(tmp_path / folder / f"{name}.bvh", motion.scaled(scale))
    how: Any = {"parts": {"val": ["35_09"], "test": ["35_24"]}, "leg_length": 17.0}
    alike, scaled = (
        MocapDataModule(str(tmp_path / x), **how) for x in ("as they are", "of any size")
    )
    metres = MocapDataModule(str(tmp_path / "of any size"), **how | {"leg_length": 0.9})
    for part in ("train", "val", "test"):
        frames = [x.sequences(part)[0].frames for x in (alike, scaled, metres)]  # type: ignore[arg-type]
        for other in frames[1:]:
            np.testing.assert_allclose(other, frames[0], atol=1e-3)
    one, other = (
        x.sample_figures({"it": [x.sequences("test")[0].frames[:90]]})["it"]
        for x in (alike, metres)
    )
    for key, value in other.items():
        assert one[key] == pytest.approx(value, rel=1e-3, abs=1e-3, nan_ok=True)
    card = scaled.describe()
    assert (card["leg_length"], card["unit"]) == (17.0, "that of leg_length")
    assert "leg_length" not in MocapDataModule(str(tmp_path / "as they are"), window=16).describe()
    sequence = scaled.score_input(tmp_path / "of any size/35_24.bvh")
    written = scaled.render(sequence.frames, tmp_path / "out")
    again = read_bvh(next(x for x in written if x.suffix == ".bvh"))
    assert leg_length(again.skeleton) == pytest.approx(17.0, rel=1e-5)
    places, known = scaled.places(sequence.frames), aligned(again)
    np.testing.assert_allclose(places - places[:1, :1], known - known[:1, :1], atol=1e-3)
    with pytest.raises(DataError, match="times the size"):
        MocapDataModule(str(tmp_path / "of any size"), window=16).setup()
