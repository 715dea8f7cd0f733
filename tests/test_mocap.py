"""Motion to features and back, files written for other programs, the paper's set."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pymotion.io.bvh import BVH
from pymotion.ops.skeleton import fk
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from rnade_lightning.checkpoints import load_data
from rnade_lightning.datamodules import MocapDataModule
from rnade_lightning.datamodules.motion.bvh import read_bvh, write_bvh
from rnade_lightning.datamodules.motion.representation import (
    about_vertical,
    decode,
    encode,
    feature_names,
    swing_twist,
    to_maps,
    unwrap,
)
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton, from_euler

SAMPLES = MocapDataModule.shipped
BVH_TEXT = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Yposition Xposition Zposition Yrotation Xrotation Zrotation
  JOINT Left Leg
  {
    OFFSET 1 -2 0.5
    CHANNELS 3 Xrotation Zrotation Yrotation
    End Site
    {
      OFFSET 0 -3 0
    }
  }
  JOINT MOTION Head {
    OFFSET 0 2 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site { OFFSET 0 1 0 }
  }
}
MOTION
Frames: 2
Frame Time: 0.04
9 8 7 10 20 30 40 50 60 70 80 -90
9.5 8 7 11 20 30 40 50 60 70 80 -90
"""


@pytest.fixture(scope="module")
def take() -> Motion:
    assert SAMPLES is not None
    return read_bvh(SAMPLES / "01_03_b.bvh.gz")


@pytest.fixture(scope="module")
def shipped() -> MocapDataModule:
    return MocapDataModule()


def tumble(n_frames: int = 200, seed: int = 0) -> Motion:
    """Three joints that turn at random, some far past half a turn, the root upright or so."""
    rng = np.random.default_rng(seed)
    skeleton = Skeleton(
        ["Hips", "Leg", "Head"],
        [-1, 0, 0],
        rng.normal(size=(3, 3)),
        [1],
        np.ones((1, 3)),
        ["ZYX"] * 3,
    )
    walk = np.cumsum(0.2 * rng.normal(size=(n_frames, 3, 3)), axis=0)
    walk[:, 0, ::2] *= 0.2
    rotations = Rotation.from_rotvec(walk.reshape(-1, 3)).as_quat().reshape(n_frames, 3, 4)
    return Motion(skeleton, np.cumsum(rng.normal(size=(n_frames, 3)), axis=0), rotations, 30.0)


def degrees_apart(a: np.ndarray, b: np.ndarray) -> float:
    """Largest angle between two sets of rotations given as quaternions."""
    turn = Rotation.from_quat(a.reshape(-1, 4)).inv() * Rotation.from_quat(b.reshape(-1, 4))
    return float(np.degrees(turn.magnitude()).max())


def aligned(motion: Motion, start: int = 0) -> np.ndarray:
    """World points, moved so that frame ``start`` stands above the origin with heading zero."""
    heading, _ = swing_twist(Rotation.from_quat(motion.rotations[:, 0]))
    points = motion.points()[start:]
    points[..., ::2] -= motion.positions[start, ::2]
    flat = about_vertical(np.full(1, -heading[start])).apply(points.reshape(-1, 3))
    return np.asarray(flat.reshape(points.shape))


# Rotations


def test_swing_and_twist_compose_to_the_rotation_and_the_swing_is_level() -> None:
    rotation = Rotation.random(500, rng=np.random.default_rng(0))
    heading, tilt = swing_twist(rotation)
    np.testing.assert_allclose(tilt[:, 1], 0, atol=1e-12)
    again = about_vertical(heading) * Rotation.from_rotvec(tilt)
    assert degrees_apart(again.as_quat(), rotation.as_quat()) < 1e-6


def test_tilt_does_not_depend_on_heading() -> None:
    rotation = Rotation.random(50, rng=np.random.default_rng(1))
    turned = about_vertical(np.full(50, 0.7)) * rotation
    level, again = (Rotation.from_rotvec(swing_twist(r)[1]) for r in (rotation, turned))
    assert degrees_apart(level.as_quat(), again.as_quat()) < 1e-6


