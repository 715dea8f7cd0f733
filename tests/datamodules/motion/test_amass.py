"""AMASS goes in and out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bodies import degrees_apart
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules import DataError, MocapDataModule
from rnade_lightning.datamodules.motion.amass import body_tree, is_motion, read_amass, write_amass


@pytest.mark.parametrize(("n_joints", "bones"), [(22, False), (52, True), (24, True), (55, False)])
@pytest.mark.slow
def test_amass_goes_in_and_out(n_joints: int, bones: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names, parents = body_tree(n_joints)
    assert len(names) == len(parents) == len(set(names)) == n_joints
    assert all(parent < j for j, parent in enumerate(parents))
    walk = np.cumsum(0.01 * rng.normal(size=(600, n_joints * 3)), axis=0)
    content = {"poses": walk, "trans": walk[:, :3], "mocap_framerate": 60.0, "gender": "neutral"}
    if bones:
        content["offsets"] = rng.normal(size=(n_joints, 3))
    np.savez(tmp_path / "a.npz", **content)  # type: ignore[arg-type]
    motion = read_amass(tmp_path / "a.npz")
    assert motion.skeleton.names == names
    expected = Rotation.from_rotvec(walk.reshape(-1, 3)).as_quat()
    assert degrees_apart(motion.rotations, expected) < 1e-6
    write_amass(tmp_path / "b.npz", motion)
    with np.load(tmp_path / "b.npz") as again:
        np.testing.assert_allclose(again["poses"], walk, atol=1e-9)
    (tmp_path / "b.npz").unlink()
    data = MocapDataModule(str(tmp_path), window=16)
    assert (data.layout["up"], data.frame_rate) == ("z", 30.0)
    paths = data.render(data.sequences("test")[0].frames, tmp_path / "out")
    kinds = [".npz", ".bvh", ".gif", ".html"]
    assert [path.suffix for path in paths if path.suffix != ".mp4"] == kinds
    with np.load(paths[0]) as written:
        assert ("offsets" in written) == bones
    torch.testing.assert_close(
        data.score_input(paths[0]).frames, data.sequences("test")[0].frames[1:], atol=1e-3, rtol=0
    )


def smplx(path: Path, whole: bool = True) -> np.ndarray:
    """Write a file of SMPL-X as published, objects and all; return its poses."""
    walk = np.cumsum(0.01 * np.random.default_rng(0).normal(size=(600, 165)), axis=0)
    parts = {
        "root_orient": walk[:, :3], "pose_body": walk[:, 3:66], "pose_jaw": walk[:, 66:69],
        "pose_eye": walk[:, 69:75], "pose_hand": walk[:, 75:],
    }  # fmt: skip
    content = parts | {"trans": walk[:, :3], "betas": np.zeros(16), "mocap_frame_rate": 120.0}
    content |= {"surface_model_type": "smplx", "latent_labels": np.array(["a", "b"])}
    content |= {"markers_latent_vids": np.array({"a": 1}, dtype=object)}
    content |= {"poses": walk} if whole else {}
    np.savez(path, **content)  # type: ignore[arg-type]
    return walk


@pytest.mark.parametrize("whole", [True, False])
def test_smplx_is_read_whole_or_in_parts_and_without_its_objects(
    whole: bool, tmp_path: Path
) -> None:
    walk = smplx(tmp_path / "a_stageii.npz", whole)
    motion = read_amass(tmp_path / "a_stageii.npz")
    expected = Rotation.from_rotvec(walk.reshape(-1, 3)).as_quat()
    assert degrees_apart(motion.rotations, expected) < 1e-6
    assert (motion.fps, motion.skeleton.names) == (120, body_tree(55)[0])


@pytest.mark.slow
def test_shapes_of_bodies_in_a_tree_are_no_motion(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "01").mkdir()
    smplx(tmp_path / "01" / "walk_stageii.npz")
    shapes = ["shape.npz", "neutral_stagei.npz"]
    for name in shapes:
        vids = np.array({"a": 1}, dtype=object)
        np.savez(
            tmp_path / "01" / name, betas=np.zeros(16), gender="male", markers_latent_vids=vids
        )
    data = MocapDataModule(str(tmp_path), window=16, cache_dir=str(tmp_path / "cache"))
    data.setup()
    assert data.describe()["n_files"] == 1
    assert "2 files hold no motion and are left out: neutral_stagei.npz, shape.npz" in caplog.text
    assert len(data.score_inputs(tmp_path)) == 1
    for name in shapes:
        with pytest.raises(DataError, match=rf"{name}: holds the shape of a body and no motion"):
            MocapDataModule(str(tmp_path / "01" / name), cache_dir=str(tmp_path / "c")).setup()


def test_parts_of_different_lengths_are_refused(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz", root_orient=np.zeros((9, 3)), pose_body=np.zeros((8, 63)),
        trans=np.zeros((9, 3)), fps=30.0,
    )  # fmt: skip
    with pytest.raises(DataError, match=r"a\.npz: .* have different lengths"):
        read_amass(tmp_path / "a.npz")


def test_two_rates_that_differ_are_refused(tmp_path: Path) -> None:
    body = {"poses": np.zeros((9, 66)), "trans": np.zeros((9, 3)), "mocap_framerate": 120.0}
    np.savez(tmp_path / "a.npz", **body, mocap_frame_rate=120)  # type: ignore[arg-type]
    assert read_amass(tmp_path / "a.npz").fps == 120
    np.savez(tmp_path / "a.npz", **body, mocap_frame_rate=60)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"a\.npz: mocap_framerate is 120, mocap_frame_rate is 60"):
        read_amass(tmp_path / "a.npz")


def test_poses_of_other_sources_are_refused_and_not_passed_over(tmp_path: Path) -> None:
    body = {"betas": np.zeros(10), "body_pose": np.zeros((9, 63)), "transl": np.zeros((9, 3))}
    np.savez(tmp_path / "a.npz", **body)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"a\.npz: has body_pose, .* write poses, trans \(z up\)"):
        read_amass(tmp_path / "a.npz")
    assert is_motion(body)


@pytest.mark.parametrize("value", [1e300, -1e5, 1e160])
def test_numbers_that_are_no_angles_are_refused(value: float, tmp_path: Path) -> None:
    poses = np.zeros((9, 66))
    poses[4, 7] = value
    np.savez(tmp_path / "a.npz", poses=poses, trans=np.zeros((9, 3)), fps=30.0)
    with pytest.raises(DataError, match=r"a\.npz: poses, frame 4, number 7 is .* no angle"):
        read_amass(tmp_path / "a.npz")
