"""Places of joints are read with declared noise, and drawn where they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules import DataError, MocapDataModule
from rnade_lightning.datamodules.motion.amass import body_tree
from rnade_lightning.datamodules.motion.generic import with_bones
from rnade_lightning.datamodules.motion.places import Located, holds_motion, read_numpy
from rnade_lightning.datamodules.motion.representation import points_of
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton


def stroll(n_frames: int = 120, n_joints: int = 22, seed: int = 0) -> np.ndarray:
    """Return places of the joints of a body that walks in a curve, ``(T, J, 3)``, y up."""
    rng, names = np.random.default_rng(seed), body_tree(n_joints)
    bare = Skeleton(*names, np.zeros((n_joints, 3)), [], np.zeros((0, 3)), ["ZYX"] * n_joints)
    body = with_bones(bare)
    assert body is not None
    t = np.arange(n_frames) / 20
    waves = 0.4 * np.sin(5 * t[:, None, None] + rng.uniform(0, 6, (n_joints, 3)))
    waves[:, 0] = np.stack([0 * t, 0.5 * t, 0 * t], axis=-1)
    turns = Rotation.from_rotvec(waves.reshape(-1, 3)).as_quat().reshape(n_frames, n_joints, 4)
    where = np.stack([2 * np.sin(t / 3), 0.95 + 0.02 * np.sin(9 * t), t], axis=-1)
    return Motion(body, where, turns, 20.0).points()[:, :n_joints]


def data_of(root: Path, **options: Any) -> MocapDataModule:
    cache = str(root.parent / "cache")
    return MocapDataModule(
        str(root), **{"window": 16, "noise": 0.01, "cache_dir": cache, **options}
    )


@pytest.mark.parametrize("representation", ["expmap", "positions"])
@pytest.mark.parametrize("root_motion", ["velocity", "position"])
@pytest.mark.slow
def test_frames_are_read_and_put_where_they_were(
    root_motion: Any, representation: Any, tmp_path: Path
) -> None:
    root = tmp_path / "joints"
    root.mkdir()
    np.save(root / "a.npy", stroll().astype(np.float32))
    data = data_of(root, root_motion=root_motion, representation=representation)
    assert (data.frame_rate, data.layout["up"]) == (20, "y")
    recording = data.read(root / "a.npy")
    body = Skeleton.from_state(recording.layout["places"])
    found = points_of(recording.frames[""], body, 20.0, "y", "positions", root_motion)
    expected = stroll()[1:] if root_motion == "velocity" else stroll()

    def apart(points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)

    np.testing.assert_allclose(apart(found), apart(expected), atol=1e-5)
    np.testing.assert_allclose(found[..., 1], expected[..., 1], atol=1e-5)
    steps = np.linalg.norm(np.diff(found[:, 0], axis=0), axis=1)
    np.testing.assert_allclose(
        steps, np.linalg.norm(np.diff(expected[:, 0], axis=0), axis=1), atol=1e-5
    )
    paths = data.render(data.sequences("test")[0].frames, tmp_path / "out" / "m")
    assert [path.suffix for path in paths if path.suffix != ".mp4"] == [".npz", ".gif", ".html"]


def test_velocities_do_not_depend_on_where_and_which_way(tmp_path: Path) -> None:
    turn = Rotation.from_rotvec([0, 1.1, 0])
    turned = turn.apply(stroll().reshape(-1, 3)).reshape(stroll().shape) + np.array([3, 0, -5])
    for name, places in (("a.npy", stroll()), ("b.npy", turned), ("c.npy", turned[..., [2, 0, 1]])):
        np.save(tmp_path / name, places)
    data = data_of(tmp_path)
    first, *others = (data.read(tmp_path / f"{name}.npy") for name in "abc")
    assert [first.layout["up"], *(x.layout["up"] for x in others)] == ["y", "y", "z"]
    for other in others:
        np.testing.assert_allclose(other.frames[""], first.frames[""], atol=1e-9)


def test_without_noise_they_are_refused_in_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", stroll())
    with pytest.raises(DataError, match=r"a\.npy: .*set --data\.noise above 0") as caught:
        data_of(tmp_path / "a.npy", noise=0.0).setup()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_joints_of_any_number_are_read_and_drawn_as_dots(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(400, 17, 3)))
    data = data_of(tmp_path / "a.npy", npy_fps=50.0, rename={"joint_0": "hips"})
    assert (data.frame_rate, data.feature_names[-1]) == (25, "joint_16.z")
    assert data.render(data.sequences("test")[0].frames, tmp_path / "out" / "m")


def test_an_archive_may_give_rate_names_and_parents(tmp_path: Path) -> None:
    places = stroll(60)[:, [0, 3, 6]]
    np.savez(tmp_path / "a.npz", x=places, fps=30.0, names=["a", "b", "c"], parents=[-1, 0, 1])
    found = read_numpy(tmp_path / "a.npz", 20.0)
    assert isinstance(found, Located)
    assert (found.fps, found.skeleton.names, found.skeleton.parents) == (
        30,
        ["a", "b", "c"],
        [-1, 0, 1],
    )
    bones = np.linalg.norm(places[0, 1:] - places[0, :-1], axis=1)
    np.testing.assert_allclose(np.linalg.norm(found.skeleton.offsets[1:], axis=1), bones)


REFUSED: dict[str, tuple[Any, str]] = {
    "features": (np.zeros((50, 263)), r"give the joints \(frames, 22, 3\)"),
    "numbers": (np.zeros((50, 10)), "not places of joints"),
    "words": (np.array([[["a"] * 3]]), "not places of joints"),
    "not finite": (np.where(np.arange(3) == 1, np.nan, stroll()), "frame 0, joint 0 is not finite"),
    "rotations": (np.random.default_rng(0).normal(size=(90, 22, 3)), "bones vary by"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_no_place_of_a_joint_is_refused(fault: str, tmp_path: Path) -> None:
    array, match = REFUSED[fault]
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=rf"a\.npy: .*{match}"):
        read_numpy(tmp_path / "a.npy", 20.0)


def test_means_that_lie_beside_are_no_motion(tmp_path: Path) -> None:
    np.save(tmp_path / "Mean.npy", np.zeros(263))
    np.save(tmp_path / "a.npy", stroll())
    (tmp_path / "bad.npy").write_bytes(b"x")
    assert [holds_motion(tmp_path / f"{name}.npy") for name in ("Mean", "a", "bad")] == [
        False, True, True,
    ]  # fmt: skip


def test_rates_are_changed_on_straight_lines(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", stroll())
    found = read_numpy(tmp_path / "a.npy", 20.0)
    assert isinstance(found, Located)
    twice = found.resampled(40.0)
    np.testing.assert_allclose(twice.points()[1], (stroll()[0] + stroll()[1]) / 2)
    assert len(twice.rotations) == len(twice.positions) == len(twice.places) == 239