@pytest.mark.parametrize("axis", [[1, 0, 0], [0.6, 0, -0.8], [-1, 2, 2]])
def test_unwrapping_has_no_jump_above_pi_and_keeps_the_rotation(axis: list[float]) -> None:
    angle = np.cumsum(np.abs(np.random.default_rng(0).normal(0.3, 0.3, size=200)))  # many turns
    steady = angle[:, None] * np.array(axis) / np.linalg.norm(axis)
    wrapped = Rotation.from_rotvec(steady).as_rotvec()
    assert np.linalg.norm(np.diff(wrapped, axis=0), axis=-1).max() > np.pi
    unwrapped = unwrap(wrapped)
    assert np.linalg.norm(np.diff(unwrapped, axis=0), axis=-1).max() < np.pi
    np.testing.assert_allclose(unwrapped - unwrapped[0], steady - steady[0], atol=1e-9)
    assert degrees_apart(*(Rotation.from_rotvec(m).as_quat() for m in (unwrapped, wrapped))) < 1e-6


@pytest.mark.parametrize("order", ["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX", "XYX"])
def test_quaternions_and_maps_are_those_of_scipy(order: str) -> None:
    rng = np.random.default_rng(0)
    angles = rng.normal(scale=200, size=(400, 5, 3))
    angles[:2], angles[2:4] = 0, 1e-9 * angles[2:4]
    angles[4] = 90 * rng.integers(-8, 9, size=(5, 3))
    expected = Rotation.from_euler(order, angles.reshape(-1, 3), degrees=True)
    quaternions = from_euler(order, angles)
    np.testing.assert_allclose(quaternions.reshape(-1, 4), expected.as_quat(), atol=1e-15)
    maps = to_maps(quaternions).reshape(-1, 3)
    np.testing.assert_allclose(maps, expected.as_rotvec(), rtol=1e-12, atol=2e-15)
    assert to_maps(np.array([0.0, 0, 0, -1])).tolist() == [0, 0, 0]


def test_features_of_real_motion_do_not_jump(shipped: MocapDataModule) -> None:
    for split in ("train", "val", "test"):
        for sequence in shipped.sequences(split):  # type: ignore[arg-type]
            raw = shipped.destandardise(sequence.frames)
            maps = raw[:, 6:].reshape(len(raw), -1, 3)
            assert np.linalg.norm(np.diff(maps, axis=0), axis=-1).max() < np.pi / 2


# Features


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize("source", ["tumble", "take"])
def test_features_to_bvh_to_features(source: str, up: str, take: Motion, tmp_path: Path) -> None:
    motion = tumble() if source == "tumble" else take
    features = encode(motion, up)
    assert features.shape == (len(motion.positions) - 1, len(feature_names(motion.skeleton)))
    write_bvh(tmp_path / "again.bvh", decode(features, motion.skeleton, motion.fps, up))
    again = encode(read_bvh(tmp_path / "again.bvh"), up)
    # A joint may begin on another branch in the shorter file: compare rotations, then the rest.
    maps = [x[:, 6:].reshape(-1, 3) for x in (again, features[1:])]
    assert degrees_apart(*(Rotation.from_rotvec(m).as_quat() for m in maps)) < 1e-6
    np.testing.assert_allclose(again[:, :6], features[1:, :6], atol=1e-6)
    if source == "take":
        np.testing.assert_allclose(again, features[1:], atol=1e-6)


@pytest.mark.parametrize("source", ["tumble", "take"])
def test_world_positions_survive_the_round_trip(source: str, take: Motion) -> None:
    motion = tumble() if source == "tumble" else take
    again = decode(encode(motion), motion.skeleton, motion.fps)
    error = np.abs(aligned(again) - aligned(motion, start=1)).max()
    assert error < 1e-6 * np.abs(aligned(motion, start=1)).max()


def test_features_do_not_know_where_or_which_way(take: Motion) -> None:
    turn = Rotation.from_rotvec([0, 2.0, 0])
    moved = take.rotations.copy()
    moved[:, 0] = (turn * Rotation.from_quat(moved[:, 0])).as_quat()
    positions = turn.apply(take.positions) + np.array([5.0, 0, -3.0])
    there = encode(replace(take, positions=positions, rotations=moved))
    np.testing.assert_allclose(there, encode(take), atol=1e-9)


def test_walking_ahead_is_ahead() -> None:
    skeleton = Skeleton(["Hips"], [-1], np.zeros((1, 3)), [], np.zeros((0, 3)), ["ZYX"])
    facing = about_vertical(np.full(4, 0.5 * np.pi)).as_quat()[:, None]  # from z to x
    places = np.array([[0.0, 9, 0], [1, 9, 0], [2, 9, 0], [3, 9, 0]])
    motion = Motion(skeleton, places, facing, 30.0)
    np.testing.assert_allclose(encode(motion), [[0, 0, 1, 9, 0, 0]] * 3, atol=1e-12)


