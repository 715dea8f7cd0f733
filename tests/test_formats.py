"""Formats other than BVH, representations and figures: what goes in comes out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat
from scipy.spatial.transform import Rotation
from test_mocap import aligned, degrees_apart, tumble

from rnade_lightning.datamodules import DataError, MocapDataModule
from rnade_lightning.datamodules.core.arrays import ArrayDataModule
from rnade_lightning.datamodules.motion.amass import _tree, read_amass, write_amass
from rnade_lightning.datamodules.motion.asfamc import read_amc
from rnade_lightning.datamodules.motion.bvh import read_bvh, write_bvh
from rnade_lightning.datamodules.motion.c3d import read_c3d, whole_pieces
from rnade_lightning.datamodules.motion.mat import read_mat
from rnade_lightning.datamodules.motion.metrics import find_limits, motion_figures
from rnade_lightning.datamodules.motion.representation import (
    TO_Y_UP,
    decode,
    encode,
    euler_angles,
    feature_names,
    from_six,
    points_of,
    six,
)
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton

SAMPLES = MocapDataModule.shipped
KINDS: list[Any] = ["expmap", "6d", "positions", "raw"]
ROOTS: list[Any] = ["velocity", "position"]

ASF = """# made for a test
:version 1.10
:units
  length 0.45
  angle deg
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name thigh
     direction 0 -1 0
     length 4
     axis 0 0 20 XYZ
    dof rx ry rz
    limits (-160.0 20.0)
           (-70.0 70.0)
           (-60.0 70.0)
  end
  begin
     id 2
     name shin
     direction 0.6 -0.8 0
     length 5
     axis 30 -20 10 XYZ
    dof rx
    limits (-10.0 170.0)
  end
  begin
     id 3
     name head
     direction 0 1 0
     length 2
     axis 0 0 0 XYZ
  end
:hierarchy
  begin
    root head thigh
    thigh shin
  end
