"""AMASS goes in and out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bodies import degrees_apart
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules import MocapDataModule
from rnade_lightning.datamodules.motion.amass import _tree, read_amass, write_amass


@pytest.mark.parametrize(("n_joints", "bones"), [(22, False), (52, True), (24, True), (55, False)])
def test_amass_goes_in_and_out(n_joints: int, bones: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names, parents = _tree(n_joints)
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
    kinds = [".npz", ".bvh", ".gif", ".html"] if bones else [".npz"]
    assert [path.suffix for path in paths if path.suffix != ".mp4"] == kinds
    torch.testing.assert_close(
        data.score_input(paths[0]).frames, data.sequences("test")[0].frames[1:], atol=1e-3, rtol=0
    )