def test_resampling_keeps_every_nth_frame_or_turns_evenly(take: Motion) -> None:
    thirds = take.resampled(10.0003)
    assert np.array_equal(thirds.rotations, take.rotations[::3])
    angle = np.outer(np.arange(11), [0.3, 0.0, 0.0])
    rotations = Rotation.from_rotvec(angle).as_quat()[:, None]
    skeleton = Skeleton(["Hips"], [-1], np.zeros((1, 3)), [], np.zeros((0, 3)), ["ZYX"])
    even = Motion(skeleton, 2 * angle, rotations, 25.0).resampled(30.0)
    expected = np.arange(13) * 25 / 30 * 0.3
    np.testing.assert_allclose(even.positions[:, 0], 2 * expected, atol=1e-12)
    again = np.unwrap(Rotation.from_quat(even.rotations[:, 0]).as_rotvec()[:, 0])
    np.testing.assert_allclose(again, expected, atol=1e-12)


# Files


def test_bvh_is_read_by_channel_name(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_text(BVH_TEXT)
    motion = read_bvh(tmp_path / "a.bvh")
    assert motion.fps == 25
    assert motion.skeleton.names == ["Hips", "Left_Leg", "MOTION_Head"]
    assert motion.skeleton.parents == [-1, 0, 0]
    np.testing.assert_allclose(motion.positions, [[8, 9, 7], [8, 9.5, 7]])
    expected = Rotation.from_euler("YXZ", [10, 20, 30], degrees=True).as_quat()
    assert degrees_apart(motion.rotations[0, 0], expected) < 1e-6
    foot = Rotation.from_euler("XZY", [40, 50, 60], degrees=True).apply([0, -3, 0])
    foot = motion.positions[0] + Rotation.from_quat(expected).apply(np.array([1, -2, 0.5]) + foot)
    np.testing.assert_allclose(motion.points()[0, 3], foot)


def test_numbers_are_read_as_python_reads_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = ["-0", "+1.", ".5", "1e-320", "4.9e-324", "1E3", "9007199254740993", "0.1e-6", "007.70"]
    words += ["123456789012345678901234567890", "2.2250738585072011e-308", "0." + 30 * "0" + "1"]
    words += [repr(float(x)) for x in rng.normal(size=500)] + [
        f"{x:.25g}" for x in rng.normal(size=100)
    ]
    words += ["0"] * (-len(words) % 3)
    joint = "HIERARCHY\nROOT A\n{\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition "
    joint += "Zrotation Yrotation Xrotation\nEnd Site\n{\nOFFSET 0 1 0\n}\n}\nMOTION\n"
    rows = [" \t".join([*words[i : i + 3], "0 0 0 "]) for i in range(0, len(words), 3)]
    path = tmp_path / "a.bvh"
    path.write_text(joint + f"Frames: {len(rows)}\nFrame Time: .01\n" + "\n\n".join(rows))
    expected = np.array(list(map(float, words)))
    assert read_bvh(path).positions.tobytes() == expected.tobytes()


def test_forward_kinematics_agree_with_pymotion(take: Motion) -> None:
    w_first = np.roll(take.rotations, 1, axis=-1)
    parents = np.array([0, *take.skeleton.parents[1:]])
    offsets = take.skeleton.offsets.copy()
    offsets[0] = 0
    expected, _ = fk(w_first, take.positions, offsets, parents)
    points = take.points()
    np.testing.assert_allclose(points[:, : len(parents)], expected, atol=1e-6)
    lengths = [np.linalg.norm(points[:, b] - points[:, a], axis=-1) for a, b in take.skeleton.bones]
    assert np.ptp(lengths, axis=-1).max() < 1e-9  # bones stay as long as they are


def test_written_bvh_is_read_alike_by_pymotion_and_here(take: Motion, tmp_path: Path) -> None:
    write_bvh(tmp_path / "take.bvh", take)
    ours = read_bvh(tmp_path / "take.bvh")
    other = BVH()
    other.load(str(tmp_path / "take.bvh"))
    rotations, positions, _, offsets, end_sites, _ = other.get_data()
    assert degrees_apart(ours.rotations, take.rotations) < 1e-4
    assert degrees_apart(np.roll(rotations, -1, axis=-1), take.rotations) < 1e-4
    np.testing.assert_allclose(positions[:, 0], take.positions, atol=1e-6)
    np.testing.assert_allclose(offsets, take.skeleton.offsets, atol=1e-5)
    np.testing.assert_allclose(end_sites, take.skeleton.end_offsets, atol=1e-5)
    assert (ours.skeleton.names, ours.skeleton.parents) == (
        take.skeleton.names,
        take.skeleton.parents,
    )
    assert ours.fps == pytest.approx(take.fps, rel=1e-6)


def test_compressed_bvh_is_the_same_motion_and_the_same_bytes(take: Motion, tmp_path: Path) -> None:
    for name in ("a.bvh.gz", "b.bvh.gz", "c.bvh"):
        write_bvh(tmp_path / name, take)
    assert (tmp_path / "a.bvh.gz").read_bytes() == (tmp_path / "b.bvh.gz").read_bytes()
    assert (
        gzip.decompress((tmp_path / "a.bvh.gz").read_bytes()) == (tmp_path / "c.bvh").read_bytes()
    )


# The data module


def test_shipped_motion_is_small_continuous_and_acknowledged(shipped: MocapDataModule) -> None:
    assert SAMPLES is not None
    assert sum(file.stat().st_size for file in SAMPLES.iterdir()) < 1.5e6
    assert "NSF EIA-0196217" in shipped.describe()["source"]
    assert (shipped.n_features, shipped.frame_rate) == (62, 30.0)
    limbs = ("Arm", "Leg", "Spine", "Back", "Hips", "Neck", "Head")
    for file in SAMPLES.glob("*.gz"):
        motion = read_bvh(file)
        for j, name in enumerate(motion.skeleton.names):
            if name.endswith(limbs):
                assert degrees_apart(motion.rotations[1:, j], motion.rotations[:-1, j]) < 45


def test_hinges_of_the_shipped_motion_are_found(shipped: MocapDataModule) -> None:
    hinges = {name for name, why in shipped.dropped.items() if why != "constant"}
    assert hinges == {
        *("LeftLeg.y", "RightLeg.y", "LeftToeBase.y", "RightToeBase.y"),
        *("LeftForeArm.z", "RightForeArm.z"),
    }


def test_dropped_features_come_back_to_rounding(shipped: MocapDataModule, take: Motion) -> None:
    raw = encode(take)
    again = shipped.destandardise(shipped.standardise(raw))
    np.testing.assert_allclose(again, raw, atol=2e-5)


def test_rendered_files_can_be_played(shipped: MocapDataModule, tmp_path: Path) -> None:
    frames = shipped.sequences("test")[0].frames[:30]
    bvh, gif, html, *film = shipped.render(frames, tmp_path / "new folder" / "walk.1")
    assert [path.name for path in (bvh, gif, html)] == ["walk.1.bvh", "walk.1.gif", "walk.1.html"]
    again = shipped.score_input(bvh)
    torch.testing.assert_close(again.frames, frames[1:], atol=2e-3, rtol=0)
    with Image.open(gif) as image:
        assert (image.n_frames, image.info["duration"]) == (15, 70)  # type: ignore[attr-defined]
        assert gif.stat().st_size < 2e6 * 15 / 75
    page = html.read_text()
    assert "__" not in page.replace("__proto__", "")
    assert "http" not in page
    assert sorted(bvh.parent.iterdir()) == sorted([bvh, gif, html, *film])


def test_state_of_motion_renders_without_files(shipped: MocapDataModule, tmp_path: Path) -> None:
    torch.save({"MocapDataModule": shipped.state_dict()}, tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    checkpoint["datamodule_hyper_parameters"] = {"root": str(tmp_path / "gone"), "window": 16}
    checkpoint["data_class"] = "rnade_lightning.datamodules.MocapDataModule"
    again = load_data(checkpoint)
    frames = shipped.sequences("test")[0].frames[:4]
    first, second = (m.render(frames, tmp_path / str(i))[0] for i, m in enumerate((shipped, again)))
    assert first.read_text() == second.read_text()


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


@pytest.fixture
def paper_set(tmp_path: Path) -> Path:
    data = np.random.default_rng(0).normal(size=(438 + 260 + 312, 49))
    savemat(tmp_path / "MOCAP.mat", {"batchdata": data, "seqlengths": [[438, 260, 312]]})
    return tmp_path / "MOCAP.mat"


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