"""


def amc(n_frames: int, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(size=(n_frames, 10)), axis=0)
    lines = ["#!made for a test", ":FULLY-SPECIFIED", ":DEGREES"]
    for t, row in enumerate(walk, start=1):
        words = [f"{value:.6g}" for value in row]
        lines += [str(t), "root " + " ".join(words[:6])]
        lines += ["thigh " + " ".join(words[6:9]), "shin " + words[9]]
    return "\n".join(lines) + "\n"


@pytest.fixture
def acclaim(tmp_path: Path) -> Path:
    (tmp_path / "07.asf").write_text(ASF)
    (tmp_path / "07_01.amc").write_text(amc(400))
    return tmp_path / "07_01.amc"


@pytest.fixture(scope="module")
def take() -> Motion:
    assert SAMPLES is not None
    whole = read_bvh(SAMPLES / "01_03_b.bvh.gz")
    return replace(whole, positions=whole.positions[:120], rotations=whole.rotations[:120])


# ASF and AMC


def test_acclaim_bones_are_placed_by_their_global_rotation(acclaim: Path) -> None:
    """Against the definition: G = G_parent C M C^-1, a bone goes from its parent's end to its own
    end, along G times its direction."""
    motion = read_amc(acclaim, 120)
    assert motion.skeleton.names == ["root", "head", "thigh", "shin"]
    words = acclaim.read_text().splitlines()[3 + 4 * 250 :][:4]
    root, thigh, shin = (np.array(line.split()[1:], dtype=float) for line in words[1:])

    def turn(angles: Any, order: str = "xyz") -> np.ndarray:
        return np.asarray(Rotation.from_euler(order, angles, degrees=True).as_matrix())

    world = turn(root[3:])
    axes = turn([0, 0, 20])
    world_thigh = world @ axes @ turn(thigh) @ axes.T
    axes = turn([30, -20, 10])
    world_shin = world_thigh @ axes @ turn(shin, "x") @ axes.T
    knee = root[:3] + world_thigh @ [0, -4, 0]
    points = motion.points()[250]
    np.testing.assert_allclose(points[3], knee, atol=1e-9)
    np.testing.assert_allclose(points[4], root[:3] + world @ [0, 2, 0], atol=1e-9)
    np.testing.assert_allclose(points[5], knee + world_shin @ [3, -4, 0], atol=1e-9)


def test_acclaim_motion_is_written_as_bvh_with_the_same_points(acclaim: Path) -> None:
    motion = read_amc(acclaim, 120)
    write_bvh(acclaim.with_suffix(".bvh"), motion)
    again = read_bvh(acclaim.with_suffix(".bvh"))
    assert again.skeleton.names == motion.skeleton.names
    np.testing.assert_allclose(again.points(), motion.points(), atol=1e-5)


def test_acclaim_takes_are_data(acclaim: Path, tmp_path: Path) -> None:
    data = MocapDataModule(str(acclaim.parent), window=32)
    assert (data.frame_rate, data.layout["format"]) == (30.0, "amc")
    assert sum(len(s.frames) for p in ("train", "val", "test") for s in data.sequences(p)) == 99  # type: ignore[arg-type]
    assert "shin.y" in data.dropped or "shin.x" in data.dropped  # one axis
    frames = data.sequences("test")[0].frames
    bvh = data.render(frames, tmp_path / "out" / "walk")[0]
    again = data.score_input(bvh).frames
    torch.testing.assert_close(again, frames[1:], atol=1e-3, rtol=0)


def test_another_asf_beside_is_taken_if_it_is_the_only_one(acclaim: Path) -> None:
    acclaim.with_name("07.asf").rename(acclaim.with_name("someone.asf"))
    assert len(read_amc(acclaim, 120).positions) == 400
    acclaim.with_name("other.asf").write_text(ASF)
    with pytest.raises(DataError, match=r"07_01\.amc: has no skeleton"):
        read_amc(acclaim, 120)


# C3D


def c3d_bytes(points: np.ndarray, kind: int = 84, integers: bool = False) -> bytes:
    """A file as Intel (84), DEC (85) or MIPS (86) machines write it; NaN marks a gap."""
    end = ">" if kind == 86 else "<"
    n_frames, n_markers, _ = points.shape

    def floats(values: Any) -> bytes:
        raw = np.asarray(values, dtype=np.float32)
        if kind != 85:
            return raw.astype(f"{end}f4").tobytes()
        return (raw * 4).view("<u2").reshape(-1, 2)[:, ::-1].tobytes()

    def word(*values: int) -> bytes:
        return np.array(values, dtype=f"{end}u2").tobytes()

    scale = 0.5 if integers else -1.0
    records = b""

    def record(name: str, group: int, content: bytes) -> bytes:
        return bytes([len(name), group % 256]) + name.encode() + word(len(content) + 2) + content

    records += record("POINT", -1, b"\0")
    records += record("USED", 1, bytes([2, 0]) + word(n_markers) + b"\0")
    records += record("RATE", 1, bytes([4, 0]) + floats([60.0]) + b"\0")
    records += record("SCALE", 1, bytes([4, 0]) + floats([scale]) + b"\0")
    records += record("FRAMES", 1, bytes([2, 0]) + word(n_frames) + b"\0")
    names = "".join(f"M{i:<3}" for i in range(n_markers)).encode()
    records += record("LABELS", 1, bytes([255, 2, 4, n_markers]) + names + b"\0")
    parameters = (bytes([1, 80, 2, kind]) + records + b"\0\0").ljust(1024, b"\0")
    header = bytes([2, 0x50]) + word(n_markers, 0, 1, n_frames, 0) + floats([scale])
    header += word(4, 0) + floats([60.0])
    values = np.zeros((n_frames, n_markers, 4))
    values[..., :3] = np.where(np.isnan(points), 0, points / (scale if integers else 1))
    values[..., 3] = np.where(np.isnan(points).any(axis=-1), -1, 0)
    data = values.astype(f"{end}i2").tobytes() if integers else floats(values.ravel())
    return header.ljust(512, b"\0") + parameters + data


@pytest.fixture
def cloud() -> np.ndarray:
    points = 300 + 100 * np.sin(np.arange(300)[:, None, None] / 9 + np.arange(12).reshape(4, 3))
    points = np.round(points * 2) / 2
    points[40:45, 1] = np.nan
    points[150:190, 2] = np.nan
    return points


@pytest.mark.parametrize("kind", [84, 85, 86])
@pytest.mark.parametrize("integers", [False, True])
def test_c3d_of_every_machine_is_read(
    kind: int, integers: bool, cloud: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "a.c3d").write_bytes(c3d_bytes(cloud, kind, integers))
    found = read_c3d(tmp_path / "a.c3d")
    np.testing.assert_allclose(found.points, cloud, atol=1e-4)
    assert (found.names, found.fps) == (["M0", "M1", "M2", "M3"], 60.0)


def test_c3d_is_read_as_ezc3d_reads_and_writes_it(cloud: np.ndarray, tmp_path: Path) -> None:
    ezc3d = pytest.importorskip("ezc3d")
    (tmp_path / "a.c3d").write_bytes(c3d_bytes(cloud))
    theirs = ezc3d.c3d(str(tmp_path / "a.c3d"))["data"]["points"][:3].transpose(2, 1, 0)
    np.testing.assert_allclose(theirs, cloud, atol=1e-4)
    made = ezc3d.c3d()
    made["parameters"]["POINT"]["RATE"]["value"] = [60.0]
    made["parameters"]["POINT"]["LABELS"]["value"] = ["a", "b", "c", "d"]
    made["data"]["points"] = np.concatenate([cloud, np.ones((300, 4, 1))], axis=-1).T
    made.write(str(tmp_path / "b.c3d"))
    found = read_c3d(tmp_path / "b.c3d")
    np.testing.assert_allclose(found.points, cloud, atol=1e-4)
    assert found.names == ["a", "b", "c", "d"]


def test_short_gaps_are_filled_and_long_ones_cut_the_take(cloud: np.ndarray) -> None:
    pieces = whole_pieces(cloud, max_gap=10)
    assert [len(piece) for piece in pieces] == [150, 110]
    np.testing.assert_array_equal(pieces[1], cloud[190:])
    line = np.linspace(cloud[39, 1], cloud[45, 1], 7)
    np.testing.assert_allclose(pieces[0][39:46, 1], line)
    assert [len(piece) for piece in whole_pieces(cloud, max_gap=4)] == [40, 105, 110]
    assert [len(piece) for piece in whole_pieces(cloud, max_gap=40)] == [300]
    cloud[:3, 0] = np.nan
    assert [len(piece) for piece in whole_pieces(cloud, max_gap=40)] == [297]


def test_markers_are_data_and_are_played(cloud: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.c3d").write_bytes(c3d_bytes(cloud))
    data = MocapDataModule(
        str(tmp_path), window=16, min_piece=50, rename={"M0": "knee"}, markers=["M2", "knee"]
    )
    assert data.feature_names == ["M2.x", "M2.y", "M2.z", "knee.x", "knee.y", "knee.z"]
    assert [len(s.frames) for s in data.sequences("train")] == [52, 38]
    raw = data.destandardise(data.sequences("train")[1].frames)
    np.testing.assert_allclose(raw.reshape(-1, 2, 3)[:, 1], cloud[190::2, 0][:38], atol=1e-3)
    npz, gif, html, *_ = data.render(data.sequences("test")[0].frames, tmp_path / "m")
    assert np.load(npz)["frames"].shape[1] == 6
    assert html.stat().st_size > 0
    with Image.open(gif) as image:
        assert len(image.convert("RGB").getcolors(100000) or []) > 3  # dots beside the grid
    with pytest.raises(DataError, match=r"a\.c3d: has no marker \['M9'\]"):
        MocapDataModule(str(tmp_path), markers=["M9"]).setup()
    with pytest.raises(DataError, match=r"a\.c3d: no 200 frames in a row.*missing: M2 13%"):
        MocapDataModule(str(tmp_path), min_piece=200).setup()


# AMASS, MATLAB, arrays


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


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_arrays_are_read_as_scipy_reads_them(compressed: bool, tmp_path: Path) -> None:
    content = {
        "a": np.random.default_rng(0).normal(size=(5, 3)),
        "b": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "c": np.float32(2.5),
        "text": "passed over",
        "z": np.array([[1 + 2j]]),
    }
    savemat(tmp_path / "a.mat", content, do_compression=compressed)
    found, theirs = read_mat(tmp_path / "a.mat"), loadmat(tmp_path / "a.mat")
    assert set(found) == {"a", "b", "c"}
    for name, value in found.items():
        np.testing.assert_array_equal(value, theirs[name])


@pytest.mark.parametrize("kind", ["npy", "npz", "csv"])
def test_plain_frames_go_in_and_out(kind: str, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).normal(size=(200, 3))
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(path, frames.astype(np.float32))
    elif kind == "npz":
        np.savez(path, one=frames[:120], two=frames[120:], fps=50)
    else:
        np.savetxt(path, frames, delimiter=";", header="left; right;up", comments="")
    data = ArrayDataModule(str(path), window=16, fps=50, standardise=False)
    names = ["a:one", "a:two"] if kind == "npz" else ["a"]
    assert [s.name for s in data.sequences("train")] == names
    assert data.feature_names[0] == ("left" if kind == "csv" else "feature_0")
    first = data.sequences("train")[0].frames.numpy()
    np.testing.assert_allclose(first, frames[: len(first)], atol=1e-6)
    npz, png = data.render(first[:20], tmp_path / "out")
    assert png.stat().st_size > 0
    np.testing.assert_allclose(data.score_input(npz).frames.numpy(), first[:20], atol=1e-6)
    if kind == "npz":
        with pytest.raises(DataError, match=r"a\.npz: says 50 frames per second: set fps"):
            ArrayDataModule(str(path), fps=30).setup()


# Representations


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["tumble", "take"])
def test_every_representation_keeps_places(
    source: str, kind: Any, root: Any, up: str, take: Motion
) -> None:
    motion = tumble() if source == "tumble" else take
    features = encode(motion, up, kind, root)
    assert features.shape[1] == len(feature_names(motion.skeleton, kind, root))
    assert len(set(feature_names(motion.skeleton, kind, root))) == features.shape[1]
    points = points_of(features, motion.skeleton, motion.fps, up, kind, root)
    scale = np.abs(motion.points()).max()
    expected = motion.points() @ TO_Y_UP[up].T
    if kind == "raw" or root == "position":
        np.testing.assert_allclose(points, expected, atol=1e-9 * scale)
        return
    for frame in (0, 50):  # up to a turn and a step, the same for all frames
        shape, ours = expected[1:][frame], points[frame]
        distances = [np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (shape, ours)]
        np.testing.assert_allclose(*distances, atol=1e-8 * scale)
        np.testing.assert_allclose(ours[:, 1], shape[:, 1], atol=1e-8 * scale)
    steps = [np.linalg.norm(np.diff(p[:, :, ::2], axis=0), axis=-1) for p in (expected[1:], points)]
    np.testing.assert_allclose(*steps, atol=1e-8 * scale)


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("kind", ["expmap", "6d", "raw"])
def test_bvh_comes_back_from_what_determines_it(kind: Any, root: Any, take: Motion) -> None:
    features = encode(take, "y", kind, root)
    again = decode(features, take.skeleton, take.fps, "y", kind, root)
    later = slice(len(take.positions) - len(features), None)
    assert degrees_apart(again.rotations[:, 1:], take.rotations[later, 1:]) < 1e-5
    error = np.abs(aligned(again) - aligned(take, later.start)).max()
    assert error < 1e-6 * np.abs(aligned(take, later.start)).max()


def test_six_numbers_become_the_nearest_frame_of_axes() -> None:
    rotation = Rotation.random(100, rng=np.random.default_rng(0))
    assert degrees_apart(from_six(six(rotation)).as_quat(), rotation.as_quat()) < 1e-5
    stretched = six(rotation).reshape(-1, 2, 3) * [[2.0], [0.3]]
    stretched[:, 1] += 0.7 * stretched[:, 0]
    again = from_six(stretched.reshape(-1, 6))
    assert degrees_apart(again.as_quat(), rotation.as_quat()) < 1e-5
    for broken in (np.zeros((3, 6)), np.ones((3, 6))):
        matrix = from_six(broken).as_matrix()
        np.testing.assert_allclose(matrix @ matrix.transpose(0, 2, 1), [np.eye(3)] * 3, atol=1e-12)


def test_euler_angles_do_not_jump_and_are_the_same_rotation() -> None:
    angle = np.linspace(0, 1500, 400)
    turns = np.stack([angle, 60 * np.sin(angle / 90), angle / 3], axis=-1)
    rotations = Rotation.from_euler("ZYX", turns, degrees=True).as_quat()[:, None]
    skeleton = Skeleton(["Hips"], [-1], np.zeros((1, 3)), [], np.zeros((0, 3)), ["ZYX"])
    motion = Motion(skeleton, np.zeros((400, 3)), rotations, 30.0)
    found = euler_angles(motion)
    np.testing.assert_allclose(found, turns, atol=1e-6)


@pytest.mark.parametrize("kind", ["6d", "positions"])
def test_constrained_features_need_declared_noise(kind: Any) -> None:
    with pytest.raises(DataError, match=f"{kind} features obey constraints.*declare noise"):
        MocapDataModule(representation=kind)


def test_noise_is_as_large_as_declared_and_repeats() -> None:
    clean = MocapDataModule(representation="positions", noise=1e-9)
    noisy = MocapDataModule(representation="positions", noise=0.1)
    other = MocapDataModule(representation="positions", noise=0.1, seed=1)
    a, b, c = (d.sequences("test")[0].frames for d in (clean, noisy, other))
    assert (b - a).std().item() == pytest.approx(0.1, rel=0.02)
    assert torch.equal(b, noisy.sequences("test")[0].frames)
    assert not torch.equal(b, c)
    assert set(noisy.state_dict()["standardiser"]) == set(clean.state_dict()["standardiser"])


def test_takes_of_many_frame_rates_and_spellings_go_together(take: Motion, tmp_path: Path) -> None:
    names = ["Hip" if name == "Hips" else name for name in take.skeleton.names]
    for i, fps in enumerate((30.0, 25.0, 60.0)):
        other = take.resampled(fps)
        if i == 1:
            other = replace(other, skeleton=replace(other.skeleton, names=names))
        write_bvh(tmp_path / f"{i}.bvh", other)
    with pytest.raises(DataError, match=r"in excess \['Hip'\], missing \['Hips'\]"):
        MocapDataModule(str(tmp_path), window=32).setup()
    data = MocapDataModule(str(tmp_path), window=32, rename={"Hip": "Hips"})
    assert data.frame_rate == 30
    a, b, c = (data.destandardise(s.frames) for s in data.sequences("train"))
    n = min(map(len, (a, b, c)))
    np.testing.assert_allclose(c[:n], a[:n], atol=2e-2)  # every second of 60 is one of 30
    assert np.abs(b[:n, 6:] - a[:n, 6:]).mean() < 0.01
    with pytest.raises(DataError, match="two joints share a name once renamed"):
        MocapDataModule(str(tmp_path), rename={"LeftLeg": "Hips", "Hip": "Hips"}).setup()


# Figures


def test_feet_that_slide_and_angles_out_of_range_are_seen() -> None:
    points = np.zeros((50, 2, 3))
    points[:, 1, 1] = np.where(np.arange(50) < 30, 0.0, 5.0)  # stands, then lifted
    angles = np.linspace(-1, 1, 50)[:, None]
    limits = find_limits([points], [angles], [1])
    limits = replace(limits, heights=np.array([1.0]))
    still = motion_figures(points, angles, 30, [1], limits)
    assert still == {"foot_skate": 0.0, "joint_limit": 0.0}
    points[:, 1, 0] = 0.1 * np.arange(50)
    assert motion_figures(points, angles, 30, [1], limits)["foot_skate"] == pytest.approx(3.0)
    wide = motion_figures(points, 2 * angles, 30, [1], limits)["joint_limit"]
    assert wide == pytest.approx(0.5, abs=0.03)


def test_figures_of_spoilt_motion_exceed_those_of_the_data() -> None:
    data = MocapDataModule()
    frames = data.sequences("test")[0].frames
    whole = data.metrics(frames)
    assert set(whole) == {
        *("foot_skate", "joint_limit", "foot_skate_of_data", "joint_limit_of_data")
    }
    spoilt = frames.clone()
    spoilt[:, 1:3] += 2.0
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
    assert data.metrics(spoilt)["foot_skate"] > 2 * whole["foot_skate_of_data"]
    assert data.metrics(frames + 2 * noise)["joint_limit"] > 0.1 + whole["joint_limit_of_data"]
