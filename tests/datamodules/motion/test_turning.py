"""Frames with angles for exponential maps: one to one, kept by a checkpoint, checked in files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bodies import degrees_apart, tumble
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules import MocapDataModule
from rnade_lightning.datamodules.motion.bvh import read_bvh, write_bvh
from rnade_lightning.datamodules.motion.joints import Axes, Centred, find_axes
from rnade_lightning.datamodules.motion.representation import decode, encode
from rnade_lightning.datamodules.motion.skeleton import Motion
from rnade_lightning.datamodules.motion.turning import (
    Turned,
    turned,
    turned_names,
    unturned,
    unturned_names,
)

TWO = {"LeftFoot", "RightFoot", "LeftFingerBase", "RightFingerBase", "LThumb", "RThumb"}


@pytest.mark.slow
def test_joints_of_two_axes_of_the_shipped_motion_are_found_and_named_in_the_card(
    shipped: MocapDataModule,
) -> None:
    assert set(shipped.describe()["joints"]) == TWO
    assert "turns about (" in shipped.describe()["joints"]["LeftFoot"]
    for name in TWO:
        assert {f"{name}.about_1", f"{name}.about_2"} < set(shipped.feature_names)
        assert shipped.dropped[f"{name}.between"] == "constant"


@pytest.mark.slow
def test_turned_frames_come_back_with_every_joint_in_its_place(
    shipped: MocapDataModule, take: Motion
) -> None:
    raw = encode(take)
    frames = turned(raw, shipped.axes)
    np.testing.assert_allclose(unturned(frames, shipped.axes), raw, atol=1e-9)
    again = shipped.destandardise(shipped.standardise(frames))
    there, here = (
        decode(x, take.skeleton, take.fps).points() for x in (raw, unturned(again, shipped.axes))
    )
    bones = take.skeleton.size
    assert np.abs(here - there).max() < 1e-5 * bones  # float32


@pytest.mark.slow
def test_frames_are_turned_when_they_are_read_and_names_go_with_them(
    shipped: MocapDataModule, take: Motion
) -> None:
    raw, axes = encode(take), shipped.axes
    lazy = Turned(raw, axes)
    assert len(lazy[5:20][2:9]) == 7
    np.testing.assert_array_equal(np.asarray(lazy[5:20][2:9]), turned(raw, axes)[7:14])
    names = shipped._fitted()[0].names
    plain = unturned_names(names)
    assert turned_names(plain, axes) == names != plain


@pytest.mark.slow
def test_a_checkpoints_axes_hold_for_files_already_read(
    shipped: MocapDataModule, take: Motion, tmp_path: Path
) -> None:
    """Also where the files, other than those of the checkpoint, show other axes or none."""
    joint = take.skeleton.names.index("LeftFoot")
    rotations = take.rotations.copy()
    swing = 0.3 * np.sin(np.arange(len(rotations)) / 7)
    turn = Rotation.from_rotvec(np.stack([swing, 0.5 * swing**2, swing * 0.2], axis=1))
    rotations[:, joint] = (Rotation.from_quat(rotations[:, joint]) * turn).as_quat()
    write_bvh(tmp_path / "free.bvh", replace(take, rotations=rotations))
    data = MocapDataModule(str(tmp_path))
    data.setup()
    assert "LeftFoot" not in data.describe()["joints"]
    data.load_state_dict(shipped.state_dict())
    assert "LeftFoot" in data.describe()["joints"]
    (sequence,) = data.sequences("test")
    assert set(sequence.breaks.values()) == {"LeftFoot.between"}
    assert len(sequence.breaks) > 0.9 * len(sequence.frames)
    scored = shipped.score_input(tmp_path / "free.bvh")
    assert scored.frames[-20:].numpy() == pytest.approx(sequence.frames[-20:].numpy(), abs=1e-5)


@pytest.mark.slow
def test_a_checkpoint_leaves_turned_frames_and_what_is_given_beside_them() -> None:
    data = MocapDataModule(labels="labels.csv", control=["root.turn", "root.ahead"])
    before = list(data.sequences("test"))
    data.load_state_dict(data.state_dict())
    for was, now in zip(before, data.sequences("test"), strict=True):
        assert not now.breaks
        assert now.labels == was.labels != {}
        torch.testing.assert_close(now.frames, was.frames)
        torch.testing.assert_close(now.context, was.context)


@pytest.mark.slow
def test_a_prefix_is_written_as_it_was_given(
    shipped: MocapDataModule, take: Motion, tmp_path: Path
) -> None:
    joint = take.skeleton.names.index("LeftShoulder")  # at rest in training
    rotations = take.rotations.copy()
    rotations[:, joint] = Rotation.from_euler(
        "z", 30 * np.sin(np.arange(len(rotations)) / 9)[:, None], degrees=True
    ).as_quat()
    write_bvh(tmp_path / "moves.bvh", replace(take, rotations=rotations))
    given = shipped.score_input(tmp_path / "moves.bvh")
    assert given.breaks
    start = given.start(40)
    paths = shipped.render(given.frames[:60], tmp_path / "out", start.raw)
    written = read_bvh(next(path for path in paths if path.suffix == ".bvh"))
    assert degrees_apart(written.rotations[:40, 1:], rotations[1:41, 1:]) < 1e-4
    assert degrees_apart(written.rotations[40:, joint], written.rotations[45:46, joint]) < 1e-3


@pytest.mark.slow
def test_features_that_are_functions_of_others_are_named_in_card_and_table(
    shipped: MocapDataModule,
) -> None:
    """CMU's thumbs were derived from its hands, and its spine bends as a whole."""
    named = shipped.describe()["functions"]
    assert set(named) == {
        *("LThumb.about_1", "LThumb.about_2", "RThumb.about_1", "RThumb.about_2", "Spine1.y")
    }
    assert named["LThumb.about_2"] == ["LeftFingerBase.about_2"]
    (caveat,) = shipped.caveats
    assert "5 of 56 features are functions of others" in caveat
    assert "RThumb.about_1 of RightFingerBase.about_1 and RightFingerBase.about_2" in caveat


@pytest.mark.parametrize(
    ("order", "bound"), [("zx", True), ("yx", True), ("xy", False), ("yxz", False)]
)
def test_a_root_of_two_axes_is_named(order: str, bound: bool, tmp_path: Path) -> None:
    """Its heading is that of its tilt, unless it turns about the vertical last."""
    motion = tumble(400)
    angles = 20 * np.sin(np.arange(400)[:, None] / [7, 11, 17])[:, : len(order)]
    angles += 5 * np.random.default_rng(0).normal(size=angles.shape)
    rotations = motion.rotations.copy()
    rotations[:, 0] = Rotation.from_euler(order, angles, degrees=True).as_quat()
    write_bvh(tmp_path / "a.bvh", replace(motion, rotations=rotations))
    data = MocapDataModule(str(tmp_path / "a.bvh"), up="y", window=16)
    data.setup()
    assert any("set root_motion to position" in caveat for caveat in data.caveats) == bound
    placed = MocapDataModule(str(tmp_path / "a.bvh"), up="y", window=16, root_motion="position")
    placed.setup()
    assert not [caveat for caveat in placed.caveats if "root" in caveat]


def test_joints_of_both_kinds_come_back_and_names_tell_them_apart() -> None:
    turns = 0.4 * np.random.default_rng(0).normal(size=(200, 3))
    alpha, beta, _ = turns.T
    two = Rotation.from_rotvec(alpha[:, None] * [0, 0.6, 0.8])
    two = two * Rotation.from_rotvec(beta[:, None] * [1, 0, 0])
    hangs = Rotation.from_rotvec(turns / 2) * Rotation.from_rotvec([0, 0, 3.1])
    frames = np.column_stack([np.ones(200), two.as_rotvec(), hangs.as_rotvec()])
    names = ["root.height", *(f"{joint}.{axis}" for joint in "AB" for axis in "xyz")]
    axes = find_axes([frames], names)
    assert [type(joint) for joint in axes] == [Axes, Centred]
    assert turned_names(names, axes)[1:] == ["A.about_1", "A.about_2", "A.between", *names[4:]]
    changed = turned(frames, axes)
    np.testing.assert_allclose(changed[:, 4:], turns / 2, atol=0.2)
    back = Rotation.from_rotvec(unturned(changed, axes)[:, 4:]) * hangs.inv()
    assert back.magnitude().max() < 1e-9
    np.testing.assert_allclose(unturned(changed, axes)[:, :4], frames[:, :4], atol=1e-9)
    assert not turned(frames[:0], axes).size
